// The REST API, and errors as one type. Knows no view and no state.

import { backoffDelay, sleep } from './backoff.js';

const TIMEOUT_MS = 20000;

/** A call that failed: reason is a name of the error catalogue, or NETWORK. */
export class ApiError extends Error {
  constructor({ reason, status = 0, detail = '', retryable = false, retryAfterMs = 0, violations = [], requestId = '' }) {
    super(detail || reason);
    this.name = 'ApiError';
    Object.assign(this, { reason, status, detail, retryable, retryAfterMs, violations, requestId });
  }
}

/** Makes an ApiError of a Problem, as frames and problem+json carry it. */
export function problemError(problem, status = 0) {
  return new ApiError({
    reason: String(problem?.reason ?? '').replace('ERROR_REASON_', '') || fallbackReason(status),
    status,
    detail: problem?.detail ?? problem?.title ?? '',
    retryable: problem?.retryable ?? status >= 500,
    retryAfterMs: Number(problem?.retryAfterMs ?? 0),
    violations: problem?.violations ?? [],
    requestId: problem?.requestId ?? '',
  });
}

function fallbackReason(status) {
  if (status === 401) return 'UNAUTHENTICATED';
  if (status === 404) return 'NOT_FOUND';
  if (status === 429) return 'RATE_LIMITED';
  return status >= 500 || status === 0 ? 'UNAVAILABLE' : 'INVALID_ARGUMENT';
}

function networkError(detail) {
  return new ApiError({ reason: 'NETWORK', detail, retryable: true });
}

const seg = encodeURIComponent;

/** The gateway's REST API for one signed-in customer. */
export class Api {
  /**
   * tokens: {get(): Promise<string>, renew(): Promise<string>}.
   * fetcher: for tests; the browser's fetch otherwise.
   */
  constructor({ tokens, fetcher = (...args) => fetch(...args), base = '' }) {
    this.tokens = tokens;
    this.fetcher = fetcher;
    this.base = base;
  }

  createSession({ requestId, displayName, identifiers, parameters }) {
    const customerIdentifiers = {};
    for (const [name, values] of Object.entries(identifiers ?? {})) customerIdentifiers[name] = { values };
    return this.#repeated('POST', '/v1/sessions', {
      requestId, displayName, customerIdentifiers, sessionParameters: parameters,
    }).then((r) => r.session);
  }

  getSession(session) {
    return this.#repeated('GET', `/v1/sessions/${seg(session)}`).then((r) => r.session);
  }

  updateParameters(session, parameters, options) {
    return this.call('POST', `/v1/sessions/${seg(session)}:updateParameters`, { sessionParameters: parameters }, options);
  }

  deleteSession(session) {
    return this.#repeated('DELETE', `/v1/sessions/${seg(session)}`, undefined, { attempts: 2 });
  }

  createEngagement(session, { requestId, conversation, parameters }) {
    return this.#repeated('POST', `/v1/sessions/${seg(session)}/engagements`, {
      requestId, conversation, engagementParameters: parameters,
    }).then((r) => r.engagement);
  }

  listEngagements(session) {
    return this.#repeated('GET', `/v1/sessions/${seg(session)}/engagements`).then((r) => r.engagements ?? []);
  }

  endEngagement(session, engagement) {
    return this.#repeated('POST', `/v1/sessions/${seg(session)}/engagements/${seg(engagement)}:end`, {
      reason: 'CLOSE_REASON_USER_CLOSED',
    }).then((r) => r.engagement);
  }

  sendMessage(session, { engagementId, ...message }) {
    const path = `/v1/sessions/${seg(session)}/engagements/${seg(engagementId)}/messages`;
    return this.call('POST', path, message).then((r) => r.message);
  }

  /** Says that the customer is there. */
  keepAlive(session) {
    return this.#repeated('POST', `/v1/sessions/${seg(session)}:keepAlive`, {}, { attempts: 2 });
  }

  attachment(session, mediaId) {
    return this.#repeated('GET', `/v1/sessions/${seg(session)}/attachments/${seg(mediaId)}`).then((r) => r.attachment);
  }

  createTicket(session, use) {
    return this.call('POST', `/v1/sessions/${seg(session)}:createTicket`, { use }).then((r) => r.ticket);
  }

  pollEvents(session, cursor, { wait, signal }) {
    const query = new URLSearchParams({ wait: `${wait}s` });
    if (cursor) query.set('cursor', cursor);
    return this.call('GET', `/v1/sessions/${seg(session)}/events:poll?${query}`, undefined, {
      signal, timeoutMs: wait * 1000 + TIMEOUT_MS,
    });
  }

  /** Opens the event stream; the caller reads the body of the answer. */
  async openEvents(session, cursor, { signal }) {
    const query = cursor ? `?${new URLSearchParams({ cursor })}` : '';
    const response = await this.#send('GET', `/v1/sessions/${seg(session)}/events${query}`, undefined, {
      signal, accept: 'text/event-stream',
    });
    if (!response.ok) throw await errorOf(response);
    return response;
  }

  // Repeats what is safe to repeat: reads, and commands that carry a request id
  // or have the same effect twice.
  async #repeated(method, path, body, { attempts = 4 } = {}) {
    for (let attempt = 0; ; attempt += 1) {
      try {
        return await this.call(method, path, body);
      } catch (error) {
        if (!error.retryable || attempt + 1 >= attempts) throw error;
        await sleep(Math.max(error.retryAfterMs, backoffDelay(attempt)));
      }
    }
  }

  /** One call; throws an ApiError. */
  async call(method, path, body, options = {}) {
    const response = await this.#send(method, path, body, options);
    if (!response.ok) throw await errorOf(response);
    try {
      return await response.json();
    } catch {
      throw networkError('the answer was cut short');
    }
  }

  async #send(method, path, body, options) {
    const response = await this.#sendOnce(method, path, body, options, await this.tokens.get());
    if (response.status !== 401) return response;
    // Once with a fresh token: the clock of this device may be wrong.
    return this.#sendOnce(method, path, body, options, await this.tokens.renew());
  }

  async #sendOnce(method, path, body, { signal, timeoutMs = TIMEOUT_MS, accept = 'application/json', keepalive = false }, token) {
    const headers = { Accept: accept, Authorization: `Bearer ${token}` };
    if (body !== undefined) headers['Content-Type'] = 'application/json';
    // A timer of our own and not AbortSignal.timeout: once the headers are here
    // a stream may last for hours.
    const abort = new AbortController();
    const onAbort = () => abort.abort();
    signal?.addEventListener('abort', onAbort, { once: true });
    if (signal?.aborted) abort.abort();
    const timer = setTimeout(onAbort, timeoutMs);
    try {
      return await this.fetcher(this.base + path, {
        method, headers, keepalive, cache: 'no-store', credentials: 'same-origin', signal: abort.signal,
        body: body === undefined ? undefined : JSON.stringify(body),
      });
    } catch (error) {
      throw networkError(error.message);
    } finally {
      clearTimeout(timer);
    }
  }
}

async function errorOf(response) {
  let problem = null;
  try {
    problem = await response.json();
  } catch {
    // A proxy's HTML page, or nothing: the status says enough.
  }
  const error = problemError(problem, response.status);
  const seconds = Number(response.headers.get('Retry-After'));
  if (!error.retryAfterMs && seconds > 0) error.retryAfterMs = seconds * 1000;
  return error;
}
