// The inside of a message, in the order of what is best: rich parts and text,
// else the fallback text, else a placeholder. What is present decides, not the
// element type. A message is never dropped.

import { h, icon, outLink, safeUrl } from '../dom.js';
import { t } from '../i18n.js';
import { attachments } from './attachments.js';
import { html } from './html.js';
import { linkify } from './inline.js';
import { markdown } from './markdown.js';

/** Longer texts are shown plain: formatting them is not worth the time. */
const MAX_FORMATTED = 20000;

/**
 * Nodes for an entry of the store.
 * host: {attachmentUrl(mediaId), act(entry, action), enabled}.
 */
export function content(entry, host) {
  const { message } = entry;
  if (entry.status === 'deleted') return [h('p', { class: 'msg-removed' }, t('msgDeleted'))];
  const rich = message.body?.richMediaPayload ?? {};
  const nodes = [
    ...text(message.body?.elementText),
    ...attachments(message.attachments ?? [], host),
    ...place(rich),
    ...cards(entry, rich.items ?? [], host),
    ...buttons(entry, rich.actions ?? [], host),
  ];
  if (!nodes.length && rich.selectedAction?.text) nodes.push(...plain(rich.selectedAction.text));
  if (!nodes.length && message.fallbackText) nodes.push(...plain(message.fallbackText));
  return nodes.length ? nodes : [h('p', { class: 'msg-removed' }, t('msgEmpty'))];
}

function plain(words) {
  return [h('p', { class: 'msg-plain' }, linkify(words))];
}

function text(element) {
  const words = element?.text ?? '';
  if (!words.trim()) return [];
  const short = words.length <= MAX_FORMATTED;
  if (short && element.textFormat === 'TEXT_FORMAT_MARKDOWN') return [h('div', { class: 'msg-rich' }, markdown(words))];
  if (short && element.textFormat === 'TEXT_FORMAT_HTML') return [h('div', { class: 'msg-rich' }, html(words))];
  return plain(words);
}

function place({ coordinates, location }) {
  if (!coordinates && !location) return [];
  const lat = Number(coordinates?.lat ?? 0);
  const long = Number(coordinates?.long ?? 0);
  const point = coordinates && Number.isFinite(lat) && Number.isFinite(long) ? `${lat.toFixed(5)}, ${long.toFixed(5)}` : '';
  const map = point
    ? `https://www.openstreetmap.org/?mlat=${lat}&mlon=${long}#map=16/${lat}/${long}`
    : `https://www.openstreetmap.org/search?query=${encodeURIComponent(location?.address || location?.name || '')}`;
  return [h('div', { class: 'place' },
    h('span', { class: 'place-pin' }, icon('M12 21s-7-6.1-7-11a7 7 0 0 1 14 0c0 4.9-7 11-7 11z', 'M12 12.5a2.5 2.5 0 1 0 0-5 2.5 2.5 0 0 0 0 5z')),
    h('div', { class: 'place-words' },
      h('strong', {}, location?.name || t('place')),
      location?.address ? h('span', {}, location.address) : null,
      !location?.address && point ? h('span', {}, point) : null,
      outLink(map, { class: 'place-link' }, t('mapOpen'))))];
}

function cards(entry, items, host) {
  if (!items.length) return [];
  // A scrolling strip must be reachable by keyboard, hence the tabindex.
  return [h('ul', { class: 'cards', 'aria-label': t('cards'), tabindex: '0' }, items.map((item, i) => card(entry, item, i, host)))];
}

function card(entry, item, index, host) {
  const picture = safeUrl(item.mediaUrl);
  const image = picture
    ? h('img', { class: 'card-img', src: picture, alt: '', loading: 'lazy', referrerpolicy: 'no-referrer' }) : null;
  image?.addEventListener('error', () => image.remove());
  return h('li', { class: 'card' }, image,
    h('div', { class: 'card-body' },
      h('strong', { class: 'card-title' }, item.title ?? ''),
      item.description ? h('p', { class: 'card-text' }, item.description) : null,
      ...buttons(entry, item.actions ?? [], host, `${index}.`)));
}

function buttons(entry, actions, host, prefix = '') {
  const shown = actions.map((action, i) => button(entry, action, `${prefix}${i}`, host)).filter(Boolean);
  return shown.length ? [h('div', { class: 'actions', role: 'group', 'aria-label': t('choices') }, shown)] : [];
}

function button(entry, action, id, host) {
  const label = action.text || action.payload || action.uri || '';
  const link = safeUrl(action.uri);
  if (link && (action.type === 'link' || !action.payload)) {
    return outLink(link, { class: 'action action-link' }, label, icon('M9 6h9v9', 'M18 6 7 17'));
  }
  if (action.type === 'link' || !(label || action.type === 'locationRequest')) return null;
  const iconUrl = safeUrl(action.iconUrl);
  const image = iconUrl ? h('img', { class: 'action-icon', src: iconUrl, alt: '', referrerpolicy: 'no-referrer' }) : null;
  image?.addEventListener('error', () => image.remove());
  return h('button', {
    type: 'button', class: 'action', data: { action: id }, on: { click: () => host.act(entry, action, id) },
  }, image, label || t('sendLocation'));
}

/** Lets a message's buttons be pressed, once, while the chat is open. */
export function syncActions(node, entry, host) {
  for (const button of node.querySelectorAll('button.action')) {
    button.disabled = Boolean(entry.answered) || !host.enabled;
    if (entry.answered) button.setAttribute('aria-pressed', String(entry.answered === button.dataset.action));
  }
}
