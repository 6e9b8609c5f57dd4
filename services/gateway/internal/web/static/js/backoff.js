// Waiting: exponential with jitter, so that a thousand clients that lost the
// same server do not come back in the same moment.

/** The wait before attempt n (0, 1, 2, ...): between half and all of base x 2^n, at most max. */
export function backoffDelay(attempt, { base = 500, max = 20000, random = Math.random } = {}) {
  const ceiling = Math.min(max, base * 2 ** Math.min(attempt, 16));
  return Math.round(ceiling / 2 + random() * (ceiling / 2));
}

/** Resolves after ms, or at once when the signal aborts. Never rejects. */
export function sleep(ms, signal) {
  return new Promise((resolve) => {
    if (signal?.aborted) { resolve(); return; }
    const done = () => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal?.addEventListener('abort', done, { once: true });
  });
}

/** A protojson duration ("15s", "0.5s") in milliseconds. */
export function durationMs(text, fallback) {
  const seconds = Number.parseFloat(text);
  return Number.isFinite(seconds) && seconds > 0 ? seconds * 1000 : fallback;
}
