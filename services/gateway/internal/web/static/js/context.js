// What the customer looks at, as session parameters for routing and agents.
// Page views come in bursts, so they are gathered and sent once things settle.

const SETTLE_MS = 800;
const RETRY_MS = 10000;
/** AXP's limits: keys in all, and UTF-16 units a value. */
const MAX_VALUE = 256;

export class ContextTracker {
  /** send(parameters, {keepalive}) returns a promise. */
  constructor({ send, settleMs = SETTLE_MS, retryMs = RETRY_MS }) {
    Object.assign(this, { send, settleMs, retryMs });
    this.sent = {};
    this.pending = {};
    this.history = [];
    this.interests = [];
    this.views = 0;
    this.timer = null;
  }

  page(title) {
    this.views += 1;
    if (this.history[this.history.length - 1] !== title) this.history.push(title);
    this.history = this.history.slice(-6);
    this.#merge({ currentPage: title, recentPages: this.history.join(' > '), pageViews: String(this.views) });
  }

  interest(name) {
    this.interests = [...this.interests.filter((i) => i !== name), name].slice(-5);
    this.#merge({ lastInterest: name, interests: this.interests.join(', ') });
  }

  /** Everything known, as the first parameters of a new session. */
  all() {
    return { ...this.sent, ...this.pending };
  }

  /** The session has these already. */
  settled(parameters) {
    this.sent = { ...this.sent, ...parameters };
    this.pending = {};
    clearTimeout(this.timer);
  }

  /** Sends what is gathered now; for a page that is going away with keepalive. */
  async flush(options = {}) {
    clearTimeout(this.timer);
    const parameters = this.pending;
    if (!Object.keys(parameters).length) return;
    this.pending = {};
    try {
      await this.send(parameters, options);
      this.sent = { ...this.sent, ...parameters };
    } catch (error) {
      // What was set meanwhile is newer.
      this.pending = { ...parameters, ...this.pending };
      if (error.retryable) this.#arm(this.retryMs);
    }
  }

  stop() {
    clearTimeout(this.timer);
  }

  #merge(parameters) {
    for (const [key, value] of Object.entries(parameters)) {
      const text = String(value).slice(0, MAX_VALUE);
      if (this.sent[key] !== text || key in this.pending) this.pending[key] = text;
    }
    this.#arm(this.settleMs);
  }

  #arm(ms) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.flush(), ms);
  }
}
