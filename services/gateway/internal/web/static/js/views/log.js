// The conversation: keeps the list in step with the timeline, touching only
// what changed, so that a screen reader hears each message once.

import { h, icon, setShown } from '../dom.js';
import { clockTime, t } from '../i18n.js';
import { contentKey, continues, renderEntry, updateEntry } from './message.js';

/** This close to the end counts as reading the end. */
const NEAR_PX = 90;

export class LogView {
  constructor(host) {
    this.host = host;
    this.nodes = new Map();
    this.list = h('ol', { class: 'log-list' });
    this.log = h('div', {
      class: 'log', role: 'log', 'aria-live': 'polite', 'aria-label': t('chatLog'), tabindex: '0', testid: 'chat-log',
    }, this.list);
    this.pill = h('button', { type: 'button', class: 'pill', hidden: true, on: { click: () => this.toEnd() } },
      t('chatNewBelow'), icon('M12 5v14', 'm6 13 6 6 6-6'));
    this.root = h('div', { class: 'log-wrap' }, this.log, this.pill);
    this.log.addEventListener('scroll', () => { this.#scrolled(); }, { passive: true });
    // Pictures grow after they are drawn; somebody who reads the end stays there.
    this.sticking = true;
    this.last = { top: 0, height: 0, room: 0 };
    const observer = new ResizeObserver(() => { if (this.sticking) this.toEnd(); });
    for (const element of [this.log, this.list]) observer.observe(element);
    this.list.addEventListener('load', () => { if (this.sticking) this.toEnd(); }, true);
  }

  update(entries, { enabled, replaying }) {
    // What a reload brings back is no news.
    const history = replaying || (this.nodes.size === 0 && entries.length > 1);
    this.log.setAttribute('aria-live', history ? 'off' : 'polite');
    this.host.enabled = enabled;
    const before = this.nodes;
    this.nodes = new Map();
    let mineAdded = false;
    let othersAdded = false;
    const wanted = [];
    let previous = null;
    for (const entry of entries) {
      if (previous && previous.engagementId !== entry.engagementId) wanted.push(this.#divider(entry, before));
      const known = before.get(entry.key);
      const kept = known?.entry === entry && known.enabled === enabled;
      const text = kept ? known.text : contentKey(entry);
      const node = known?.text === text ? known.node : renderEntry(entry, this.host);
      if (!kept && entry.kind === 'message') updateEntry(node, entry, this.host);
      const goesOn = continues(previous, entry);
      node.classList.toggle('continues', goesOn);
      node.classList.remove('followed');
      if (goesOn) this.nodes.get(previous.key).node.classList.add('followed');
      this.nodes.set(entry.key, { entry, node, text, enabled });
      wanted.push(node);
      if (!known) { mineAdded ||= Boolean(entry.mine); othersAdded ||= !entry.mine; }
      previous = entry;
    }
    this.#place(wanted);
    if (this.sticking || mineAdded) this.toEnd();
    else if (othersAdded) setShown(this.pill, true);
  }

  toEnd() {
    this.log.scrollTop = this.log.scrollHeight;
    this.sticking = true;
    setShown(this.pill, false);
  }

  // A message that is drawn anew takes the old one's place; nothing else moves.
  #place(wanted) {
    const keep = new Set(wanted);
    let at = this.list.firstChild;
    for (const node of wanted) {
      while (at && at !== node && !keep.has(at)) {
        const gone = at;
        at = at.nextSibling;
        gone.remove();
      }
      if (at === node) at = at.nextSibling;
      else this.list.insertBefore(node, at);
    }
    while (at) {
      const gone = at;
      at = at.nextSibling;
      gone.remove();
    }
  }

  #divider(entry, before) {
    const key = `d:${entry.engagementId}`;
    const node = before.get(key)?.node
      ?? h('li', { class: 'divider' }, h('span', {}, t('noticeNewChat', { time: clockTime(entry.time) })));
    this.nodes.set(key, { node });
    return node;
  }

  // Only people scroll up. Where the list or the panel changed its size, as when
  // a phone is turned, the browser has moved the view and nobody meant it.
  #scrolled() {
    const now = { top: this.log.scrollTop, height: this.log.scrollHeight, room: this.log.clientHeight };
    const up = now.top < this.last.top && now.height === this.last.height && now.room === this.last.room;
    this.last = now;
    if (this.#nearEnd()) { this.sticking = true; setShown(this.pill, false); } else if (up) this.sticking = false;
  }

  #nearEnd() {
    return this.log.scrollHeight - this.log.scrollTop - this.log.clientHeight < NEAR_PX;
  }
}
