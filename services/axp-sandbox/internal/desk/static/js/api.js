// The desk's JSON API.

async function call(method, path, body) {
  const response = await fetch(`/desk/api${path}`, {
    method,
    headers: body === undefined ? {} : { 'Content-Type': 'application/json' },
    body: body === undefined ? undefined : JSON.stringify(body),
    cache: 'no-store',
  });
  if (!response.ok) {
    const problem = await response.json().catch(() => ({}));
    throw new Error(problem.detail || problem.title || problem.error || `The sandbox answered ${response.status}.`);
  }
  return response.json().catch(() => ({}));
}

const chat = (dialogId, verb) => `/chats/${encodeURIComponent(dialogId)}/${verb}`;

export const api = {
  state: () => call('GET', '/state'),
  accept: (dialogId, agentName) => call('POST', chat(dialogId, 'accept'), { agentName }),
  send: (dialogId, message) => call('POST', chat(dialogId, 'messages'), message),
  leave: (dialogId) => call('POST', chat(dialogId, 'leave'), {}),
  end: (dialogId) => call('POST', chat(dialogId, 'end'), {}),
  auto: (enabled) => call('POST', '/auto', { enabled }),
};

/** Follows the sandbox; EventSource reconnects by itself, then the state is read anew. */
export function follow({ onState, onEvent, onConnected }) {
  const source = new EventSource('/desk/api/events');
  // What comes while the state is read may be newer than the state: it waits.
  let early = [];
  source.addEventListener('open', async () => {
    early = [];
    try {
      onState(await api.state());
      onConnected(true);
    } catch {
      onConnected(false);
    }
    const late = early;
    early = null;
    for (const event of late ?? []) onEvent(event);
  });
  source.addEventListener('error', () => {
    onConnected(false);
    // A refused stream is closed for good by the browser: start over.
    if (source.readyState === EventSource.CLOSED) {
      source.close();
      setTimeout(() => follow({ onState, onEvent, onConnected }), 2000);
    }
  });
  source.addEventListener('message', ({ data }) => {
    try {
      const event = JSON.parse(data);
      if (early) early.push(event);
      else onEvent(event);
    } catch {
      // A line that is not JSON tells nothing.
    }
  });
}
