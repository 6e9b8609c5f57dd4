// One customer in several tabs. What a tab knows ends with the tab, so nothing
// of a visit is left behind on a shared computer; a further tab asks those that
// are open who is signed in, and hears of it when somebody comes or goes.

const CHANNEL = 'webchat.v1';
/** Long enough for a tab in the background to answer. */
const ANSWER_MS = 400;

export class Tabs {
  /** visit(): what this tab can share, or null; onNews({signedIn, signedOut, session}) hears the others. */
  constructor({ visit, onNews, channel = openChannel() }) {
    Object.assign(this, { visit, onNews, channel });
    this.asking = null;
    if (channel) channel.onmessage = ({ data }) => this.#heard(data ?? {});
  }

  /** The visit of another tab, or null where there is none. */
  ask(waitMs = ANSWER_MS) {
    if (!this.channel) return Promise.resolve(null);
    return new Promise((resolve) => {
      const timer = setTimeout(() => this.asking?.(null), waitMs);
      this.asking = (visit) => {
        clearTimeout(timer);
        this.asking = null;
        resolve(visit);
      };
      this.channel.postMessage({ ask: true });
    });
  }

  /** Tells the other tabs: {signedIn: visit}, {signedOut: subject} or {session, subject}. */
  tell(news) {
    this.channel?.postMessage({ news });
  }

  #heard({ ask, answer, news }) {
    if (ask) {
      const visit = this.visit();
      if (visit) this.channel.postMessage({ answer: visit });
    } else if (answer) {
      this.asking?.(answer);
    } else if (news) {
      this.onNews(news);
    }
  }
}

function openChannel() {
  return typeof BroadcastChannel === 'undefined' ? null : new BroadcastChannel(CHANNEL);
}
