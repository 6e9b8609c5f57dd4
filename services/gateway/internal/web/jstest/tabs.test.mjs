import assert from 'node:assert/strict';
import { test } from 'node:test';
import { clockTime } from '../static/js/i18n.js';
import { chatGoesOn } from '../static/js/selectors.js';
import { initialState, reduce } from '../static/js/store.js';
import { Tabs } from '../static/js/tabs.js';
import { contentKey } from '../static/js/views/message.js';

// Channels that hear each other, not themselves, as the browser's do.
function channels(n) {
  const all = Array.from({ length: n }, () => ({ onmessage: null }));
  for (const channel of all) {
    channel.postMessage = (data) => queueMicrotask(() => {
      for (const other of all) if (other !== channel) other.onmessage?.({ data: structuredClone(data) });
    });
  }
  return all;
}

test('a new tab learns who is signed in from one that is open', async () => {
  const [a, b, c] = channels(3);
  const visit = { customer: { subject: 's' }, session: { sessionId: '1' } };
  new Tabs({ channel: a, visit: () => null, onNews: () => {} });
  new Tabs({ channel: b, visit: () => visit, onNews: () => {} });
  const fresh = new Tabs({ channel: c, visit: () => null, onNews: () => {} });
  assert.deepEqual(await fresh.ask(1000), visit);
});

test('a tab that is alone does not wait for ever', async () => {
  const [a, b] = channels(2);
  new Tabs({ channel: a, visit: () => null, onNews: () => {} });
  assert.equal(await new Tabs({ channel: b, visit: () => null, onNews: () => {} }).ask(5), null);
  assert.equal(await new Tabs({ channel: null, visit: () => null, onNews: () => {} }).ask(5), null);
});

test('news goes to the other tabs only', async () => {
  const [a, b] = channels(2);
  const heard = [];
  const first = new Tabs({ channel: a, visit: () => null, onNews: () => heard.push('itself') });
  new Tabs({ channel: b, visit: () => null, onNews: (news) => heard.push(news) });
  first.tell({ signedOut: 's' });
  await new Promise((resolve) => { setTimeout(resolve, 0); });
  assert.deepEqual(heard, [{ signedOut: 's' }]);
});

const arrival = (sequence) => ({
  type: 'frame',
  frame: { event: { sequence: String(sequence), engagementId: 'e', messageArrived: { messageId: `m${sequence}`, body: { elementText: { text: 'x' } } } } },
});

test('an open panel that nobody looks at collects unread messages', () => {
  let state = reduce(initialState(), { type: 'chatOpen', open: true });
  state = reduce(state, arrival(1));
  assert.equal(state.unread, 0);
  state = reduce(reduce(state, { type: 'looking', looking: false }), arrival(2));
  assert.equal(state.unread, 1);
  assert.equal(reduce(state, { type: 'looking', looking: true }).unread, 0);
});

test('looking at a page with a closed panel reads nothing', () => {
  const state = reduce(reduce(initialState(), { type: 'looking', looking: false }), arrival(1));
  assert.equal(reduce(state, { type: 'looking', looking: true }).unread, 1);
});

test('a chat that has ended takes no message while the next one starts', () => {
  let state = reduce(initialState(), { type: 'engagement', engagement: { engagementId: 'e', status: 'ENGAGEMENT_STATUS_TERMINATED' } });
  state = reduce(state, { type: 'starting', starting: true });
  assert.equal(chatGoesOn(state), false);
  assert.equal(chatGoesOn(reduce(state, { type: 'engagement', engagement: { engagementId: 'f', status: 'ENGAGEMENT_STATUS_CREATING' } })), true);
});

test('a status, an index and an answer leave a message as it stands on the screen', () => {
  const entry = { kind: 'message', mine: true, status: 'sending', message: { body: { elementText: { text: 'hi' } } } };
  const key = contentKey(entry);
  assert.equal(contentKey({ ...entry, status: 'delivered', index: '4', answered: '0', message: { ...entry.message, messageIndex: '4' } }), key);
  assert.notEqual(contentKey({ ...entry, status: 'deleted' }), key);
  assert.notEqual(contentKey({ ...entry, message: { body: { elementText: { text: 'ho' } } } }), key);
});

test('a time of another day says so', () => {
  const at = new Date(2026, 0, 2, 13, 5);
  assert.ok(clockTime(at, new Date(2026, 0, 3)).length > clockTime(at, new Date(2026, 0, 2)).length);
  assert.equal(clockTime('nonsense'), '');
});
