'use client';
/** A prompt, a button and a clip. */

import { useEffect, useRef } from 'react';
import { useVideo } from 'kinora/react';

export function Clip() {
  const { status, progress, video, error, generate, cancel } = useVideo();
  const canvas = useRef<HTMLCanvasElement>(null);
  useEffect(() => {
    const stop = new AbortController();
    if (canvas.current) video?.play(canvas.current, { signal: stop.signal });
    return () => stop.abort();
  }, [video]);
  const busy = status === 'loading' || status === 'generating';
  return (
    <>
      <canvas ref={canvas} width={128} height={128} role="img" aria-label={video?.metadata.prompt ?? 'no clip yet'} />
      <button type="button" onClick={() => (busy ? cancel() : generate('a rocket flying on a blue background'))}>
        {busy ? `Stop (${Math.round(progress * 100)} %)` : 'Generate'}
      </button>
      <p role="status">{error ? error.message : status}</p>
    </>
  );
}
