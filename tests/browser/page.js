// The page that the browser test opens: one story through each way that a page can call Quetra.
//
// It tells what it saw as JSON; what is right is decided by tests/it/ways_in/browser.rs. Calls that
// the documentation shows are in quetra.js, and only there.

import { fromJson, toJson } from "@bufbuild/protobuf";
import { createClient } from "@connectrpc/connect";
import { createConnectTransport, createGrpcWebTransport } from "@connectrpc/connect-web";
import { BudgetService } from "./gen/quetra/v1/budget_service_pb.js";
import { EvaluateRequestSchema, EvaluateService } from "./gen/quetra/v1/evaluate_service_pb.js";
import { TransactionsService } from "./gen/quetra/v1/transactions_service_pb.js";
import { authorize, evaluate, evaluateClient } from "./quetra.js";

const BINARY = "application/grpc-web+proto";
const TEXT = "application/grpc-web-text+proto";

/** gRPC-Web's text form, which connect-web does not speak: the binary form in Base64. */
async function fetchAsText(url, init) {
  const headers = new Headers(init.headers);
  headers.set("content-type", TEXT);
  headers.set("accept", TEXT);
  const answer = await fetch(url, { ...init, headers, body: toBase64(init.body) });
  const told = new Headers(answer.headers);
  if (told.get("content-type") === TEXT) told.set("content-type", BINARY);
  const body = fromBase64(await answer.text());
  return new Response(body, { status: answer.status, headers: told });
}

const toBase64 = (bytes) => btoa(String.fromCharCode(...bytes));

/** Each part was encoded by itself, so padding can stand between them. */
function fromBase64(text) {
  const bytes = (text.match(/.{4}/g) ?? []).map(atob).join("");
  return Uint8Array.from(bytes, (char) => char.charCodeAt(0));
}

const TRANSPORTS = {
  "grpc-web": createGrpcWebTransport,
  "grpc-web-text": (options) => createGrpcWebTransport({ ...options, fetch: fetchAsText }),
  "connect": createConnectTransport,
};

/** The same client as in the documentation; for the other ways, over another transport. */
function clientOf(way, server, key) {
  if (way === "grpc-web") return evaluateClient(server, key);
  const options = { baseUrl: server, interceptors: [authorize(key)] };
  return createClient(EvaluateService, TRANSPORTS[way](options));
}

/** For whoever looks at the picture. */
function show(what, { decision, code, reason, message, explanation, failed, budget, total }) {
  const words = [decision, code, reason, message, explanation, ...(failed ?? []), total];
  if (budget && !decision) words.push(`${budget.remaining} of ${budget.total} remain`);
  const item = document.createElement("li");
  item.textContent = `${what}: ${words.filter(Boolean).join(" · ")}`;
  document.querySelector("ul").append(item);
}

/** Approved, rejected, both again, budget, record; a wrong key; wrong fields. */
async function story({ way, server, key, approved, rejected }) {
  const options = { baseUrl: server, interceptors: [authorize(key)] };
  const transport = TRANSPORTS[way](options);
  const call = async (service, method, request) => {
    const answer = await createClient(service, transport)[method.localName](request);
    return toJson(method.output, answer);
  };
  const { evaluate: decide } = EvaluateService.method;
  const [yes, no] = [approved, rejected].map((spend) => fromJson(EvaluateRequestSchema, spend));
  const client = clientOf(way, server, key);
  return {
    approved: await call(EvaluateService, decide, yes),
    rejected: await call(EvaluateService, decide, no),
    approvedAgain: await evaluate(client, yes),
    rejectedAgain: await evaluate(client, no),
    budget: await call(BudgetService, BudgetService.method.getBudget, {}),
    listed: await call(TransactionsService, TransactionsService.method.listTransactions, {
      includeTotal: true,
    }),
    wrongKey: await evaluate(clientOf(way, server, `${key}x`), yes),
    wrongFields: await evaluate(client, { amount: -1n, idempotencyKey: "wrong-fields" }),
  };
}

/** $2.00 at firecrawl.dev. After a timeout, ask again with the same idempotency key. */
async function firstCall(server, key, idempotencyKey = crypto.randomUUID()) {
  const client = evaluateClient(server, key);
  return evaluate(client, {
    amount: 200n,
    currency: "USD",
    vendor: "firecrawl.dev",
    category: "research",
    idempotencyKey,
  });
}

/** Runs the story or the first call; the answer is text because JSON has no bigint. */
window.run = async (settings) => {
  const { way, server, key } = settings;
  const told = way ? await story(settings) : { firstCall: await firstCall(server, key) };
  for (const [what, seen] of Object.entries(told)) show(`${way ?? "alone"} · ${what}`, seen);
  return JSON.stringify(told, (_, value) => (typeof value === "bigint" ? `${value}` : value));
};
