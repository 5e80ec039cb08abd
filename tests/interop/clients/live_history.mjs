// What co2-live.js does after a lost connection, with a relay that does as it is told. Usage: node live_history.mjs co2-live.js
import assert from "node:assert/strict";
import { pathToFileURL } from "node:url";

const [, , module] = process.argv;
const { Co2Live } = await import(pathToFileURL(module).href);
const turn = () => new Promise((resolve) => setTimeout(resolve));

/** A relay whose log is a list of [position, channel]; `answers` are those to the next reads of it. */
class Relay {
  position = 10;
  logId = "one";
  log = [];
  asked = [];
  answers = [];
  sockets = [];

  constructor() {
    const relay = this;
    this.WebSocket = class {
      wanted = [];
      constructor() {
        relay.sockets.push(this);
        relay.socket = this;
        queueMicrotask(() => {
          this.onopen();
          this.tell({ hello: { log_id: relay.logId, position: relay.position } });
        });
      }
      send(text) {
        this.wanted.push(JSON.parse(text));
      }
      close() {
        this.onclose();
      }
      tell(frame) {
        this.onmessage({ data: JSON.stringify(frame) });
      }
      /** Answer what is wanted. */
      grant() {
        for (const { want, ref } of this.wanted.splice(0)) if (want) this.tell({ result: { position: relay.position }, ref });
      }
    };
    globalThis.fetch = async (url, { signal }) => {
      const query = Object.fromEntries(url.searchParams);
      this.asked.push(query);
      const answer = this.answers.shift() ?? {};
      if (answer.wait) await answer.wait;
      signal.throwIfAborted();
      if (answer.status) return new Response("{}", { status: answer.status });
      const lines = answer.lines ?? this.log.filter(([at]) => at >= query.from && at <= query.to).map(message).map(JSON.stringify);
      const bytes = new TextEncoder().encode(lines.map((line) => `${line}\n`).join("\n"));
      const pieces = Array.from({ length: Math.ceil(bytes.length / 7) }, (_, one) => bytes.slice(7 * one, 7 * one + 7));
      return new Response(ReadableStream.from(pieces));
    };
  }

  /** Store messages, and send those on one of these channels over the connection. */
  store(channels, ...wanted) {
    for (const channel of channels) {
      this.log.push([++this.position, channel]);
      if (wanted.includes(channel)) this.socket.tell({ messages: [message(this.log.at(-1))] });
    }
  }

  /** Lose the connection, and wait for the next one. */
  async lose(meanwhile = () => {}) {
    const before = this.sockets.length;
    this.socket.onclose();
    meanwhile();
    while (this.sockets.length === before) await turn();
    await turn();
  }
}

const message = ([position, channel]) => ({ position, channel, data: position });

async function begun(patterns, options) {
  const relay = new Relay();
  const told = [];
  const live = new Co2Live({ url: "http://127.0.0.1:1", WebSocket: relay.WebSocket, ...options });
  for (const pattern of patterns) live.on(pattern, (one) => told.push(`${pattern} ${one.data}`));
  live.when("gap", ({ after, next, reason }) => told.push(`gap ${after} ${next} ${reason}`));
  await turn();
  relay.socket.grant();
  const until = async (count) => {
    for (let left = 1000; told.length < count && left > 0; left -= 1) await new Promise((resolve) => setTimeout(resolve, 5));
    return told.splice(0);
  };
  return { relay, live, told, until };
}

const cases = {
  async "what came meanwhile comes, in order, before what comes then, and nothing twice"() {
    const { relay, live, until } = await begun(["a"]);
    relay.store("ab", "a");
    assert.deepEqual(await until(1), ["a 11"]);
    await relay.lose(() => relay.store("bab"));
    relay.store("a", "a"); // before the relay's answer
    relay.socket.grant();
    relay.store("aa", "a"); // while the log is read
    assert.deepEqual(await until(4), ["a 14", "a 16", "a 17", "a 18"]);
    assert.deepEqual(relay.asked, [{ from: "12", to: "16", channel: "a" }]);
    relay.socket.tell({ messages: [message([18, "a"])] });
    relay.store("a", "a");
    assert.deepEqual(await until(1), ["a 19"]);
    live.close();
  },

  async "a live message waits for nothing"() {
    const { relay, live, until } = await begun(["a"]);
    let go;
    relay.answers.push({ wait: new Promise((resolve) => (go = resolve)) });
    await relay.lose(() => relay.store("a"));
    relay.socket.grant();
    relay.socket.tell({ messages: [{ live: true, channel: "a", data: "now" }] });
    assert.deepEqual(await until(1), ["a now"]);
    go();
    assert.deepEqual(await until(1), ["a 11"]);
    live.close();
  },

  async "where the relay has said how far all has come, nothing before it is read again"() {
    const { relay, live, until } = await begun(["a"]);
    relay.store("bbbb");
    relay.socket.tell({ position: 14 });
    await relay.lose();
    relay.socket.grant();
    await relay.lose(() => relay.store("a"));
    relay.socket.grant();
    assert.deepEqual(await until(1), ["a 15"]);
    assert.deepEqual(relay.asked, [{ from: "15", to: "15", channel: "a" }]);
    live.close();
  },

  async "a handler gets nothing from before it was there"() {
    const { relay, live, told, until } = await begun(["a"]);
    relay.store("b");
    live.on("b", (one) => told.push(`b ${one.data}`));
    relay.socket.grant(); // from 11 on
    await relay.lose(() => {
      live.on("c", (one) => told.push(`c ${one.data}`));
      relay.store("abc");
    });
    relay.socket.grant();
    assert.deepEqual(await until(2), ["a 12", "b 13"]);
    relay.store("abc", "a", "b", "c");
    assert.deepEqual(await until(3), ["a 15", "b 16", "c 17"]);
    live.close();
  },

  async "of too many messages the first come, then a gap"() {
    const { relay, live, until } = await begun(["a"], { history: 2 });
    await relay.lose(() => relay.store("abaaa"));
    relay.socket.grant();
    relay.store("a", "a");
    assert.deepEqual(await until(4), ["a 11", "a 13", "gap 13 15 more than 2 messages", "a 16"]);
    live.close();
  },

  async "who wants no history gets none"() {
    const { relay, live, until } = await begun(["a"], { history: 0 });
    await relay.lose(() => relay.store("aaa"));
    relay.socket.grant();
    relay.store("a", "a");
    assert.deepEqual(await until(1), ["a 14"]);
    assert.deepEqual(relay.asked, []);
    live.close();
  },

  async "a gap of the log is one here"() {
    const { relay, live, until } = await begun(["a"]);
    relay.answers.push({ lines: ['{"gap": {"after": 10, "next": 13, "reason": "retention"}}', JSON.stringify(message([14, "a"]))] });
    await relay.lose(() => relay.store("aaaa"));
    relay.socket.grant();
    assert.deepEqual(await until(2), ["gap 10 13 retention", "a 14"]);
    live.close();
  },

  async "another log is told, and read from its beginning"() {
    for (const logId of ["two", "one"]) {
      const { relay, live, until } = await begun(["a"]);
      await relay.lose(() => Object.assign(relay, { logId, position: 1, log: [] }).store("ab"));
      relay.socket.grant();
      assert.deepEqual(await until(2), ["gap 10 1 log replaced", "a 2"]);
      relay.store("a", "a");
      assert.deepEqual(await until(1), ["a 4"]);
      live.close();
    }
  },

  async "a relay that is busy is asked again"() {
    const { relay, live, until } = await begun(["a"]);
    relay.answers.push({ status: 503 });
    await relay.lose(() => relay.store("aa"));
    relay.socket.grant();
    assert.deepEqual(await until(2), ["a 11", "a 12"]);
    assert.equal(relay.asked.length, 2);
    live.close();
  },

  async "a relay that refuses is asked once"() {
    const { relay, live, until } = await begun(["a"]);
    relay.answers.push({ status: 403 });
    await relay.lose(() => relay.store("aa"));
    relay.socket.grant();
    relay.store("a", "a");
    assert.deepEqual(await until(2), ["gap 10 12 the log cannot be read: status 403", "a 13"]);
    live.close();
  },

  async "a connection that is lost while the log is read is made up for by the next one"() {
    const { relay, live, until } = await begun(["a"]);
    let go;
    relay.answers.push({ wait: new Promise((resolve) => (go = resolve)) });
    await relay.lose(() => relay.store("a"));
    relay.socket.grant();
    relay.store("a", "a");
    await relay.lose(() => relay.store("a"));
    go();
    relay.socket.grant();
    assert.deepEqual(await until(3), ["a 11", "a 12", "a 13"]);
    live.close();
  },

  async "of a flood while the log is read nothing is missing"() {
    const { relay, live, until } = await begun(["a"]);
    let go;
    relay.answers.push({ wait: new Promise((resolve) => (go = resolve)) });
    await relay.lose(() => relay.store("a"));
    relay.socket.grant();
    relay.store("a".repeat(2500), "a");
    go();
    assert.deepEqual(await until(2501), Array.from({ length: 2501 }, (_, one) => `a ${11 + one}`));
    live.close();
  },

  async "without handlers nothing is read"() {
    const { relay, live, told, until } = await begun([]);
    await relay.lose(() => relay.store("a"));
    relay.socket.grant();
    live.on("a", (one) => told.push(`a ${one.data}`));
    relay.socket.grant();
    relay.store("a", "a");
    assert.deepEqual(await until(1), ["a 12"]);
    assert.deepEqual(relay.asked, []);
    live.close();
  },
};

for (const [name, run] of Object.entries(cases)) {
  try {
    await run();
  } catch (error) {
    console.error(name);
    throw error;
  }
}
console.log(`${Object.keys(cases).length} cases`);
