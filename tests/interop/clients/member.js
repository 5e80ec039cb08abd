// Node, xmlrpc (npm install xmlrpc@1.3.2): a member that serves a port. Usage: node member.js http://127.0.0.1:2003
const xmlrpc = require("xmlrpc");
const relay = xmlrpc.createClient(process.argv[2]);
const call = (method, argument) =>
  new Promise((done, failed) =>
    relay.methodCall(method, [argument], (error, value) => (error ? failed(error) : done(value))));

const server = xmlrpc.createServer({ host: "127.0.0.1", port: 0 }, async () => {
  const port = server.httpServer.address().port;
  const me = await call("relay.register", { port, methods: ["node.double"] });
  const kept = await call("relay.fetch", { host_id: me.host_id, after: 0, max: 1, wait: 0 });
  for (const message of kept.messages) console.log("kept", message.data);
  await call("relay.relay", { host_id: me.host_id, channel: "hello", data: "Node" });
  console.log("answer", await call("ham.spam.add", { data: [40, 2] }));
});
server.on("notify", (error, [message], answer) => {
  console.log("got", message.data);
  answer(null, true);
});
server.on("node.double", (error, [argument], answer) => answer(null, 2 * argument.data));
