import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createStore, initialState, reduce, unsent } from '../static/js/store.js';
import { canWrite, chatPhase, currentEngagement, timeline } from '../static/js/selectors.js';

const ENGAGEMENT = 'e1';
let counter = 0;

function event(sequence, payload, extra = {}) {
  return { event: { sequence: String(sequence), cursor: `cur-${sequence}`, eventId: `ev-${sequence}-${counter += 1}`, engagementId: ENGAGEMENT, ...payload, ...extra } };
}

function message(id, extra = {}) {
  return { messageId: id, engagementId: ENGAGEMENT, sender: { participantType: 'PARTICIPANT_TYPE_AGENT', displayName: 'Ines' }, body: { elementText: { text: id } }, ...extra };
}

function mine(id, clientMessageId, extra = {}) {
  return message(id, { clientMessageId, sender: { participantType: 'PARTICIPANT_TYPE_CUSTOMER' }, ...extra });
}

function play(frames, state = initialState()) {
  return frames.reduce((s, frame) => reduce(s, { type: 'frame', frame }), state);
}

function texts(state) {
  return timeline(state).filter((e) => e.kind === 'message').map((e) => e.message.body.elementText.text);
}

const agent = (connected) => ({ participant: { participantId: 'a', connectionId: 'c', participantType: 'PARTICIPANT_TYPE_AGENT', displayName: 'Ines', connected } });
const welcome = (status, participants = []) => ({ welcome: { session: { sessionId: 's', status: 'SESSION_STATUS_ACTIVE' }, engagements: [{ engagementId: ENGAGEMENT, status, participants }] } });

test('an event whose sequence was passed is dropped', () => {
  const once = play([event(5, { messageArrived: message('a') })]);
  const again = play([event(5, { messageArrived: message('b') }), event(3, { messageArrived: message('c') })], once);
  assert.equal(again, once);
});

test('sequences are compared as numbers of any size', () => {
  const state = play([event('9007199254740993', { messageArrived: message('a') }), event('9007199254740994', { messageArrived: message('b') })]);
  assert.deepEqual(texts(state), ['a', 'b']);
  assert.equal(state.lastSequence, '9007199254740994');
});

test('the cursor of the newest event is kept', () => {
  assert.equal(play([event(1, {}), event(4, { unknown: { eventType: 'NEW' } })]).cursor, 'cur-4');
});

test('of two updates the one that AXP made later holds, also where it came first', () => {
  const update = (sequence, text, updateTime) => event(sequence, {
    messageArrived: message('m', { axpMessageId: 'm', updateTime, body: { elementText: { text } } }),
  });
  assert.deepEqual(texts(play([update(1, 'old', '2026-01-01T00:00:00Z'), update(2, 'new', '2026-01-01T00:00:00.500Z')])), ['new']);
  assert.deepEqual(texts(play([update(1, 'new', '2026-01-01T00:00:00.500Z'), update(2, 'old', '2026-01-01T00:00:00Z')])), ['new']);
});

test('accepted, sent and delivered are one message', () => {
  let state = reduce(initialState(), { type: 'outgoing', message: { clientMessageId: 'k', engagementId: ENGAGEMENT, text: 'hi', time: 't' } });
  state = play([
    event(1, { messageAccepted: mine('m1', 'k', { status: 'MESSAGE_STATUS_ACCEPTED' }) }),
    event(2, { messageStatusChanged: { messageId: 'm1', clientMessageId: 'k', status: 'MESSAGE_STATUS_SENT' } }),
    event(3, { messageDelivered: mine('m1', undefined, { messageIndex: '4' }) }),
  ], state);
  const entries = timeline(state);
  assert.equal(entries.length, 1);
  assert.equal(entries[0].status, 'delivered');
  assert.equal(entries[0].index, '4');
  assert.equal(entries[0].message.body.elementText.text, 'hi');
  assert.deepEqual(unsent(state), []);
});

test('a status never goes back', () => {
  const state = play([
    event(1, { messageAccepted: mine('m1', 'k') }),
    event(2, { messageDelivered: mine('m1', 'k') }),
    event(3, { messageStatusChanged: { messageId: 'm1', status: 'MESSAGE_STATUS_SENT' } }),
  ]);
  assert.equal(timeline(state)[0].status, 'delivered');
});

test('a late echo outdoes a failure', () => {
  const state = play([
    event(1, { messageAccepted: mine('m1', 'k') }),
    event(2, { messageStatusChanged: { messageId: 'm1', status: 'MESSAGE_STATUS_FAILED', failure: { reason: 'MESSAGE_EXPIRED' } } }),
    event(3, { messageDelivered: mine('m1', 'k') }),
  ]);
  assert.equal(timeline(state)[0].status, 'delivered');
  assert.equal(timeline(state)[0].failure, undefined);
});

test('messages with an index change places among themselves only', () => {
  const state = play([
    event(1, { messageArrived: message('second', { messageIndex: '2' }) }),
    event(2, { messageArrived: message('no index') }),
    event(3, { messageArrived: message('first', { messageIndex: '1' }) }),
    event(4, { messageArrived: message('tenth', { messageIndex: '10' }) }),
  ]);
  assert.deepEqual(texts(state), ['first', 'no index', 'second', 'tenth']);
});

test('what was not confirmed stands at the end', () => {
  let state = reduce(initialState(), { type: 'outgoing', message: { clientMessageId: 'k', engagementId: ENGAGEMENT, text: 'pending', time: 't' } });
  state = play([event(1, { messageArrived: message('arrived') })], state);
  assert.deepEqual(texts(state), ['arrived', 'pending']);
});

test('the same message id is an update, not a second message', () => {
  const state = play([
    event(1, { messageArrived: message('m', { body: { elementText: { text: 'old' } } }) }),
    event(2, { messageArrived: message('m', { body: { elementText: { text: 'new' } } }) }),
  ]);
  assert.deepEqual(texts(state), ['new']);
});

test('an open failure is sent again under the same id, a final one under a new id', () => {
  const outgoing = { type: 'outgoing', message: { clientMessageId: 'k', engagementId: ENGAGEMENT, text: 'hi', time: 't' } };
  let state = reduce(initialState(), outgoing);
  state = reduce(state, { type: 'outgoingFailed', clientMessageId: 'k', failure: { reason: 'NETWORK' }, final: false });
  state = reduce(state, { type: 'outgoingRetry', key: 'c:k', newId: 'other' });
  assert.equal(unsent(state)[0].clientMessageId, 'k');

  state = play([event(1, { messageAccepted: mine('m', 'k') }), event(2, { messageStatusChanged: { messageId: 'm', status: 'MESSAGE_STATUS_FAILED' } })], state);
  state = reduce(state, { type: 'outgoingRetry', key: 'c:k', newId: 'other' });
  assert.deepEqual(unsent(state).map((e) => e.clientMessageId), ['other']);
  assert.equal(timeline(state).length, 1);
});

test('an answer without a message still confirms', () => {
  let state = reduce(initialState(), { type: 'outgoing', message: { clientMessageId: 'k', engagementId: ENGAGEMENT, text: 'hi', time: 't' } });
  state = reduce(state, { type: 'outgoingAccepted', message: { clientMessageId: 'k' } });
  assert.deepEqual(unsent(state), []);
});

test('a reset forgets the journal but not what is still to be sent', () => {
  let state = reduce(initialState(), { type: 'outgoing', message: { clientMessageId: 'k', engagementId: ENGAGEMENT, text: 'pending', time: 't' } });
  state = play([event(7, { messageArrived: message('old') }), { reset: { reason: 'RESET_REASON_OTHER_EPOCH', cursor: 'new' } }], state);
  assert.deepEqual(texts(state), ['pending']);
  assert.equal(state.cursor, 'new');
  assert.deepEqual(texts(play([event(1, { messageArrived: message('after') })], state)), ['after', 'pending']);
});

test('the phases of a chat', () => {
  let state = play([welcome('ENGAGEMENT_STATUS_PENDING')]);
  assert.equal(chatPhase(state).phase, 'waiting');
  state = play([event(1, { participantAdded: agent(true) })], state);
  assert.deepEqual(chatPhase(state), { phase: 'active', name: 'Ines' });
  state = play([event(2, { participantDisconnected: agent(false) })], state);
  assert.equal(chatPhase(state).phase, 'agentLeft');
  assert.ok(canWrite('agentLeft'));
  state = play([event(3, { engagementTerminated: { reason: 'CLOSE_REASON_UNKNOWN' } })], state);
  assert.equal(chatPhase(state).phase, 'ended');
  assert.deepEqual(timeline(state).map((e) => e.notice), ['joined', 'left', 'ended']);
});

test('an old event does not bring an ended chat back', () => {
  const state = play([welcome('ENGAGEMENT_STATUS_TERMINATED'), event(1, { engagementActive: { engagement: { engagementId: ENGAGEMENT, status: 'ENGAGEMENT_STATUS_ACTIVE' } } })]);
  assert.equal(chatPhase(state).phase, 'ended');
});

test('an event that can not be shown is told of, in the chat that goes on', () => {
  const state = play([
    welcome('ENGAGEMENT_STATUS_ACTIVE'), event(1, { messageArrived: message('a') }),
    { event: { sequence: '2', cursor: 'cur-2', sessionId: 's', unshown: { kind: 'message_arrived' } } },
    event(3, { messageArrived: message('b') }),
  ]);
  assert.deepEqual(timeline(state).map((e) => [e.notice ?? 'message', e.engagementId]), [['message', ENGAGEMENT], ['unshown', ENGAGEMENT], ['message', ENGAGEMENT]]);
});

test('the same join told twice is one notice', () => {
  const state = play([event(1, { participantAdded: agent(true) }), event(2, { participantAdded: agent(true) })]);
  assert.equal(timeline(state).length, 1);
});

test('the open chat is the current one', () => {
  const state = play([{ welcome: { engagements: [{ engagementId: 'a', status: 'ENGAGEMENT_STATUS_TERMINATED' }, { engagementId: 'b', status: 'ENGAGEMENT_STATUS_ACTIVE' }] } }]);
  assert.equal(currentEngagement(state).engagementId, 'b');
});

test('unread counts what arrives while the chat is closed, but not history', () => {
  const start = { welcome: { ...welcome('ENGAGEMENT_STATUS_ACTIVE').welcome, serverTime: '2026-01-01T10:00:00Z' } };
  let state = play([
    start,
    event(1, { messageArrived: message('old') }, { receiveTime: '2026-01-01T09:00:00Z' }),
    event(2, { messageArrived: message('new') }, { receiveTime: '2026-01-01T10:00:01Z' }),
  ]);
  assert.equal(state.unread, 1);
  state = reduce(state, { type: 'chatOpen', open: true });
  assert.equal(state.unread, 0);
});

test('a lost session ends its chats; a new one starts from nothing', () => {
  let state = play([welcome('ENGAGEMENT_STATUS_ACTIVE'), event(9, { messageArrived: message('kept') })]);
  state = reduce(state, { type: 'sessionLost' });
  assert.equal(chatPhase(state).phase, 'ended');
  state = reduce(state, { type: 'sessionReplaced', session: { sessionId: 's2', status: 'SESSION_STATUS_ACTIVE' } });
  assert.equal(state.cursor, '');
  assert.equal(state.lastSequence, '0');
  assert.deepEqual(texts(state), ['kept']);
});

test('listeners hear of changes only', () => {
  const store = createStore();
  let heard = 0;
  store.subscribe(() => { heard += 1; });
  store.dispatch({ type: 'nothing known' });
  store.dispatch({ type: 'chatOpen', open: true });
  assert.equal(heard, 1);
});
