// Compares what the official conformance suite found with the list of what is known to fail.
// Arguments: the folder of its results, and the list. It says every check that failed or warned and
// is not listed, and every entry of the list that nothing failed for; either is a failure.
// Not the suite's own comparison: that leaves out every scenario which the suite does not score.

import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";

const [folder, list] = process.argv.slice(2);
const text = readFileSync(list, "utf8");
const listed = [...text.matchAll(/^ +- (\S+)$/gm)].map(([, entry]) => entry);
const expected = Number(/^scenarios: (\d+)$/m.exec(text)?.[1]);

const scenarios = new Map();
for (const name of readdirSync(folder)) {
  const scenario = name.replace(/^server-/, "").replace(/-\d{4}-\d{2}-\d{2}T[\d-]+Z$/, "");
  scenarios.set(scenario, JSON.parse(readFileSync(join(folder, name, "checks.json"), "utf8")));
}
const counts = { SUCCESS: 0, FAILURE: 0, WARNING: 0, SKIPPED: 0, INFO: 0 };
const used = new Set();
const wrong = [];
for (const [scenario, checks] of scenarios) {
  for (const { id, status, errorMessage } of checks) {
    counts[status] += 1;
    if (status !== "FAILURE" && status !== "WARNING") continue;
    const entry = [scenario, `${scenario}:${id}`].find((entry) => listed.includes(entry));
    if (entry === undefined) {
      wrong.push(`${status} ${scenario}:${id} is not listed: ${errorMessage ?? "no message"}`);
    } else {
      used.add(entry);
    }
  }
}
for (const entry of listed) {
  if (!used.has(entry)) wrong.push(`${entry} is listed, and nothing failed: take it off the list`);
}
if (scenarios.size !== expected) {
  wrong.push(`${scenarios.size} scenarios were run; the list is about ${expected}`);
}
console.log([...Object.entries(counts)].map(([status, count]) => `${status} ${count}`).join(", "));
console.log(wrong.join("\n"));
process.exit(wrong.length === 0 && counts.SUCCESS > 0 ? 0 : 1);
