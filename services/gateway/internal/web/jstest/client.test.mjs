import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Api, ApiError, problemError } from '../static/js/api.js';
import { expiryOf, TokenSource } from '../static/js/auth.js';
import { backoffDelay, durationMs } from '../static/js/backoff.js';
import { endOfClose } from '../static/js/closes.js';
import { ContextTracker } from '../static/js/context.js';
import { Outbox } from '../static/js/outbox.js';
import { SseParser, unwrapFrame } from '../static/js/sse.js';
import { Storage } from '../static/js/storage.js';
import { createStore, initialState, reduce } from '../static/js/store.js';
import { Connection } from '../static/js/transport.js';

const tokens = { get: async () => 'old', renew: async () => 'new' };
const json = (status, body, headers = {}) => new Response(JSON.stringify(body), { status, headers });

test('a call is repeated once with a fresh token', async () => {
  const seen = [];
  const api = new Api({ tokens, fetcher: async (url, init) => {
    seen.push(init.headers.Authorization);
    return seen.length === 1 ? json(401, { reason: 'TOKEN_EXPIRED' }) : json(200, { ticket: 't' });
  } });
  assert.equal(await api.createTicket('s/1', 'TICKET_USE_CONNECT'), 't');
  assert.deepEqual(seen, ['Bearer old', 'Bearer new']);
});

test('ids are escaped in paths and verbs stay', async () => {
  let asked;
  const api = new Api({ tokens, fetcher: async (url) => { asked = url; return json(200, { engagement: {} }); } });
  await api.endEngagement('a/b', 'c?d');
  assert.equal(asked, '/v1/sessions/a%2Fb/engagements/c%3Fd:end');
});

test('a problem becomes an error with its reason', async () => {
  const api = new Api({ tokens, fetcher: async () => json(429, { reason: 'RATE_LIMITED', retryable: true, detail: 'slow down' }, { 'Retry-After': '3' }) });
  const error = await api.createTicket('s').catch((e) => e);
  assert.ok(error instanceof ApiError);
  assert.deepEqual([error.reason, error.status, error.retryable, error.retryAfterMs], ['RATE_LIMITED', 429, true, 3000]);
  assert.equal(problemError({ reason: 'ERROR_REASON_ENGAGEMENT_ENDED' }).reason, 'ENGAGEMENT_ENDED');
  assert.equal(problemError(null, 502).reason, 'UNAVAILABLE');
});

test('a network failure can be tried again', async () => {
  const api = new Api({ tokens, fetcher: async () => { throw new TypeError('no route'); } });
  const error = await api.createTicket('s').catch((e) => e);
  assert.deepEqual([error.reason, error.retryable], ['NETWORK', true]);
});

test('callers share one token request', async () => {
  let requests = 0;
  const source = new TokenSource({ url: 'u', customer: {}, fetcher: async () => { requests += 1; return json(200, { token: 't', expiresAt: '2999-01-01T00:00:00Z' }); } });
  assert.deepEqual(await Promise.all([source.get(), source.get(), source.renew()]), ['t', 't', 't']);
  assert.equal(requests, 1);
  await source.get();
  assert.equal(requests, 1);
  source.stop();
});

test('reminders of a short-lived token do not renew it again and again', async () => {
  let requests = 0;
  let clock = 0;
  const source = new TokenSource({ url: 'u', customer: {}, now: () => clock, fetcher: async () => { requests += 1; return json(200, { token: `t${requests}`, expiresAt: '2999-01-01T00:00:00Z' }); } });
  await source.renew();
  for (let i = 0; i < 5; i += 1) assert.equal(await source.reminded(), 't1');
  clock += 60000;
  assert.equal(await source.reminded(), 't2');
  assert.equal(requests, 2);
  source.stop();
});

test('the end of a token as text, number or claim', () => {
  assert.equal(expiryOf('x', '2026-01-01T00:00:00Z', 0), Date.UTC(2026, 0, 1));
  assert.equal(expiryOf('x', 1767225600, 0), 1767225600000);
  assert.equal(expiryOf(`h.${btoa(JSON.stringify({ exp: 5 }))}.s`, undefined, 0), 5000);
  assert.equal(expiryOf('x', undefined, 7), 300007);
});

test('waits grow, are capped and differ', () => {
  assert.equal(backoffDelay(0, { base: 100, random: () => 0 }), 50);
  assert.equal(backoffDelay(3, { base: 100, random: () => 1 }), 800);
  assert.equal(backoffDelay(99, { base: 100, max: 1000, random: () => 1 }), 1000);
  assert.equal(durationMs('1.5s', 1), 1500);
  assert.equal(durationMs(undefined, 9), 9);
});

test('server-sent events however they are cut', () => {
  const text = ': hello\r\n\r\nevent: frame\ndata: {"a":\ndata: 1}\nid: 7\n\ndata: x\r\n\r\n';
  const whole = new SseParser().push(text);
  const parser = new SseParser();
  const cut = [...text].flatMap((c) => parser.push(c));
  assert.deepEqual(cut, whole);
  assert.deepEqual(whole, [{ comment: true }, { event: 'frame', data: '{"a":\n1}', id: '7' }, { event: '', data: 'x', id: '' }]);
});

test('frames bare and wrapped', () => {
  const frame = { event: { sequence: '1' } };
  for (const value of [frame, { frame }, { result: { frame } }, { result: frame }]) assert.deepEqual(unwrapFrame(value), frame);
  assert.equal(unwrapFrame({ other: 1 }), null);
});

test('whether to come back after a close', () => {
  assert.deepEqual(endOfClose({ code: 'CLOSE_CODE_SESSION_CLOSED' }), { terminal: true, reason: 'session' });
  assert.equal(endOfClose({ code: 'CLOSE_CODE_SLOW_CONSUMER', reconnect: true, retryAfterMs: '250' }).retryAfterMs, 250);
  assert.equal(endOfClose({ code: 'CLOSE_CODE_UNAUTHENTICATED' }).renew, true);
  assert.equal(endOfClose({ code: 'CLOSE_CODE_FUTURE' }).terminal, true);
  assert.equal(endOfClose({ code: 'CLOSE_CODE_FUTURE', reconnect: true }).terminal, undefined);
  assert.equal(endOfClose({}).terminal, undefined);
});

// Runs a Connection over scripted openers until it stops.
async function ride(openers) {
  const statuses = [];
  const seen = [];
  const connection = new Connection({
    api: {}, sessionId: 's', cursor: () => '', onFrame: () => {}, random: () => 0, page: {},
    onStatus: (s) => statuses.push(s),
    openers: Object.fromEntries(Object.entries(openers).map(([way, open]) => [way, async (params) => { seen.push(way); return open(params); }])),
  });
  connection.start();
  await connection.done;
  return { seen, statuses };
}

test('a stream that outlives a loss of the network is shown as online again', async () => {
  const listeners = {};
  const statuses = [];
  let checks = 0;
  const connection = new Connection({
    api: {}, sessionId: 's', cursor: () => '', onFrame: () => {}, random: () => 0,
    page: { addEventListener: (type, listener) => { listeners[type] = listener; }, removeEventListener: () => {} },
    onStatus: ({ status }) => statuses.push(status),
    openers: { websocket: ({ onOnline, signal }) => { onOnline({ check: () => { checks += 1; } }); return new Promise((resolve) => { signal.addEventListener('abort', () => resolve({})); }); } },
  });
  connection.start();
  listeners.offline();
  listeners.online();
  connection.stop();
  await connection.done;
  assert.deepEqual(statuses, ['connecting', 'online', 'offline', 'online']);
  assert.equal(checks, 1);
});

test('two failures to open fall back, way by way', async () => {
  const { seen, statuses } = await ride({
    websocket: () => ({ blame: true }),
    sse: () => { throw Object.assign(new ApiError({ reason: 'NOT_FOUND' }), { blame: true }); },
    poll: ({ onOnline }) => { onOnline({}); return { terminal: true, reason: 'session' }; },
  });
  assert.deepEqual(seen, ['websocket', 'websocket', 'sse', 'sse', 'poll']);
  assert.deepEqual(statuses.at(-1), { status: 'closed', transport: 'poll', reason: 'session' });
});

test('a server that is away is not blamed on the way', async () => {
  let tries = 0;
  const { seen } = await ride({
    websocket: () => {
      tries += 1;
      throw new ApiError(tries < 4 ? { reason: 'NETWORK', retryable: true } : { reason: 'SESSION_NOT_FOUND' });
    },
    sse: () => assert.fail('must not fall back'),
    poll: () => assert.fail('must not fall back'),
  });
  assert.equal(seen.length, 4);
});

test('the outbox sends in order, repeats what may be repeated, and gives up on the rest', async () => {
  const store = createStore();
  const sent = [];
  for (const id of ['a', 'b', 'c']) store.dispatch({ type: 'outgoing', message: { clientMessageId: id, engagementId: 'e', text: id, time: 't' } });
  let finished;
  const done = new Promise((resolve) => { finished = resolve; });
  store.subscribe((state) => { if (!Object.values(state.entries).some((e) => e.status === 'sending')) finished(); });
  const outbox = new Outbox({
    store, random: () => 0,
    deliver: async ({ clientMessageId }) => {
      sent.push(clientMessageId);
      if (clientMessageId === 'a' && sent.length === 1) throw new ApiError({ reason: 'NETWORK', retryable: true });
      if (clientMessageId === 'b') throw new ApiError({ reason: 'INVALID_ARGUMENT' });
      return { messageId: `m-${clientMessageId}`, engagementId: 'e' };
    },
  });
  outbox.kick();
  await done;
  assert.deepEqual(sent, ['a', 'a', 'b', 'c']);
  const { entries } = store.state;
  assert.deepEqual(['c:a', 'c:b', 'c:c'].map((k) => entries[k].status), ['accepted', 'failed', 'accepted']);
});

test('page views are gathered and sent once, changes only', async () => {
  const sent = [];
  const tracker = new ContextTracker({ send: async (p) => { sent.push(p); } });
  tracker.page('Home');
  tracker.page('Tents');
  tracker.interest('Tarn 2');
  await tracker.flush();
  tracker.interest('Tarn 2');
  await tracker.flush();
  tracker.stop();
  assert.deepEqual(sent, [{ currentPage: 'Tents', recentPages: 'Home > Tents', pageViews: '2', lastInterest: 'Tarn 2', interests: 'Tarn 2' }]);
});

test('parameters that could not be sent are kept, newer ones win', async () => {
  let fail = true;
  const sent = [];
  const tracker = new ContextTracker({ send: async (p) => { if (fail) throw new ApiError({ reason: 'X' }); sent.push(p); } });
  tracker.page('Home');
  await tracker.flush();
  fail = false;
  tracker.page('x'.repeat(300));
  await tracker.flush();
  tracker.stop();
  assert.equal(sent[0].currentPage.length, 256);
  assert.equal(sent[0].pageViews, '2');
});

function memory() {
  const values = new Map();
  return { getItem: (k) => values.get(k) ?? null, setItem: (k, v) => values.set(k, v), removeItem: (k) => values.delete(k), size: () => [...values.values()].join('').length };
}

test('a reload finds the screen, the cursor and what was not sent', () => {
  const backend = memory();
  let state = reduce(initialState(), { type: 'outgoing', message: { clientMessageId: 'k', engagementId: 'e', text: 'hi', time: 't' } });
  state = { ...state, cursor: 'c9', lastSequence: '9' };
  new Storage(backend).saveScreen(state);
  const restored = reduce(initialState(), { type: 'restored', snapshot: new Storage(backend).get('screen') });
  assert.deepEqual([restored.cursor, restored.lastSequence, restored.entries['c:k'].status], ['c9', '9', 'sending']);
});

test('too long a history is left out together with its cursor', () => {
  const backend = memory();
  let state = reduce(initialState(), { type: 'outgoing', message: { clientMessageId: 'k', engagementId: 'e', text: 'hi', time: 't' } });
  state = { ...state, cursor: 'c9', lastSequence: '9', entries: { ...state.entries, big: { kind: 'message', key: 'big', text: 'x'.repeat(1_100_000) } } };
  new Storage(backend).saveScreen(state);
  const screen = new Storage(backend).get('screen');
  assert.deepEqual([screen.cursor, screen.lastSequence, Object.keys(screen.entries)], ['', '0', ['c:k']]);
});

test('storage that is broken or forbidden does not stop the page', () => {
  assert.equal(new Storage({ getItem: () => '{broken', setItem: () => {} }).get('screen'), undefined);
  const storage = new Storage({ getItem: () => { throw new Error('no'); }, setItem: () => { throw new Error('no'); }, removeItem: () => { throw new Error('no'); } });
  storage.set({ a: 1 });
  assert.equal(storage.get('a'), 1);
  storage.clear();
});
