// Starts the desk: the list on the left, the chat in the middle, its context on
// the right.

import { api, follow } from './api.js';
import { ChatView } from './chat.js';
import { h, setText } from './dom.js';
import { initial, lists, select, unread, withEvent, withState } from './model.js';
import { QueueView } from './queue.js';

const NAME_KEY = 'desk.agentName';
const TITLE = document.title;

let model = initial();
const toast = h('p', { class: 'toast', role: 'alert' });
const live = h('span', { class: 'live', role: 'status', testid: 'connection-state' });
const name = h('input', { id: 'agent-name', type: 'text', maxlength: '70', autocomplete: 'off' });
const auto = h('input', { id: 'auto-agent', type: 'checkbox', role: 'switch' });

let toastTimer;
function tell(text) {
  clearTimeout(toastTimer);
  setText(toast, text);
  toastTimer = setTimeout(() => setText(toast, ''), 6000);
}

// Each act reports its own failure; true where it worked.
async function attempt(act) {
  try {
    await act();
    return true;
  } catch (error) {
    tell(error.message);
    return false;
  }
}

const chat = new ChatView({
  accept,
  send: (id, message) => attempt(() => api.send(id, message)),
  leave: (id) => attempt(() => api.leave(id)),
  end: (id) => attempt(() => api.end(id)),
  back: () => choose(''),
});
const queue = new QueueView({ onSelect: choose, onAccept: accept });

function choose(id) {
  const before = model.selected;
  model = select(model, id);
  draw();
  if (id) chat.focus();
  else queue.items.get(before)?.button.focus();
}

async function accept(id) {
  const accepted = await attempt(() => api.accept(id, name.value.trim() || model.agentName || 'Agent'));
  if (!accepted) return;
  // The screen follows the stream; reading once makes the focus land right.
  await attempt(async () => { model = withState(model, await api.state()); });
  choose(id);
}

function draw() {
  queue.update(model);
  chat.update(model);
  document.body.classList.toggle('chat-chosen', Boolean(model.selected));
  auto.checked = model.autoAgent;
  name.placeholder = model.agentName || 'Agent';
  setText(live, model.connected ? 'Live' : 'Reconnecting…');
  live.dataset.state = model.connected ? 'online' : 'reconnecting';
  const { waiting, open } = lists(model);
  const count = waiting.length + open.reduce((sum, c) => sum + unread(model, c), 0);
  document.title = count ? `(${count}) ${TITLE}` : TITLE;
}

function change(next) {
  model = next;
  draw();
}

name.value = localStorage.getItem(NAME_KEY) ?? '';
name.addEventListener('input', () => localStorage.setItem(NAME_KEY, name.value));
auto.addEventListener('change', async () => {
  const enabled = auto.checked;
  if (await attempt(() => api.auto(enabled))) change({ ...model, autoAgent: enabled });
  else draw();
});
addEventListener('keydown', (event) => {
  if (event.key === 'Escape' && model.selected) choose('');
});
setInterval(() => queue.tick(model), 1000);

document.getElementById('app').replaceChildren(
  h('a', { class: 'skip', href: '#chat' }, 'Skip to the chat'),
  h('header', { class: 'top' },
    h('img', { src: '/desk/static/img/mark.svg', alt: '', width: '34', height: '34' }),
    h('h1', {}, 'Agent desk'),
    h('span', { class: 'sandbox' }, 'Sandbox, not Avaya'),
    live,
    h('div', { class: 'settings' },
      h('label', { class: 'name-field', for: 'agent-name' }, h('span', {}, 'Agent name'), name),
      h('label', { class: 'switch', for: 'auto-agent' }, auto, h('span', { class: 'track', 'aria-hidden': 'true' }), h('span', {}, 'Automatic agent')))),
  h('div', { class: 'columns' }, queue.root, chat.root, chat.context), toast);
draw();
follow({
  onState: (state) => change(withState(model, state)),
  onEvent: (event) => change(withEvent(model, event)),
  onConnected: (connected) => change({ ...model, connected }),
});
