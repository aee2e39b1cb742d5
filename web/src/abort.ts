/** Promises that nobody has to wait for any longer once a signal is aborted. */

/** As `promise`, or the reason of `signal` if that comes first; what `promise` becomes then interests nobody. */
export function orAborted<T>(promise: PromiseLike<T>, signal: AbortSignal | undefined): Promise<T> {
  return new Promise((resolve, reject) => {
    const abort = () => reject(signal?.reason);
    if (signal?.aborted) {
      promise.then(undefined, () => undefined);
      return abort();
    }
    signal?.addEventListener('abort', abort, { once: true });
    promise.then(resolve, reject).then(() => signal?.removeEventListener('abort', abort));
  });
}

/** Waits, but not longer than `signal` lets it. */
export function sleep(ms: number, signal: AbortSignal | undefined): Promise<void> {
  return orAborted(new Promise((resolve) => setTimeout(resolve, ms)), signal);
}
