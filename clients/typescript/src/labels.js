// Groups and ids of rows: integers as they are, and strings as integers that stand for them.
//
// Strings are sent as their ranks among the sorted distinct strings, so that what the server orders by rank is
// ordered by string. Its report has the ranks, and `putBack` puts the strings in their place.

import { toInt64 } from "./npy.js";

/** @import { Column, Groups, Report, TensorLike } from "./types.js" */
/** @typedef {{ value: TensorLike, strings: (readonly string[] | null)[], names: readonly string[] }} Labels */

const LONGEST = 256; // bytes of a string

/**
 * The groups of rows, as they are sent.
 * @param {Groups} groups
 * @returns {Labels}
 */
export function groupLabels(groups) {
  if (Array.isArray(groups) && Array.isArray(groups[0])) {
    const rows = /** @type {(readonly (number | string)[])[]} */ (groups);
    if (rows.some((row) => row.length !== rows[0]?.length)) {
      throw new RangeError("groups: rows differ in length");
    }
    return sideBySide(rows[0]?.map((_, place) => rows.map((row) => row[place])) ?? [], []);
  }
  if (isTensor(groups)) return idLabels(/** @type {Column} */ (groups), "groups");
  for (const name of Object.keys(groups)) {
    if (name === "" || name.includes(",")) {
      throw new TypeError(`groups: a name is text without commas, and "${name}" is not`);
    }
  }
  const columns = Object.values(/** @type {Record<string, ArrayLike<any>>} */ (groups));
  return sideBySide(
    columns.map((column) => Array.from(column)),
    Object.keys(groups),
  );
}

/**
 * One column of labels, as it is sent.
 * @param {Column} column
 * @param {string} [name]
 * @returns {Labels}
 */
export function idLabels(column, name = "ids") {
  if (!Array.isArray(column)) {
    return { value: /** @type {TensorLike} */ (column), strings: [null], names: [] };
  }
  if (name === "ids" && new Set(column).size < column.length) throw new RangeError("ids must be unique");
  const [value, strings] = coded(name, column);
  return { value, strings: [strings], names: [] };
}

/** @param {object} value Groups; columns by name may have the name shape. */
function isTensor(value) {
  return (
    Array.isArray(value) ||
    ArrayBuffer.isView(value) ||
    value instanceof Blob ||
    ("data" in value && "shape" in value && ArrayBuffer.isView(value.data))
  );
}

/**
 * @param {readonly (readonly unknown[])[]} columns
 * @param {readonly string[]} names
 * @returns {Labels}
 */
function sideBySide(columns, names) {
  const rows = columns[0]?.length ?? 0;
  const data = new BigInt64Array(rows * columns.length);
  const strings = columns.map((column, place) => {
    const name = names[place] ?? "groups";
    if (column.length !== rows) {
      throw new RangeError(`groups: columns differ in length: ${rows} and ${column.length} (${name})`);
    }
    const [numbers, texts] = coded(name, column);
    numbers.forEach((number, row) => (data[row * columns.length + place] = number));
    return texts;
  });
  return { value: { data, shape: [rows, columns.length] }, strings, names };
}

/**
 * A column as integers, and the strings that they stand for.
 * @param {string} name
 * @param {readonly unknown[]} column
 * @returns {[BigInt64Array, string[] | null]}
 */
function coded(name, column) {
  if (typeof column[0] !== "string") return [toInt64(name, column), null];
  const distinct = [...new Set(column)].map((text) => {
    if (typeof text !== "string") {
      throw new TypeError(`${name} must be all integers or all strings, and has ${String(text)}`);
    }
    const size = new TextEncoder().encode(text).length;
    if (size > LONGEST) {
      throw new RangeError(`${name}: a string has ${size} bytes, and at most ${LONGEST} are allowed`);
    }
    return text;
  });
  distinct.sort(byCodePoint);
  const ranks = new Map(distinct.map((text, rank) => [text, BigInt(rank)]));
  return [BigInt64Array.from(column, (text) => ranks.get(/** @type {string} */ (text)) ?? 0n), distinct];
}

/**
 * @param {string} one
 * @param {string} other
 */
function byCodePoint(one, other) {
  for (let place = 0; place < Math.min(one.length, other.length); place++) {
    const difference = Number(one.codePointAt(place)) - Number(other.codePointAt(place));
    if (difference) return difference;
  }
  return one.length - other.length;
}

/**
 * Put strings in the place of the integers that stand for them.
 * @param {Report} report
 * @param {Labels | undefined} groups
 * @param {Labels | undefined} ids
 */
export function putBack(report, groups, ids) {
  groups?.strings.forEach((strings, place) => {
    if (strings === null || report.groups === undefined) return;
    report.groups.kinds[place] = "string";
    report.groups.ids[place] = report.groups.ids[place]?.map((rank) => strings[Number(rank)] ?? "") ?? [];
  });
  const strings = ids?.strings[0];
  if (!strings) return;
  const { top, paired } = report;
  for (const lists of [top, paired?.top?.worse, paired?.top?.better]) {
    for (const each of [...(lists?.rows ?? []), ...(lists?.elements ?? [])]) {
      each.id = strings[Number(each.id)] ?? "";
    }
  }
  if (top !== undefined) top.ids = "string";
}
