// The warning of the idle timeout in the state: what the journal says of it, and
// what the customer does about it. Part of the reducer, and as pure.

/** The server's clock, in milliseconds ahead of this device's. */
export function serverAhead(serverTime, now = Date.now()) {
  const time = Date.parse(serverTime ?? '');
  return Number.isFinite(time) ? time - now : 0;
}

/** The state after idle_timeout_expired. */
export function idleExpired(state, id, { engagementId, gracePeriod, disconnectTime }) {
  return {
    ...state,
    idle: { engagementId: engagementId || id, gracePeriod: gracePeriod ?? '', disconnectTime: disconnectTime ?? '', answering: false, problem: '', writtenId: '' },
  };
}

/** The state after idle_timeout_reset, or the end, of a chat. */
export function idleReset(state, engagementId) {
  return state.idle?.engagementId === engagementId ? { ...state, idle: null } : state;
}

/** The state after a reload: what was on its way then has no answer now. */
export function idleRestored(state) {
  return state.idle ? { ...state, idle: { ...state.idle, answering: false } } : state;
}

/** The state after something that the customer did about the warning. */
export function idleAction(state, action) {
  const { idle } = state;
  if (!idle) return state;
  switch (action.type) {
    case 'idleAnswering':
      return { ...state, idle: { ...idle, answering: true, problem: '' } };
    case 'idleUnanswered':
      return { ...state, idle: { ...idle, answering: false, problem: action.reason } };
    case 'idleOver':
      return idle.disconnectTime === action.disconnectTime ? { ...state, idle: null } : state;
    // A message takes the warning away at once; should it be refused, it was no act.
    case 'outgoing':
      return { ...state, idle: { ...idle, writtenId: action.message.clientMessageId } };
    case 'outgoingFailed':
      return idle.writtenId === action.clientMessageId ? { ...state, idle: { ...idle, writtenId: '' } } : state;
    default:
      return state;
  }
}
