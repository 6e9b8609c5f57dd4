// The question whether the customer is still there: a strip above the composer
// that counts down and takes nothing away. The numbers are for the eye; a screen
// reader hears of them when the warning comes and once more near the end.

import { h, setShown, setText } from '../dom.js';
import { countdown, t, timeInWords, why } from '../i18n.js';
import { idleSecondsLeft, idleWarning } from '../selectors.js';

/** Near the end is this many seconds before it. */
const LAST_SECONDS = 10;

export class IdleBanner {
  /** onHere: the button was pressed; onGone(hadFocus): the strip has gone. */
  constructor({ onHere, onGone }) {
    this.onGone = onGone;
    this.warning = null;
    this.said = '';
    this.saidLast = '';
    this.open = false;
    this.words = h('p', { class: 'idle-words' });
    this.problem = h('p', { class: 'idle-problem', role: 'alert' });
    this.button = h('button', { type: 'button', class: 'button idle-button', testid: 'idle-here', on: { click: onHere } }, t('idleHere'));
    this.strip = h('div', { class: 'idle', role: 'group', 'aria-label': t('idleAsk'), testid: 'idle-banner', hidden: true },
      this.words, this.button, this.problem);
    // Outside the strip: a region that appears together with its text is not read out.
    this.news = h('p', { class: 'sr-only', role: 'status', testid: 'idle-news' });
    this.root = h('div', { class: 'idle-place' }, this.strip, this.news);
  }

  get shown() {
    return !this.strip.hidden;
  }

  focus() {
    this.button.focus();
  }

  update(state) {
    const hadFocus = this.strip.contains(document.activeElement);
    const wasShown = this.shown;
    this.warning = idleWarning(state);
    this.ahead = state.serverAhead;
    this.open = state.chatOpen;
    setShown(this.strip, Boolean(this.warning));
    if (!this.warning) {
      clearTimeout(this.timer);
      this.timer = null;
      setText(this.news, '');
      if (wasShown) this.onGone(hadFocus);
      return;
    }
    // Not disabled while it is being sent: that would lose the focus.
    this.button.setAttribute('aria-disabled', String(this.warning.answering));
    setText(this.problem, this.warning.problem ? t('idleFailed', { why: why(this.warning.problem) }) : '');
    this.#count();
  }

  #count() {
    clearTimeout(this.timer);
    const left = idleSecondsLeft(this.warning, this.ahead);
    setText(this.words, left > 0 ? t('idleCount', { time: countdown(left) }) : t('idleNow'));
    this.#say(left);
    this.timer = left > 0 ? setTimeout(() => this.#count(), this.#untilNext()) : null;
  }

  // A closed panel says nothing, so it is said when it opens.
  #say(left) {
    if (!this.open || left <= 0) return;
    const { disconnectTime } = this.warning;
    const last = left <= LAST_SECONDS;
    if ((last ? this.saidLast : this.said) === disconnectTime) return;
    const first = this.said !== disconnectTime;
    this.said = disconnectTime;
    if (last) this.saidLast = disconnectTime;
    setText(this.news, t(first ? 'idleNews' : 'idleLast', { time: timeInWords(left) }));
  }

  #untilNext() {
    const left = Date.parse(this.warning.disconnectTime) - Date.now() - this.ahead;
    return Math.max(50, (left % 1000) || 1000);
  }
}
