// One entry of the log: a message or a notice.

import { h, icon } from '../dom.js';
import { clockTime, fullTime, t, why } from '../i18n.js';
import { content, syncActions } from '../rich/content.js';

const STATUS_TEXT = {
  sending: 'msgSending', accepted: 'msgAccepted', sent: 'msgSent', delivered: 'msgDelivered', read: 'msgRead', failed: 'msgFailed',
};
const TICKS = {
  sending: ['M12 7v5l3 2', 'M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18z'],
  accepted: ['m6 12 4 4 8-8'],
  sent: ['m6 12 4 4 8-8'],
  delivered: ['m3 12.5 4 4 8-9', 'm11 15.5 1 1 8-9'],
  read: ['m3 12.5 4 4 8-9', 'm11 15.5 1 1 8-9'],
  failed: ['M12 7v6', 'M12 16.5v.5', 'M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18z'],
};

const WHO = {
  PARTICIPANT_TYPE_AGENT: 'agent', PARTICIPANT_TYPE_SUPERVISOR: 'supervisor', PARTICIPANT_TYPE_BOT: 'bot', PARTICIPANT_TYPE_SYSTEM: 'system',
};

/** Who wrote a message, for people. */
export function senderName(entry) {
  if (entry.mine) return t('you');
  const sender = entry.message.sender ?? {};
  return sender.displayName || t(WHO[sender.participantType] ?? 'agent');
}

/** The list item of an entry; host as in rich/content.js, and retry(key). */
export function renderEntry(entry, host) {
  return entry.kind === 'notice' ? notice(entry) : message(entry, host);
}

/** True where b goes on where a stopped: same writer, no long pause. */
export function continues(a, b) {
  if (!a || a.kind !== 'message' || b.kind !== 'message' || a.mine !== b.mine || a.engagementId !== b.engagementId) return false;
  if (!b.mine && senderName(a) !== senderName(b)) return false;
  return Math.abs(Date.parse(b.time) - Date.parse(a.time)) < 3 * 60000;
}

function notice(entry) {
  return h('li', { class: 'notice', data: { kind: 'notice', notice: entry.notice } }, h('span', {}, noticeText(entry)));
}

function noticeText(entry) {
  const name = entry.name || t(WHO[entry.who] ?? 'agent');
  switch (entry.notice) {
    case 'joined': return t('noticeJoined', { name });
    case 'left': return t('noticeLeft', { name });
    case 'failed': return t('noticeFailed');
    case 'error': return t('noticeError', { detail: entry.detail });
    case 'unshown': return t('noticeUnshown');
    default: return t(entry.reason === 'CLOSE_REASON_USER_INACTIVE' ? 'noticeEndedIdle' : 'noticeEnded');
  }
}

function message(entry, host) {
  const sender = entry.message.sender?.participantType;
  const kind = entry.mine ? 'mine' : WHO[sender] ?? 'agent';
  const name = senderName(entry);
  const node = h('li', { class: `msg msg-${kind}`, data: { kind: 'message', from: kind } },
    entry.mine ? null : h('span', { class: 'avatar', 'aria-hidden': 'true' }, name.slice(0, 1).toUpperCase()),
    h('div', { class: 'msg-main' },
      h('p', { class: 'msg-from' }, h('span', { class: entry.mine ? 'sr-only' : '' }, name)),
      h('div', { class: 'bubble' }, content(entry, host)),
      // A status is there to be looked up; read out at each step it would drown the conversation.
      h('div', { class: 'msg-foot', 'aria-live': 'off' })));
  updateEntry(node, entry, host);
  return node;
}

/** What a message says; where this differs its item is made anew. */
export function contentKey(entry) {
  if (entry.kind === 'notice') return noticeText(entry);
  const { body, attachments, fallbackText } = entry.message;
  return JSON.stringify([entry.status === 'deleted', senderName(entry), body, attachments, fallbackText]);
}

/**
 * Brings an item up to date without making it anew: status, buttons. In a live
 * region a new item is news, so a message whose tick changes would be read out again.
 */
export function updateEntry(node, entry, host) {
  node.dataset.status = entry.status;
  node.dataset.messageId = entry.messageId ?? '';
  syncActions(node, entry, host);
  const key = JSON.stringify([entry.status, entry.held, entry.failure, entry.time, entry.status === 'failed' && host.enabled]);
  if (node.dataset.foot === key) return;
  node.dataset.foot = key;
  node.querySelector('.msg-foot').replaceChildren(...meta(entry, host));
}

function meta(entry, host) {
  const time = clockTime(entry.time);
  const words = [time ? h('time', { datetime: entry.time, title: fullTime(entry.time) }, time) : null];
  if (entry.mine) {
    const text = entry.held ? t('msgHeld') : t(STATUS_TEXT[entry.status] ?? 'msgSent');
    words.push(h('span', { class: 'msg-status', testid: 'message-status' }, icon(...((entry.held ? TICKS.sending : TICKS[entry.status]) ?? TICKS.sent)), text));
  }
  const line = h('p', { class: 'msg-meta' }, words);
  if (entry.status !== 'failed' || !entry.mine) return [line];
  return [line, h('p', { class: 'msg-failure', role: 'alert' }, why(entry.failure?.reason), ' ',
    entry.outgoing && host.enabled
      ? h('button', { type: 'button', class: 'link-button', testid: 'message-retry', on: { click: () => host.retry(entry.key) } }, t('msgRetry'))
      : null)];
}
