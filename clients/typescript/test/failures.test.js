import assert from "node:assert/strict";
import { getEventListeners } from "node:events";
import { createServer } from "node:http";
import { test } from "node:test";

import * as lossd from "lossd-client";
import { apiKey, baseUrl, client, flaky, problem } from "./support.js";

const { LossClient, LossdError, StatusError } = lossd;
const request = { logits: [[0, 0]], targets: [[1, 0]] };
const quick = { apiKey, retry: { firstWait: 1, longestWait: 5 } };

async function failure(promise) {
  const error = await promise.then(
    () => assert.fail("it succeeded"),
    (found) => found,
  );
  assert.ok(error instanceof LossdError, `${error.stack}`);
  return error;
}

/** An address at which nothing listens. */
async function unused() {
  const server = createServer();
  await new Promise((ready) => server.listen(0, "127.0.0.1", ready));
  const { port } = server.address();
  await new Promise((closed) => server.close(closed));
  return `http://127.0.0.1:${port}`;
}

test("a refused request names its places", async () => {
  const error = await failure(
    client.bce({
      logits: [
        [1, 2],
        [3, 4],
      ],
      targets: [
        [1, 0],
        [1.7, 0],
      ],
    }),
  );
  assert.ok(error instanceof lossd.InvalidRequest && error instanceof StatusError && error instanceof Error);
  assert.equal(error.name, "InvalidRequest");
  assert.equal(error.code, "target_out_of_range");
  assert.deepEqual([error.status, error.retryable], [422, false]);
  assert.deepEqual(error.errors, [{ pointer: "/targets/1/0", detail: "1.7 is outside [0, 1]" }]);
  assert.match(error.request_id, /^[0-9a-f]{32}$/);
  assert.match(error.message, /^422 target_out_of_range: targets: 1.7 is outside/);
  const unknown = await failure(client.focal({ ...request, gama: 2 }));
  assert.deepEqual([unknown.code, unknown.errors[0].pointer], ["invalid_parameter", "/gama"]);
});

test("a wrong key, a wrong address, a body over the limit", async () => {
  assert.equal(
    (await failure(new LossClient(baseUrl, { apiKey: "wrong" }).bce(request))).name,
    "Unauthorized",
  );
  assert.equal((await failure(new LossClient(`${baseUrl}/api/`, { apiKey }).bce(request))).name, "NotFound");
  const large = { data: new Float32Array(1e6), shape: [1e6] };
  const error = await failure(client.bce({ logits: large, targets: large }));
  assert.deepEqual([error.name, error.code], ["TooLarge", "body_too_large"]);
});

test("a team over its rate waits as Retry-After says", async () => {
  const slow = new LossClient(baseUrl, { apiKey: process.env.LOSSD_TEST_SLOW_KEY });
  const began = performance.now();
  for (let call = 0; call < 3; call++) assert.equal((await slow.bce(request)).count, 2);
  assert.ok(performance.now() - began > 900, `${performance.now() - began} ms`);
  const calls = [1, 2, 3].map(() => slow.bce(request, { retry: null }).catch((error) => error));
  const throttled = (await Promise.all(calls)).find((found) => found instanceof lossd.Throttled);
  assert.deepEqual([throttled.status, throttled.code, throttled.retryable], [429, "rate_limited", true]);
  assert.ok(throttled.retry_after > 0);
});

test("transient failures are tried again, with one id", async (t) => {
  const broken = (response) => response.destroy();
  const cut = (response) =>
    response.writeHead(200, { "content-length": 1000 }).write("{", () => response.destroy());
  const { url, seen } = await flaky(
    t,
    {},
    { status: 502 },
    broken,
    cut,
    problem(503, "overloaded", true),
    {},
  );
  const flakyClient = new LossClient(url, quick);
  await flakyClient.info(); // it has answered
  assert.equal((await flakyClient.bce(request)).count, 2);
  assert.equal(seen.length, 6);
  assert.equal(new Set(seen.slice(1).map((headers) => headers["x-request-id"])).size, 1);
});

for (const [name, value] of [
  ["seconds", "1"],
  ["a date", new Date(Date.now() + 3_000_000).toUTCString()],
]) {
  test(`Retry-After in ${name}`, async (t) => {
    const { url, seen } = await flaky(t, {}, problem(503, "draining", true, { "retry-after": value }), {});
    const waiting = new LossClient(url, quick);
    await waiting.info();
    if (name === "seconds") {
      await waiting.bce(request);
      assert.ok(seen[2].at - seen[1].at >= 990, `${seen[2].at - seen[1].at} ms`);
    } else {
      const error = await failure(waiting.bce(request)); // longer than it waits
      assert.ok(error instanceof lossd.Unavailable && error.retry_after > 2000 && seen.length === 2);
    }
  });
}

test("what is not transient is tried once", async (t) => {
  for (const [answer, name, code] of [
    [problem(422, "empty_mean", false), "InvalidRequest", "empty_mean"],
    [problem(500, "worker_crashed", false), "ServerError", "worker_crashed"],
    [problem(504, "deadline_exceeded", false), "DeadlineExceeded", "deadline_exceeded"],
    [{ status: 503, body: "a proxy's page" }, "Unavailable", null],
    [{ status: 413, body: "too large" }, "TooLarge", null],
    [{ status: 302, headers: { location: "https://login.test/?next=x" } }, "StatusError", null],
    [{ status: 200, headers: { "content-type": "text/html" }, body: "<p>" }, "BadAnswer", "bad_answer"],
    [{ status: 200, headers: { "content-type": "application/json" }, body: "{}" }, "BadAnswer", "bad_answer"],
    [{ status: 200, headers: { "content-type": "application/json" }, body: "{" }, "BadAnswer", "bad_answer"],
    [
      { status: 200, headers: { "content-type": "application/x-npy" }, body: "\x93NUMPY" },
      "BadAnswer",
      "bad_answer",
    ],
    [
      { status: 422, headers: { "content-type": "application/problem+json" }, body: "null" },
      "InvalidRequest",
      null,
    ],
  ]) {
    const { url, seen } = await flaky(t, answer);
    const error = await failure(new LossClient(url, quick).bce(request));
    assert.deepEqual([error.name, error.code, seen.length], [name, code, 1]);
    assert.ok(error.request_id);
  }
});

test("attempts, first contact and the budget end retries", async (t) => {
  const tries = async (retry, contact) => {
    const { url, seen } = await flaky(t, contact ? {} : { status: 502 }, { status: 502 });
    const failing = new LossClient(url, { apiKey, retry: { firstWait: 1, longestWait: 5, ...retry } });
    if (contact) await failing.info();
    assert.equal((await failure(failing.bce(request))).status, 502);
    return seen.length - (contact ? 1 : 0);
  };
  assert.equal(await tries({ attempts: 4 }, true), 4);
  assert.equal(await tries({ burst: 2, perSecond: 0.001 }, true), 3);
  let sent = 0;
  const counted = (...words) => fetch(...words, sent++);
  const refused = await failure(new LossClient(await unused(), { ...quick, fetch: counted }).bce(request));
  assert.equal(sent, 3);
  assert.deepEqual(
    [refused.name, refused.code, refused.retryable],
    ["ConnectionFailed", "connection_failed", true],
  );
  assert.match(refused.message, /^http:\/\/127\.0\.0\.1:\d+ cannot be reached.*ECONNREFUSED/);
});

test("timeouts and deadlines", async (t) => {
  const { url, seen } = await flaky(t, () => {});
  const hanging = new LossClient(url, quick);
  const late = await failure(hanging.bce(request, { timeout: 50, deadline: undefined }));
  assert.deepEqual([late.name, late.code, late.retryable], ["TimedOut", "timed_out", false]);
  assert.equal((await failure(hanging.bce(request, { deadline: 80 }))).name, "TimedOut");
  assert.ok(seen[0]["x-timeout-ms"] === undefined && Number(seen[1]["x-timeout-ms"]) <= 80);
  const refusing = await flaky(t, problem(503, "overloaded", true, { "retry-after": "1" }));
  const before = performance.now();
  assert.equal(
    (await failure(new LossClient(refusing.url, quick).bce(request, { deadline: 500 }))).name,
    "Unavailable",
  );
  assert.ok(performance.now() - before < 400); // it does not wait for what comes too late
});

test("a signal stops a call, and nothing is left behind", async (t) => {
  const reason = new Error("stop");
  await assert.rejects(client.bce(request, { signal: AbortSignal.abort(reason) }), reason);
  const { url } = await flaky(t, () => {});
  const controller = new AbortController();
  const call = new LossClient(url, quick).bce(request, { signal: controller.signal });
  setTimeout(() => controller.abort(), 30);
  await assert.rejects(call, { name: "AbortError" });
  const refusing = await flaky(t, problem(503, "overloaded", true, { "retry-after": "60" }));
  const waiting = new AbortController();
  const wait = new LossClient(refusing.url, quick).bce(request, { signal: waiting.signal });
  setTimeout(() => waiting.abort(reason), 50);
  await assert.rejects(wait, reason);
  const unused = new AbortController();
  await client.bce(request, { signal: unused.signal });
  assert.deepEqual(getEventListeners(unused.signal, "abort"), []);
});

test("options are checked", async () => {
  assert.throws(() => new LossClient("ftp://host"), /http/);
  assert.throws(() => new LossClient("http://user:secret@host"), /no user/);
  assert.throws(() => new LossClient("host:8000"), /http/);
  assert.throws(() => new LossClient(baseUrl, { api_key: "x" }), /no option api_key/);
  assert.throws(() => new LossClient(baseUrl, { retry: { attempt: 3 } }), /no attempt; there are attempts/);
  assert.throws(() => new LossClient(baseUrl, { retry: { attempts: 0 } }), /positive/);
  await assert.rejects(client.bce(request, { timeout: -1 }), /timeout must be a positive number/);
  await assert.rejects(client.bce(request, { deadline: NaN }), /deadline must be a positive number/);
});

test("headers and fetch of one's own", async () => {
  const seen = [];
  const own = (url, init) => {
    seen.push([String(url), init.headers.get("x-tenant"), init.headers.get("authorization")]);
    return fetch(url, init);
  };
  await new LossClient(`${baseUrl}/`, {
    apiKey: ` ${apiKey}\n`,
    headers: { "X-Tenant": "vision" },
    fetch: own,
  }).ready();
  assert.deepEqual(seen, [[`${baseUrl}/readyz`, "vision", `Bearer ${apiKey}`]]);
});

test("address and key come from the environment", async () => {
  const { LOSSD_BASE_URL, LOSSD_API_KEY } = process.env;
  Object.assign(process.env, { LOSSD_BASE_URL: baseUrl, LOSSD_API_KEY: apiKey });
  try {
    assert.equal((await new LossClient().bce(request)).count, 2);
  } finally {
    delete process.env.LOSSD_BASE_URL;
    delete process.env.LOSSD_API_KEY;
    if (LOSSD_BASE_URL) Object.assign(process.env, { LOSSD_BASE_URL });
    if (LOSSD_API_KEY) Object.assign(process.env, { LOSSD_API_KEY });
  }
});

test("browsers of other origins may send and read what the client does", async () => {
  const asked = "authorization,content-type,x-request-id,x-timeout-ms";
  const headers = {
    origin: "https://page.test",
    "access-control-request-method": "POST",
    "access-control-request-headers": asked,
  };
  const preflight = await fetch(`${baseUrl}/bce`, { method: "OPTIONS", headers });
  const allowed = preflight.headers.get("access-control-allow-headers").toLowerCase();
  for (const name of asked.split(",")) assert.ok(allowed.split(/,\s*/).includes(name), name);
  const exposed = preflight.headers.get("access-control-expose-headers").toLowerCase().split(/,\s*/);
  const figures = [
    "sum",
    "count",
    "weight-sum",
    "positives",
    "sum-terms",
    "weight-sum-terms",
    "positives-terms",
    "params",
    "notes",
    "kernel",
    "version",
  ];
  for (const name of [
    ...figures.map((figure) => `lossd-${figure}`),
    "x-request-id",
    "server-timing",
    "retry-after",
  ]) {
    assert.ok(exposed.includes(name), name);
  }
});
