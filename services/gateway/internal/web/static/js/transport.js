// Keeps the session's stream open: WebSocket first, server-sent events where
// that cannot be opened, long polling where nothing else gets through. One
// loop owns everything; a way of transport is one function that runs until its
// stream ends and says how it ended.

import { backoffDelay, sleep } from './backoff.js';
import { openWebSocket } from './transport_ws.js';
import { openPoll, openSse } from './transport_http.js';

/** A way that fails to open this often in a row gives way to the next. */
const FAILURES_TO_FALL_BACK = 2;
/** After this long on a lesser way, the best one is tried again. */
const UPGRADE_MS = 10 * 60000;

/** A stream that lasted this long was a good one: the waits begin anew. */
const STABLE_MS = 5000;

const LADDER = ['websocket', 'sse', 'poll'];
const OPENERS = { websocket: openWebSocket, sse: openSse, poll: openPoll };

/** Reasons after which coming back makes no sense. */
const SESSION_GONE = new Set(['SESSION_NOT_FOUND', 'SESSION_CLOSED']);
const AUTH_REFUSED = new Set(['UNAUTHENTICATED', 'TOKEN_EXPIRED', 'ORIGIN_FORBIDDEN']);

export class Connection {
  /**
   * api: Api; sessionId; cursor(): where to resume;
   * onFrame(frame): each server frame but reply; onStatus({status, transport, reason}).
   * Statuses: connecting, online, reconnecting, offline, closed.
   */
  constructor({ api, sessionId, cursor, onFrame, onStatus, openers = OPENERS, random = Math.random, page = globalThis }) {
    Object.assign(this, { api, sessionId, cursor, onFrame, onStatus, openers, random, page });
    this.way = 0;
    this.failures = 0;
    this.attempt = 0;
    this.onlineAt = 0;
    this.everOnline = false;
    this.link = null;
    this.stopping = new AbortController();
    this.nudge = new AbortController();
    this.wayChosenAt = Date.now();
  }

  start() {
    this.done = this.#run();
    this.onPageOnline = () => this.#pageOnline();
    this.onPageOffline = () => this.onStatus({ status: 'offline' });
    this.page.addEventListener?.('online', this.onPageOnline);
    this.page.addEventListener?.('offline', this.onPageOffline);
  }

  stop() {
    this.stopping.abort();
    this.nudge.abort();
    this.page.removeEventListener?.('online', this.onPageOnline);
    this.page.removeEventListener?.('offline', this.onPageOffline);
  }

  get transport() {
    return LADDER[this.way];
  }

  /** True where commands can go over the stream itself. */
  get canCommand() {
    return Boolean(this.link?.command);
  }

  /** Sends a command over the stream; resolves with its reply. */
  command(payload) {
    return this.link.command(payload);
  }

  /** A fresh token for a stream that outlives the old one. */
  renewed(token) {
    this.link?.renewed?.(token);
  }

  /** The page became visible again: find out at once whether the stream lived on. */
  check() {
    if (this.link) this.link.check?.();
    else this.#hurry();
  }

  // A short loss may leave the stream alive; then no new one will say "online".
  #pageOnline() {
    if (!this.link) { this.#hurry(); return; }
    this.onStatus({ status: 'online', transport: this.transport });
    this.link.check?.();
  }

  #hurry() {
    this.nudge.abort();
    this.nudge = new AbortController();
  }

  async #run() {
    const { signal } = this.stopping;
    while (!signal.aborted) {
      this.#chooseWay();
      this.onStatus({ status: this.everOnline ? 'reconnecting' : 'connecting', transport: this.transport });
      const end = await this.#open(signal);
      this.link = null;
      if (signal.aborted) return;
      if (end.terminal) {
        this.onStatus({ status: 'closed', transport: this.transport, reason: end.reason });
        return;
      }
      this.#learn(end);
      await this.#pause(end);
    }
  }

  #chooseWay() {
    if (this.way > 0 && Date.now() - this.wayChosenAt > UPGRADE_MS) this.#setWay(0);
  }

  #setWay(way) {
    this.way = way;
    this.failures = 0;
    this.wayChosenAt = Date.now();
  }

  async #open(signal) {
    try {
      return await this.openers[this.transport]({
        api: this.api,
        sessionId: this.sessionId,
        cursor: this.cursor,
        signal,
        onFrame: this.onFrame,
        onOnline: (link) => this.#online(link),
        maxAgeMs: this.way > 0 ? UPGRADE_MS : 0,
      });
    } catch (error) {
      return this.#endOf(error);
    }
  }

  #endOf(error) {
    if (SESSION_GONE.has(error.reason)) return { terminal: true, reason: 'session' };
    if (AUTH_REFUSED.has(error.reason)) return { terminal: true, reason: 'auth' };
    if (error.reason === 'TOKEN_REFUSED' && !error.retryable) return { terminal: true, reason: 'auth' };
    return { retryAfterMs: error.retryAfterMs ?? 0, blame: Boolean(error.blame) };
  }

  #online(link) {
    this.link = link;
    this.everOnline = true;
    this.failures = 0;
    this.onlineAt = Date.now();
    this.onStatus({ status: 'online', transport: this.transport });
  }

  // Only what is the way's own fault counts against it: where even the ticket
  // cannot be had, the server or the network is away and no other way helps.
  #learn(end) {
    if (end.opened) {
      // A stream that breaks right after each welcome is not a success.
      if (Date.now() - this.onlineAt > STABLE_MS) this.attempt = 0;
      return;
    }
    if (end.blame) this.failures += 1;
    if (this.failures >= FAILURES_TO_FALL_BACK && this.way < LADDER.length - 1) {
      this.#setWay(this.way + 1);
      this.attempt = 0;
    }
  }

  async #pause(end) {
    let wait = backoffDelay(this.attempt, { random: this.random });
    this.attempt += 1;
    if (end.moveNow) wait = 0;
    else if (end.retryAfterMs > 0) wait = Math.max(end.retryAfterMs, end.opened ? 0 : wait);
    if (wait === 0) return;
    const offline = this.page.navigator?.onLine === false;
    this.onStatus({ status: offline ? 'offline' : 'reconnecting', transport: this.transport });
    await sleep(wait, this.nudge.signal);
  }
}
