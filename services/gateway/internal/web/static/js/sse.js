// Server-sent events read from a fetch body. EventSource can neither send the
// Authorization header nor show comments, and the server's comments are the
// sign of life that tells a quiet stream from a dead one.

/** Cuts a text stream into events: {event, data, id}; and {comment: true}. */
export class SseParser {
  constructor() {
    this.buffer = '';
    this.fields = fresh();
  }

  /** Takes a piece of text, returns what it completed. */
  push(text) {
    this.buffer += text;
    const out = [];
    for (;;) {
      const end = this.buffer.search(/\r\n|\n|\r/);
      // A lone \r at the very end may be the first half of \r\n.
      if (end < 0 || (this.buffer[end] === '\r' && end === this.buffer.length - 1)) return out;
      const line = this.buffer.slice(0, end);
      this.buffer = this.buffer.slice(end + (this.buffer.startsWith('\r\n', end) ? 2 : 1));
      this.#line(line, out);
    }
  }

  #line(line, out) {
    if (line === '') {
      if (this.fields.data.length) out.push({ event: this.fields.event, data: this.fields.data.join('\n'), id: this.fields.id });
      this.fields = fresh();
      return;
    }
    const colon = line.indexOf(':');
    if (colon === 0) { out.push({ comment: true }); return; }
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? '' : line.slice(colon + 1).replace(/^ /, '');
    if (name === 'data') this.fields.data.push(value);
    else if (name === 'event') this.fields.event = value;
    else if (name === 'id') this.fields.id = value;
  }
}

function fresh() {
  return { event: '', data: [], id: '' };
}

const FRAME_KINDS = ['welcome', 'event', 'reply', 'pong', 'reset', 'goAway', 'close', 'tokenExpiryReminder'];

/** The frame in a piece of JSON, whether bare or wrapped by a streaming proxy. */
export function unwrapFrame(value) {
  const frame = value?.result?.frame ?? value?.frame ?? value?.result ?? value;
  return frame && FRAME_KINDS.some((kind) => kind in frame) ? frame : null;
}
