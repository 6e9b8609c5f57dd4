// What the page knows, and how it changes. The reducer is pure: the same state
// and action give the same next state, so it is tested without a browser.
//
// The rules that keep a conversation right live here and nowhere else:
//   - an event whose sequence was passed is dropped, so each is seen once;
//   - a message is kept under one key for life, later copies update it;
//   - a status never goes back, an engagement never comes back to life;
//   - messages that AXP numbered are shown in AXP's order.

import { idleAction, idleExpired, idleReset, idleRestored, serverAhead } from './idle.js';

/** Order of a message's statuses; a later one never gives way to an earlier. */
const STATUS_RANK = {
  sending: 0, accepted: 1, sent: 2, failed: 3, delivered: 4, read: 5, deleted: 6,
};

/** Order of an engagement's life. */
const ENGAGEMENT_RANK = {
  ENGAGEMENT_STATUS_UNSPECIFIED: 0,
  ENGAGEMENT_STATUS_CREATING: 1,
  ENGAGEMENT_STATUS_PENDING: 2,
  ENGAGEMENT_STATUS_ACTIVE: 3,
  ENGAGEMENT_STATUS_ENDING: 4,
  ENGAGEMENT_STATUS_TERMINATED: 5,
  ENGAGEMENT_STATUS_FAILED: 5,
};

/** The text length that AXP allows, until the welcome frame says otherwise. */
const DEFAULT_LIMITS = { messageTextLength: 4096 };

export function initialState() {
  return {
    customer: null,
    session: null,
    connection: { status: 'idle', transport: '' },
    cursor: '',
    lastSequence: '0',
    welcomeTime: '',
    replaying: false,
    engagements: {},
    engagementOrder: [],
    entries: {},
    keyByMessageId: {},
    localCounter: 0,
    chatOpen: false,
    looking: true,
    unread: 0,
    starting: false,
    ending: false,
    problem: null,
    typing: null,
    idle: null,
    idleRules: {},
    serverAhead: 0,
    capabilities: {},
    limits: DEFAULT_LIMITS,
  };
}

/** Makes the next state. Unknown actions change nothing. */
export function reduce(state, action) {
  switch (action.type) {
    case 'signedIn':
      return { ...initialState(), customer: action.customer, chatOpen: state.chatOpen, looking: state.looking };
    case 'signedOut':
      return { ...initialState(), looking: state.looking };
    case 'restored':
      return idleRestored({ ...state, ...action.snapshot });
    case 'session':
      return { ...state, session: action.session };
    case 'sessionReplaced':
      return sessionReplaced(state, action.session);
    case 'sessionLost':
      return sessionLost(state);
    case 'connection':
      return { ...state, connection: { ...state.connection, ...action.connection } };
    case 'frame':
      return applyFrame(state, action.frame);
    case 'engagement':
      return { ...upsertEngagement(state, action.engagement), starting: false, ending: false, problem: null };
    case 'starting':
      return { ...state, starting: action.starting, problem: null };
    case 'ending':
      return { ...state, ending: true, problem: null };
    case 'problem':
      return { ...state, starting: false, ending: false, problem: action.problem };
    case 'outgoing':
      return addOutgoing(idleAction(state, action), action.message);
    case 'outgoingAccepted':
      return outgoingAccepted(state, action.message);
    case 'outgoingFailed':
      return outgoingFailed(idleAction(state, action), action);
    case 'outgoingRetry':
      return outgoingRetry(state, action);
    case 'answered':
      return patchEntry(state, action.key, { answered: action.answer });
    case 'chatOpen':
      return { ...state, chatOpen: action.open, unread: action.open ? 0 : state.unread };
    case 'looking':
      return { ...state, looking: action.looking, unread: action.looking && state.chatOpen ? 0 : state.unread };
    case 'typingOver':
      return { ...state, typing: null };
    case 'idleAnswering':
    case 'idleUnanswered':
    case 'idleOver':
      return idleAction(state, action);
    default:
      return state;
  }
}

/** A store: holds the state, tells its listeners after each change. */
export function createStore(state = initialState()) {
  let current = state;
  const listeners = new Set();
  return {
    get state() { return current; },
    dispatch(action) {
      const next = reduce(current, action);
      if (next === current) return;
      const before = current;
      current = next;
      for (const listener of listeners) listener(current, before, action);
    },
    subscribe(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
  };
}

// ---- frames ---------------------------------------------------------------

function applyFrame(state, frame) {
  if (frame.welcome) return applyWelcome(state, frame.welcome);
  if (frame.event) return applyEvent(state, frame.event);
  if (frame.reset) return applyReset(state, frame.reset);
  if (frame.advanced) return { ...state, cursor: frame.advanced.cursor };
  return state;
}

function applyWelcome(state, welcome) {
  let next = {
    ...state,
    session: welcome.session ?? state.session,
    capabilities: welcome.capabilities ?? state.capabilities,
    limits: welcome.limits?.messageTextLength ? { ...DEFAULT_LIMITS, ...welcome.limits } : state.limits,
    idleRules: welcome.idleRules ?? welcome.session?.idleRules ?? state.idleRules,
    welcomeTime: welcome.serverTime ?? '',
    serverAhead: serverAhead(welcome.serverTime),
    replaying: state.lastSequence === '0',
    cursor: state.cursor || welcome.cursor || '',
  };
  for (const engagement of welcome.engagements ?? []) next = upsertEngagement(next, engagement);
  return next;
}

// After a reset nothing of the journal on the screen counts any more; what the
// customer wrote and the server has not confirmed is still ours to send.
function applyReset(state, reset) {
  const entries = {};
  for (const [key, entry] of Object.entries(state.entries)) {
    if (entry.kind === 'message' && entry.mine && !entry.sequence) entries[key] = entry;
  }
  return {
    ...state,
    entries,
    keyByMessageId: {},
    lastSequence: '0',
    cursor: reset.cursor ?? '',
    replaying: true,
    unread: 0,
    idle: null,
  };
}

function applyEvent(state, event) {
  const sequence = String(event.sequence ?? '0');
  if (sequence !== '0' && !isLater(sequence, state.lastSequence)) return state;
  const next = {
    ...state,
    cursor: event.cursor || state.cursor,
    lastSequence: sequence === '0' ? state.lastSequence : sequence,
    replaying: state.replaying && isHistory(state, event),
  };
  return applyPayload(next, event, sequence);
}

function applyPayload(state, event, sequence) {
  const at = { sequence, time: event.eventTime ?? event.receiveTime ?? '', eventId: event.eventId || sequence };
  const id = event.engagementId ?? '';
  if (event.sessionChanged) return { ...state, session: event.sessionChanged.session ?? state.session };
  if (event.engagementActive) return engagementEvent(state, id, event.engagementActive.engagement, 'ENGAGEMENT_STATUS_ACTIVE');
  if (event.engagementTerminated) return engagementEnded(state, id, event.engagementTerminated, at);
  if (event.engagementError) return addNotice(state, id, { notice: 'error', detail: event.engagementError.title ?? '' }, at);
  // It does not say where it belongs, so it stands in the chat that goes on.
  if (event.unshown) return addNotice(state, id || (state.engagementOrder.at(-1) ?? ''), { notice: 'unshown' }, at);
  if (event.participantAdded) return participantChanged(state, id, event.participantAdded.participant, true, at);
  if (event.participantDisconnected) return participantChanged(state, id, event.participantDisconnected.participant, false, at);
  if (event.messageAccepted) return upsertMessage(state, event.messageAccepted, at);
  if (event.messageDelivered) return upsertMessage(state, event.messageDelivered, at, 'delivered');
  if (event.messageArrived) return messageArrived(state, event.messageArrived, at);
  if (event.messageStatusChanged) return statusChanged(state, event.messageStatusChanged);
  if (event.idleTimeoutExpired) return idleExpired(state, id, event.idleTimeoutExpired);
  if (event.idleTimeoutReset) return idleReset(state, event.idleTimeoutReset.engagementId || id);
  if (event.typing) return { ...state, typing: { name: event.typing.sender?.displayName ?? '', engagementId: id, time: Date.now() } };
  return state;
}

/** True where sequence a comes after sequence b; both decimal strings of any size. */
export function isLater(a, b) {
  return BigInt(a) > BigInt(b || '0');
}

// History is what the journal held when the stream began: it is drawn, but not
// announced and not counted as unread.
function isHistory(state, event) {
  const received = Date.parse(event.receiveTime ?? '');
  const welcomed = Date.parse(state.welcomeTime);
  return Number.isFinite(received) && Number.isFinite(welcomed) && received <= welcomed;
}

// ---- engagements ----------------------------------------------------------

function upsertEngagement(state, engagement) {
  if (!engagement?.engagementId) return state;
  const id = engagement.engagementId;
  const known = state.engagements[id];
  const merged = { participants: [], ...known, ...engagement };
  if (known) {
    merged.status = furtherStatus(known.status, engagement.status);
    merged.participants = engagement.participants?.length ? engagement.participants : known.participants;
  }
  return {
    ...state,
    engagements: { ...state.engagements, [id]: merged },
    engagementOrder: known ? state.engagementOrder : [...state.engagementOrder, id],
  };
}

function furtherStatus(known, incoming) {
  return (ENGAGEMENT_RANK[incoming] ?? 0) >= (ENGAGEMENT_RANK[known] ?? 0) ? incoming : known;
}

function engagementEvent(state, id, engagement, status) {
  return upsertEngagement(state, { ...engagement, engagementId: engagement?.engagementId || id, status });
}

function engagementEnded(state, id, ended, at) {
  const failed = ended.engagement?.status === 'ENGAGEMENT_STATUS_FAILED';
  const status = failed ? 'ENGAGEMENT_STATUS_FAILED' : 'ENGAGEMENT_STATUS_TERMINATED';
  const engagementId = ended.engagement?.engagementId || id;
  const engagement = { ...ended.engagement, endReason: ended.reason || ended.engagement?.endReason };
  const next = engagementEvent({ ...idleReset(state, engagementId), typing: null, ending: false }, id, engagement, status);
  return addNotice(next, engagementId, { notice: failed ? 'failed' : 'ended', reason: ended.reason ?? '' }, at);
}

function participantChanged(state, id, participant, connected, at) {
  if (!participant) return state;
  const known = state.engagements[id] ?? { engagementId: id, status: 'ENGAGEMENT_STATUS_PENDING', participants: [] };
  const same = (p) => (participant.connectionId && p.connectionId
    ? p.connectionId === participant.connectionId
    : p.participantId === participant.participantId);
  const before = known.participants.find(same);
  const after = { ...before, ...participant, connected, told: connected };
  const participants = before
    ? known.participants.map((p) => (same(p) ? after : p))
    : [...known.participants, after];
  const next = upsertEngagement(state, { ...known, participants });
  // The same state told twice is not news.
  if (before?.told === connected || participant.participantType === 'PARTICIPANT_TYPE_CUSTOMER') return next;
  return addNotice(next, id, {
    notice: connected ? 'joined' : 'left',
    name: after.displayName ?? '',
    who: after.participantType ?? '',
  }, at);
}

// ---- messages -------------------------------------------------------------

function statusWord(status) {
  return (status ?? '').replace('MESSAGE_STATUS_', '').toLowerCase();
}

function keyOf(state, message) {
  return state.keyByMessageId[message.messageId]
    ?? (message.clientMessageId ? `c:${message.clientMessageId}` : `m:${message.messageId}`);
}

function upsertMessage(state, message, at, knownStatus) {
  const key = keyOf(state, message);
  const known = state.entries[key];
  const incoming = knownStatus ?? (statusWord(message.status) || 'accepted');
  const mine = known?.mine ?? message.sender?.participantType === 'PARTICIPANT_TYPE_CUSTOMER';
  const entry = {
    kind: 'message',
    key,
    mine,
    local: known?.local ?? state.localCounter,
    ...known,
    engagementId: message.engagementId || known?.engagementId || '',
    messageId: message.messageId || known?.messageId,
    clientMessageId: message.clientMessageId || known?.clientMessageId,
    sequence: known?.sequence ?? at.sequence ?? null,
    time: known?.time || message.receiveTime || at.time || '',
    index: message.messageIndex ?? known?.index,
    message: mergeMessage(known?.message, message),
    status: furthest(known?.status, incoming),
    failure: message.failure ?? known?.failure,
  };
  if (entry.status !== 'failed') entry.failure = undefined;
  if (STATUS_RANK[entry.status] >= STATUS_RANK.sent) entry.held = false;
  return {
    ...state,
    localCounter: state.localCounter + 1,
    entries: { ...state.entries, [key]: entry },
    keyByMessageId: entry.messageId ? { ...state.keyByMessageId, [entry.messageId]: key } : state.keyByMessageId,
  };
}

// An update may leave out what has not changed; the echo of our own text may
// come back in another form, so what the customer typed stays as typed.
function mergeMessage(known, incoming) {
  if (!known) return incoming;
  if (changedBefore(incoming, known)) return { ...incoming, ...known };
  const merged = { ...known, ...incoming };
  if (known.clientMessageId || !incoming.body) merged.body = known.body ?? incoming.body;
  return merged;
}

// Callbacks overtake each other: an update that comes later may be the older one, which
// AXP's own times alone can tell.
function changedBefore(a, b) {
  return Boolean(a.axpMessageId && b.axpMessageId) && Date.parse(a.updateTime) < Date.parse(b.updateTime);
}

function furthest(known, incoming) {
  if (known === undefined) return incoming;
  return (STATUS_RANK[incoming] ?? 0) >= (STATUS_RANK[known] ?? 0) ? incoming : known;
}

function messageArrived(state, message, at) {
  const isNew = !state.entries[keyOf(state, message)];
  const next = upsertMessage({ ...state, typing: null }, message, at, statusWord(message.status) || 'delivered');
  // An open panel in a tab that nobody looks at has not been read either.
  const counts = isNew && !(state.chatOpen && state.looking) && !state.replaying;
  return counts ? { ...next, unread: next.unread + 1 } : next;
}

function statusChanged(state, change) {
  const key = keyOf(state, change);
  const known = state.entries[key];
  if (!known) return state;
  const status = furthest(known.status, statusWord(change.status) || known.status);
  return patchEntry(state, key, {
    status,
    held: Boolean(change.held) && STATUS_RANK[status] < STATUS_RANK.sent,
    failure: status === 'failed' ? change.failure : undefined,
    // The server has decided: a repeat with the same id would be answered the same.
    final: status === 'failed' ? true : known.final,
  });
}

function patchEntry(state, key, patch) {
  const known = state.entries[key];
  if (!known) return state;
  return { ...state, entries: { ...state.entries, [key]: { ...known, ...patch } } };
}

// ---- what the customer writes ----------------------------------------------

function addOutgoing(state, message) {
  const key = `c:${message.clientMessageId}`;
  if (state.entries[key]) return state;
  const entry = {
    kind: 'message',
    key,
    mine: true,
    local: state.localCounter,
    engagementId: message.engagementId,
    clientMessageId: message.clientMessageId,
    sequence: null,
    time: message.time,
    status: 'sending',
    outgoing: message,
    message: {
      clientMessageId: message.clientMessageId,
      engagementId: message.engagementId,
      sender: { participantType: 'PARTICIPANT_TYPE_CUSTOMER' },
      body: { elementText: { text: message.text, textFormat: 'TEXT_FORMAT_PLAINTEXT' }, payload: message.payload },
    },
  };
  return { ...state, localCounter: state.localCounter + 1, entries: { ...state.entries, [key]: entry } };
}

function outgoingAccepted(state, message) {
  if (message.messageId) return upsertMessage(state, message, {});
  const key = `c:${message.clientMessageId}`;
  return patchEntry(state, key, { status: furthest(state.entries[key]?.status, 'accepted') });
}

function outgoingFailed(state, { clientMessageId, failure, final }) {
  const key = `c:${clientMessageId}`;
  const known = state.entries[key];
  if (!known || known.status !== 'sending') return state;
  return patchEntry(state, key, { status: 'failed', failure, final: Boolean(final) });
}

// A message whose outcome is open goes out again under the same id, so that it
// cannot arrive twice. One that the server has failed for good needs a new id.
function outgoingRetry(state, { key, newId, time }) {
  const known = state.entries[key];
  if (!known || known.status !== 'failed' || !known.outgoing) return state;
  if (!known.final) return patchEntry(state, key, { status: 'sending', failure: undefined });
  const entries = { ...state.entries };
  delete entries[key];
  return addOutgoing({ ...state, entries }, { ...known.outgoing, clientMessageId: newId, time });
}

/** Messages that the server has not confirmed, in the order in which they were written. */
export function unsent(state) {
  return Object.values(state.entries)
    .filter((e) => e.kind === 'message' && e.status === 'sending' && e.outgoing)
    .sort((a, b) => a.local - b.local);
}

// ---- notices and sessions ---------------------------------------------------

function addNotice(state, engagementId, notice, at) {
  const key = `n:${at.eventId}`;
  if (state.entries[key]) return state;
  const entry = { kind: 'notice', key, engagementId, sequence: at.sequence, time: at.time, local: state.localCounter, ...notice };
  return { ...state, localCounter: state.localCounter + 1, entries: { ...state.entries, [key]: entry } };
}

function sessionLost(state) {
  const engagements = {};
  for (const [id, engagement] of Object.entries(state.engagements)) {
    engagements[id] = { ...engagement, status: furtherStatus(engagement.status, 'ENGAGEMENT_STATUS_TERMINATED') };
  }
  const session = state.session ? { ...state.session, status: 'SESSION_STATUS_CLOSED' } : null;
  return { ...state, session, engagements, starting: false, ending: false, typing: null, idle: null };
}

function sessionReplaced(state, session) {
  return { ...sessionLost(state), session, cursor: '', lastSequence: '0', replaying: false };
}
