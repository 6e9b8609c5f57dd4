// The customer's visit: who is signed in, the session, the chat. Ties the
// store, the API, the stream and the views together; holds no state of its own
// that a reload would need.

import { Api, ApiError } from './api.js';
import { TokenSource } from './auth.js';
import { ContextTracker } from './context.js';
import { newId } from './ids.js';
import { t } from './i18n.js';
import { Outbox } from './outbox.js';
import { keepAlive, Presence } from './presence.js';
import { canWrite, chatPhase, currentEngagement, idleWarning, sessionUsable } from './selectors.js';
import { createStore, unsent } from './store.js';
import { Storage } from './storage.js';
import { Tabs } from './tabs.js';
import { Connection } from './transport.js';

const SAVE_MS = 250;
const TYPING_MS = 6000;
/** How long ending a chat waits for what was just written. */
const LAST_WORDS_MS = 3000;

/** What a page is likely to raise questions about; the other pages leave it open. */
const TOPIC_OF_PAGE = { navTents: 'topicTents', navBoots: 'topicBoots' };

const SESSION_GONE = new Set(['SESSION_CLOSED', 'SESSION_NOT_FOUND']);

export class App {
  constructor({ config, storage = new Storage(sessionStorage) }) {
    this.config = config;
    this.storage = storage;
    this.store = createStore();
    this.context = new ContextTracker({ send: (parameters, options) => this.#sendContext(parameters, options) });
    this.presence = new Presence({ store: this.store, send: () => keepAlive(this.connection, this.api, this.store.state.session.sessionId) });
    this.outbox = null;
    this.connection = null;
    this.tokens = null;
    this.tabs = new Tabs({ visit: () => this.#visit(), onNews: (news) => this.#heardFromTab(news) });
    this.store.subscribe((state, before, action) => this.#changed(state, before, action));
  }

  // ---- signing in and out ---------------------------------------------------

  /** Goes on where this tab was before a reload, or joins the tabs that are open. */
  async resume() {
    if (!this.config.tokenUrl) return;
    const customer = this.storage.get('customer');
    if (!customer) {
      const visit = await this.tabs.ask();
      if (visit) this.#join(visit);
      return;
    }
    this.#identify(customer, this.storage.get('token') ?? null);
    const screen = this.storage.get('screen');
    this.store.dispatch({ type: 'signedIn', customer });
    if (screen) this.store.dispatch({ type: 'restored', snapshot: screen });
    try {
      if (sessionUsable(this.store.state)) this.#connect();
      else if (!this.store.state.session) await this.#openSession();
    } catch {
      this.store.dispatch({ type: 'connection', connection: { status: 'closed' } });
    }
  }

  async login({ name, email }) {
    const subject = `web-${newId()}`;
    // AXP wants at least one identifier; a visitor without an address gets one
    // that can belong to nobody (RFC 2606).
    const identifiers = { emailAddresses: [email || `${subject.slice(0, 12)}@visitor.invalid`] };
    const customer = { subject, name, identifiers };
    this.#identify(customer, null);
    try {
      await this.tokens.renew();
      const session = await this.#createSession(customer);
      this.storage.set({ customer });
      this.store.dispatch({ type: 'signedIn', customer });
      this.store.dispatch({ type: 'session', session });
      this.tabs.tell({ signedIn: this.#visit() });
    } catch (error) {
      this.#letGo();
      throw error instanceof ApiError ? error : new ApiError({ reason: 'OTHER', detail: error.message });
    }
    this.#connect();
  }

  async logout() {
    const { session, customer } = this.store.state;
    this.site.setLoggingOut(true);
    this.connection?.stop();
    this.outbox?.stop();
    try {
      if (session && sessionUsable(this.store.state)) await this.api.deleteSession(session.sessionId);
    } catch {
      // The connector ends what is idle; the customer is out of here either way.
    }
    this.tabs.tell({ signedOut: customer?.subject });
    this.#forget();
    this.site.setLoggingOut(false);
  }

  #forget() {
    this.#letGo();
    this.storage.clear();
    this.store.dispatch({ type: 'chatOpen', open: false });
    this.store.dispatch({ type: 'signedOut' });
  }

  // ---- other tabs -----------------------------------------------------------------

  #visit() {
    const { customer, session } = this.store.state;
    return customer && sessionUsable(this.store.state) ? { customer, session, token: this.storage.get('token') ?? null } : null;
  }

  // Joins a visit that another tab began; the journal tells what was said there.
  #join({ customer, session, token }) {
    if (this.store.state.customer) return;
    this.#identify(customer, token);
    this.storage.set({ customer, token });
    this.store.dispatch({ type: 'signedIn', customer });
    this.store.dispatch({ type: 'session', session });
    this.#connect();
    this.context.flush();
  }

  #heardFromTab({ signedIn, signedOut, session, subject }) {
    const { customer, session: mine } = this.store.state;
    if (signedIn) this.#join(signedIn);
    else if (signedOut && signedOut === customer?.subject) this.#forget();
    else if (session && subject === customer?.subject && session.sessionId !== mine?.sessionId) {
      this.store.dispatch({ type: 'sessionReplaced', session });
      this.#connect();
    }
  }

  #identify(customer, saved) {
    this.tokens = new TokenSource({
      url: this.config.tokenUrl,
      customer,
      saved,
      onToken: (token) => {
        this.storage.set({ token });
        this.connection?.renewed(token.token);
      },
    });
    this.api = new Api({ tokens: this.tokens });
    this.outbox = new Outbox({ store: this.store, deliver: (message) => this.#deliver(message) });
  }

  #letGo() {
    this.connection?.stop();
    this.connection = null;
    this.tokens?.stop();
    this.outbox?.stop();
  }

  // ---- session and stream -----------------------------------------------------

  async #createSession(customer) {
    const parameters = {
      ...this.context.all(),
      language: navigator.language || 'en',
      device: matchMedia('(pointer: coarse)').matches ? 'touch' : 'desktop',
    };
    const session = await this.api.createSession({
      requestId: newId(), displayName: customer.name.slice(0, 70), identifiers: customer.identifiers, parameters,
    });
    this.context.settled(parameters);
    return session;
  }

  async #openSession() {
    const session = await this.#createSession(this.store.state.customer);
    this.store.dispatch({ type: 'sessionReplaced', session });
    this.tabs.tell({ session, subject: this.store.state.customer.subject });
    this.#connect();
  }

  #connect() {
    this.connection?.stop();
    const { sessionId } = this.store.state.session;
    const connection = new Connection({
      api: this.api,
      sessionId,
      cursor: () => this.store.state.cursor,
      onFrame: (frame) => { if (this.connection === connection) this.store.dispatch({ type: 'frame', frame }); },
      onStatus: (status) => { if (this.connection === connection) this.#connectionChanged(status); },
    });
    this.connection = connection;
    connection.start();
  }

  #connectionChanged(status) {
    this.store.dispatch({ type: 'connection', connection: status });
    if (status.status === 'online') this.outbox.kick();
    if (status.status === 'closed' && status.reason === 'session') this.store.dispatch({ type: 'sessionLost' });
  }

  #sendContext(parameters, { keepalive } = {}) {
    const { state } = this.store;
    if (!sessionUsable(state)) return Promise.reject(new ApiError({ reason: 'SESSION_CLOSED' }));
    return this.api.updateParameters(state.session.sessionId, parameters, { keepalive });
  }

  // ---- the chat -----------------------------------------------------------------

  async startChat(topic) {
    if (this.store.state.starting) return;
    this.topic = topic || this.topic || t('topicOther');
    this.store.dispatch({ type: 'starting', starting: true });
    try {
      const engagement = await this.#createEngagement();
      this.store.dispatch({ type: 'engagement', engagement });
    } catch (error) {
      this.store.dispatch({ type: 'problem', problem: { reason: error.reason ?? 'OTHER' } });
    }
  }

  async #createEngagement() {
    await this.context.flush();
    // A session may have ended while the customer was away; then once with a new one.
    for (let attempt = 0; ; attempt += 1) {
      if (!sessionUsable(this.store.state)) await this.#openSession();
      try {
        return await this.#createOrAdopt(this.store.state.session.sessionId);
      } catch (error) {
        if (attempt > 0 || !SESSION_GONE.has(error.reason)) throw error;
        this.connection?.stop();
        this.store.dispatch({ type: 'sessionLost' });
      }
    }
  }

  async #createOrAdopt(sessionId) {
    const { currentPage = '', lastInterest = '' } = this.context.all();
    const parameters = { topic: this.topic, startedFrom: currentPage, interest: lastInterest, origin: 'web' };
    for (const [key, value] of Object.entries(parameters)) if (!value) delete parameters[key];
    try {
      return await this.api.createEngagement(sessionId, { requestId: newId(), conversation: this.topic, parameters });
    } catch (error) {
      if (error.reason !== 'ENGAGEMENT_OPEN') throw error;
      // Another tab was faster, or an answer got lost: that chat is this one.
      const open = (await this.api.listEngagements(sessionId)).filter((e) => !/TERMINATED|FAILED/.test(e.status));
      if (!open.length) throw error;
      return open[open.length - 1];
    }
  }

  async endChat() {
    const engagement = currentEngagement(this.store.state);
    if (!engagement || this.store.state.ending) return;
    this.store.dispatch({ type: 'ending' });
    await this.#lastWords();
    try {
      const ended = await this.api.endEngagement(this.store.state.session.sessionId, engagement.engagementId);
      this.store.dispatch({ type: 'engagement', engagement: ended });
    } catch (error) {
      if (error.reason === 'ENGAGEMENT_ENDED') {
        this.store.dispatch({ type: 'engagement', engagement: { ...engagement, status: 'ENGAGEMENT_STATUS_TERMINATED' } });
      } else {
        this.store.dispatch({ type: 'problem', problem: { reason: error.reason ?? 'OTHER' } });
      }
    }
  }

  // What was written before "end" belongs to the chat.
  #lastWords() {
    if (!unsent(this.store.state).length) return Promise.resolve();
    return new Promise((resolve) => {
      const finish = () => { clearTimeout(timer); unsubscribe(); resolve(); };
      const timer = setTimeout(finish, LAST_WORDS_MS);
      const unsubscribe = this.store.subscribe((state) => { if (!unsent(state).length) finish(); });
    });
  }

  sendText(text, extra = {}) {
    const engagement = currentEngagement(this.store.state);
    if (!engagement) return;
    this.store.dispatch({
      type: 'outgoing',
      message: { clientMessageId: newId(), engagementId: engagement.engagementId, text, time: new Date().toISOString(), ...extra },
    });
    this.#afterWriting();
  }

  retry(key) {
    this.store.dispatch({ type: 'outgoingRetry', key, newId: newId(), time: new Date().toISOString() });
    this.#afterWriting();
  }

  #afterWriting() {
    this.presence.acted();
    const { connection } = this.store.state;
    // A stream that ended for good is given another chance by whoever still writes.
    if (connection.status === 'closed' && sessionUsable(this.store.state)) this.#connect();
    this.outbox.kick();
  }

  /** A button in a message was pressed. */
  async act(entry, action, id) {
    const parentMessageId = entry.message.axpMessageId || entry.messageId;
    if (action.type === 'locationRequest') {
      const where = await currentPosition();
      if (!where) { this.onNotice(t('locationRefused')); return; }
      this.store.dispatch({ type: 'answered', key: entry.key, answer: id });
      this.sendText(t('locationText', where), { payload: JSON.stringify(where), parentMessageId });
      return;
    }
    this.store.dispatch({ type: 'answered', key: entry.key, answer: id });
    this.sendText(action.text || action.payload, { payload: action.payload || undefined, parentMessageId });
  }

  async attachmentUrl(mediaId) {
    const attachment = await this.api.attachment(this.store.state.session.sessionId, mediaId);
    return attachment?.downloadUrl;
  }

  // Over the stream while there is one, else by REST; the id makes both one message.
  async #deliver({ clientMessageId, engagementId, text, payload, parentMessageId }) {
    const message = { clientMessageId, engagementId, text, payload, parentMessageId };
    if (this.connection?.canCommand) {
      const reply = await this.connection.command({ sendMessage: message });
      return reply.sendMessage?.message;
    }
    return this.api.sendMessage(this.store.state.session.sessionId, message);
  }

  // ---- still there? ---------------------------------------------------------------

  /** The customer writes something that is not sent yet. */
  writing() {
    if (canWrite(chatPhase(this.store.state).phase)) this.presence.writing(idleWarning(this.store.state));
  }

  /** The customer says to be there. */
  here() {
    return this.presence.here(idleWarning(this.store.state));
  }

  // ---- the page -------------------------------------------------------------------

  visit(page) {
    this.context.page(page);
  }

  interest(name) {
    this.context.interest(name);
  }

  /** What the customer is likely to ask about: {topic, interest}. */
  suggestion() {
    const { currentPage, lastInterest = '' } = this.context.all();
    const page = Object.keys(TOPIC_OF_PAGE).find((key) => t(key) === currentPage);
    return { topic: TOPIC_OF_PAGE[page] ?? 'topicTents', interest: lastInterest };
  }

  openChat() {
    this.store.dispatch({ type: 'chatOpen', open: true });
  }

  closeChat() {
    this.store.dispatch({ type: 'chatOpen', open: false });
  }

  goToLogin() {
    this.closeChat();
    this.site.showLogin();
  }

  #changed(state, before, action) {
    if (state.typing && state.typing !== before.typing) {
      clearTimeout(this.typingTimer);
      this.typingTimer = setTimeout(() => this.store.dispatch({ type: 'typingOver' }), TYPING_MS);
    }
    if (!state.customer || !this.storage.get('customer')) return;
    // What the customer just wrote must survive whatever comes next.
    if (action.type === 'outgoing') this.save();
    else this.saveTimer ??= setTimeout(() => this.save(), SAVE_MS);
  }

  save() {
    clearTimeout(this.saveTimer);
    this.saveTimer = null;
    if (this.store.state.customer) this.storage.saveScreen(this.store.state);
  }

  /** The page is going away, maybe for good. */
  leave() {
    this.save();
    this.context.flush({ keepalive: true });
  }

  /** The page is looked at again. */
  comeBack() {
    this.store.dispatch({ type: 'looking', looking: true });
    this.connection?.check();
  }

  /** Another tab or window is looked at now. */
  lookAway() {
    this.store.dispatch({ type: 'looking', looking: false });
    this.save();
  }
}

function currentPosition() {
  return new Promise((resolve) => {
    if (!navigator.geolocation) { resolve(null); return; }
    navigator.geolocation.getCurrentPosition(
      ({ coords }) => resolve({ lat: Number(coords.latitude.toFixed(5)), long: Number(coords.longitude.toFixed(5)) }),
      () => resolve(null),
      { timeout: 10000 },
    );
  });
}
