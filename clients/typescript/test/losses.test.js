import assert from "node:assert/strict";
import { openAsBlob } from "node:fs";
import { test } from "node:test";

import { asMean, InvalidRequest, merge } from "lossd-client";
import { LOSSES } from "../src/methods.js";
import { apiKey, cases, client, folder, numbers, tensor, tensors } from "./support.js";

const SUMS = ["sum", "weight_sum", "positives"];

function assertSame(result, expected, options = true) {
  assert.deepEqual(numbers(result.loss), numbers(expected.loss));
  assert.deepEqual(result.loss.shape ?? [], expected.loss_shape);
  for (const name of SUMS) {
    assert.equal(result[name], Number(expected[name]));
    assert.deepEqual(result[`${name}_terms`], expected[`${name}_terms`].map(Number));
  }
  for (const name of ["count", "reduction", "loss_name", "params", "shape", "notes"])
    assert.deepEqual(result[name], expected[name], name);
  if (options) assert.deepEqual({ ...result.options, pos_weight: 0 }, { ...expected.options, pos_weight: 0 });
}

for (const { name, loss, arrays, params, expected } of cases.calls) {
  test(`${name} gives what the Python client gives`, async () => {
    const result = await client[loss]({ ...tensors(arrays), ...params });
    assertSame(result, expected);
    assert.match(result.request_id, /^[0-9a-f]{32}$/);
    assert.equal(result.kernel, "native");
    assert.ok(result.timing.compute >= 0);
  });
}

for (const { name, loss, arrays, params, bounds, expected } of cases.merges) {
  test(`merged ${name} has the bits of one request`, async () => {
    const parts = [];
    for (let place = 1; place < bounds.length; place++) {
      parts.push(await client[loss]({ ...tensors(arrays, bounds[place - 1], bounds[place]), ...params }));
    }
    assertSame(merge(parts), expected);
    assertSame(merge([merge(parts.slice(0, 2)), ...parts.slice(2)]), expected);
    assert.deepEqual(
      numbers(merge(parts).loss),
      numbers((await client[loss]({ ...tensors(arrays), ...params })).loss),
    );
  });
}

test("losses over all samples are not merged", async () => {
  const request = { logits: [[1, 2]], targets: [[1, 0]], per: "class", reduction: "none" };
  const result = await client.dice(request);
  assert.deepEqual([result.loss.shape, result.shape], [[2], [1, 2]]);
  assert.deepEqual(merge([result]).loss, result.loss);
  assert.throws(() => merge([result, result]), /per: "class" is over all samples.*or by per: "sample"/);
});

test("sums become means at the end, where a batch has nothing of a class", async () => {
  const request = { reduction: "sum", axis: 0, normalizer: "weight" };
  const parts = [
    await client.bce({ logits: [[1, 2]], targets: [[1, 0]], weight: [[1, 0]], ...request }),
    await client.bce({ logits: [[3, 4]], targets: [[1, 0]], weight: [[2, 3]], ...request }),
  ];
  const mean = asMean(merge(parts));
  const whole = await client.bce({
    logits: [
      [1, 2],
      [3, 4],
    ],
    targets: [
      [1, 0],
      [1, 0],
    ],
    weight: [
      [1, 0],
      [2, 3],
    ],
    ...request,
    reduction: "mean",
  });
  assert.deepEqual(numbers(mean.loss), numbers(whole.loss));
  assert.equal(mean.reduction, "mean");
  assert.throws(
    () => asMean(parts[0]),
    (error) => error instanceof InvalidRequest && error.code === "empty_mean",
  );
});

test("results that are unlike are not merged", async () => {
  const request = { logits: [[1, 2]], targets: [[1, 0]] };
  const one = await client.focal(request);
  assert.throws(() => merge([]), /no results/);
  assert.throws(() => merge([one, { ...one, loss_name: "bce" }]), /different loss_name/);
  const other = await client.focal({ ...request, gamma: 2 });
  assert.throws(() => merge([one, other]), /different params/);
  const weighted = await Promise.all(
    [
      [1, 2],
      [1, 3],
    ].map((pos_weight) => client.bce({ ...request, pos_weight })),
  );
  assert.throws(() => merge(weighted), /different options/);
  assert.equal(merge([weighted[0], weighted[0]]).count, 4);
  const wide = await client.bce({ logits: [[1, 2, 3]], targets: [[1, 0, 1]], reduction: "none" });
  const narrow = await client.bce({ ...request, reduction: "none" });
  assert.throws(() => merge([wide, narrow]), /different shapes/);
  const rows = merge([narrow, narrow]);
  assert.deepEqual(rows.loss.shape, [2, 2]);
  assert.throws(() => asMean(rows), /losses of rows/);
});

test("numbers that are not finite are numbers", async () => {
  const { loss, sum, sum_terms } = await client.bce({ logits: [Infinity], targets: [0] });
  assert.deepEqual([loss, sum, sum_terms], [Infinity, Infinity, [Infinity]]);
  const rows = await client.bce({
    logits: [[Infinity], [NaN]],
    targets: [[0], [1]],
    allow_nan: true,
    axis: 1,
  });
  assert.deepEqual(rows.loss, { data: Float64Array.of(Infinity, NaN), shape: [2] });
});

test("empty arrays keep their shape", async () => {
  const empty = { data: new Float32Array(0), shape: [0, 3, 4] };
  const { loss } = await client.bce({ logits: empty, targets: empty, axis: 2, reduction: "sum" });
  assert.deepEqual(loss.shape, [0, 3]);
});

test("tensors come in many forms, with the same bits", async () => {
  const logits = [
    [2, -1.5, 0.25],
    [-3, 4, 0],
  ];
  const targets = [
    [1, 0, 0],
    [0, 1, 1],
  ];
  const { sum } = await client.bce({ logits, targets });
  const halves = Uint16Array.of(0x4000, 0xbe00, 0x3400, 0xc200, 0x4400, 0);
  const shape = [2, 3];
  for (const form of [
    {
      logits: { data: Float32Array.from(logits.flat()), shape },
      targets: { data: Uint8Array.from(targets.flat()), shape },
    },
    { logits: logits.map((row) => Float32Array.from(row)), targets: targets.map((row) => row.map(Boolean)) },
    {
      logits: { data: halves, shape, dtype: "float16" },
      targets: { data: Uint8Array.from(targets.flat()), shape, dtype: "bool" },
    },
    {
      logits: { data: Uint16Array.of(0x4000, 0xbfc0, 0x3e80, 0xc040, 0x4080, 0), shape, dtype: "bfloat16" },
      targets,
    },
    { logits, targets: { data: BigInt64Array.from(targets.flat(), BigInt), shape } },
    {
      logits,
      targets,
      weight: 1 ? [[1], [1]] : null,
      mask: [
        [1, 1, 1],
        [1, 1, 1],
      ],
    },
  ]) {
    assert.equal((await client.bce(form)).sum, sum);
  }
  assert.equal(
    (
      await client.bce({
        logits,
        targets,
        mask: [
          [true, true, false],
          [true, true, true],
        ],
      })
    ).count,
    5,
  );
  assert.equal((await client.bce({ logits: [[1, 2]], targets: [[1, null]], ignore_index: "nan" })).count, 1);
  assert.equal(
    (await client.focal({ logits, targets, alpha: Float32Array.of(0.25, 0.5, 0.75) })).params.alpha.length,
    3,
  );
  assert.equal((await client.bce({ logits: [1, 2], targets: new Uint8ClampedArray(2) })).count, 2);
});

test("files are sent as they are", async () => {
  const [x, y, npz] = await Promise.all(
    ["x.npy", "y.npy", "pair.npz"].map((name) => openAsBlob(`${folder}/${name}`)),
  );
  const expected = cases.calls[0].expected.sum;
  assert.equal((await client.focal({ logits: x, targets: y, gamma: 2 })).sum, expected);
  assert.equal((await client.focal({ npz, gamma: 2 })).sum, expected);
  const report = await client.report("focal", { npz, gamma: 2, sections: ["classes"] });
  assert.deepEqual(Object.keys(report), ["schema", "totals", "classes", "run"]);
});

test("what is wrong with arguments is said before anything is sent", async () => {
  const targets = [[1, 0]];
  for (const [request, expected] of [
    [
      { logits: [[1, 2], [3]], targets },
      { name: "RangeError", message: /logits: lists within it differ/ },
    ],
    [
      { logits: [[1, [2]]], targets },
      { name: "RangeError", message: /logits: lists within it differ/ },
    ],
    [
      { logits: [["1", "2"]], targets },
      { name: "TypeError", message: /logits: 1 \(string\) is not a number/ },
    ],
    [
      { logits: "x.npy", targets },
      { name: "TypeError", message: /logits must be a typed array/ },
    ],
    [
      { logits: { data: new Float32Array(3), shape: [1, 2] }, targets },
      { name: "RangeError", message: /shape \[1, 2\] does not fit its 3 elements/ },
    ],
    [
      { logits: { data: new Float32Array(2), shape: [-1, -2] }, targets },
      { name: "RangeError", message: /does not fit/ },
    ],
    [
      { logits: { data: new Float32Array(2), shape: [1, 2], dtype: "float16" }, targets },
      { name: "TypeError", message: /float16 has 2 bytes/ },
    ],
    [
      { logits: { data: [1, 2], shape: [1, 2] }, targets },
      { name: "TypeError", message: /data must be a typed array/ },
    ],
    [
      { logits: [[1, 2]], targets, mask: [[1, 0.5]] },
      { name: "TypeError", message: /mask: 0.5 \(number\) is not an integer/ },
    ],
    [
      { logits: [[1, 2]], targets, ignore_index: NaN },
      { name: "RangeError", message: /write "nan"/ },
    ],
    [
      { logits: [[1, 2]], targets, gamma: Infinity },
      { name: "RangeError", message: /gamma must be finite/ },
    ],
    [
      { npz: new Blob([]), targets },
      { name: "TypeError", message: /not both/ },
    ],
  ]) {
    await assert.rejects(client.focal(request), expected);
  }
  const logits = [
    [1, 2],
    [3, 4],
  ];
  for (const [request, expected] of [
    [{ ids: ["a", "a"] }, { name: "RangeError", message: /unique/ }],
    [{ ids: [1, "a"] }, { name: "TypeError", message: /not an integer/ }],
    [{ ids: ["a", 1] }, { name: "TypeError", message: /all integers or all strings/ }],
    [{ ids: ["a", "b".repeat(257)] }, { name: "RangeError", message: /257 bytes/ }],
    [{ ids: [1n, 2n ** 63n] }, { name: "TypeError", message: /64 bits/ }],
    [{ groups: { "a,b": [1, 2] } }, { name: "TypeError", message: /without commas/ }],
    [{ groups: { a: [1, 2], b: [1] } }, { name: "RangeError", message: /differ in length/ }],
    [{ groups: [[1, 2], [3]] }, { name: "RangeError", message: /differ in length/ }],
  ]) {
    await assert.rejects(
      client.report("bce", { logits, targets: logits.map(() => [1, 0]), ...request }),
      expected,
    );
  }
});

for (const { name, loss, arrays, labels, params, expected } of cases.reports) {
  test(`a report ${name} is the Python client's`, async () => {
    const { run, ...report } = await client.report(loss, { ...tensors(arrays), ...labels, ...params });
    assert.deepEqual(report, expected);
    assert.match(run.request_id, /^[0-9a-f]{32}$/);
  });
}

test("notes on a report are told", async (t) => {
  const request = { logits: [0, 1], targets: [0, 1] };
  const square = { logits: [request.logits, [2, 3]], targets: [request.targets, [1, 0]], weight: [1, 2] };
  const notes = [];
  const report = await client.report("bce", square, { onNote: (note) => notes.push(note) });
  assert.match(notes.join(), /^weight of shape \[2\] goes along axis 1/);
  assert.ok(!("notes" in report));
  const warn = t.mock.method(console, "warn", () => {});
  await client.report("bce", request);
  assert.equal(warn.mock.callCount(), 0);
  await client.report("bce", square);
  assert.deepEqual(warn.mock.calls[0].arguments, [`lossd: ${notes[0]}`]);
});

test("groups of typed arrays", async () => {
  const request = { logits: tensor("x"), targets: tensor("y") };
  const data = Int32Array.from({ length: request.logits.shape[0] }, (_, row) => row % 3);
  const flat = await client.report("bce", { ...request, groups: data, sections: ["groups"] });
  const named = await client.report("bce", { ...request, groups: { camera: data }, sections: ["groups"] });
  const pairs = await client.report("bce", {
    ...request,
    groups: Array.from(data, (group) => [group, "a"]),
    sections: ["groups"],
  });
  assert.deepEqual(flat.groups.ids, [[0, 1, 2]]);
  assert.deepEqual(named.groups, { ...flat.groups, names: ["camera"] });
  for (const name of ["shape", "data", "__proto__"]) {
    const groups = Object.assign(Object.create(null), { [name]: Array.from(data) });
    const found = await client.report("bce", { ...request, groups, sections: ["groups"] });
    assert.deepEqual(found.groups, { ...flat.groups, names: [name] });
  }
  const odd = await client.report("bce", { ...request, groups: { "a b+ü%": data }, sections: ["groups"] });
  assert.deepEqual(odd.groups.names, ["a b+ü%"]);
  assert.deepEqual(pairs.groups.ids, [
    [0, 1, 2],
    ["a", "a", "a"],
  ]);
  assert.deepEqual(pairs.groups.kinds, ["integer", "string"]);
});

test("the server's description, usage and readiness", async () => {
  const info = await client.info();
  assert.deepEqual(
    info.losses.map(({ name }) => name),
    Object.keys(LOSSES),
  );
  for (const { name } of info.losses) assert.equal(typeof client[name], "function");
  const { team, days, total } = await client.usage(7);
  assert.equal(team, "vision");
  assert.ok(total.requests >= 0 && days.length <= 7);
  const { limits, in_flight, operator } = await client.usage();
  assert.deepEqual([limits.requests_per_second, operator], [null, false]);
  assert.ok(in_flight.requests >= 0 && in_flight.bytes >= 0);
  await assert.rejects(client.overview(1), (error) => error.code === "forbidden");
  assert.equal(await client.ready(), true);
});

test("the key is not shown", async () => {
  const { inspect } = await import("node:util");
  assert.ok(!inspect(client, { showHidden: true, depth: 9 }).includes(apiKey));
});
