// The official TypeScript clients, the one of the handshake and the one of both kinds of revision,
// over HTTP and over standard input. Arguments: the program, the server's address, an agent's key,
// and another's whose purchases of 100 and more wait for an administrator.
// Not here: the conformance suite, and what needs no client library (tests/it/mcp).

import assert from "node:assert/strict";

import { Client, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";
import { StdioClientTransport } from "@modelcontextprotocol/client/stdio";
import { Client as OldClient } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport as OldStdio } from "@modelcontextprotocol/sdk/client/stdio.js";
import { StreamableHTTPClientTransport as OldHttp } from
  "@modelcontextprotocol/sdk/client/streamableHttp.js";

const [program, address, key, waitingKey] = process.argv.slice(2);
const about = { name: "quetra-checks", version: "1" };
const localWith = (ownKey) => ({
  command: program,
  args: ["mcp"],
  env: { QUETRA_GATEWAY_URL: address, QUETRA_API_KEY: ownKey },
  stderr: "inherit",
});
const local = localWith(key);
const bearer = { requestInit: { headers: { authorization: `Bearer ${key}` } } };
const inPath = new URL(`${address}/${key}/mcp`);
const inHeader = new URL(`${address}/mcp`);
const either = { versionNegotiation: { mode: "auto" } };

const ways = [
  ["sdk 1, key in the path", () => new OldClient(about), () => new OldHttp(inPath)],
  ["sdk 1, bearer", () => new OldClient(about), () => new OldHttp(inHeader, bearer)],
  ["sdk 1, stdio", () => new OldClient(about), () => new OldStdio(local)],
  ["client 2, handshake", () => new Client(about),
    () => new StreamableHTTPClientTransport(inHeader, bearer)],
  ["client 2, either revision", () => new Client(about, either),
    () => new StreamableHTTPClientTransport(inPath)],
  ["client 2, stdio", () => new Client(about, either), () => new StdioClientTransport(local)],
];

const call = (client, name, args = {}, options = undefined) =>
  client instanceof OldClient
    ? client.callTool({ name, arguments: args }, undefined, options)
    : client.callTool({ name, arguments: args }, options);

async function questions(client) {
  const left = await call(client, "quetra_check_budget");
  assert.equal(left.structuredContent.budget.total, 10000);
  assert.match(left.content[0].text, /of \$100\.00 remains/);
  const spend = { amount: 200, vendor: "firecrawl.dev", category: "research" };
  const could = await call(client, "quetra_can_spend", spend);
  assert.equal(could.structuredContent.wouldBeApproved, true);
  const large = { amount: 50000, vendor: "netflix.com", category: "entertainment" };
  const refused = await call(client, "quetra_evaluate", large);
  assert.notEqual(refused.isError, true);
  assert.equal(refused.structuredContent.approved, false);
  assert.deepEqual(
    refused.structuredContent.reasons.map((reason) => reason.rule),
    ["budget_per_tx", "budget_total", "category", "vendor_allowlist"],
  );
  const shown = await call(client, "quetra_transactions", { limit: 1 });
  const [newest] = shown.structuredContent.transactions;
  assert.equal(newest.transactionId, refused.structuredContent.transactionId);
}

async function mistakes(client) {
  const fraction = await call(client, "quetra_evaluate", { amount: 2.5, vendor: "firecrawl.dev" });
  assert.equal(fraction.isError, true);
  assert.match(fraction.content[0].text, /1500 for \$15\.00/);
  const huge = await call(client, "quetra_can_spend", { amount: 1, vendor: "x".repeat(5000) });
  assert.equal(huge.isError, true);
  await assert.rejects(call(client, "quetra_nothing"), /no such tool|not found/i);
}

async function together(client) {
  const intentKey = `together-${process.pid}-${Date.now()}`;
  const spend = { amount: 1, vendor: "firecrawl.dev", category: "research", intentKey };
  const answers = await Promise.all(Array.from({ length: 50 }, () =>
    call(client, "quetra_evaluate", spend)));
  const ids = new Set(answers.map((answer) => answer.structuredContent.transactionId));
  assert.equal(ids.size, 1);
  assert.equal(answers.filter((answer) => !answer.structuredContent.replayed).length, 1);
}

async function cancelled(client) {
  const stop = new AbortController();
  const asked = call(client, "quetra_check_budget", {}, { signal: stop.signal });
  stop.abort("the user changed his mind");
  await assert.rejects(asked);
  const after = await call(client, "quetra_check_budget");
  assert.equal(after.structuredContent.status, "active");
}

for (const [name, make, transport] of ways) {
  const client = make();
  await client.connect(transport());
  const { tools } = await client.listTools();
  assert.deepEqual(tools.map((tool) => tool.name), [
    "quetra_evaluate", "quetra_check_budget", "quetra_can_spend", "quetra_transactions",
  ]);
  for (const check of [questions, mistakes, together, cancelled]) {
    await check(client);
  }
  await client.close();
  console.log(`${name}: ok`);
}

// A client that can ask the person in front of it: it is told to, and what they say decides whether
// anything is asked for, and never whether it is approved.
const chair = { amount: 500, vendor: "acme.com", description: "a chair" };
for (const transport of [
  () => new StreamableHTTPClientTransport(new URL(`${address}/${waitingKey}/mcp`)),
  () => new StdioClientTransport(localWith(waitingKey)),
]) {
  const asked = [];
  let says = { action: "decline" };
  const client = new Client(about, { ...either, capabilities: { elicitation: { form: {} } } });
  client.setRequestHandler("elicitation/create", (request) => {
    asked.push(request.params.message);
    return says;
  });
  await client.connect(transport());
  const declined = await call(client, "quetra_evaluate", chair);
  assert.equal(declined.isError, true);
  assert.match(declined.content[0].text, /DECLINED/);
  says = { action: "accept", content: {} };
  const waiting = await call(client, "quetra_evaluate", chair);
  assert.equal(waiting.structuredContent.approved, false);
  assert.equal(waiting.structuredContent.decision, "pending_approval");
  assert.equal(asked.length, 2);
  assert.match(asked[1], /\$5\.00 at “acme\.com”, for “a chair”\. The mandate lets admin decide/);
  await client.close();
  console.log("client 2, asks the person: ok");
}

const stranger = new OldClient(about);
const wrong = { requestInit: { headers: { authorization: "Bearer sk_agent_nobody" } } };
await assert.rejects(stranger.connect(new OldHttp(inHeader, wrong)), /401|garbled/);
await assert.rejects(new OldClient(about).connect(new OldHttp(new URL(`${address}/none/mcp`))),
  /404|no MCP server/);
console.log("wrong keys: ok");
process.exit(0);
