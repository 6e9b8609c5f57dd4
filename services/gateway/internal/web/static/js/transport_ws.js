// The stream over a WebSocket: events down, commands up.

import { ApiError, problemError } from './api.js';
import { durationMs } from './backoff.js';
import { endOfClose } from './closes.js';

const PROTOCOL = 'axpchat.v1+json';
const OPEN_TIMEOUT_MS = 10000;
const REPLY_TIMEOUT_MS = 15000;
const CHECK_TIMEOUT_MS = 4000;
const DEFAULT_HEARTBEAT_MS = 15000;

/** Opens the stream and runs it to its end; throws where no ticket could be had. */
export async function openWebSocket({ api, sessionId, cursor, signal, onFrame, onOnline }) {
  const ticket = await api.createTicket(sessionId, 'TICKET_USE_CONNECT');
  if (signal.aborted) return {};
  const url = new URL(`/v1/sessions/${encodeURIComponent(sessionId)}:connect`, api.base || location.href);
  url.protocol = url.protocol.replace('http', 'ws');
  url.search = new URLSearchParams({ ticket });
  return new Promise((resolve) => {
    let socket;
    try {
      socket = new WebSocket(url, [PROTOCOL]);
    } catch {
      resolve({ blame: true });
      return;
    }
    new Stream({ socket, api, cursor, signal, onFrame, onOnline, resolve }).start();
  });
}

class Stream {
  constructor(params) {
    Object.assign(this, params);
    this.opened = false;
    this.end = null;
    this.nextFrame = 1;
    this.waiting = new Map();
    this.heartbeatMs = DEFAULT_HEARTBEAT_MS;
    this.heard = Date.now();
  }

  start() {
    const { socket } = this;
    this.openTimer = setTimeout(() => this.finish({ blame: true }), OPEN_TIMEOUT_MS);
    this.onAbort = () => this.finish({});
    this.signal.addEventListener('abort', this.onAbort, { once: true });
    socket.addEventListener('open', () => this.send({ hello: { cursor: this.cursor() } }));
    socket.addEventListener('message', ({ data }) => this.receive(data));
    socket.addEventListener('close', ({ code }) => this.finish(this.end ?? this.endOfCode(code)));
  }

  // Without a close frame the code says whether to come back: from 4500 on it is for good.
  endOfCode(code) {
    if (code >= 4500 && code < 5000) return { terminal: true, reason: 'closed' };
    return { opened: this.opened, blame: !this.opened };
  }

  send(payload) {
    const frameId = String(this.nextFrame);
    this.nextFrame += 1;
    this.socket.send(JSON.stringify({ frameId, ...payload }));
    return frameId;
  }

  receive(data) {
    this.heard = Date.now();
    let frame;
    try {
      frame = JSON.parse(data);
    } catch {
      return;
    }
    if (frame.reply) this.settle(frame.reply);
    else if (frame.close) this.end = endOfClose(frame.close);
    else if (frame.goAway) this.moveLater(frame.goAway);
    else if (frame.tokenExpiryReminder) this.renewToken();
    else this.onFrame(frame);
    // After onFrame, so that whoever hears "online" sees the welcome's state.
    if (frame.welcome) this.welcomed(frame.welcome);
  }

  welcomed(welcome) {
    if (this.opened) return;
    this.opened = true;
    clearTimeout(this.openTimer);
    this.heartbeatMs = durationMs(welcome.heartbeatInterval, DEFAULT_HEARTBEAT_MS);
    this.watch = setInterval(() => this.watchLife(), this.heartbeatMs);
    this.onOnline({
      command: (payload) => this.command(payload),
      renewed: (token) => this.send({ refreshToken: { token } }),
      check: () => this.check(),
    });
  }

  // A dead network shows no close for minutes, so silence is what counts.
  watchLife() {
    const silence = Date.now() - this.heard;
    if (silence > 3 * this.heartbeatMs) this.finish({ opened: true });
    else if (silence > this.heartbeatMs && this.socket.readyState === WebSocket.OPEN) this.send({ ping: {} });
  }

  check() {
    if (this.socket.readyState !== WebSocket.OPEN) return;
    const asked = Date.now();
    this.send({ ping: {} });
    this.checkTimer = setTimeout(() => { if (this.heard < asked) this.finish({ opened: true, moveNow: true }); }, CHECK_TIMEOUT_MS);
  }

  // The server serves on until the client has moved, so nothing is cut off here.
  moveLater(goAway) {
    if (!this.cursor() && goAway.cursor) this.onFrame({ advanced: { cursor: goAway.cursor } });
    clearTimeout(this.moveTimer);
    this.end = { opened: true, retryAfterMs: Number(goAway.retryAfterMs ?? 0) };
    this.moveTimer = setTimeout(() => this.finish({ opened: true, moveNow: true }), Number(goAway.retryAfterMs ?? 0));
  }

  renewToken() {
    // TokenSource tells everybody of the new token, this stream included.
    this.api.tokens.reminded().catch(() => {});
  }

  command(payload) {
    if (this.socket.readyState !== WebSocket.OPEN) return Promise.reject(lost());
    return new Promise((resolve, reject) => {
      const frameId = this.send(payload);
      const timer = setTimeout(() => { this.waiting.delete(frameId); reject(lost()); }, REPLY_TIMEOUT_MS);
      this.waiting.set(frameId, { resolve, reject, timer });
    });
  }

  settle(reply) {
    const waiting = this.waiting.get(reply.frameId);
    if (!waiting) return;
    this.waiting.delete(reply.frameId);
    clearTimeout(waiting.timer);
    if (reply.problem) waiting.reject(problemError(reply.problem));
    else waiting.resolve(reply);
  }

  async finish(end) {
    if (this.finished) return;
    this.finished = true;
    for (const timer of [this.openTimer, this.checkTimer, this.moveTimer]) clearTimeout(timer);
    clearInterval(this.watch);
    this.signal.removeEventListener('abort', this.onAbort);
    this.socket.close();
    for (const { reject, timer } of this.waiting.values()) { clearTimeout(timer); reject(lost()); }
    if (end.renew) await this.api.tokens.renew().catch(() => {});
    this.resolve(end);
  }
}

function lost() {
  return new ApiError({ reason: 'NETWORK', detail: 'the connection was lost', retryable: true });
}
