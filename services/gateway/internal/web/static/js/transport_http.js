// The stream over plain HTTP: server-sent events, and long polling. Commands
// go by REST.

import { ApiError } from './api.js';
import { durationMs } from './backoff.js';
import { SseParser, unwrapFrame } from './sse.js';
import { endOfClose } from './closes.js';

/** A proxy that buffers delivers nothing: no welcome for this long is its sign. */
const WELCOME_TIMEOUT_MS = 10000;
const DEFAULT_HEARTBEAT_MS = 15000;
const POLL_WAIT_SECONDS = 20;

function blamed(detail) {
  return Object.assign(new ApiError({ reason: 'TRANSPORT', detail, retryable: true }), { blame: true });
}

/** Server-sent events until the stream ends. */
export async function openSse({ api, sessionId, cursor, signal, onFrame, onOnline, maxAgeMs }) {
  const abort = new AbortController();
  const stop = () => abort.abort();
  signal.addEventListener('abort', stop, { once: true });
  const stream = { opened: false, end: null, heard: Date.now(), limitMs: WELCOME_TIMEOUT_MS, abort };
  const watch = setInterval(() => { if (Date.now() - stream.heard > stream.limitMs) stop(); }, 1000);
  const upgrade = maxAgeMs ? setTimeout(() => { stream.end = { opened: true, moveNow: true }; stop(); }, maxAgeMs) : 0;
  try {
    const response = await api.openEvents(sessionId, cursor(), { signal: abort.signal }).catch((error) => { throw asBlame(error); });
    if (!(response.headers.get('Content-Type') ?? '').startsWith('text/event-stream')) throw blamed('not an event stream');
    await readFrames(response.body, stream, (frame) => take(frame, stream, { api, cursor, onFrame, onOnline }));
  } catch (error) {
    if (error instanceof ApiError && (signal.aborted || !abort.signal.aborted)) throw error;
    // The body broke off, or one of the timers above ended it.
  } finally {
    clearInterval(watch);
    clearTimeout(upgrade);
    clearTimeout(stream.moveTimer);
    signal.removeEventListener('abort', stop);
    abort.abort();
  }
  if (stream.end?.renew) await api.tokens.renew().catch(() => {});
  if (!stream.end && !stream.opened && !signal.aborted) throw blamed('no frame came');
  return stream.end ?? { opened: stream.opened };
}

// A path that is not there, or refused by a proxy, is the way's fault.
function asBlame(error) {
  if (error.reason === 'NOT_FOUND' || error.status === 405 || error.status === 406 || error.status === 501) error.blame = true;
  return error;
}

async function readFrames(body, stream, onFrame) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  const parser = new SseParser();
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    stream.heard = Date.now();
    for (const item of parser.push(value)) {
      const frame = item.comment ? null : parse(item.data);
      if (frame) onFrame(frame);
    }
  }
}

function parse(data) {
  try {
    return unwrapFrame(JSON.parse(data));
  } catch {
    return null;
  }
}

function take(frame, stream, { api, onFrame, onOnline }) {
  if (frame.close) { stream.end = endOfClose(frame.close); return; }
  if (frame.goAway) {
    const wait = Number(frame.goAway.retryAfterMs ?? 0);
    stream.moveTimer = setTimeout(() => { stream.end = { opened: true, moveNow: true }; stream.abort.abort(); }, wait);
    return;
  }
  if (frame.tokenExpiryReminder) { api.tokens.reminded().catch(() => {}); return; }
  onFrame(frame);
  if (frame.welcome && !stream.opened) {
    stream.opened = true;
    stream.limitMs = 3 * durationMs(frame.welcome.heartbeatInterval, DEFAULT_HEARTBEAT_MS);
    // The token travels in the request's header: a new one needs a new request.
    const reopen = () => { stream.end = { opened: true, moveNow: true }; stream.abort.abort(); };
    onOnline({ renewed: reopen });
  }
}

/** Long polling until it fails or has lasted long enough to try a better way. */
export async function openPoll({ api, sessionId, cursor, signal, onFrame, onOnline, maxAgeMs }) {
  const started = Date.now();
  const [session, engagements] = await Promise.all([api.getSession(sessionId), api.listEngagements(sessionId)]);
  onFrame({ welcome: { session, engagements, serverTime: new Date().toISOString() } });
  if (session?.status === 'SESSION_STATUS_CLOSED') return { terminal: true, reason: 'session' };
  onOnline({});
  while (!signal.aborted) {
    if (maxAgeMs && Date.now() - started > maxAgeMs) return { opened: true, moveNow: true };
    const before = cursor();
    let answer;
    try {
      answer = await api.pollEvents(sessionId, before, { wait: POLL_WAIT_SECONDS, signal });
    } catch (error) {
      if (error.retryable) return { opened: true, retryAfterMs: error.retryAfterMs };
      throw error;
    }
    if (answer.reset) onFrame({ reset: answer.reset });
    for (const event of answer.events ?? []) onFrame({ event });
    if (answer.cursor && answer.cursor !== cursor()) onFrame({ advanced: { cursor: answer.cursor } });
    if (answer.close) return endOfClose(answer.close);
  }
  return {};
}
