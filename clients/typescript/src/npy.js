// Arrays as .npy files, and back. https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html

/** @import { LossArray, Tensor, TensorLike, TypedArray } from "./types.js" */

/** @type {Readonly<Record<string, string>>} */
const TYPED_ARRAYS = {
  Float16Array: "f2",
  Float32Array: "f4",
  Float64Array: "f8",
  Int8Array: "i1",
  Int16Array: "i2",
  Int32Array: "i4",
  BigInt64Array: "i8",
  Uint8Array: "u1",
  Uint8ClampedArray: "u1",
  Uint16Array: "u2",
  Uint32Array: "u4",
  BigUint64Array: "u8",
};
/** Those that typed arrays of the same size stand for; bfloat16 as ml_dtypes saves it. */
const DTYPES = { float16: "f2", bfloat16: "V2", bool: "b1" };
const ORDER = new Uint8Array(new Uint16Array([1]).buffer)[0] ? "<" : ">";

/**
 * A .npy file of a tensor.
 * @param {string} name What messages call it.
 * @param {TensorLike} value
 * @param {boolean} [isWhole] Whether plain numbers are integers.
 * @returns {BlobPart[]} Its bytes, in pieces.
 */
export function toNpy(name, value, isWhole = false) {
  if (value instanceof Blob) return [value];
  const { data, shape, dtype } = toTensor(name, value, isWhole);
  const descr = descrOf(name, data, dtype);
  const elements = shape.reduce((product, size) => product * size, 1);
  if (elements !== data.length || !shape.every((size) => Number.isSafeInteger(size) && size >= 0)) {
    throw new RangeError(`${name}: shape [${shape.join(", ")}] does not fit its ${data.length} elements`);
  }
  const tuple = `(${shape.join(", ")}${shape.length === 1 ? "," : ""})`;
  const order = descr.endsWith("1") || descr.startsWith("V") ? "|" : ORDER;
  const text = `{'descr': '${order}${descr}', 'fortran_order': False, 'shape': ${tuple}, }`;
  const header = text.padEnd(Math.ceil((text.length + 11) / 64) * 64 - 11) + "\n";
  const size = [header.length & 255, header.length >> 8];
  const head = Uint8Array.of(0x93, ...ascii("NUMPY"), 1, 0, ...size, ...ascii(header));
  return [head, /** @type {BlobPart} */ (data)];
}

/** @param {string} text */
function ascii(text) {
  return new TextEncoder().encode(text);
}

/**
 * @param {string} name
 * @param {TypedArray} data
 * @param {keyof typeof DTYPES | undefined} dtype
 */
function descrOf(name, data, dtype) {
  const own = TYPED_ARRAYS[data?.[Symbol.toStringTag]];
  if (own === undefined) throw new TypeError(`${name}: data must be a typed array`);
  if (dtype === undefined) return own;
  const descr = DTYPES[dtype];
  if (descr === undefined) {
    throw new TypeError(
      `${name}: dtype is given only as ${Object.keys(DTYPES).join(", ")}; the typed array says the others`,
    );
  }
  if (Number(descr[1]) !== data.BYTES_PER_ELEMENT) {
    throw new TypeError(
      `${name}: ${dtype} has ${descr[1]} bytes an element, and the typed array ${data.BYTES_PER_ELEMENT}`,
    );
  }
  return descr;
}

/**
 * @param {string} name
 * @param {Exclude<TensorLike, Blob>} value
 * @param {boolean} isWhole
 * @returns {Tensor}
 */
export function toTensor(name, value, isWhole) {
  if (Array.isArray(value)) return fromNested(name, value, isWhole);
  if (ArrayBuffer.isView(value)) {
    return { data: /** @type {TypedArray} */ (value), shape: [/** @type {TypedArray} */ (value).length] };
  }
  if (typeof value === "object" && value !== null && "data" in value && Array.isArray(value.shape)) {
    return value;
  }
  throw new TypeError(
    `${name} must be a typed array, nested arrays of numbers, { data, shape }, or a Blob of a .npy file`,
  );
}

/**
 * @param {string} name
 * @param {readonly unknown[]} value
 * @param {boolean} isWhole
 * @returns {Tensor}
 */
function fromNested(name, value, isWhole) {
  /** @type {number[]} */
  const shape = [];
  for (let level = /** @type {any} */ (value); isList(level); level = level[0]) shape.push(level.length);
  /** @type {any[]} */
  const items = [];
  /**
   * @param {any} level
   * @param {number} depth
   */
  const collect = (level, depth) => {
    if (!isList(level) && depth === shape.length) items.push(level);
    else if (isList(level) && level.length === shape[depth])
      for (const each of level) collect(each, depth + 1);
    else throw new RangeError(`${name}: lists within it differ in length or depth`);
  };
  collect(value, 0);
  if (items.length > 0 && items.every((item) => typeof item === "boolean")) {
    return { data: Uint8Array.from(items, Number), shape, dtype: "bool" };
  }
  if (isWhole) return { data: toInt64(name, items), shape };
  for (const item of items) {
    if (typeof item !== "number" && typeof item !== "boolean" && item !== null) {
      throw new TypeError(`${name}: ${String(item)} (${typeof item}) is not a number`);
    }
  }
  return { data: Float64Array.from(items, (item) => (item === null ? NaN : Number(item))), shape };
}

/**
 * @param {string} name
 * @param {readonly unknown[]} items
 */
export function toInt64(name, items) {
  return BigInt64Array.from(items, (item) => {
    const isWhole = typeof item === "bigint" || typeof item === "boolean" || Number.isSafeInteger(item);
    const whole = isWhole ? BigInt(/** @type {number} */ (item)) : null;
    if (whole !== null && BigInt.asIntN(64, whole) === whole) return whole;
    throw new TypeError(`${name}: ${String(item)} (${typeof item}) is not an integer of 64 bits`);
  });
}

/**
 * @param {unknown} value
 * @returns {value is any[]} Or a typed array.
 */
function isList(value) {
  return Array.isArray(value) || ArrayBuffer.isView(value);
}

/**
 * The array in a .npy file of float64, in C order.
 * @param {ArrayBuffer} file
 * @returns {LossArray}
 */
export function fromNpy(file) {
  const view = new DataView(file);
  const isLong = view.getUint8(6) > 1; // the version
  const start = isLong ? 12 : 10;
  const end = start + (isLong ? view.getUint32(8, true) : view.getUint16(8, true));
  const header = new TextDecoder().decode(file.slice(start, end));
  const sizes = /'shape': \(([\d, ]*)\)/.exec(header)?.[1];
  if (sizes === undefined || !header.includes("'<f8'") || !header.includes("'fortran_order': False")) {
    throw new TypeError(`a .npy file of float64 was expected, not ${header.trim()}`);
  }
  const shape = sizes
    .split(",")
    .filter((size) => size.trim())
    .map(Number);
  const data = new Float64Array(shape.reduce((product, size) => product * size, 1));
  if (file.byteLength !== end + data.byteLength) {
    throw new TypeError("the .npy file has another length than it says");
  }
  for (let place = 0; place < data.length; place++) data[place] = view.getFloat64(end + 8 * place, true);
  return { data, shape };
}
