// What test_browser.py runs in a page; it sends what it finds back.

import { asMean, ConnectionFailed, InvalidRequest, LossClient, merge, StatusError } from "./src/index.js";

const asked = new URLSearchParams(location.search);
const client = new LossClient(asked.get("server"), { apiKey: asked.get("key"), deadline: 60_000 });

async function failure(promise) {
  return promise.then(() => "it succeeded", (error) => error);
}

async function look() {
  const [x, y] = await Promise.all(["x.npy", "y.npy"].map(async (name) => new File([await (await fetch(name)).blob()], name)));
  const whole = await client.focal({ logits: x, targets: y, gamma: 2 });
  const elements = await client.focal({ logits: x, targets: y, reduction: "none" });
  const report = await client.report("bce", { logits: [[2, -1], [0, 3]], targets: [[1, 0], [1, 1]], ids: ["a", "b"] });
  const part = await client.bce({ logits: { data: Float32Array.of(1, -1), shape: [1, 2] }, targets: [[true, false]], reduction: "sum" });
  const refused = await failure(client.bce({ logits: [0, 0], targets: [0, 1.5] }));
  const led = await failure(new LossClient(`${location.origin}/elsewhere`).info());
  const unreachable = await failure(new LossClient("http://127.0.0.1:9", { retry: null }).info());
  const gone = await failure(new LossClient(`${location.origin}/gone`, { retry: null }).info());
  const stopped = await failure(client.info({ signal: AbortSignal.abort() }));
  return {
    loss: whole.loss,
    elements: elements.loss.shape,
    sum_terms: elements.sum_terms,
    worst: report.top.rows[0].id,
    mean: asMean(merge([part, part])).loss === part.sum / 2,
    refused: [refused instanceof InvalidRequest, refused.code, refused.errors[0].pointer],
    led: [led instanceof StatusError, led.status],
    unreachable: [unreachable instanceof ConnectionFailed, unreachable.message.includes("LOSSD_CORS_ORIGINS")],
    gone: [gone instanceof ConnectionFailed, gone.message.split("; ").at(-1)],
    stopped: stopped.name,
    origin: (await failure(new LossClient().info())).status, // of the page's own server, which has no such route
  };
}

const found = await look().catch((error) => ({ failed: String(error.stack) }));
await fetch("found", { method: "POST", body: JSON.stringify(found) });
