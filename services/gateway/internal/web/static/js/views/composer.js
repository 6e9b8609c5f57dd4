// Where the customer writes. Enter sends, Shift + Enter makes a line.

import { h, icon, setShown, setText } from '../dom.js';
import { t } from '../i18n.js';

/** The counter shows up this close to the limit. */
const WARN_AT = 300;

export class Composer {
  constructor({ onSend, onWriting }) {
    this.onSend = onSend;
    this.limit = 4096;
    this.input = h('textarea', {
      id: 'chat-input', class: 'composer-input', rows: '1', testid: 'chat-input', placeholder: t('chatPlaceholder'),
      autocomplete: 'off', enterkeyhint: 'send', 'aria-describedby': 'chat-hint chat-counter',
      on: {
        input: () => { this.#changed(); onWriting(); },
        keydown: (event) => this.#key(event),
      },
    });
    this.button = h('button', { type: 'submit', class: 'send', testid: 'chat-send', 'aria-label': t('chatSend'), disabled: true },
      icon('M12 19V5', 'm5.5 11.5 6.5-6.5 6.5 6.5'));
    this.counter = h('p', { id: 'chat-counter', class: 'counter', role: 'status' });
    this.root = h('form', { class: 'composer', on: { submit: (event) => { event.preventDefault(); this.#send(); } } },
      h('label', { class: 'sr-only', for: 'chat-input' }, t('chatInput')),
      h('p', { id: 'chat-hint', class: 'sr-only' }, t('chatHint')),
      h('div', { class: 'composer-box' }, this.input, this.button),
      this.counter);
  }

  setLimit(limit) {
    if (limit === this.limit) return;
    this.limit = limit;
    this.#changed();
  }

  focus() {
    this.input.focus();
  }

  // Some keyboards confirm a word with Enter: then it is not ours.
  #key(event) {
    if (event.key !== 'Enter' || event.shiftKey || event.isComposing || event.keyCode === 229) return;
    event.preventDefault();
    this.#send();
  }

  #send() {
    const text = this.input.value.trim();
    if (!text || text.length > this.limit) return;
    this.onSend(text);
    this.input.value = '';
    this.#changed();
    this.input.focus();
  }

  #changed() {
    const { value } = this.input;
    const length = value.trim().length;
    this.button.disabled = length === 0 || length > this.limit;
    const left = this.limit - value.length;
    setShown(this.counter, left < WARN_AT);
    setText(this.counter, left >= WARN_AT ? '' : t(left < 0 ? 'chatTooLong' : 'chatLeft', { over: -left, left }));
    this.counter.classList.toggle('over', left < 0);
    this.input.style.height = 'auto';
    this.input.style.height = `${Math.min(this.input.scrollHeight, 132)}px`;
  }
}
