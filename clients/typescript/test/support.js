// What `make typescript` hands to these tests, and helpers.

import { readFileSync } from "node:fs";
import { createServer } from "node:http";

import { LossClient } from "lossd-client";

/** What Python has computed, by its own client, numpy, fractions and math.fsum. */
export const cases = JSON.parse(readFileSync(`${process.env.LOSSD_TEST_FOLDER}/cases.json`, "utf8"));
export const folder = process.env.LOSSD_TEST_FOLDER;
/** A server that asks for keys, whose largest body is a MiB. */
export const baseUrl = process.env.LOSSD_TEST_URL;
export const apiKey = process.env.LOSSD_TEST_KEY;
export const client = new LossClient(baseUrl, { apiKey });

const KINDS = {
  float32: Float32Array,
  float64: Float64Array,
  uint8: Uint8Array,
  int32: Int32Array,
  bool: Uint8Array,
};

/** An array of the cases as a tensor, or some of its rows. */
export function tensor(name, start = 0, end = Infinity) {
  const { dtype, shape, numbers } = cases.arrays[name];
  const row = shape.slice(1).reduce((product, size) => product * size, 1);
  const data = KINDS[dtype].from(numbers.map(Number)).slice(start * row, end * row);
  return { data, shape: [data.length / row, ...shape.slice(1)], ...(dtype === "bool" && { dtype }) };
}

export function tensors(names, start, end) {
  return Object.fromEntries(Object.entries(names).map(([name, array]) => [name, tensor(array, start, end)]));
}

/** The numbers of a loss, in either client's form. */
export function numbers(loss) {
  return typeof loss === "object" && "data" in loss ? [...loss.data] : [loss].flat(Infinity).map(Number);
}

/** A server that answers as told, then passes requests on to the real one. */
export async function flaky(t, ...answers) {
  const seen = [];
  const server = createServer(async (request, response) => {
    const body = [];
    for await (const chunk of request) body.push(chunk);
    seen.push({ ...request.headers, at: performance.now() });
    const answer = answers.length > 1 ? answers.shift() : (answers[0] ?? {});
    if (typeof answer === "function") return answer(response, request);
    if (answer.status !== undefined)
      return response.writeHead(answer.status, answer.headers).end(answer.body);
    const { host, connection, ...headers } = request.headers;
    const passed = await fetch(baseUrl + request.url, {
      method: request.method,
      headers,
      body: body.length ? Buffer.concat(body) : null,
    });
    response
      .writeHead(passed.status, Object.fromEntries(passed.headers))
      .end(Buffer.from(await passed.arrayBuffer()));
  });
  await new Promise((ready) => server.listen(0, "127.0.0.1", ready));
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return { url: `http://127.0.0.1:${server.address().port}`, seen };
}

/** A problem as the server writes it. */
export function problem(status, code, retryable, headers = {}) {
  const body = JSON.stringify({
    status,
    code,
    retryable,
    title: code,
    detail: "of a test",
    request_id: "its-own",
  });
  return { status, headers: { "content-type": "application/problem+json", ...headers }, body };
}
