// The customer's token: fetched from the company's token endpoint, renewed
// ahead of its end, kept for this tab only.

import { ApiError } from './api.js';

/** How long before its end a token is renewed, at most. */
const AHEAD_MS = 60000;
const TIMEOUT_MS = 15000;
/** A token this young is the freshest that can be had. */
const FRESH_MS = 10000;

export class TokenSource {
  /** saved: {token, expiresAt} from this tab's storage; onToken is told of each new one. */
  constructor({ url, customer, saved = null, onToken = () => {}, fetcher = (...args) => fetch(...args), now = Date.now }) {
    this.url = url;
    this.customer = customer;
    this.current = saved;
    this.onToken = onToken;
    this.fetcher = fetcher;
    this.now = now;
    this.flight = null;
    this.timer = null;
    this.fetchedAt = -Infinity;
    this.stopped = false;
    this.#schedule();
  }

  /** A token that is good for a while. */
  async get() {
    if (this.current && this.current.expiresAt - this.now() > 5000) return this.current.token;
    return this.renew();
  }

  /** A new token; callers at the same time share one request. */
  renew() {
    this.flight ??= this.#fetch().finally(() => { this.flight = null; });
    return this.flight;
  }

  /**
   * The server says that the token ends soon. Where tokens live shorter than
   * the server's notice, each new one is followed by the next reminder at once:
   * a fresh token is left to its own timer.
   */
  async reminded() {
    if (this.current && this.now() - this.fetchedAt < FRESH_MS) return this.current.token;
    return this.renew();
  }

  stop() {
    this.stopped = true;
    clearTimeout(this.timer);
  }

  async #fetch() {
    const { subject, name, identifiers } = this.customer;
    const abort = new AbortController();
    const timer = setTimeout(() => abort.abort(), TIMEOUT_MS);
    let response;
    try {
      response = await this.fetcher(this.url, {
        method: 'POST',
        headers: { 'Content-Type': 'application/json', Accept: 'application/json' },
        body: JSON.stringify({ subject, name, identifiers }),
        cache: 'no-store',
        signal: abort.signal,
      });
      if (!response.ok) throw new ApiError({ reason: 'TOKEN_REFUSED', status: response.status, retryable: response.status >= 500 });
      const { token, expiresAt } = await response.json();
      if (!token) throw new ApiError({ reason: 'TOKEN_REFUSED', status: response.status });
      this.current = { token, expiresAt: expiryOf(token, expiresAt, this.now()) };
      this.fetchedAt = this.now();
    } catch (error) {
      if (error instanceof ApiError) throw error;
      throw new ApiError({ reason: 'NETWORK', detail: error.message, retryable: true });
    } finally {
      clearTimeout(timer);
    }
    this.#schedule();
    this.onToken(this.current);
    return this.current.token;
  }

  #schedule() {
    clearTimeout(this.timer);
    if (this.stopped || !this.current) return;
    const left = this.current.expiresAt - this.now();
    // A short-lived token is renewed at a third of its life before the end.
    const wait = Math.max(1000, left - Math.min(AHEAD_MS, left / 3));
    this.timer = setTimeout(() => {
      this.renew().catch(() => { this.timer = setTimeout(() => this.#schedule(), 5000); });
    }, Math.min(wait, 2 ** 31 - 1));
  }
}

/** When a token ends, in epoch milliseconds: as told, else as the token itself says. */
export function expiryOf(token, told, now) {
  if (typeof told === 'number' && told > 0) return told > 1e12 ? told : told * 1000;
  const parsed = Date.parse(told ?? '');
  if (Number.isFinite(parsed)) return parsed;
  try {
    const claims = JSON.parse(atob(token.split('.')[1].replaceAll('-', '+').replaceAll('_', '/')));
    if (claims.exp > 0) return claims.exp * 1000;
  } catch {
    // Not a JWT that this page can read: assume a short life.
  }
  return now + 5 * 60000;
}
