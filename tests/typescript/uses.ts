// What a program that uses the package may say, and what it may not; compiled by test_package.py, not run.

import { asMean, InvalidRequest, LossClient, merge, StatusError } from "lossd-client";
import type { BceRequest, LossArray, LossResult, Report, Tensor } from "lossd-client";

const client = new LossClient("http://127.0.0.1:8000", { apiKey: "key", retry: { attempts: 3 }, timeout: null });
const x: Tensor = { data: new Float32Array(6), shape: [2, 3] };
const request: BceRequest = { logits: x, targets: new Uint8Array(6) };

const mean: LossResult<number> = await client.bce(request as BceRequest & { reduction: "mean"; axis: null });
const number: number = (await client.focal({ logits: x, targets: x, gamma: 2, alpha: null })).loss;
const elements: Float64Array = (await client.bce({ logits: [[1, 2]], targets: [[true, false]], reduction: "none" })).loss.data;
const either: number | LossArray = (await client.focal({ probabilities: x, targets: x, axis: [0, 1] })).loss;
const merged: LossResult<number> = asMean(merge([mean, mean]));
const report: Report = await client.report("focal", { logits: x, targets: x, groups: { camera: ["a", "b"] }, sweep: { gamma: [0] } });
const worst: number | string | undefined = report.top?.rows[0]?.id ?? report.top?.rows[0]?.index;
const rows: Float64Array = (await client.cross_entropy({ logits: [[1, 2]], targets: [1], reduction: "none" })).loss.data;
const boxes: LossResult<number> = await client.box({ boxes: [[0, 0, 1, 1]], targets: [[0, 0, 1, 1]], variant: "giou" });
await client.report("box", { boxes: [[0, 0, 1, 1]], targets: [[0, 0, 1, 1]], format: "cxcywh", ids: ["a"] });
await client.dice({ probabilities: x, targets: x, per: "class", smooth: 0 });
const file: Blob = new Blob();
await client.focal({ npz: file, gamma: 2 }, { signal: new AbortController().signal, deadline: 10 });
try {
  await client.usage(7);
  const overview = await client.overview(1);
  overview.teams[0]?.limits.bytes_in_flight satisfies number | null | undefined;
} catch (error) {
  if (error instanceof InvalidRequest) console.log(error.errors[0]?.pointer, error.retry_after, error.headers.get("x"));
  if (error instanceof StatusError && error.code === "not_found") console.log(error.status satisfies number);
}
console.log(number, rows, boxes, elements, either, merged, worst);

// @ts-expect-error a name that is nearly one
await client.focal({ logits: x, targets: x, gama: 2 });
// @ts-expect-error binary cross entropy has no gamma
await client.bce({ logits: x, targets: x, gamma: 2 });
// @ts-expect-error boxes are no logits
await client.box({ logits: x, targets: x });
// @ts-expect-error the hinge loss is of logits alone
await client.hinge({ probabilities: x, targets: x });
// @ts-expect-error targets are needed
await client.bce({ logits: x });
// @ts-expect-error logits or probabilities, not both
await client.bce({ logits: x, probabilities: x, targets: x });
// @ts-expect-error there is no such reduction
await client.bce({ logits: x, targets: x, reduction: "median" });
// @ts-expect-error a report of binary cross entropy has no gamma
await client.report("bce", { logits: x, targets: x, gamma: 2 });
// @ts-expect-error there is no such section
await client.report("bce", { logits: x, targets: x, sections: ["rows"] });
// @ts-expect-error with an axis it may be an array
const wrong: number = (await client.bce({ logits: x, targets: x, axis: 0 })).loss;
// @ts-expect-error text is no tensor
await client.bce({ logits: "x.npy", targets: x });
// @ts-expect-error there is no such option
new LossClient("http://127.0.0.1:8000", { api_key: "key" });
