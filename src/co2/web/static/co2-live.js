// A client of co2's WebSocket /live, for web pages and Node: an ES module without dependencies and without a build step.
// docs/how-to/json.md shows how it is used, docs/reference/json.md describes the frames.

export const SUBPROTOCOL = "co2.live.1";

const FIRST_RETRY = 250; // milliseconds; doubled with each try, up to LAST_RETRY, and made less by chance
const LAST_RETRY = 10_000;
const HEALTHY = 5_000; // milliseconds for which a connection must last before the next one is tried at once
const MAX_WAITING = 1_000; // requests that wait for an answer or for a connection; further ones fail
const HISTORY = 10_000; // messages that are read from the log after a lost connection, by default
const HISTORY_TRIES = 5; // reads of the log that may fail
const HISTORY_RETRY = 500; // milliseconds before the next one; doubled with each
const MAX_LATE = 1_000; // messages that come while the log is read and are kept until then; if more come, the log is read on
const MAX_QUERY = 4_000; // characters of patterns in an address; with more, all messages are read
const BEGINNING = 1; // the position before the first message of a log

/** A time as it came: a Date has milliseconds only, and `iso` has all that was sent. */
export class Moment extends Date {
  constructor(iso) {
    super(iso);
    this.iso = iso;
  }
}

/** An extension of MessagePack: its number and its bytes. */
export class Extension {
  constructor(code, data) {
    this.code = code;
    this.data = data;
  }
}

/** An error that a host has answered with; `code` is its fault code. */
export class Co2Error extends Error {
  constructor(code, text) {
    super(text);
    this.name = "Co2Error";
    this.code = code;
  }
}

const FLOATS = { nan: NaN, inf: Infinity, "-inf": -Infinity, "-0": -0 };
const HIGHEST = 2n ** 64n - 1n;
const LOWEST = -(2n ** 63n);

function toBase64(bytes) {
  let text = "";
  for (const byte of bytes) text += String.fromCharCode(byte);
  return btoa(text);
}

function fromBase64(text) {
  return Uint8Array.from(atob(text), (char) => char.charCodeAt(0));
}

function isMarked(value) {
  const keys = Object.keys(value);
  return keys.length === 1 && keys[0].startsWith("$");
}

/** Return what JSON.parse has read as the value it stands for: bytes as Uint8Array, times as Moment, and so on. */
export function decode(value) {
  if (value === null || typeof value !== "object") return value;
  if (Array.isArray(value)) return value.map(decode);
  if (!isMarked(value)) return decodeKeys(value);
  const [mark] = Object.keys(value);
  const inner = value[mark];
  switch (mark) {
    case "$b":
      return fromBase64(inner);
    case "$f":
      if (!Object.hasOwn(FLOATS, inner)) break;
      return FLOATS[inner];
    case "$i": {
      const number = BigInt(inner);
      return number >= Number.MIN_SAFE_INTEGER && number <= Number.MAX_SAFE_INTEGER ? Number(number) : number;
    }
    case "$t":
      return new Moment(inner);
    case "$m":
      return new Map(inner.map(([key, one]) => [decode(key), decode(one)]));
    case "$x":
      return new Extension(inner[0], fromBase64(inner[1]));
    case "$d":
      return decodeKeys(inner);
  }
  throw new TypeError(`unknown mark ${mark}`);
}

function decodeKeys(value) {
  // Not by assignment: "__proto__" is a key like any other.
  return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, decode(one)]));
}

/** Return a value as one that JSON.stringify writes so that every reader gets exactly this value. */
export function encode(value) {
  switch (typeof value) {
    case "number":
      if (Number.isNaN(value)) return { $f: "nan" };
      if (!Number.isFinite(value)) return { $f: value > 0 ? "inf" : "-inf" };
      return Object.is(value, -0) ? { $f: "-0" } : value;
    case "bigint":
      if (value < LOWEST || value > HIGHEST) throw new RangeError("an integer beyond 64 bits");
      return { $i: String(value) };
    case "string":
      if (!value.isWellFormed?.() && /[\ud800-\udfff]/u.test(value)) throw new TypeError("text with a lone surrogate");
      return value;
    case "boolean":
      return value;
    case "undefined":
      return null;
    case "object":
      return value === null ? null : encodeObject(value);
  }
  throw new TypeError(`a ${typeof value} cannot travel`);
}

function encodeObject(value) {
  if (Array.isArray(value)) return Array.from(value, encode);
  if (ArrayBuffer.isView(value)) {
    return { $b: toBase64(new Uint8Array(value.buffer, value.byteOffset, value.byteLength)) };
  }
  if (value instanceof ArrayBuffer) return { $b: toBase64(new Uint8Array(value)) };
  if (value instanceof Date) {
    const isAsItCame = value instanceof Moment && new Date(value.iso).getTime() === value.getTime();
    return { $t: isAsItCame ? value.iso : value.toISOString() };
  }
  if (value instanceof Map) return { $m: Array.from(value, ([key, one]) => [encode(key), encode(one)]) };
  if (value instanceof Extension) return { $x: [value.code, toBase64(value.data)] };
  const found = Object.fromEntries(
    Object.entries(value)
      .filter(([, one]) => one !== undefined)
      .map(([key, one]) => [key, encode(one)]),
  );
  return isMarked(found) ? { $d: found } : found;
}

/** Return whether a channel matches a pattern: `*` stands for one token, `>` at the end for one or more. */
export function matches(pattern, channel) {
  if (pattern === null) return true;
  if (!channel) return false;
  const wanted = pattern.split(".");
  const tokens = channel.split(".");
  const isOpen = wanted.at(-1) === ">";
  if (isOpen ? tokens.length < wanted.length : tokens.length !== wanted.length) return false;
  return wanted.every((one, index) => one === "*" || one === ">" || one === tokens[index]);
}

/**
 * A connection to a relay that comes back by itself, and then gets from the relay's log what came meanwhile.
 *
 * `url` is that of the relay, by default that of the page. `WebSocket` is the class to use, for Node before version 22.
 * `history` is the number of messages that are read from the log after a lost connection, at most; 0 for none.
 */
export class Co2Live {
  #url;
  #logUrl;
  #WebSocket;
  #history;
  #socket = null;
  #isOpen = false;
  #isClosed = false;
  #retry = FIRST_RETRY;
  #timer = null;
  #ref = 0;
  #wantRef = 0;
  #waiting = new Map(); // by ref: {resolve, reject, frame, isCall, isSent}
  #handlers = []; // {pattern, handler, since}: since is the position from which on it gets messages, null until known
  #wants = new Map(); // by ref: the handlers that the relay has been told of
  #logId = null;
  #seen = null; // all messages up to this position have come
  #late = null; // after a lost connection, until the log has been read: {until, left, kept, abort, isReading}
  #listeners = new Map(); // by name of an event: functions

  constructor({ url = globalThis.location?.origin, WebSocket = globalThis.WebSocket, history = HISTORY } = {}) {
    if (!url) throw new TypeError("which relay? new Co2Live({ url: 'http://127.0.0.1:2003' })");
    if (!WebSocket) throw new TypeError("there is no WebSocket here; Node before 22 needs the package ws");
    const found = new URL("/live", url);
    found.protocol = found.protocol === "https:" || found.protocol === "wss:" ? "wss:" : "ws:";
    this.#url = found.href;
    this.#logUrl = new URL("/api/log", found.href.replace("ws", "http"));
    this.#WebSocket = WebSocket;
    this.#history = history;
    this.#connect();
  }

  /** Whether there is a connection now. */
  get isOpen() {
    return this.#isOpen;
  }

  /**
   * Call `handler(message)` for each message whose channel matches a pattern; `null` for all messages. Returns a function
   * that ends this. After a lost connection it is called for the messages that came meanwhile, in order; live ones are lost.
   */
  on(pattern, handler) {
    const entry = { pattern, handler, since: null };
    this.#handlers.push(entry);
    this.#want();
    return () => {
      this.#handlers = this.#handlers.filter((one) => one !== entry);
      this.#want();
    };
  }

  /**
   * Call `listener(detail)` at each `open` (the host's hello), `close`, `gap` ({after, next, reason}), `skipped` (a number)
   * and `error` (a Co2Error without a request). Returns a function that ends this.
   */
  when(event, listener) {
    const known = this.#listeners.get(event) ?? new Set();
    this.#listeners.set(event, known.add(listener));
    return () => known.delete(listener);
  }

  /**
   * Send a message, {channel, data, live}, or a list of them. Resolves to {position} once the relay has it on disk. Without a
   * connection it waits for one. If the connection is lost before the answer, it fails: the message may have been sent.
   */
  send(message) {
    return this.#request({ send: encode(message) });
  }

  /** Call a method and resolve to its result, or fail with a Co2Error. `host` chooses the host that has the method. */
  call(method, data = null, { host } = {}) {
    return this.#request({ call: method, data: encode(data), ...(host === undefined ? {} : { host }) });
  }

  /** End the connection for good. What waits for an answer fails. */
  close() {
    this.#isClosed = true;
    clearTimeout(this.#timer);
    this.#late?.abort.abort();
    this.#late = null;
    this.#socket?.close();
    this.#fail(() => true);
  }

  #request(frame) {
    if (this.#isClosed) return Promise.reject(new Co2Error(0, "this connection is closed"));
    if (this.#waiting.size >= MAX_WAITING) {
      return Promise.reject(new Co2Error(0, `${MAX_WAITING} requests are waiting already`));
    }
    const ref = ++this.#ref;
    return new Promise((resolve, reject) => {
      const request = { resolve, reject, text: JSON.stringify({ ...frame, ref }), isSent: false };
      this.#waiting.set(ref, request);
      if (this.#isOpen) this.#tell(request);
    });
  }

  #tell(request) {
    request.isSent = true;
    this.#socket.send(request.text);
  }

  #want() {
    if (!this.#isOpen) return;
    const ref = `want-${++this.#wantRef}`;
    this.#wants.set(ref, [...this.#handlers]);
    this.#socket.send(JSON.stringify({ want: { channels: this.#patterns() }, ref }));
  }

  #patterns() {
    const patterns = this.#handlers.map(({ pattern }) => pattern);
    return patterns.includes(null) ? null : [...new Set(patterns)];
  }

  #connect() {
    this.#timer = null;
    const socket = new this.#WebSocket(this.#url, SUBPROTOCOL);
    this.#socket = socket;
    let since = null;
    socket.onopen = () => {
      since = Date.now();
    };
    socket.onmessage = (event) => {
      if (this.#socket === socket && !this.#isClosed) this.#take(JSON.parse(event.data));
    };
    socket.onerror = () => {}; // a close follows
    socket.onclose = () => {
      if (this.#socket !== socket) return;
      const wasOpen = this.#isOpen;
      this.#isOpen = false;
      this.#late?.abort.abort();
      this.#late = null;
      this.#wants.clear();
      this.#fail((request) => request.isSent);
      if (wasOpen) this.#emit("close");
      if (this.#isClosed) return;
      if (since !== null && Date.now() - since > HEALTHY) this.#retry = FIRST_RETRY;
      this.#timer = setTimeout(() => this.#connect(), this.#retry * (0.5 + Math.random() / 2));
      this.#retry = Math.min(2 * this.#retry, LAST_RETRY);
    };
  }

  #take(frame) {
    if (frame.messages) {
      for (const message of frame.messages) this.#place(message.position, () => this.#pass(decodeKeys(message)));
    } else if (frame.hello) {
      this.#isOpen = true;
      this.#greet(frame.hello);
      this.#want();
      for (const request of this.#waiting.values()) if (!request.isSent) this.#tell(request);
      this.#emit("open", frame.hello);
    } else if ("result" in frame || frame.error) {
      this.#answer(frame);
    } else if ("skipped" in frame) {
      this.#emit("skipped", frame.skipped);
    } else if (frame.gap) {
      this.#place(frame.gap.next, () => this.#emit("gap", frame.gap));
    } else if ("position" in frame) {
      this.#place(frame.position, () => {});
    } // a frame of a newer host
  }

  /** Note which log it is. On a connection after another one, keep what comes until what came meanwhile has been read. */
  #greet({ log_id, position }) {
    const isFirst = this.#seen === null;
    if (!isFirst && (log_id !== this.#logId || position < this.#seen)) {
      this.#emit("gap", { after: this.#seen, next: BEGINNING, reason: "log replaced" });
      this.#seen = BEGINNING;
      for (const entry of this.#handlers) if (entry.since !== null) entry.since = BEGINNING;
    }
    this.#logId = log_id;
    this.#seen ??= position;
    if (!isFirst) this.#late = { until: 0, left: this.#history, kept: [], abort: new AbortController() };
  }

  /** Do what belongs to a position: now, or when all before it has been read from the log; never twice. */
  #place(position, action) {
    if (position === undefined) action(); // a live message
    else if (this.#late === null) this.#reach(position, action);
    else {
      const { kept } = this.#late;
      kept.push([position, action]);
      if (kept.length <= MAX_LATE) return;
      this.#late.until = Math.max(this.#late.until, position);
      kept.length = 0;
    }
  }

  #reach(position, action) {
    if (position <= this.#seen) return;
    this.#seen = position;
    action();
  }

  /** Return the handlers that a message is for; with its position, only those that were there before it. */
  #meant(message, position = null) {
    const channel = typeof message.channel === "string" ? message.channel : "";
    return this.#handlers.filter(
      ({ pattern, since }) =>
        matches(pattern, channel) && (position === null || (since !== null && since < position)),
    );
  }

  #pass(message) {
    for (const { handler } of this.#meant(message)) guarded(handler, message);
  }

  /** The relay has said from which position on messages come: after a lost connection, read those before it. */
  #wanted(handlers, position) {
    const known = handlers.filter(({ since }) => since !== null).map(({ since }) => since);
    for (const entry of handlers) entry.since ??= position;
    if (this.#late === null || this.#late.isReading) return;
    this.#late.isReading = true;
    if (known.length > 0 && this.#history > 0) {
      this.#seen = Math.max(this.#seen, Math.min(...known)); // before that nobody wanted anything
      this.#late.until = Math.max(this.#late.until, position);
    }
    this.#catchUp(this.#late);
  }

  /** Read the log up to where the messages begin that come by themselves, then pass those that have come meanwhile. */
  async #catchUp(late) {
    for (let tries = 1; this.#seen < late.until; ) {
      const { until } = late;
      let reason = null;
      try {
        if (await this.#read(late)) this.#seen = Math.max(this.#seen, until);
        else reason = `more than ${this.#history} messages`;
      } catch (error) {
        if (++tries > HISTORY_TRIES || error instanceof Co2Error) reason = `the log cannot be read: ${error.message}`;
        else await new Promise((resolve) => setTimeout(resolve, HISTORY_RETRY * 2 ** (tries - 2)));
      }
      if (this.#late !== late) return; // the connection was lost again
      if (reason !== null) {
        this.#emit("gap", { after: this.#seen, next: late.until, reason });
        this.#seen = late.until;
      }
    }
    this.#late = null;
    for (const [position, action] of late.kept) this.#reach(position, action);
  }

  /** Pass messages of the log, `late.left` at most; return whether these were all. */
  async #read(late) {
    const url = new URL(this.#logUrl);
    url.searchParams.set("from", this.#seen + 1);
    url.searchParams.set("to", late.until);
    const patterns = this.#patterns()?.join(",");
    if (patterns && patterns.length <= MAX_QUERY) url.searchParams.set("channel", patterns);
    const answer = await fetch(url, { signal: late.abort.signal });
    if (!answer.ok) {
      answer.body?.cancel();
      if (answer.status >= 500) throw new Error(`status ${answer.status}`); // there may be room later
      throw new Co2Error(0, `status ${answer.status}`);
    }
    for await (const line of linesOf(answer.body)) {
      if (this.#late !== late) return true;
      const found = JSON.parse(line);
      if (found.gap) {
        this.#emit("gap", found.gap);
        this.#seen = found.gap.next;
        continue;
      }
      const message = decodeKeys(found);
      const meant = this.#meant(message, message.position);
      if (meant.length > 0 && late.left-- <= 0) return false;
      this.#seen = message.position;
      for (const { handler } of meant) guarded(handler, message);
    }
    return true;
  }

  #answer(frame) {
    const error = frame.error && new Co2Error(frame.error.code, frame.error.text);
    const handlers = this.#wants.get(frame.ref);
    if (handlers !== undefined) {
      this.#wants.delete(frame.ref);
      if (error) this.#emit("error", error);
      this.#wanted(error ? [] : handlers, frame.result?.position);
      return;
    }
    const request = this.#waiting.get(frame.ref);
    if (request === undefined) {
      if (error) this.#emit("error", error);
      return;
    }
    this.#waiting.delete(frame.ref);
    if (error) request.reject(error);
    else request.resolve(decode(frame.result));
  }

  #fail(which) {
    for (const [ref, request] of this.#waiting) {
      if (which(request)) {
        this.#waiting.delete(ref);
        request.reject(new Co2Error(0, "the connection was lost before the answer"));
      }
    }
  }

  #emit(event, detail) {
    for (const listener of this.#listeners.get(event) ?? []) guarded(listener, detail);
  }
}

/** Yield the lines of an answer that are not empty; who stops taking them closes the connection. */
async function* linesOf(body) {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) break;
      const lines = (rest + decoder.decode(value, { stream: true })).split("\n");
      rest = lines.pop();
      for (const line of lines) if (line) yield line;
    }
    if (rest) yield rest;
  } finally {
    reader.cancel().catch(() => {});
  }
}

/** Call a function; its error is reported as if nobody had caught it, and stops no other one. */
function guarded(handler, ...args) {
  try {
    handler(...args);
  } catch (error) {
    if (globalThis.reportError) globalThis.reportError(error);
    else queueMicrotask(() => { throw error; });
  }
}
