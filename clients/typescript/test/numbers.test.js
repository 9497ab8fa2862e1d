import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { test } from "node:test";

import { fsum } from "lossd-client";
import { ExactSum } from "../src/exact-sum.js";
import { fromNpy, toNpy } from "../src/npy.js";
import { cases, folder } from "./support.js";

test(`sums are math.fsum's, and terms those of fractions, ${cases.sums.length} times`, () => {
  for (const { numbers, sum, terms } of cases.sums) {
    assert.equal(fsum(numbers.map(Number)), Number(sum), JSON.stringify(numbers));
    assert.deepEqual(
      new ExactSum().add(numbers.map(Number)).terms,
      terms.map(Number),
      JSON.stringify(numbers),
    );
  }
});

test("sums do not depend on order and grouping", () => {
  for (const { numbers, sum } of cases.sums) {
    const half = numbers.length >> 1;
    const [one, other] = [numbers.slice(0, half), numbers.slice(half)].map(
      (part) => new ExactSum().add(part.map(Number)).terms,
    );
    const isFinite = [...one, ...other].every(Number.isFinite);
    if (isFinite) assert.equal(fsum([...other, ...one].reverse()), Number(sum));
  }
});

test(".npy files of every typed array, which numpy reads after this", async () => {
  const floats = [0, -0, 1.5, -2.25, 65504, 6.1e-5];
  const made = {
    float32: Float32Array.from(floats),
    float64: Float64Array.from(floats),
    int8: Int8Array.of(-128, 127),
    int16: Int16Array.of(-32768, 32767),
    int32: Int32Array.of(-(2 ** 31), 2 ** 31 - 1),
    int64: BigInt64Array.of(-(2n ** 63n), 2n ** 63n - 1n),
    uint8: Uint8Array.of(0, 255),
    uint16: Uint16Array.of(0, 65535),
    uint32: Uint32Array.of(0, 2 ** 32 - 1),
    uint64: BigUint64Array.of(0n, 2n ** 64n - 1n),
    bool: { data: Uint8Array.of(1, 0, 1), shape: [3], dtype: "bool" },
    float16: globalThis.Float16Array?.from([1, -2]) ?? {
      data: Uint16Array.of(0x3c00, 0xc000),
      shape: [2],
      dtype: "float16",
    },
    bfloat16: { data: Uint16Array.of(0x3f80, 0xc000), shape: [2], dtype: "bfloat16" },
    part: { data: Float32Array.of(9, 1, 2, 3, 4, 9).subarray(1, 5), shape: [2, 2] },
    scalar: { data: Float64Array.of(7), shape: [] },
    many: { data: new Float32Array(0), shape: [0, 123456789, 1, 1, 1, 1, 1, 1] },
  };
  for (const [name, value] of Object.entries(made)) {
    const file = await new Blob(toNpy(name, value)).arrayBuffer();
    writeFileSync(`${folder}/made-${name}.npy`, Buffer.from(file));
    assert.equal(new DataView(file).getUint16(8, true) % 64, 64 - 10);
  }
  const both = fromNpy(await new Blob(toNpy("x", { data: made.float64, shape: [2, 3] })).arrayBuffer());
  assert.deepEqual(both, { data: made.float64, shape: [2, 3] });
  assert.throws(
    () =>
      fromNpy(
        new Uint8Array(
          Buffer.concat(
            [...[made.float32].flatMap((x) => toNpy("x", x))].map((part) => Buffer.from(part.buffer)),
          ),
        ).buffer,
      ),
    /float64 was expected/,
  );
});
