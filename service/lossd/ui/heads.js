// What the beginnings of files say of the arrays in them: .npy, .npz, and Arrow streams.

/**
 * @typedef {{ dtype: string, shape: readonly number[] }} ArrayHead
 *
 * One of several arrays in a file; `head` is null where it is not said, and `axes` is how many there are, if
 * that is.
 * @typedef {{ name: string, head: ArrayHead | null, axes: number | null }} Member
 */

const KINDS = /** @type {Record<string, string>} */ ({
  b: "bool",
  i: "int",
  u: "uint",
  f: "float",
  c: "complex",
});
const LISTS = [12, 16, 21]; // Arrow's types List, FixedSizeList, LargeList
const MOST_HEADER = 1 << 16;

/**
 * The array of a .npy file.
 * @param {Blob} file
 * @returns {Promise<ArrayHead & { dataStart: number, isLittle: boolean }>}
 * @throws {Error} It is cut short, or its array has no shape.
 */
export async function npyHead(file) {
  const view = new DataView(await file.slice(0, MOST_HEADER).arrayBuffer());
  if (view.byteLength < 12) throw new Error("it ends within its header");
  const isLong = view.getUint8(6) > 1;
  const start = isLong ? 12 : 10;
  const dataStart = start + (isLong ? view.getUint32(8, true) : view.getUint16(8, true));
  const text = new TextDecoder().decode(view.buffer.slice(start, dataStart));
  const sizes = /['"]shape['"]\s*:\s*\(([^)]*)\)/.exec(text)?.[1];
  if (sizes === undefined) throw new Error("its header names no shape");
  const descr = /['"]descr['"]\s*:\s*['"]([^'"]*)['"]/.exec(text)?.[1] ?? "[";
  const shape = sizes
    .split(",")
    .filter((size) => size.trim())
    .map(Number);
  return { dtype: dtypeOf(descr), shape, dataStart, isLittle: !descr.startsWith(">") };
}

/**
 * numpy's name of a dtype, such as float32 for "<f4".
 * @param {string} descr
 */
function dtypeOf(descr) {
  const [, kind = "", size = ""] = /^[<>|=]?([a-zA-Z])(\d*)$/.exec(descr) ?? [];
  if (kind === "b") return "bool";
  if (kind in KINDS) return `${KINDS[kind]}${Number(size) * 8}`;
  if (kind === "V" && size === "2") return "bfloat16";
  return { O: "object", U: "text", S: "bytes", M: "datetime", m: "timedelta" }[kind] ?? "structured";
}

/**
 * The bytes of an element; null for a dtype that has no fixed ones here.
 * @param {string} dtype
 */
export function itemSize(dtype) {
  const bits = /^(?:u?int|b?float|complex)(\d+)$/.exec(dtype)?.[1];
  return dtype === "bool" ? 1 : bits ? Number(bits) / 8 : null;
}

/** @param {string} dtype */
export function isInteger(dtype) {
  return /^u?int\d+$/.test(dtype);
}

/**
 * The integers of a .npy file, in C order.
 * @param {Blob} file
 * @returns {Promise<BigInt64Array>}
 */
export async function readIntegers(file) {
  const { dtype, shape, dataStart, isLittle } = await npyHead(file);
  const size = itemSize(dtype) ?? 8;
  const view = new DataView(await file.slice(dataStart).arrayBuffer());
  const isSigned = dtype.startsWith("int");
  const read = /** @type {Record<number, (place: number) => number | bigint>} */ ({
    1: (place) => (isSigned ? view.getInt8(place) : view.getUint8(place)),
    2: (place) => (isSigned ? view.getInt16(place, isLittle) : view.getUint16(place, isLittle)),
    4: (place) => (isSigned ? view.getInt32(place, isLittle) : view.getUint32(place, isLittle)),
    8: (place) => (isSigned ? view.getBigInt64(place, isLittle) : view.getBigUint64(place, isLittle)),
  })[size];
  const elements = shape.reduce((product, length) => product * length, 1);
  if (read === undefined || view.byteLength < elements * size) throw new Error("its integers cannot be read");
  return BigInt64Array.from({ length: elements }, (_, place) => BigInt(read(place * size)));
}

/**
 * The members of a zip, and the arrays of those that are .npy files.
 * @param {Blob} file
 * @returns {Promise<Member[]>} Names as in the file.
 * @throws {Error} It has no directory at its end.
 */
export async function zipMembers(file) {
  const tailStart = Math.max(0, file.size - 66_000);
  const tail = new DataView(await file.slice(tailStart).arrayBuffer());
  let end = tail.byteLength - 22;
  while (end >= 0 && tail.getUint32(end, true) !== 0x06054b50) end--;
  if (end < 0) throw new Error("its end is missing");
  const start = tail.getUint32(end + 16, true);
  const view = new DataView(await file.slice(start, start + tail.getUint32(end + 12, true)).arrayBuffer());
  /** @type {Member[]} */
  const members = [];
  for (let place = 0; place + 46 <= view.byteLength;) {
    const [method, packed, nameSize] = [
      view.getUint16(place + 10, true),
      view.getUint32(place + 20, true),
      view.getUint16(place + 28, true),
    ];
    const name = new TextDecoder().decode(view.buffer.slice(place + 46, place + 46 + nameSize));
    const local = view.getUint32(place + 42, true);
    const head = name.endsWith(".npy") ? await memberHead(file, local, packed, method === 8) : null;
    members.push({ name, head, axes: head?.shape.length ?? null });
    place += 46 + nameSize + view.getUint16(place + 30, true) + view.getUint16(place + 32, true);
  }
  return members;
}

/**
 * @param {Blob} file
 * @param {number} local Where the member's own header is.
 * @param {number} packed Its bytes.
 * @param {boolean} isDeflated
 * @returns {Promise<ArrayHead | null>}
 */
async function memberHead(file, local, packed, isDeflated) {
  const view = new DataView(await file.slice(local, local + 30).arrayBuffer());
  const start = local + 30 + view.getUint16(26, true) + view.getUint16(28, true);
  const data = file.slice(start, start + packed);
  try {
    return await npyHead(isDeflated ? await beginning(data, "deflate-raw") : data);
  } catch {
    return null;
  }
}

/**
 * The first bytes of what was compressed.
 * @param {Blob} data
 * @param {CompressionFormat} format
 */
export async function beginning(data, format) {
  const reader = data.stream().pipeThrough(new DecompressionStream(format)).getReader();
  const { value } = await reader.read();
  reader.cancel().catch(() => {});
  return new Blob(value ? [value] : []);
}

/**
 * The columns of an Arrow stream, from its first message, which is a flatbuffer.
 * @param {Blob} file
 * @returns {Promise<Member[]>}
 * @throws {Error} The first message is no schema.
 */
export async function arrowColumns(file) {
  const view = new DataView(await file.slice(8, 8 + (1 << 20)).arrayBuffer());
  const text = new TextDecoder();
  /** The place of a table's field; 0 where it has none. @param {number} table @param {number} field */
  const at = (table, field) => {
    const vtable = table - view.getInt32(table, true);
    const slot = 4 + 2 * field;
    const offset = slot < view.getUint16(vtable, true) ? view.getUint16(vtable + slot, true) : 0;
    return offset && table + offset;
  };
  /** @param {number} place */
  const follow = (place) => place + view.getUint32(place, true);
  const schema = follow(at(follow(0), 2)); // Message.header
  const fields = follow(at(schema, 1)); // Schema.fields
  return Array.from({ length: view.getUint32(fields, true) }, (_, index) => {
    const field = follow(fields + 4 + 4 * index);
    const name = follow(at(field, 0)); // Field.name
    const bytes = view.buffer.slice(name + 4, name + 4 + view.getUint32(name, true));
    const type = at(field, 2); // Field.type_type
    const isList = type !== 0 && LISTS.includes(view.getUint8(type));
    return { name: text.decode(bytes), head: null, axes: isList ? 2 : 1 };
  });
}
