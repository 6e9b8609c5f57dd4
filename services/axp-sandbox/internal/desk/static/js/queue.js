// The left column: who waits, which chats are open, which are over.

import { arrange, h, setShown, setText } from './dom.js';
import { age, agents, lists, messages, unread } from './model.js';

export class QueueView {
  constructor({ onSelect, onAccept }) {
    this.onSelect = onSelect;
    this.onAccept = onAccept;
    this.items = new Map();
    this.groups = {
      waiting: this.#group('waiting', 'Waiting', 'Nobody is waiting. Open the web chat and start one.'),
      open: this.#group('open', 'Open chats', 'No open chats.'),
      ended: this.#group('ended', 'Ended', ''),
    };
    this.root = h('nav', { class: 'queue', 'aria-label': 'Chats' }, Object.values(this.groups).map((g) => g.root));
  }

  #group(name, title, emptyText) {
    const count = h('span', { class: 'count' });
    const list = h('ul', { class: 'items' });
    const empty = h('p', { class: 'empty' }, emptyText);
    const root = h('section', { class: `group group-${name}` }, h('h2', {}, title, ' ', count), list, empty);
    return { root, count, list, empty, name };
  }

  update(model) {
    const grouped = lists(model);
    for (const [name, group] of Object.entries(this.groups)) {
      const chats = grouped[name];
      setText(group.count, chats.length ? String(chats.length) : '');
      setShown(group.empty, chats.length === 0);
      setShown(group.root, name !== 'ended' || chats.length > 0);
      arrange(group.list, chats.map((chat) => this.#item(chat, name, model)));
    }
    for (const id of this.items.keys()) if (!model.chats[id]) this.items.delete(id);
    this.tick(model);
  }

  // Buttons stay the same elements, so that a change does not take the focus.
  #item(chat, group, model) {
    const id = chat.dialogId;
    let item = this.items.get(id);
    if (!item) {
      item = { name: h('strong'), time: h('time', { class: 'age' }), line: h('span', { class: 'line' }), badge: h('span', { class: 'badge' }) };
      item.button = h('button', { type: 'button', class: 'item', on: { click: () => this.onSelect(id) } },
        h('span', { class: 'item-top' }, item.name, item.badge, item.time), item.line);
      item.accept = h('button', { type: 'button', class: 'primary small', testid: 'accept', on: { click: () => this.onAccept(id) } }, 'Accept');
      item.root = h('li', { class: 'row' }, item.button);
      this.items.set(id, item);
    }
    // What the service says by itself tells nothing of the customer.
    const last = messages(chat).filter((m) => m.senderType !== 'SYSTEM').at(-1);
    const count = group === 'ended' ? 0 : unread(model, chat);
    const who = agents(chat).map((p) => p.displayName).join(', ');
    setText(item.name, chat.customer?.displayName || 'Customer');
    setText(item.line, last ? `${last.senderType === 'CUSTOMER' ? '' : `${last.senderName || 'Agent'}: `}${last.text || '(rich content)'}` : chat.conversation || 'No message yet');
    setText(item.badge, count ? String(count) : '');
    setShown(item.badge, count > 0);
    arrange(item.root, group === 'waiting' ? [item.button, item.accept] : [item.button]);
    // AXP connects the customer first; an agent who comes earlier is refused.
    item.accept.disabled = chat.status === 'PENDING';
    item.accept.setAttribute('aria-label', `Accept ${item.name.textContent}`);
    item.button.setAttribute('aria-current', String(model.selected === id));
    item.button.title = who ? `With ${who}` : '';
    item.badge.setAttribute('aria-label', `${count} unread`);
    item.root.dataset.dialogId = id;
    if (group === 'waiting') item.root.dataset.testid = 'waiting-item';
    else item.root.dataset.testid = `${group}-item`;
    return item.root;
  }

  /** Brings the waiting times up to date. */
  tick(model) {
    for (const [id, item] of this.items) setText(item.time, age(model.chats[id].createdAt, Date.now()));
  }
}
