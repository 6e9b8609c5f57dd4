// Questions that views ask of the state. Pure, like the reducer.

const OPEN = new Set([
  'ENGAGEMENT_STATUS_CREATING', 'ENGAGEMENT_STATUS_PENDING', 'ENGAGEMENT_STATUS_ACTIVE', 'ENGAGEMENT_STATUS_ENDING',
]);

/** The chat on the screen: the open one, else the latest. */
export function currentEngagement(state) {
  const ids = state.engagementOrder;
  for (let i = ids.length - 1; i >= 0; i -= 1) {
    const engagement = state.engagements[ids[i]];
    if (OPEN.has(engagement.status)) return engagement;
  }
  return ids.length ? state.engagements[ids[ids.length - 1]] : null;
}

/** True while a chat is going on. */
export function chatGoesOn(state) {
  return OPEN.has(currentEngagement(state)?.status);
}

/** True while the session can be used. */
export function sessionUsable(state) {
  const status = state.session?.status;
  return Boolean(state.session) && status !== 'SESSION_STATUS_CLOSED' && status !== 'SESSION_STATUS_CLOSING';
}

function people(engagement) {
  return (engagement?.participants ?? []).filter((p) => (
    p.participantType === 'PARTICIPANT_TYPE_AGENT' || p.participantType === 'PARTICIPANT_TYPE_SUPERVISOR'));
}

/**
 * Where the chat stands, for people: {phase, name}.
 * Phases: none, starting, waiting, bot, active, agentLeft, ending, ended, failed.
 */
export function chatPhase(state) {
  const engagement = currentEngagement(state);
  if (state.starting && !(engagement && OPEN.has(engagement.status))) return { phase: 'starting', name: '' };
  if (!engagement) return { phase: 'none', name: '' };
  switch (engagement.status) {
    case 'ENGAGEMENT_STATUS_FAILED': return { phase: 'failed', name: '' };
    case 'ENGAGEMENT_STATUS_TERMINATED': return { phase: 'ended', name: '' };
    case 'ENGAGEMENT_STATUS_ENDING': return { phase: 'ending', name: '' };
    case 'ENGAGEMENT_STATUS_CREATING': return { phase: 'starting', name: '' };
    default: return state.ending ? { phase: 'ending', name: '' } : openPhase(engagement);
  }
}

function openPhase(engagement) {
  const staff = people(engagement);
  const here = staff.filter((p) => p.connected);
  if (here.length) return { phase: 'active', name: here.map((p) => p.displayName).filter(Boolean).join(', ') };
  if (staff.length) return { phase: 'agentLeft', name: staff[staff.length - 1].displayName ?? '' };
  const bot = (engagement.participants ?? []).find((p) => p.participantType === 'PARTICIPANT_TYPE_BOT' && p.connected);
  return bot ? { phase: 'bot', name: bot.displayName ?? '' } : { phase: 'waiting', name: '' };
}

/** The warning that the open chat ends unless the customer does something; null where there is none. */
export function idleWarning(state) {
  const { idle } = state;
  const engagement = currentEngagement(state);
  if (!idle || idle.writtenId || idle.engagementId !== engagement?.engagementId || !sessionUsable(state)) return null;
  return canWrite(chatPhase(state).phase) ? idle : null;
}

/** The whole seconds until a warned chat ends, by the server's clock. */
export function idleSecondsLeft(warning, serverAhead, now = Date.now()) {
  const left = Math.ceil((Date.parse(warning.disconnectTime) - now - serverAhead) / 1000);
  // However wrong the clocks are, nobody has longer than the grace period.
  const most = Math.ceil(Number.parseFloat(warning.gracePeriod));
  return Math.max(0, Math.min(Number.isFinite(left) ? left : 0, Number.isFinite(most) ? most : Infinity));
}

/** True where the chat on the screen ended because the customer did nothing. */
export function endedIdle(state) {
  return currentEngagement(state)?.endReason === 'CLOSE_REASON_USER_INACTIVE';
}

/** True where the customer can write. */
export function canWrite(phase) {
  return phase === 'starting' || phase === 'waiting' || phase === 'bot' || phase === 'active' || phase === 'agentLeft';
}

/** Everything in the log, in reading order, each chat of the session after the other. */
export function timeline(state) {
  const groups = new Map(state.engagementOrder.map((id) => [id, []]));
  for (const entry of Object.values(state.entries)) {
    if (!groups.has(entry.engagementId)) groups.set(entry.engagementId, []);
    groups.get(entry.engagementId).push(entry);
  }
  const result = [];
  for (const group of groups.values()) result.push(...ordered(group));
  return result;
}

// Entries stand where they came in; those that AXP numbered then change places
// among themselves only. A plain comparison of index where both have one, else
// sequence, would contradict itself as soon as three entries are mixed.
function ordered(entries) {
  const list = [...entries].sort(byArrival);
  const slots = [];
  list.forEach((entry, i) => { if (hasIndex(entry)) slots.push(i); });
  const numbered = slots.map((i) => list[i]).sort((a, b) => byIndex(a, b) || byArrival(a, b));
  slots.forEach((slot, i) => { list[slot] = numbered[i]; });
  return list;
}

function hasIndex(entry) {
  return entry.kind === 'message' && entry.index !== undefined && entry.index !== null;
}

function byIndex(a, b) {
  return compare(BigInt(a.index), BigInt(b.index));
}

function byArrival(a, b) {
  if (a.sequence && b.sequence) return compare(BigInt(a.sequence), BigInt(b.sequence)) || a.local - b.local;
  if (a.sequence) return -1;
  if (b.sequence) return 1;
  return a.local - b.local;
}

function compare(a, b) {
  if (a === b) return 0;
  return a < b ? -1 : 1;
}
