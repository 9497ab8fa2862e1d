// Requests of losses: tensors as one body, parameters as the query.

import { groupLabels, idLabels } from "./labels.js";
import { INPUTS } from "./methods.js";
import { toNpy, toTensor } from "./npy.js";

/** @import { ReportRequest, ScoreRequest } from "./types.js" */
/** @import { Labels } from "./labels.js" */

const TENSORS = [
  ...INPUTS,
  "targets",
  "weight",
  "pos_weight",
  "mask",
  "groups",
  "ids",
  "baseline",
];
const FILES = { npz: "application/x-npz", arrow: "application/vnd.apache.arrow.stream" };

/**
 * @param {ScoreRequest} request
 * @returns {{ query: URLSearchParams, body: Blob }} The body's type is its media type.
 */
export function encode(request) {
  const query = new URLSearchParams();
  /** @type {string[]} */
  const names = [];
  /** @type {BlobPart[]} */
  const pieces = [];
  let type = "application/x-npy";
  for (const [name, value] of Object.entries(request)) {
    const isTensor = TENSORS.includes(name) && typeof value !== "number"; // pos_weight may be one
    if (value === undefined || (value === null && isTensor)) continue;
    if (name in FILES) {
      if (!(value instanceof Blob)) {
        throw new TypeError(`${name} must be a Blob, such as a file that was chosen`);
      }
      type = FILES[/** @type {keyof typeof FILES} */ (name)];
      pieces.push(value);
    } else if (isTensor) {
      names.push(name);
      pieces.push(...toNpy(name, value, ["mask", "groups", "ids"].includes(name)));
    } else {
      query.set(name, text(name, value));
    }
  }
  if (type === "application/x-npy") {
    query.set("tensors", names.join(","));
  } else if (pieces.length > 1) {
    throw new TypeError("tensors are given in one file, or each by its name; not both");
  }
  return { query, body: new Blob(pieces, { type }) };
}

/**
 * The shape of a request's inputs, if it is known before the server reads them.
 * @param {ScoreRequest} request
 * @returns {readonly number[] | undefined}
 */
export function shapeOf(request) {
  const name = INPUTS.find((each) => request[each] != null);
  const value = name && request[name];
  return name && !(value instanceof Blob) ? toTensor(name, value, false).shape : undefined;
}

/**
 * A report's request as one of a loss, and what its labels stand for.
 * @param {ReportRequest} request
 * @returns {{ asked: ScoreRequest, groups: Labels | undefined, ids: Labels | undefined }}
 */
export function encodeReport({ sections, sweep, groups: given, ids: givenIds, ...request }) {
  const groups = given && groupLabels(given);
  const ids = givenIds && idLabels(givenIds);
  const asked = {
    ...request,
    report: sections ?? "all",
    sweep: sweep && `gamma:${sweep.gamma.join(",")}`,
    groups: groups?.value,
    group_names: groups?.names.length ? groups.names : undefined,
    ids: ids?.value,
  };
  return { asked, groups, ids };
}

/**
 * A parameter as the query has it: bare words, and JSON for the rest.
 * @param {string} name
 * @param {unknown} value
 */
function text(name, value) {
  if (typeof value === "string") return value;
  return JSON.stringify(value, (_, item) => {
    if (typeof item === "number" && !Number.isFinite(item)) {
      const hint = name === "ignore_index" ? '; write "nan"' : "";
      throw new RangeError(`${name} must be finite, and is ${item}${hint}`); // JSON would make it null
    }
    return ArrayBuffer.isView(item) ? Array.from(/** @type {Float64Array} */ (item)) : item;
  });
}
