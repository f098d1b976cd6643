// Drives Chromium for tests/it/ways_in/browser.rs: serves the page, opens it, tells what happened.
//
//   node drive.js CHROMIUM FOLDER PROFILE    the page is in FOLDER, and pictures of it will be
//
// It prints a line of JSON with two origins, which serve the same page; then, for each line of JSON
// on its standard input ({"origin", "settings"}), one with what the page returned and what the
// browser did about it. It speaks the DevTools protocol over a pipe, so no library is needed
// and no port is open. Not here: any judgement.

import { spawn } from "node:child_process";
import { readFile, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import { join } from "node:path";
import { createInterface } from "node:readline";

const [chromium, folder, profile] = process.argv.slice(2);

const FLAGS = [
  "--headless",
  // Chromium refuses to run as root with its sandbox, and containers often cannot have one. What it
  // opens here is this page and a server of the same test, never anything from elsewhere.
  "--no-sandbox",
  "--remote-debugging-pipe",
  // Nothing is looked up or fetched beyond this machine.
  "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
  "--no-proxy-server",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-default-apps",
  "--disable-extensions",
  "--disable-sync",
  "--no-first-run",
  // Containers give little shared memory and no graphics.
  "--disable-dev-shm-usage",
  "--disable-gpu",
  "--window-size=1280,900",
];

const FILES = {
  "/": ["index.html", "text/html"],
  "/page.bundle.js": ["page.bundle.js", "text/javascript"],
};

/** Serves the page on a free port; its origin. */
async function serve() {
  const server = createServer(async ({ url }, response) => {
    const [name, media] = FILES[url] ?? [];
    if (!name) return response.writeHead(404).end();
    response.writeHead(200, { "content-type": media }).end(await readFile(join(folder, name)));
  });
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  return `http://127.0.0.1:${server.address().port}`;
}

/** A browser: `send` a command, and hear of events. Messages are JSON, each ended by a zero. */
function launch() {
  const child = spawn(chromium, [...FLAGS, `--user-data-dir=${profile}`, "about:blank"], {
    stdio: ["ignore", "ignore", "inherit", "pipe", "pipe"],
  });
  const [, , , input, output] = child.stdio;
  const waiting = new Map();
  const listeners = new Set();
  let [last, rest] = [0, ""];
  output.setEncoding("utf8").on("data", (chunk) => {
    const messages = (rest + chunk).split("\0");
    rest = messages.pop();
    for (const message of messages.map((text) => JSON.parse(text))) {
      if (message.id) {
        waiting.get(message.id)(message);
        waiting.delete(message.id);
      } else {
        for (const listener of listeners) listener(message);
      }
    }
  });
  child.on("exit", (code) => fail(`the browser ended with ${code}`));
  child.on("error", fail);
  const send = async (method, params = {}, sessionId = undefined) => {
    const id = (last += 1);
    const answered = new Promise((done) => waiting.set(id, done));
    input.write(`${JSON.stringify({ id, method, params, sessionId })}\0`);
    const { error, result } = await answered;
    if (error) throw new Error(`${method}: ${error.message}`);
    return result;
  };
  return { child, send, listeners };
}

function fail(why) {
  console.error(why);
  process.exit(1);
}

/** What the browser did that a page cannot see: preflights, and why a call was blocked. */
function watch(browser, sessionId) {
  const seen = { preflights: [], blocked: [], console: [] };
  browser.listeners.add(({ method, params, sessionId: session }) => {
    if (session !== sessionId) return;
    if (method === "Network.responseReceived" && params.type === "Preflight") {
      seen.preflights.push({ url: params.response.url, status: params.response.status });
    }
    if (method === "Network.loadingFailed" && params.corsErrorStatus) {
      seen.blocked.push(params.corsErrorStatus.corsError);
    }
    if (method === "Log.entryAdded") seen.console.push(params.entry.text);
  });
  return seen;
}

/** Opens the page and lets it run. */
async function visit(browser, { origin, settings }, number) {
  const { targetId } = await browser.send("Target.createTarget", { url: "about:blank" });
  const attached = await browser.send("Target.attachToTarget", { targetId, flatten: true });
  const send = (method, params) => browser.send(method, params, attached.sessionId);
  const seen = watch(browser, attached.sessionId);
  for (const domain of ["Network", "Log", "Page", "Runtime"]) await send(`${domain}.enable`);
  const loaded = new Promise((done) => {
    browser.listeners.add(({ method, sessionId }) => {
      if (method === "Page.loadEventFired" && sessionId === attached.sessionId) done();
    });
  });
  await send("Page.navigate", { url: `${origin}/` });
  await loaded;
  const expression = `run(${JSON.stringify(settings)})`;
  const options = { expression, awaitPromise: true, returnByValue: true };
  const { result, exceptionDetails } = await send("Runtime.evaluate", options);
  const { data } = await send("Page.captureScreenshot", { format: "png" });
  await writeFile(join(folder, `screenshot-${number}.png`), data, "base64");
  await send("Page.close");
  if (exceptionDetails) return { threw: exceptionDetails.exception?.description, ...seen };
  return { told: JSON.parse(result.value), ...seen };
}

const browser = launch();
const tell = (value) => console.log(JSON.stringify(value));
tell([await serve(), await serve()]);
let number = 0;
for await (const line of createInterface({ input: process.stdin })) {
  number += 1;
  tell(await visit(browser, JSON.parse(line), number));
}
browser.child.removeAllListeners("exit").on("exit", () => process.exit(0));
await browser.send("Browser.close");
