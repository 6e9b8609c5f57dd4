// Why a stream ended, and whether to come back: the close frame's own words.

/** Codes that pass by themselves. */
const KNOWN_PASSING = new Set(['SERVER_SHUTDOWN', 'SLOW_CONSUMER', 'UNAVAILABLE', 'IDLE', 'MAX_AGE', 'RATE_LIMITED']);

/** How a stream that the server closed shall go on, from its close frame. */
export function endOfClose(close) {
  const code = String(close.code ?? '').replace('CLOSE_CODE_', '') || 'UNSPECIFIED';
  const end = { opened: true, retryAfterMs: Number(close.retryAfterMs ?? 0) };
  switch (code) {
    case 'SESSION_CLOSED':
    case 'SESSION_NOT_FOUND':
      return { terminal: true, reason: 'session' };
    // The next attempt brings a fresh token or ticket of its own.
    case 'TOKEN_EXPIRED':
    case 'STEPPED_UP':
    case 'UNAUTHENTICATED':
      return { ...end, renew: true };
    case 'PROTOCOL_ERROR':
      return { terminal: true, reason: 'protocol' };
    default:
      return close.reconnect || code === 'UNSPECIFIED' || KNOWN_PASSING.has(code)
        ? end : { terminal: true, reason: 'closed' };
  }
}
