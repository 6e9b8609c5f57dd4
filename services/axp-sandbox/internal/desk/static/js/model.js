// What the desk knows: the sandbox's chats, and which one is on the screen.
// Pure functions over plain objects.

export function initial() {
  return { connected: false, agentName: '', autoAgent: false, chats: {}, selected: '', seen: {} };
}

/** Takes the whole state from the API. */
export function withState(model, { agentName, autoAgent, chats }) {
  const next = { ...model, agentName: agentName ?? model.agentName, autoAgent: autoAgent ?? model.autoAgent };
  if (chats) next.chats = Object.fromEntries(chats.map((chat) => [chat.dialogId, chat]));
  return forget(next);
}

/** Takes one message of the event stream. */
export function withEvent(model, event) {
  let next = model;
  if (event.state) next = withState(next, event.state);
  if (event.chat) next = { ...next, chats: { ...next.chats, [event.chat.dialogId]: event.chat } };
  if (event.removed) {
    const chats = { ...next.chats };
    delete chats[event.removed];
    next = forget({ ...next, chats });
  }
  return read(next);
}

export function select(model, dialogId) {
  return read({ ...model, selected: dialogId });
}

function forget(model) {
  return model.chats[model.selected] ? model : { ...model, selected: '' };
}

// The chat on the screen counts as read.
function read(model) {
  const chat = model.chats[model.selected];
  return chat ? { ...model, seen: { ...model.seen, [chat.dialogId]: fromCustomer(chat) } } : model;
}

function fromCustomer(chat) {
  return (chat.messages ?? []).filter((m) => m.senderType === 'CUSTOMER').length;
}

/** Messages of the customer that the agent has not looked at. */
export function unread(model, chat) {
  return Math.max(0, fromCustomer(chat) - (model.seen[chat.dialogId] ?? 0));
}

export function over(chat) {
  return chat.status === 'TERMINATED' || chat.status === 'TERMINATING';
}

/** Agents in the chat. */
export function agents(chat) {
  return (chat.participants ?? []).filter((p) => p.participantType === 'AGENT' && p.connected);
}

/** True where nobody serves the customer. */
export function waiting(chat) {
  return !over(chat) && (Boolean(chat.waiting) || agents(chat).length === 0);
}

/** The chats in their three lists; who waits longest stands first. */
export function lists(model) {
  const all = Object.values(model.chats).sort((a, b) => Date.parse(a.createdAt) - Date.parse(b.createdAt));
  return {
    waiting: all.filter(waiting),
    open: all.filter((chat) => !over(chat) && !waiting(chat)),
    ended: all.filter(over).reverse().slice(0, 20),
  };
}

/** Messages of a chat in AXP's order. */
export function messages(chat) {
  return [...(chat.messages ?? [])].sort((a, b) => (a.index ?? 0) - (b.index ?? 0));
}

/** How long ago, for people: "2 min 05 s". */
export function age(since, now) {
  const seconds = Math.max(0, Math.floor((now - Date.parse(since)) / 1000));
  if (!Number.isFinite(seconds)) return '';
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${String(seconds % 60).padStart(2, '0')} s`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}
