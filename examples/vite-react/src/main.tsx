/** A prompt, a button and a clip. */

import { StrictMode, useEffect, useRef, useState } from 'react';
import { createRoot } from 'react-dom/client';
import { useVideo } from 'kinora/react';

function Clip() {
  const { status, progress, video, error, generate, cancel } = useVideo();
  const [prompt, setPrompt] = useState('a rocket flying on a blue background');
  const canvas = useRef<HTMLCanvasElement>(null);
  useEffect(() => {
    const stop = new AbortController();
    if (canvas.current) video?.play(canvas.current, { signal: stop.signal });
    return () => stop.abort();
  }, [video]);
  const busy = status === 'loading' || status === 'generating';
  return (
    <form
      onSubmit={(event) => {
        event.preventDefault();
        if (busy) cancel();
        else void generate(prompt);
      }}
    >
      <canvas ref={canvas} width={128} height={128} role="img" aria-label={video?.metadata.prompt ?? 'no clip yet'} />
      <input aria-label="What it shows" value={prompt} onChange={(event) => setPrompt(event.target.value)} />
      <button>{busy ? `Stop (${Math.round(progress * 100)} %)` : 'Generate'}</button>
      <p role="status">{error ? error.message : status}</p>
    </form>
  );
}

createRoot(document.getElementById('root')!).render(
  <StrictMode>
    <Clip />
  </StrictMode>,
);
