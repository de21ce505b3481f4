// Trace engine of Perfetto's web interface behind standard input and output: bytes of its protocol, both ways.
// Argument: the folder with engine_bundle.js. The engine is made for a web worker, and is shown one here.
const fs = require("fs");
const path = require("path");
const vm = require("vm");

const node = process;
const folder = node.argv[2];
const read = (name) => fs.readFileSync(path.join(folder, path.basename(String(name))));
delete globalThis.process; // a browser has none
console.log = console.warn; // standard output is the protocol's
globalThis.self = globalThis;
globalThis.WorkerGlobalScope = class {};
globalThis.location = { href: `file://${folder}/engine_bundle.js` };
globalThis.fetch = async (name) => new Response(read(name), { headers: { "Content-Type": "application/wasm" } });
globalThis.XMLHttpRequest = class {
  open(_method, name) {
    this.name = name;
  }
  send() {
    this.status = 200;
    this.response = new Uint8Array(read(this.name)).buffer;
  }
};
vm.runInThisContext(read("engine_bundle.js").toString());

const port = { postMessage: (bytes) => fs.writeSync(1, bytes) };
self.onmessage({ data: port });
node.stdin.on("data", (bytes) => port.onmessage({ data: new Uint8Array(bytes) }));
node.stdin.on("end", () => node.exit(0));
