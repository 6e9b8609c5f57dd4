// Files in messages. Signed addresses expire, so a fresh one is asked for when
// a picture is shown or a file is opened; it is never kept.

import { h, icon, safeUrl } from '../dom.js';
import { fileSize, t } from '../i18n.js';

/** What is shown as a picture; in an <img> not even an SVG runs script. Everything else is a file to download. */
const PICTURES = new Set(['image/svg+xml', 'image/png', 'image/jpeg', 'image/gif', 'image/webp', 'image/avif', 'image/bmp']);

/** Nodes for the files of a message. */
export function attachments(files, host) {
  return files.map((file) => (PICTURES.has((file.contentType ?? '').split(';')[0].toLowerCase()) ? picture(file, host) : fileCard(file, host)));
}

async function freshUrl(file, host) {
  if (file.mediaId) {
    try {
      const url = safeUrl(await host.attachmentUrl(file.mediaId));
      if (url) return url;
    } catch {
      // Fall through to the address of the event; it may still be good.
    }
  }
  return safeUrl(file.url);
}

function picture(file, host) {
  const figure = h('figure', { class: 'picture' });
  const image = h('img', { alt: file.captionText || file.name || '', class: 'picture-img', referrerpolicy: 'no-referrer' });
  const open = h('button', { type: 'button', class: 'picture-open', 'aria-label': t('imageOpen', { name: file.name ?? '' }) }, image);
  open.addEventListener('click', () => download(file, host, open));
  const giveUp = () => figure.replaceChildren(fileCard(file, host));
  image.addEventListener('error', giveUp);
  figure.append(open);
  if (file.captionText) figure.append(h('figcaption', {}, file.captionText));
  freshUrl(file, host).then((url) => { if (url) image.src = url; else giveUp(); });
  return figure;
}

function fileCard(file, host) {
  const name = file.name || t('fileUnnamed');
  const note = h('span', { class: 'file-note' }, fileSize(file.size));
  const button = h('button', { type: 'button', class: 'file', 'aria-label': t('fileOpen', { name }) },
    h('span', { class: 'file-icon' }, icon('M14 3H7a2 2 0 0 0-2 2v14a2 2 0 0 0 2 2h10a2 2 0 0 0 2-2V8z', 'M14 3v5h5')),
    h('span', { class: 'file-words' }, h('span', { class: 'file-name' }, name), note),
    icon('M12 4v11', 'm7 10 5 5 5-5', 'M5 20h14'));
  button.addEventListener('click', () => download(file, host, button, note));
  return button;
}

async function download(file, host, button, note) {
  button.disabled = true;
  const url = await freshUrl(file, host);
  button.disabled = false;
  if (!url) {
    if (note) note.textContent = t('fileFailed');
    return;
  }
  const link = h('a', { href: url, target: '_blank', rel: 'noopener noreferrer nofollow', download: file.name ?? '' });
  document.body.append(link);
  link.click();
  link.remove();
}
