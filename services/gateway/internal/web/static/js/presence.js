// Says "I am here" for the customer: the button of the warning, and writing,
// which the server cannot see.

/** Writing says so at most this often; more often is of no use. */
const WRITING_MS = 30000;

/** Tells the server, over the stream where that takes commands, else by REST. */
export async function keepAlive(connection, api, sessionId) {
  if (connection?.canCommand) {
    try {
      return await connection.command({ keepAlive: {} });
    } catch (error) {
      // A stream that breaks just now must not cost the customer the chat.
      if (error.reason !== 'NETWORK') throw error;
    }
  }
  return api.keepAlive(sessionId);
}

export class Presence {
  /** store; send(): tells the server, rejects where that failed. */
  constructor({ store, send, now = Date.now }) {
    Object.assign(this, { store, send, now });
    this.told = -Infinity;
    this.answeredTime = '';
  }

  /** The customer writes. A warning is answered at once, and only once. */
  writing(warning) {
    const { idleRules } = this.store.state;
    if (!warning && !idleRules?.idleTimeout) return;
    const early = this.now() - this.told < WRITING_MS;
    if (early && (!warning || warning.disconnectTime === this.answeredTime)) return;
    this.#tell(warning).catch(() => {});
  }

  /** Something went out that is an act by itself. */
  acted() {
    this.told = this.now();
  }

  /** The button of the warning. */
  async here(warning) {
    if (!warning || warning.answering) return;
    this.store.dispatch({ type: 'idleAnswering' });
    try {
      await this.#tell(warning);
    } catch (error) {
      this.store.dispatch({ type: 'idleUnanswered', reason: error.reason ?? 'OTHER' });
    }
  }

  async #tell(warning) {
    this.told = this.now();
    this.answeredTime = warning?.disconnectTime ?? '';
    try {
      await this.send();
    } catch (error) {
      this.answeredTime = '';
      throw error;
    }
    // A later warning is another one: it stays.
    if (warning) this.store.dispatch({ type: 'idleOver', disconnectTime: warning.disconnectTime });
  }
}
