/** What can be done with a finished clip: keep it in one format or another, share it, put it on a page. */

import { VERSION, type Video, type VideoType } from 'kinora';
import { byId, make } from './dom.js';
import { elementCode, type Clip } from './snippets.js';

/** Runs a button's work once at a time; `say` hears what came of it. */
export function onClick(clicked: HTMLButtonElement, say: (text: string) => void, work: () => Promise<string>): void {
  clicked.addEventListener('click', async () => {
    if (clicked.getAttribute('aria-busy') === 'true') return;
    clicked.setAttribute('aria-busy', 'true');
    try {
      say(await work());
    } catch (error) {
      // Whoever closes the system's dialogue has not failed.
      const { name, message, hint } = error as { name?: string; message?: string; hint?: string };
      if (name !== 'AbortError') say([message ?? String(error), hint].filter(Boolean).join('; '));
    }
    clicked.removeAttribute('aria-busy');
    for (const menu of document.querySelectorAll<HTMLDetailsElement>('.menu[open]')) menu.open = false;
  });
}

const nameOf = (video: Video, file: Blob) => `kinora-${video.metadata.seed}.${file.type.split('/')[1]}`;

/** The buttons under the clip. `shown` says which one it is, `recipe` how to make it again. */
export function watchResult(shown: () => Video | undefined, clip: () => Clip, say: (text: string) => void): void {
  for (const button of document.querySelectorAll<HTMLButtonElement>('[data-save]')) {
    onClick(button, say, async () => {
      const video = shown();
      if (!video) return 'There is no clip yet.';
      const file = await video.toBlob({ type: button.dataset.save as VideoType });
      const name = nameOf(video, file);
      const href = URL.createObjectURL(file);
      make('a', '', { href, download: name }).click();
      setTimeout(() => URL.revokeObjectURL(href), 60_000);
      return `Saved ${name}, ${Math.ceil(file.size / 1e3)} kB.`;
    });
  }
  onClick(byId('share', HTMLButtonElement), say, async () => {
    await navigator.clipboard.writeText(location.href);
    return 'Link copied. Whoever opens it can make the same clip.';
  });
  onClick(byId('embed', HTMLButtonElement), say, async () => {
    const script = `<script type="module" src="https://cdn.jsdelivr.net/npm/kinora@${VERSION}/dist/cdn.js"></script>`;
    await navigator.clipboard.writeText(`${script}\n${elementCode(clip(), 'autoplay loop')}`);
    return 'Code copied. Put it on a page, and this clip is made there.';
  });
  const send = byId('send', HTMLButtonElement);
  send.hidden = !navigator.canShare?.({ files: [new File([''], 'clip.mp4', { type: 'video/mp4' })] });
  onClick(send, say, async () => {
    const video = shown();
    if (!video) return 'There is no clip yet.';
    const file = await video.toBlob();
    await navigator.share({ files: [new File([file], nameOf(video, file), { type: file.type })], title: video.metadata.prompt });
    return '';
  });
  for (const menu of document.querySelectorAll<HTMLDetailsElement>('.menu')) {
    // What an open menu half covers is not to be hit by chance: the first tap beside a menu closes it.
    menu.addEventListener('toggle', () => (byId('more', HTMLElement).inert = document.querySelector('.menu[open]') !== null));
    menu.addEventListener('keydown', (event) => {
      if (event.key !== 'Escape' || !menu.open) return;
      event.stopPropagation();
      menu.open = false;
      menu.querySelector('summary')?.focus();
    });
  }
  document.addEventListener('click', ({ target }) => {
    for (const menu of document.querySelectorAll<HTMLDetailsElement>('.menu[open]')) if (!menu.contains(target as Node)) menu.open = false;
  });
}
