// The chat widget: a launcher and a panel. On a wide screen the panel is a
// window beside the page; on a phone it is a sheet that fills the screen and
// holds the focus.

import { h, icon, setShown, setText } from '../dom.js';
import { t, why } from '../i18n.js';
import { canWrite, chatGoesOn, chatPhase, endedIdle, idleWarning, sessionUsable, timeline } from '../selectors.js';
import { Composer } from './composer.js';
import { IdleBanner } from './idle.js';
import { LogView } from './log.js';

const STATUS_KEYS = {
  none: 'statusNone', starting: 'statusStarting', waiting: 'statusWaiting', bot: 'statusBot', active: 'statusActive',
  agentLeft: 'statusAgentLeft', ending: 'statusEnding', ended: 'statusEnded', failed: 'statusFailed',
};
const CONNECTION_KEYS = {
  idle: 'connIdle', connecting: 'connConnecting', online: 'connOnline', reconnecting: 'connReconnecting', offline: 'connOffline', closed: 'connClosed',
};
const TOPICS = ['topicTents', 'topicBoots', 'topicOrder', 'topicOther'];

export class ChatView {
  /** app: what the customer can do; background: what a sheet covers. */
  constructor({ app, company, background }) {
    this.app = app;
    this.background = background;
    this.narrow = matchMedia('(max-width: 560px)');
    this.log = new LogView({
      enabled: false,
      attachmentUrl: (mediaId) => app.attachmentUrl(mediaId),
      act: (entry, action, id) => { app.act(entry, action, id); this.composer.focus(); },
      retry: (key) => app.retry(key),
    });
    this.composer = new Composer({ onSend: (text) => app.sendText(text), onWriting: () => app.writing() });
    this.idle = new IdleBanner({ onHere: () => app.here(), onGone: (hadFocus) => { if (hadFocus) this.#refocus(); } });
    this.#build(company);
    this.narrow.addEventListener('change', () => this.#modality());
  }

  #build(company) {
    this.badge = h('span', { class: 'badge', 'aria-hidden': 'true', hidden: true });
    this.launcherText = h('span', { class: 'launcher-text' }, t('chatOpen'));
    this.launcher = h('button', {
      type: 'button', class: 'launcher', testid: 'chat-open', 'aria-expanded': 'false', 'aria-controls': 'chat-panel',
      on: { click: () => this.app.openChat() },
    }, icon('M4 6.5A2.5 2.5 0 0 1 6.5 4h11A2.5 2.5 0 0 1 20 6.5v8a2.5 2.5 0 0 1-2.5 2.5H11l-4.5 3.5V17A2.5 2.5 0 0 1 4 14.5z', 'M8 9h8', 'M8 12.5h5'),
    this.launcherText, this.badge);
    this.status = h('p', { class: 'chat-status', role: 'status', testid: 'chat-status' });
    this.connection = h('p', { class: 'connection', role: 'status', testid: 'connection-state' });
    this.endButton = h('button', { type: 'button', class: 'end-button', testid: 'chat-end', on: { click: () => this.#askEnd(true) } }, t('chatEnd'));
    this.bar = h('div', { class: 'chat-bar' }, this.connection, this.endButton);
    this.keepButton = h('button', { type: 'button', class: 'end-button', testid: 'chat-end-keep', on: { click: () => this.#askEnd(false) } }, t('chatKeep'));
    this.sure = h('div', { class: 'chat-bar chat-sure', role: 'group', 'aria-label': t('chatEndSure'), hidden: true },
      h('p', { class: 'sure-words' }, t('chatEndSure')), this.keepButton,
      h('button', { type: 'button', class: 'end-button danger', testid: 'chat-end-confirm', on: { click: () => this.#end() } }, t('chatEnd')));
    this.news = h('p', { class: 'sr-only', role: 'status' });
    const close = h('button', { type: 'button', class: 'head-icon', testid: 'chat-close', 'aria-label': t('chatClose'), on: { click: () => this.app.closeChat() } },
      icon('m6 9.5 6 6 6-6'));
    this.intro = h('div', { class: 'chat-intro' });
    this.typing = h('p', { class: 'typing', role: 'status' });
    this.hint = h('p', { class: 'wait-hint' }, t('statusWaitingHint'));
    this.foot = h('div', { class: 'chat-foot' });
    this.panel = h('section', {
      id: 'chat-panel', class: 'chat-panel', role: 'dialog', 'aria-label': t('chatDialog', { company }), tabindex: '-1', hidden: true,
      on: { keydown: (event) => this.#key(event) },
    },
    h('header', { class: 'chat-head' },
      h('img', { class: 'chat-mark', src: '/static/img/mark-light.svg', alt: '', width: '34', height: '34' }),
      h('div', { class: 'chat-names' }, h('h2', {}, t('chatTitle', { company })), this.status), close),
    this.bar, this.sure, this.hint, this.intro, this.log.root, this.typing, this.idle.root, this.foot);
    this.root = h('div', { class: 'chat' }, this.launcher, this.panel, this.news);
  }

  update(state, before) {
    const { phase, name } = chatPhase(state);
    this.root.dataset.phase = phase;
    this.#launcher(state);
    this.#status(phase, name);
    this.#connection(state);
    const anyChat = state.engagementOrder.length > 0;
    // While a new chat is being asked for, the one before must not take a message.
    const writing = canWrite(phase) && chatGoesOn(state) && sessionUsable(state);
    setShown(this.endButton, writing || phase === 'ending');
    this.endButton.disabled = phase === 'ending';
    if (this.endButton.hidden || phase === 'ending') this.#askEnd(false);
    setShown(this.hint, phase === 'waiting');
    setShown(this.log.root, anyChat && Boolean(state.customer));
    this.#intro(state, phase, anyChat);
    this.#foot(state, phase, writing);
    setText(this.typing, state.typing ? t('typing', { name: state.typing.name || t('agent') }) : '');
    this.idle.update(state);
    if (anyChat) this.log.update(timeline(state), { enabled: writing, replaying: state.replaying });
    if (state.chatOpen !== Boolean(before?.chatOpen) || !before) this.#toggle(state.chatOpen, Boolean(before));
  }

  #launcher(state) {
    const { unread, chatOpen } = state;
    const warned = Boolean(idleWarning(state));
    setShown(this.badge, unread > 0 || warned);
    setText(this.badge, warned ? '!' : unread > 9 ? '9+' : String(unread));
    setText(this.launcherText, t(warned ? 'idleAsk' : chatGoesOn(state) ? 'chatBack' : 'chatOpen'));
    // A closed panel says nothing by itself.
    const news = warned ? t('idleAskClosed') : unread ? t('chatUnreadNews', { count: unread }) : '';
    setText(this.news, chatOpen ? '' : news);
    if (warned) this.launcher.setAttribute('aria-label', t('idleAskClosed'));
    else if (unread) this.launcher.setAttribute('aria-label', t('chatOpenUnread', { count: unread }));
    else this.launcher.removeAttribute('aria-label');
  }

  #status(phase, name) {
    const key = STATUS_KEYS[phase];
    const nameless = !name && (phase === 'active' || phase === 'agentLeft');
    setText(this.status, t(nameless ? `${key}NoName` : key, { name }));
    this.status.dataset.phase = phase;
  }

  #connection({ connection, customer }) {
    const key = connection.status === 'closed' && connection.reason === 'auth' ? 'connClosedAuth' : CONNECTION_KEYS[connection.status];
    setText(this.connection, customer ? t(key) : '');
    this.connection.dataset.state = connection.status;
    this.connection.dataset.transport = connection.transport ?? '';
  }

  // What stands in place of the conversation before there is one.
  #intro(state, phase, anyChat) {
    const wanted = anyChat ? 'none' : state.customer ? 'start' : 'login';
    setShown(this.intro, wanted !== 'none');
    if (this.intro.dataset.kind !== wanted) {
      this.intro.dataset.kind = wanted;
      this.intro.replaceChildren(...(wanted === 'start' ? this.#startForm() : wanted === 'login' ? this.#loginFirst() : []));
    }
    if (wanted === 'start') this.#startState(state, phase);
  }

  #loginFirst() {
    return [h('h3', {}, t('chatIntroTitle')), h('p', {}, t('chatLoginFirst')),
      h('button', { type: 'button', class: 'button', on: { click: () => this.app.goToLogin() } }, t('chatGoLogin'))];
  }

  #startForm() {
    const topics = TOPICS.map((key, i) => h('label', { class: 'topic' },
      h('input', { type: 'radio', name: 'topic', value: t(key), checked: i === 0 }), h('span', {}, t(key))));
    this.startButton = h('button', { type: 'submit', class: 'button button-wide', testid: 'chat-start' }, t('chatStart'));
    this.startProblem = h('p', { class: 'form-problem', role: 'alert' });
    this.about = h('p', { class: 'start-about', hidden: true });
    const form = h('form', { class: 'start-form', on: { submit: (event) => { event.preventDefault(); this.#start(new FormData(form).get('topic')); } } },
      h('fieldset', {}, h('legend', {}, t('chatTopic')), h('div', { class: 'topics', on: { change: () => { this.topicChosen = true; } } }, topics)),
      this.about, this.startButton, this.startProblem);
    return [h('h3', {}, t('chatIntroTitle')), h('p', {}, t('chatIntro')), form];
  }

  // What the customer looks at says what it is about, until they say it themselves.
  #suggest() {
    const { topic, interest } = this.app.suggestion();
    const radio = [...this.intro.querySelectorAll('input')].find((input) => input.value === t(topic));
    if (radio && !this.topicChosen) radio.checked = true;
    if (!radio) return;
    setShown(this.about, Boolean(interest));
    setText(this.about, interest ? t('chatAbout', { name: interest }) : '');
  }

  // Ending cannot be taken back, so it takes a second press; the first one put
  // the focus on the harmless answer.
  #askEnd(ask) {
    if (this.sure.hidden !== ask) return;
    const hadFocus = this.sure.contains(document.activeElement);
    setShown(this.sure, ask);
    setShown(this.bar, !ask);
    if (ask) this.keepButton.focus();
    else if (hadFocus) (this.endButton.disabled || this.endButton.hidden ? this.panel : this.endButton).focus();
  }

  #end() {
    this.panel.focus();
    this.app.endChat();
  }

  #start(topic) {
    this.app.startChat(topic);
    this.panel.focus();
  }

  #startState(state, phase) {
    const busy = phase === 'starting';
    this.startButton.disabled = busy;
    setText(this.startButton, t(busy ? 'chatStarting' : 'chatStart'));
    setText(this.startProblem, state.problem ? t('chatStartFailed', { why: why(state.problem.reason) }) : '');
  }

  // The composer stays the same element, so that what is half written survives.
  #foot(state, phase, writing) {
    const over = phase === 'ended' || phase === 'failed' || (phase === 'starting' && state.starting && state.engagementOrder.length > 0);
    const wanted = writing ? 'write' : over ? 'over' : 'none';
    if (this.foot.dataset.kind !== wanted) {
      const hadFocus = this.foot.contains(document.activeElement);
      const first = !this.foot.dataset.kind;
      this.foot.dataset.kind = wanted;
      this.foot.replaceChildren(...(wanted === 'write' ? [this.composer.root] : wanted === 'over' ? this.#over() : []));
      if (wanted === 'write' && !first && state.chatOpen && this.panel.contains(document.activeElement)) this.composer.focus();
      else if (hadFocus && state.chatOpen) this.panel.focus();
    }
    this.composer.setLimit(state.limits.messageTextLength);
    if (wanted === 'over') {
      const busy = phase === 'starting';
      this.againButton.disabled = busy;
      setText(this.againButton, t(busy ? 'chatStarting' : 'chatStartNew'));
      setText(this.overWords, t(endedIdle(state) ? 'chatReadOnlyIdle' : 'chatReadOnly'));
      setText(this.againProblem, state.problem ? t('chatStartFailed', { why: why(state.problem.reason) }) : '');
    } else if (state.problem && wanted === 'write') {
      setText(this.typing, t('chatEndFailed', { why: why(state.problem.reason) }));
    }
  }

  #over() {
    this.againButton = h('button', { type: 'button', class: 'button button-wide', testid: 'chat-start', on: { click: () => this.#start('') } }, t('chatStartNew'));
    this.againProblem = h('p', { class: 'form-problem', role: 'alert' });
    this.overWords = h('p', { testid: 'chat-over' });
    return [h('div', { class: 'over' }, this.overWords, this.againButton, this.againProblem)];
  }

  // Where the focus goes when what had it is no more.
  #refocus() {
    if (this.foot.dataset.kind === 'write') this.composer.focus();
    else this.panel.focus();
  }

  #toggle(open, animated) {
    setShown(this.panel, open);
    this.root.classList.toggle('open', open);
    this.launcher.setAttribute('aria-expanded', String(open));
    this.#modality();
    if (open) { this.log.toEnd(); this.#suggest(); }
    if (!animated) return;
    if (!open) this.launcher.focus();
    else if (this.foot.dataset.kind === 'write') this.composer.focus();
    else (this.panel.querySelector('[data-testid="chat-start"], .chat-intro .button') ?? this.panel).focus();
  }

  // Only the sheet covers the page; the window leaves it usable.
  #modality() {
    const sheet = this.narrow.matches && !this.panel.hidden;
    this.background.inert = sheet;
    document.documentElement.classList.toggle('sheet-open', sheet);
    if (sheet) this.panel.setAttribute('aria-modal', 'true');
    else this.panel.removeAttribute('aria-modal');
  }

  #key(event) {
    if (event.key === 'Escape') {
      event.preventDefault();
      // A key that is pressed by accident must not put a warning out of sight.
      if (!this.sure.hidden) this.#askEnd(false);
      else if (this.idle.shown) this.idle.focus();
      else this.app.closeChat();
    } else if (event.key === 'Tab' && this.narrow.matches) {
      this.#cycle(event);
    }
  }

  #cycle(event) {
    const stops = [...this.panel.querySelectorAll('a[href], button:not([disabled]), textarea, input, [tabindex="0"]')]
      .filter((element) => element.getClientRects().length > 0);
    const edge = event.shiftKey ? stops[0] : stops[stops.length - 1];
    const inside = document.activeElement !== this.panel;
    if (stops.length && (document.activeElement === edge || (event.shiftKey && !inside))) {
      event.preventDefault();
      (event.shiftKey ? stops[stops.length - 1] : stops[0]).focus();
    }
  }
}
