// Sends what the customer wrote: one after the other, each under the id that it
// got when it was written, again and again until the server has answered.

import { backoffDelay, sleep } from './backoff.js';
import { unsent } from './store.js';

/** After this long without an answer a message is shown as not sent, with a button to try again. */
const GIVE_UP_MS = 120000;

export class Outbox {
  /** deliver(outgoing) sends one message and returns what the server made of it. */
  constructor({ store, deliver, giveUpMs = GIVE_UP_MS, now = Date.now, random = Math.random }) {
    Object.assign(this, { store, deliver, giveUpMs, now, random });
    this.running = false;
    this.wake = new AbortController();
    this.stopped = false;
  }

  /** Starts sending where there is something to send; ends a wait between attempts. */
  kick() {
    this.wake.abort();
    this.wake = new AbortController();
    if (!this.running && !this.stopped) this.#pump();
  }

  stop() {
    this.stopped = true;
    this.wake.abort();
  }

  async #pump() {
    this.running = true;
    try {
      for (let next = this.#next(); next; next = this.#next()) await this.#send(next);
    } finally {
      this.running = false;
    }
  }

  #next() {
    return this.stopped ? undefined : unsent(this.store.state)[0];
  }

  async #send(entry) {
    const { clientMessageId } = entry;
    const started = this.now();
    for (let attempt = 0; !this.stopped && this.#open(entry.key); attempt += 1) {
      try {
        const message = await this.deliver(entry.outgoing);
        this.store.dispatch({ type: 'outgoingAccepted', message: { ...message, clientMessageId } });
        return;
      } catch (error) {
        const failure = { reason: error.reason ?? 'NETWORK', detail: error.detail ?? '' };
        if (!error.retryable || this.now() - started > this.giveUpMs) {
          this.store.dispatch({ type: 'outgoingFailed', clientMessageId, failure, final: false });
          return;
        }
        const wait = Math.max(error.retryAfterMs ?? 0, backoffDelay(attempt, { max: 10000, random: this.random }));
        await sleep(wait, this.wake.signal);
      }
    }
  }

  // The event may come before the answer, or instead of it.
  #open(key) {
    return this.store.state.entries[key]?.status === 'sending';
  }
}
