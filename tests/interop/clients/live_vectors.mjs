// What co2-live.js makes of the golden vectors. Usage: node live_vectors.mjs co2-live.js tests/vectors/live
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [, , module, folder] = process.argv;
const { Co2Live, Extension, Moment, decode, encode, matches } = await import(pathToFileURL(module).href);
const vectors = (name) => JSON.parse(readFileSync(`${folder}/${name}.json`, "utf8"));
let count = 0;

for (const { json } of vectors("values")) {
  const given = JSON.parse(json);
  const back = JSON.parse(JSON.stringify(encode(decode(given))));
  // -0 is a number like any other when it is read, and is marked when it is written: JSON.stringify loses its sign.
  assert.deepEqual(back, json === "-0.0" ? { $f: "-0" } : json === "[-0.0]" ? [{ $f: "-0" }] : given, json);
  count += 1;
}
assert.deepEqual(decode({ $b: "AP8=" }), Uint8Array.of(0, 255));
assert.equal(decode({ $i: "9007199254740993" }), 9007199254740993n);
assert.equal(decode({ $i: "5" }), 5);
assert.ok(decode({ $t: "2026-12-01T08:00:00.123456Z" }) instanceof Moment);
assert.equal(encode(new Date(0)).$t, "1970-01-01T00:00:00.000Z");
assert.deepEqual(decode({ $x: [5, "AA=="] }), new Extension(5, Uint8Array.of(0)));
assert.deepEqual(decode({ $d: { $b: { $b: "" } } }), { $b: new Uint8Array() });
assert.equal(Object.hasOwn(decode(JSON.parse('{"__proto__": 1}')), "__proto__"), true);
for (const wrong of [{ $q: 1 }, { $f: "1" }, { $b: "*" }, { $i: "1.5" }]) assert.throws(() => decode(wrong));
for (const wrong of ["\ud800", 2n ** 64n, Symbol("a"), () => 1, [() => 1]]) assert.throws(() => encode(wrong));
assert.deepEqual(encode({ a: undefined, b: [undefined] }), { b: [null] });

for (const [pattern, channel, does] of [
  ["stage.>", "stage.a", true],
  ["stage.>", "stage.a.b", true],
  ["stage.>", "stage", false],
  ["stage.*", "stage.a.b", false],
  ["*.a", "stage.a", true],
  [">", "a", true],
  [">", "", false],
  [null, "", true],
  ["a", "a", true],
]) {
  assert.equal(matches(pattern, channel), does, `${pattern} ${channel}`);
}

// Frames, over a WebSocket that is none.
class FakeSocket {
  static last;
  sent = [];
  constructor(url, protocol) {
    Object.assign(this, { url, protocol });
    FakeSocket.last = this;
  }
  send(text) {
    this.sent.push(JSON.parse(text));
  }
  close() {
    this.onclose?.();
  }
}
const live = new Co2Live({ url: "http://127.0.0.1:2003/page", WebSocket: FakeSocket });
const socket = FakeSocket.last;
assert.deepEqual([socket.url, socket.protocol], ["ws://127.0.0.1:2003/live", "co2.live.1"]);
const told = [];
for (const event of ["open", "gap", "skipped", "error"]) live.when(event, (detail) => told.push([event, detail]));
live.on(null, (message) => told.push(["message", message]));
const early = live.call("ping"); // before there is a connection
socket.onopen();
assert.deepEqual(socket.sent, []);
for (const { frame } of vectors("host-frames")) {
  socket.onmessage({ data: frame });
  count += 1;
}
assert.deepEqual(told.map(([event]) => event), ["open", "message", "message", "gap", "skipped", "error", "error"]);
assert.deepEqual(told[2][1].data, Uint8Array.of(0, 255));
assert.deepEqual(socket.sent, [{ want: { channels: null }, ref: "want-1" }, { call: "ping", data: null, ref: 1 }]);
assert.deepEqual(await early, { position: 17 }); // the first result among the vectors has ref 1

const failing = assert.rejects(live.call("no.such"), { name: "Co2Error", code: -32601 });
socket.onmessage({ data: '{"error":{"code":-32601,"text":"no such method"},"ref":2}' });
await failing;
const lost = assert.rejects(live.send({ channel: "a", data: 1n }), /lost/);
assert.deepEqual(socket.sent.at(-1), { send: { channel: "a", data: { $i: "1" } }, ref: 3 });
live.close();
await lost;
await assert.rejects(live.call("ping"), /closed/);
console.log(`${count} vectors`);
