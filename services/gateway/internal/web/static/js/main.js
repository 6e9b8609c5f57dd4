// Starts the page.

import { App } from './app.js';
import { backoffDelay, sleep } from './backoff.js';
import { h, setText } from './dom.js';
import { idleWarning } from './selectors.js';
import { ChatView } from './views/chat.js';
import { SiteView } from './views/site.js';

/** A server that is just being replaced gets this many chances. */
const CONFIG_ATTEMPTS = 5;

async function loadConfig() {
  for (let attempt = 0; attempt < CONFIG_ATTEMPTS; attempt += 1) {
    try {
      const response = await fetch('/config.json', { cache: 'no-cache' });
      if (response.ok) return await response.json();
    } catch {
      // Once more, in the end without: the page says that logging in is not set up.
    }
    await sleep(backoffDelay(attempt));
  }
  return { tokenUrl: '', companyName: document.title };
}

// A tab in the background has only its title to speak with.
function showUnread(state) {
  const bare = document.title.replace(/^\((?:\d+|!)\) /, '');
  const sign = idleWarning(state) ? '!' : state.unread;
  document.title = sign ? `(${sign}) ${bare}` : bare;
}

async function start() {
  const config = await loadConfig();
  const app = new App({ config });
  const site = new SiteView({ app, company: config.companyName, canLogIn: Boolean(config.tokenUrl) });
  const chat = new ChatView({ app, company: config.companyName, background: site.root });
  const toast = h('p', { class: 'toast', role: 'alert' });
  app.site = site;
  let toastTimer;
  app.onNotice = (text) => {
    clearTimeout(toastTimer);
    setText(toast, text);
    toastTimer = setTimeout(() => setText(toast, ''), 6000);
  };
  const draw = (state, before) => {
    site.update(state, before);
    chat.update(state, before);
    showUnread(state);
  };
  document.getElementById('app').replaceChildren(site.root, chat.root, toast);
  site.start();
  draw(app.store.state, null);
  app.store.subscribe(draw);
  addEventListener('pagehide', () => app.leave());
  addEventListener('pageshow', (event) => { if (event.persisted) app.comeBack(); });
  addEventListener('hashchange', () => showUnread(app.store.state));
  document.addEventListener('visibilitychange', () => {
    if (document.visibilityState === 'visible') app.comeBack();
    else app.lookAway();
  });
  await app.resume();
}

start();
