// What survives a reload of this tab: who is signed in, the token, the session,
// the cursor with the screen that belongs to it, and what was not yet
// confirmed. sessionStorage, so it ends with the tab.

const KEY = 'webchat.v1';
/** Beyond this the screen is left out and drawn again from the journal. */
const MAX_CHARS = 1_000_000;

const SCREEN = [
  'session', 'cursor', 'lastSequence', 'engagements', 'engagementOrder', 'entries', 'keyByMessageId',
  'localCounter', 'unread', 'chatOpen', 'capabilities', 'limits', 'idle', 'idleRules',
];

export class Storage {
  constructor(backend) {
    this.backend = backend;
    this.value = this.#read();
  }

  #read() {
    try {
      return JSON.parse(this.backend.getItem(KEY) ?? 'null') ?? {};
    } catch {
      return {};
    }
  }

  get(name) {
    return this.value[name];
  }

  set(patch) {
    this.value = { ...this.value, ...patch };
    this.#write(this.value);
  }

  clear() {
    this.value = {};
    try {
      this.backend.removeItem(KEY);
    } catch {
      // Storage may be forbidden; then there is nothing to clear.
    }
  }

  saveScreen(state) {
    this.set({ screen: snapshot(state) });
  }

  #write(value) {
    let text = JSON.stringify(value);
    if (text.length > MAX_CHARS && value.screen) {
      this.value = { ...value, screen: withoutHistory(value.screen) };
      text = JSON.stringify(this.value);
    }
    try {
      this.backend.setItem(KEY, text);
    } catch {
      // Full or forbidden: the chat goes on, a reload starts from the journal.
    }
  }
}

/** The part of the state that is kept. */
export function snapshot(state) {
  return Object.fromEntries(SCREEN.map((name) => [name, state[name]]));
}

// Without its screen a cursor would hide what came before it, so both go; only
// what the server has not confirmed stays.
function withoutHistory(screen) {
  const entries = {};
  for (const [key, entry] of Object.entries(screen.entries)) {
    if (entry.outgoing && (entry.status === 'sending' || entry.status === 'failed')) entries[key] = entry;
  }
  return { ...screen, entries, keyByMessageId: {}, cursor: '', lastSequence: '0', idle: null };
}
