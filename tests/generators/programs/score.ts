// Score with fetch, typed by what openapi-typescript makes of the document.

import { readFileSync } from "node:fs";
import type { components, paths } from "./lossd.js";

type Answer = components["schemas"]["LossAnswer"];
type Problem = components["schemas"]["Problem"];
type Query = NonNullable<paths["/focal"]["post"]["parameters"]["query"]>;

const [url = "", key = "", folder = ""] = process.argv.slice(2);

async function post<Path extends keyof paths>(
  path: Path,
  body: BodyInit,
  contentType: string,
  requestId = "from-typescript",
): Promise<Answer | Problem> {
  const headers = { Authorization: `Bearer ${key}`, "Content-Type": contentType, "X-Request-Id": requestId };
  const response = await fetch(url + path, { method: "POST", headers, body });
  return (await response.json()) as Answer | Problem;
}

async function score(loss: "bce", request: components["schemas"]["BceRequest"]): Promise<Answer | Problem>;
async function score(loss: "focal", request: components["schemas"]["FocalRequest"]): Promise<Answer | Problem>;
async function score(loss: "bce" | "focal", request: object): Promise<Answer | Problem> {
  return post(`/${loss}`, JSON.stringify(request), "application/json");
}

function answered(answer: Answer | Problem): Answer {
  if ("code" in answer) throw new Error(answer.detail);
  return answer;
}

const logits = [[2, -1.5, 0.25], [-3, 4, 0]];
const targets = [[1, 0, 0], [0, 1, 1]];

const mean = answered(await score("bce", { logits, targets }));
const rows = answered(await score("focal", { logits, targets, gamma: 2, alpha: null, axis: 1 }));
const infinite = answered(await score("bce", { logits: ["Infinity"], targets: [0] }));
const reported = answered(await score("focal", { logits, targets, groups: [3, 7], report: ["all"], top: 1 }));
const refused = await score("bce", { logits, targets: [[1, 1.5, 0], [0, 1, 1]] });
if (!("code" in refused)) throw new Error("it was to be refused");

const query: Query = { gamma: 2, report: "totals" };
const words = new URLSearchParams(Object.entries(query).map(([name, value]) => [name, String(value)]));
const pair = readFileSync(`${folder}/pair.npy`);
const files = answered(await post(`/focal?${words}` as "/focal", pair, "application/x-npy"));

const report: components["schemas"]["Report"] | undefined = reported.report;
const worst = report?.top?.rows[0];
const sums: (number | string)[] = mean.sum_terms;
console.log(
  JSON.stringify({
    mean: typeof mean.loss === "number" ? mean.loss : null,
    sum_terms: sums,
    request_id: mean.request_id,
    rows: Array.isArray(rows.loss) ? rows.loss : null,
    infinite: infinite.sum,
    report_sum: report?.totals.sum,
    report_rows: report?.totals.rows,
    worst: worst?.index,
    worst_loss: worst?.loss,
    groups: report?.groups?.ids,
    bins: report?.calibration?.bins,
    code: refused.code,
    status: refused.status,
    retryable: refused.retryable,
    pointer: refused.errors?.[0]?.pointer,
    files: files.loss,
    files_count: files.report?.totals.count,
  }),
);
