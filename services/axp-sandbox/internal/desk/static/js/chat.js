// The chat on the screen: conversation, composer, and the customer's context.

import { arrange, h, setShown, setText } from './dom.js';
import { agents, messages, over, waiting } from './model.js';

const SAMPLES = [['image', 'Image'], ['carousel', 'Cards'], ['actions', 'Buttons'], ['location', 'Location'], ['file', 'File']];
const FORMATS = [['PLAINTEXT', 'Plain'], ['MARKDOWN', 'Markdown'], ['HTML', 'HTML']];

export class ChatView {
  /** desk: accept, send, leave, end, back. */
  constructor(desk) {
    this.desk = desk;
    this.drafts = new Map();
    this.rows = new Map();
    this.id = '';
    this.#build();
  }

  #build() {
    this.title = h('h2', { tabindex: '-1' });
    this.sub = h('p', { class: 'sub', role: 'status' });
    this.accept = h('button', { type: 'button', class: 'primary', testid: 'accept-open', on: { click: () => this.desk.accept(this.id) } }, 'Accept');
    this.leave = h('button', { type: 'button', testid: 'leave', on: { click: () => this.desk.leave(this.id) } }, 'Leave');
    this.end = h('button', { type: 'button', class: 'danger', testid: 'end', on: { click: () => this.desk.end(this.id) } }, 'End');
    const back = h('button', { type: 'button', class: 'back', 'aria-label': 'Back to the list', on: { click: () => this.desk.back() } }, '‹');
    this.list = h('ol', { class: 'log-list' });
    this.log = h('div', { class: 'log', role: 'log', 'aria-live': 'polite', 'aria-label': 'Conversation', tabindex: '0', testid: 'desk-log' }, this.list);
    this.context = h('aside', { class: 'context', 'aria-label': 'Customer context' });
    this.toggle = h('button', { type: 'button', class: 'context-toggle', 'aria-expanded': 'false', on: { click: () => this.#showContext() } }, 'Context');
    this.empty = h('div', { class: 'nothing' }, h('h2', {}, 'No chat selected'), h('p', {}, 'Pick a customer from the list. New ones appear by themselves.'));
    this.body = h('div', { class: 'chat-body', hidden: true },
      h('header', { class: 'chat-head' }, back, h('div', { class: 'chat-title' }, this.title, this.sub),
        h('div', { class: 'chat-buttons' }, this.toggle, this.accept, this.leave, this.end)),
      this.log, this.#composer());
    this.root = h('main', { class: 'chat', id: 'chat' }, this.empty, this.body);
  }

  #composer() {
    this.input = h('textarea', {
      id: 'desk-input', rows: '1', maxlength: '4096', placeholder: 'Write a message…', testid: 'desk-input', enterkeyhint: 'send',
      on: { input: () => this.#typed(), keydown: (event) => this.#key(event) },
    });
    this.format = h('select', { id: 'desk-format', 'aria-label': 'Text format' }, FORMATS.map(([value, label]) => h('option', { value }, label)));
    this.send = h('button', { type: 'submit', class: 'primary', testid: 'desk-send' }, 'Send');
    const samples = h('div', { class: 'samples', role: 'group', 'aria-label': 'Send a sample' }, h('span', {}, 'Samples'),
      SAMPLES.map(([kind, label]) => h('button', { type: 'button', class: 'small', testid: `sample-${kind}`, on: { click: () => this.desk.send(this.id, { kind, text: this.input.value.trim() }).then((ok) => { if (ok) this.#clear(); }) } }, label)));
    this.form = h('form', { class: 'composer', on: { submit: (event) => { event.preventDefault(); this.#submit(); } } },
      samples, h('div', { class: 'compose-row' }, h('label', { class: 'sr-only', for: 'desk-input' }, 'Message'), this.input, this.format, this.send));
    return this.form;
  }

  focus() {
    if (!this.form.hidden) this.input.focus();
    else if (!this.accept.hidden) this.accept.focus();
    else this.title.focus();
  }

  update(model) {
    const chat = model.chats[model.selected];
    setShown(this.empty, !chat);
    setShown(this.body, Boolean(chat));
    setShown(this.context, Boolean(chat));
    if (!chat) { this.id = ''; return; }
    if (this.id !== chat.dialogId) this.#switch(chat.dialogId);
    const staff = agents(chat);
    setText(this.title, chat.customer?.displayName || 'Customer');
    setText(this.sub, statusLine(chat, staff));
    setShown(this.accept, waiting(chat));
    this.accept.disabled = chat.status === 'PENDING';
    setShown(this.leave, staff.length > 0 && !over(chat));
    setShown(this.end, !over(chat));
    setShown(this.form, staff.length > 0 && !over(chat));
    this.#log(chat);
    this.#context(chat);
  }

  #switch(id) {
    this.id = id;
    this.rows = new Map();
    this.list.replaceChildren();
    // Another chat's past is no news.
    this.log.setAttribute('aria-live', 'off');
    this.input.value = this.drafts.get(id) ?? '';
    this.#grow();
  }

  #log(chat) {
    const atEnd = this.log.scrollHeight - this.log.scrollTop - this.log.clientHeight < 80;
    const nodes = messages(chat).map((message, i) => {
      const key = message.messageId ?? `${message.index}-${i}`;
      const text = JSON.stringify(message);
      const known = this.rows.get(key);
      if (known?.text === text) return known.node;
      const node = bubble(message);
      this.rows.set(key, { text, node });
      return node;
    });
    const fresh = this.list.children.length === 0;
    const grew = nodes.length !== this.list.children.length;
    arrange(this.list, nodes);
    if (!fresh) this.log.setAttribute('aria-live', 'polite');
    if (fresh || (atEnd && grew)) this.log.scrollTop = this.log.scrollHeight;
  }

  #context(chat) {
    const text = JSON.stringify([chat.dialogId, chat.customer, chat.sessionParameters, chat.engagementParameters, chat.conversation, chat.participants]);
    if (this.contextText === text) return;
    this.contextText = text;
    const identifiers = Object.fromEntries(Object.entries(chat.customer?.identifiers ?? {}).map(([k, v]) => [k, [v].flat().join(', ')]));
    const people = Object.fromEntries((chat.participants ?? []).map((p, i) => [`${p.displayName || p.participantId || i + 1}`, `${words(p.participantType)}${p.connected ? '' : ', left'}`]));
    this.context.replaceChildren(
      facts('Customer', { name: chat.customer?.displayName, ...identifiers }),
      facts('About', { topic: chat.conversation }),
      facts('What they look at', chat.sessionParameters),
      facts('Engagement', chat.engagementParameters),
      facts('In the chat', people),
      facts('Ids', { dialog: chat.dialogId, engagement: chat.engagementId, session: chat.sessionId }));
  }

  #showContext() {
    const open = document.body.classList.toggle('context-open');
    this.toggle.setAttribute('aria-expanded', String(open));
  }

  #key(event) {
    if (event.key !== 'Enter' || event.shiftKey || event.isComposing || event.keyCode === 229) return;
    event.preventDefault();
    this.#submit();
  }

  async #submit() {
    const text = this.input.value.trim();
    if (!text) return;
    const id = this.id;
    this.#clear();
    const sent = await this.desk.send(id, { text, textFormat: this.format.value, kind: 'text' });
    // Nothing is lost: what could not be sent is there to send again.
    if (!sent && this.id === id && !this.input.value) { this.input.value = text; this.#typed(); }
  }

  #clear() {
    this.input.value = '';
    this.#typed();
    this.input.focus();
  }

  #typed() {
    this.drafts.set(this.id, this.input.value);
    this.#grow();
  }

  #grow() {
    this.input.style.height = 'auto';
    this.input.style.height = `${Math.min(this.input.scrollHeight, 140)}px`;
  }
}

function statusLine(chat, staff) {
  if (over(chat)) return 'Ended';
  if (staff.length) return `With ${staff.map((p) => p.displayName || 'agent').join(', ')}`;
  return chat.status === 'PENDING' ? 'Waiting, dialog is pending' : 'Waiting for an agent';
}

function bubble(message) {
  const kind = message.senderType === 'CUSTOMER' ? 'customer' : message.senderType === 'AGENT' ? 'agent' : 'other';
  const time = new Date(message.receivedAt);
  const clock = Number.isNaN(time.getTime()) ? '' : time.toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' });
  const format = message.textFormat && message.textFormat !== 'PLAINTEXT' ? h('span', { class: 'tag' }, message.textFormat.toLowerCase()) : null;
  return h('li', { class: `msg ${kind}`, data: { from: kind } },
    h('p', { class: 'who' }, message.senderName || message.senderType || '', ' ', h('time', {}, clock), format),
    h('p', { class: 'bubble' }, message.text || h('em', {}, 'Rich content')));
}

/** A name as programs write it, for people: "recentPages" is "Recent pages". */
function words(name) {
  const spaced = String(name ?? '').replace(/([a-z0-9])([A-Z])/g, '$1 $2').replaceAll('_', ' ').toLowerCase();
  return spaced.charAt(0).toUpperCase() + spaced.slice(1);
}

function facts(title, values) {
  const entries = Object.entries(values ?? {}).filter(([, value]) => value !== undefined && value !== null && value !== '');
  if (!entries.length) return h('section', { hidden: true });
  return h('section', { class: 'facts' }, h('h3', {}, title),
    h('dl', {}, entries.map(([name, value]) => [h('dt', { title: name }, title === 'In the chat' ? name : words(name)), h('dd', {}, String(value))])));
}
