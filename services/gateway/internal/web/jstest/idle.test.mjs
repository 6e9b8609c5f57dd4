import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Api, ApiError } from '../static/js/api.js';
import { countdown, timeInWords } from '../static/js/i18n.js';
import { keepAlive, Presence } from '../static/js/presence.js';
import { Storage } from '../static/js/storage.js';
import { createStore, initialState, reduce } from '../static/js/store.js';
import { chatPhase, endedIdle, idleSecondsLeft, idleWarning } from '../static/js/selectors.js';

const ENGAGEMENT = 'e1';
const END = '2026-01-01T10:02:00Z';
const AT = Date.parse('2026-01-01T10:00:00Z');

function event(sequence, payload) {
  return { event: { sequence: String(sequence), cursor: `cur-${sequence}`, eventId: `ev-${sequence}`, engagementId: ENGAGEMENT, ...payload } };
}

function play(frames, state = initialState()) {
  return frames.reduce((s, frame) => reduce(s, { type: 'frame', frame }), state);
}

const welcome = (extra = {}) => ({ welcome: {
  session: { sessionId: 's', status: 'SESSION_STATUS_ACTIVE' }, idleRules: { idleTimeout: '900s', gracePeriod: '120s' },
  engagements: [{ engagementId: ENGAGEMENT, status: 'ENGAGEMENT_STATUS_ACTIVE' }], ...extra,
} });
const expired = (sequence, disconnectTime = END) => event(sequence, { idleTimeoutExpired: { engagementId: ENGAGEMENT, gracePeriod: '120s', disconnectTime } });
const reset = (sequence) => event(sequence, { idleTimeoutReset: { engagementId: ENGAGEMENT } });
const terminated = (sequence, reason) => event(sequence, { engagementTerminated: { reason, engagement: { engagementId: ENGAGEMENT, status: 'ENGAGEMENT_STATUS_TERMINATED' } } });
const outgoing = { type: 'outgoing', message: { clientMessageId: 'k', engagementId: ENGAGEMENT, text: 'hi', time: 't' } };

const warned = () => play([welcome(), expired(1)]);

test('a warning stands until it is taken back', () => {
  assert.equal(idleWarning(warned()).disconnectTime, END);
  assert.equal(idleWarning(play([reset(2)], warned())), null);
  assert.equal(idleWarning(play([reset(2), expired(3, 'later')], warned())).disconnectTime, 'later');
});

test('a warning that the journal tells again does not come back', () => {
  assert.equal(idleWarning(play([reset(2), expired(1)], warned())), null);
});

test('a warning of another chat is not shown', () => {
  const state = play([welcome({ engagements: [{ engagementId: 'other', status: 'ENGAGEMENT_STATUS_ACTIVE' }] }), expired(1)]);
  assert.equal(idleWarning(state), null);
});

test('the end takes the warning away and says why', () => {
  const state = play([terminated(2, 'CLOSE_REASON_USER_INACTIVE')], warned());
  assert.deepEqual([state.idle, idleWarning(state), chatPhase(state).phase, endedIdle(state)], [null, null, 'ended', true]);
  assert.equal(endedIdle(play([terminated(2, 'CLOSE_REASON_USER_CLOSED')], warned())), false);
});

test('there is no warning of a chat that is ending, of one that the welcome says is over, of a lost session', () => {
  assert.equal(idleWarning(reduce(warned(), { type: 'ending' })), null);
  const over = welcome({ engagements: [{ engagementId: ENGAGEMENT, status: 'ENGAGEMENT_STATUS_TERMINATED', endReason: 'CLOSE_REASON_USER_INACTIVE' }] });
  assert.equal(idleWarning(play([over], warned())), null);
  assert.ok(endedIdle(play([over])));
  assert.equal(idleWarning(reduce(warned(), { type: 'sessionLost' })), null);
});

test('what the customer writes takes the warning away, unless it is refused', () => {
  let state = reduce(warned(), outgoing);
  assert.equal(idleWarning(state), null);
  state = reduce(state, { type: 'outgoingFailed', clientMessageId: 'k', failure: { reason: 'TOO_LARGE' } });
  assert.equal(idleWarning(state).disconnectTime, END);
});

test('a reload in the middle of a warning finds it, and a reset draws it from the journal', () => {
  const values = new Map();
  const backend = { getItem: (k) => values.get(k) ?? null, setItem: (k, v) => values.set(k, v) };
  new Storage(backend).saveScreen(reduce(warned(), { type: 'idleAnswering' }));
  const state = reduce(initialState(), { type: 'restored', snapshot: new Storage(backend).get('screen') });
  assert.deepEqual([idleWarning(state).disconnectTime, idleWarning(state).answering], [END, false]);
  assert.equal(state.idleRules.idleTimeout, '900s');
  const anew = play([{ reset: { cursor: '' } }], state);
  assert.equal(idleWarning(anew), null);
  assert.ok(idleWarning(play([expired(1)], anew)));
});

test('the countdown goes by the server\'s clock and never beyond the grace period', () => {
  const warning = { disconnectTime: END, gracePeriod: '120s' };
  assert.equal(idleSecondsLeft(warning, 0, AT + 1500), 119);
  assert.equal(idleSecondsLeft(warning, 3600000, AT - 3600000), 120);
  assert.equal(idleSecondsLeft(warning, 0, AT - 3600000), 120);
  assert.equal(idleSecondsLeft(warning, 0, AT + 3600000), 0);
  assert.equal(idleSecondsLeft({ disconnectTime: '', gracePeriod: '' }, 0, AT), 0);
  const ahead = play([welcome({ serverTime: new Date(Date.now() + 60000).toISOString() })]).serverAhead;
  assert.ok(ahead > 50000 && ahead <= 60000, `${ahead}`);
});

test('seconds as a clock and in words', () => {
  assert.deepEqual([118, 60, 9, 0].map(countdown), ['1:58', '1:00', '0:09', '0:00']);
  assert.deepEqual([120, 118, 60, 10, 1].map(timeInWords), ['2 minutes', '2 minutes', '1 minute', '10 seconds', '1 second']);
});

// A Presence whose clock and whose sending the test owns.
function presence(state = warned(), send = async () => {}) {
  const store = createStore(state);
  const clock = { now: 1000000 };
  const calls = [];
  const it = new Presence({ store, now: () => clock.now, send: () => { calls.push(clock.now); return send(); } });
  return { store, clock, calls, it };
}

test('writing says so at most every 30 seconds', () => {
  const { clock, calls, it } = presence(play([welcome()]));
  for (let i = 0; i < 61; i += 1) { it.writing(null); clock.now += 1000; }
  assert.deepEqual(calls.map((at) => at - 1000000), [0, 30000, 60000]);
  clock.now += 31000;
  it.acted();
  it.writing(null);
  assert.equal(calls.length, 3, 'a message is an act by itself');
});

test('without an idle timeout nobody needs to be told', () => {
  const { calls, it } = presence(play([welcome({ idleRules: { sessionTtl: '1800s' } })]));
  it.writing(null);
  assert.equal(calls.length, 0);
});

test('writing answers a warning at once, and once', async () => {
  const { store, calls, it } = presence();
  it.acted();
  for (let i = 0; i < 5; i += 1) it.writing(idleWarning(warned()));
  await Promise.resolve();
  await Promise.resolve();
  assert.equal(calls.length, 1);
  assert.equal(idleWarning(store.state), null);
});

test('the button answers the warning; one that failed can be pressed again', async () => {
  let fail = true;
  const { store, calls, it } = presence(warned(), async () => { if (fail) throw new ApiError({ reason: 'NETWORK', retryable: true }); });
  const first = it.here(idleWarning(store.state));
  assert.equal(idleWarning(store.state).answering, true);
  await it.here(idleWarning(store.state));
  await first;
  assert.deepEqual([calls.length, idleWarning(store.state).answering, idleWarning(store.state).problem], [1, false, 'NETWORK']);
  fail = false;
  await it.here(idleWarning(store.state));
  assert.equal(idleWarning(store.state), null);
});

test('an answer does not take away a warning that came after it', async () => {
  let answer;
  const { store, it } = presence(warned(), () => new Promise((resolve) => { answer = resolve; }));
  const answered = it.here(idleWarning(store.state));
  for (const frame of [reset(2), expired(3, 'later')]) store.dispatch({ type: 'frame', frame });
  answer();
  await answered;
  assert.equal(idleWarning(store.state).disconnectTime, 'later');
});

test('keep-alive by REST, once more where the network failed', async () => {
  const asked = [];
  const api = new Api({ tokens: { get: async () => 't', renew: async () => 't' }, fetcher: async (url, init) => {
    asked.push(`${init.method} ${url}`);
    if (asked.length === 1) throw new TypeError('no route');
    return new Response('{}', { status: 200 });
  } });
  await api.keepAlive('a/b');
  assert.deepEqual(asked, ['POST /v1/sessions/a%2Fb:keepAlive', 'POST /v1/sessions/a%2Fb:keepAlive']);
});

test('keep-alive over the stream, and by REST where there is none or it breaks', async () => {
  const asked = [];
  const api = { keepAlive: async (session) => { asked.push(session); } };
  const stream = (reason) => ({ canCommand: true, command: async (frame) => { asked.push(frame); if (reason) throw new ApiError({ reason }); } });
  await keepAlive(stream(''), api, 's');
  await keepAlive({ canCommand: false }, api, 's');
  await keepAlive(null, api, 's');
  await keepAlive(stream('NETWORK'), api, 's');
  await assert.rejects(keepAlive(stream('SESSION_CLOSED'), api, 's'), { reason: 'SESSION_CLOSED' });
  const frame = { keepAlive: {} };
  assert.deepEqual(asked, [frame, 's', 's', frame, 's', frame]);
});
