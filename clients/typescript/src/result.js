// Results: from answers, and merged.

import { BadAnswer, InvalidRequest } from "./errors.js";
import { ExactSum } from "./exact-sum.js";
import { LOSSES } from "./methods.js";
import { fromNpy } from "./npy.js";
import { shapeOf } from "./request.js";

/** @import { Answer } from "./attempts.js" */
/** @import { LossArray, LossName, LossResult, ScoreRequest } from "./types.js" */

const SUMS = /** @type {const} */ (["sum", "weight_sum", "positives"]);

/**
 * Read the answer to a request of a loss.
 * @param {LossName} loss_name
 * @param {ScoreRequest} request
 * @param {Answer} answer
 * @returns {LossResult}
 */
export function readResult(loss_name, request, { response, body }) {
  const isNpy = response.headers.get("content-type")?.startsWith("application/x-npy");
  const figures = isNpy
    ? fromHeaders(loss_name, request, response.headers, body)
    : fromJson(readJson({ response, body }));
  const timing = /** @type {Record<string, number>} */ ({});
  const stages = response.headers.get("server-timing") ?? "";
  for (const [, stage, spent] of stages.matchAll(/([\w-]+);\s*dur=([\d.]+)/g)) {
    timing[String(stage)] = Number(spent);
  }
  const { pos_weight } = request;
  const options = pos_weight == null ? figures.options : { ...figures.options, pos_weight };
  return { ...figures, options, timing };
}

/**
 * @param {Pick<Answer, "response" | "body">} answer
 * @returns {any}
 */
export function readJson({ response, body }) {
  const kind = response.headers.get("content-type") ?? "no content type";
  try {
    if (kind.startsWith("application/json")) return JSON.parse(new TextDecoder().decode(body));
  } catch {
    // said below
  }
  throw new BadAnswer(`the answer (${kind}) is not JSON that can be read; is the base URL a lossd server's?`);
}

/**
 * @param {any} answer
 * @returns {Omit<LossResult, "timing">}
 */
function fromJson(answer) {
  if (typeof answer?.count !== "number" || !Array.isArray(answer.sum_terms)) {
    throw new BadAnswer("the answer is not a loss; is the base URL a lossd server's?");
  }
  const { loss, loss_terms, divisor_terms, report: _, ...others } = answer;
  return {
    ...others,
    loss: Array.isArray(loss) ? { data: flat(loss), shape: shapeLeft(answer) } : Number(loss),
    ...Object.fromEntries(SUMS.map((name) => [name, Number(answer[name])])),
    ...Object.fromEntries(SUMS.map((name) => [`${name}_terms`, answer[`${name}_terms`].map(Number)])),
    ...(loss_terms && { loss_terms: loss_terms.map(flat) }),
    ...(divisor_terms && { divisor_terms: divisor_terms.map(flat) }),
  };
}

/** @param {any[]} nested */
function flat(nested) {
  return Float64Array.from(nested.flat(Infinity), Number); // of "Infinity" and "NaN" too
}

/**
 * @param {LossName} loss_name
 * @param {ScoreRequest} request
 * @param {Headers} headers
 * @param {ArrayBuffer} body
 * @returns {Omit<LossResult, "timing">}
 */
function fromHeaders(loss_name, request, headers, body) {
  /** @param {string} name */
  const header = (name) => {
    const value = headers.get(name);
    if (value !== null) return value;
    throw new BadAnswer(`the answer has no header ${name} that can be read here; does a proxy leave it out?`);
  };
  const { reduction, ...params } = JSON.parse(header("lossd-params"));
  /** @param {boolean} own */
  const part = (own) =>
    Object.fromEntries(
      Object.entries(params).filter(([name]) => LOSSES[loss_name].own.includes(name) === own),
    );
  /** @param {string} name */
  const terms = (name) => header(name).split(",").map(Number);
  const loss = fromNpy(body);
  return {
    loss,
    sum: Number(header("lossd-sum")),
    count: Number(header("lossd-count")),
    weight_sum: Number(header("lossd-weight-sum")),
    positives: Number(header("lossd-positives")),
    sum_terms: terms("lossd-sum-terms"),
    weight_sum_terms: terms("lossd-weight-sum-terms"),
    positives_terms: terms("lossd-positives-terms"),
    reduction,
    params: part(true),
    options: part(false),
    loss_name,
    shape: LOSSES[loss_name].row ? (shapeOf(request) ?? []) : loss.shape,
    notes: JSON.parse(headers.get("lossd-notes") ?? "[]"),
    kernel: headers.get("lossd-kernel"),
    device: null,
    version: headers.get("lossd-version"),
    request_id: headers.get("x-request-id"),
  };
}

/** @typedef {Pick<LossResult, "loss_name" | "reduction" | "params" | "options" | "shape">} About */

/**
 * Whether losses are over all samples, so that those of several requests make none of all.
 * @param {About} result
 */
function isOverSamples({ loss_name, params }) {
  return rowOf(loss_name) === "sample" && ["class", "all"].includes(String(params["per"]));
}

/** @param {string} loss_name */
function rowOf(loss_name) {
  return loss_name in LOSSES ? LOSSES[/** @type {LossName} */ (loss_name)].row : "";
}

/**
 * The shape of the losses before any were reduced: it lacks the axes of a row, which has one.
 * @param {About} result
 * @returns {readonly number[]}
 */
function lossesShape(result) {
  const { params, options, shape } = result;
  const given = Number(options["class_axis"] ?? -1);
  const classes = given < 0 ? given + shape.length : given;
  switch (rowOf(result.loss_name)) {
    case "box":
      return shape.slice(0, -1);
    case "classes":
      return shape.filter((_, axis) => axis !== classes);
    case "sample":
      if (!isOverSamples(result)) return shape.slice(0, 1);
      return params["per"] === "class" ? shape.slice(classes, classes + 1) : [1];
    default:
      return shape;
  }
}

/**
 * The axes that are summed.
 * @param {About} result
 */
function summedAxes(result) {
  const { reduction, options } = result;
  const shape = lossesShape(result);
  if (reduction === "none") return new Set();
  const axes = /** @type {number[]} */ ([options["axis"] ?? shape.map((_, axis) => axis)].flat());
  return new Set(axes.map((axis) => (axis < 0 ? axis + shape.length : axis)));
}

/** @param {LossResult} answer */
function shapeLeft(answer) {
  const summed = summedAxes(answer);
  return lossesShape(answer).filter((_, axis) => !summed.has(axis));
}

/**
 * Merge the results of batches into the result of all of them: sums and divisors are added exactly and divided
 * once, so it has the bits of one request over everything, whatever the order and the groups of the rows. Losses
 * of single elements or rows are joined, row after row.
 *
 * If a class may be missing in a batch, ask for sums, and make the mean at the end: `asMean(merge(results))`.
 * @template {number | LossArray} Loss
 * @param {Iterable<LossResult<Loss>>} results In order; they may be merged ones.
 * @returns {LossResult<Loss>}
 */
export function merge(results) {
  const all = [...results];
  const first = all[0];
  if (first === undefined) throw new RangeError("there are no results to merge");
  for (const other of all) refuseUnlike(first, other);
  if (all.length > 1 && isOverSamples(first)) {
    const per = `per: "${String(first.params["per"])}"`;
    throw new RangeError(
      `a ${first.loss_name} loss of ${per} is over all samples: score them in one request, or by per: "sample"`,
    );
  }
  /** @type {LossResult<any>} */
  const merged = { ...first, count: all.reduce((count, each) => count + each.count, 0) };
  for (const name of SUMS) {
    const sum = new ExactSum();
    for (const each of all) sum.add(each[`${name}_terms`]);
    merged[name] = sum.value;
    merged[`${name}_terms`] = sum.terms;
  }
  for (const name of /** @type {const} */ (["request_id", "kernel", "device", "version"])) {
    if (all.some((each) => each[name] !== first[name])) merged[name] = null;
  }
  merged.notes = [...new Set(all.flatMap((each) => each.notes))];
  merged.timing = {};
  for (const [stage, spent] of all.flatMap((each) => Object.entries(each.timing))) {
    merged.timing[stage] = (merged.timing[stage] ?? 0) + spent;
  }
  const rows = all.reduce((sum, each) => sum + (each.shape[0] ?? 0), 0);
  const isSame = all.every((each) => each.shape.length && same(each.shape.slice(1), first.shape.slice(1)));
  merged.shape = isSame ? [rows, ...first.shape.slice(1)] : [];
  if (isByRow(first)) {
    return { ...merged, loss: joined(all.map(({ loss }) => /** @type {LossArray} */ (loss))) };
  }
  if (first.loss_terms !== undefined) {
    merged.loss_terms = addedUp(all.map(({ loss_terms }) => loss_terms ?? []));
    if (typeof first.options["normalizer"] !== "number") {
      merged.divisor_terms = addedUp(all.map(({ divisor_terms }) => divisor_terms ?? []));
    }
  }
  return { ...merged, loss: reduced(merged) };
}

/**
 * The mean that the sums of a result make; of results of `reduction: "sum"` that were merged.
 * @template {number | LossArray} Loss
 * @param {LossResult<Loss>} sums
 * @returns {LossResult<Loss>}
 */
export function asMean(sums) {
  if (isByRow(sums)) {
    throw new TypeError('these are losses of rows; a mean needs sums over rows, as of reduction: "sum"');
  }
  /** @type {LossResult<any>} */
  const mean = { ...sums, reduction: "mean" };
  return { ...mean, loss: reduced(mean) };
}

/**
 * Whether there is a loss for each row.
 * @param {LossResult} result
 */
function isByRow(result) {
  return typeof result.loss !== "number" && !summedAxes(result).has(0);
}

/**
 * @param {LossArray[]} losses
 * @returns {any}
 */
function joined(losses) {
  const shape = losses[0]?.shape.slice(1) ?? [];
  if (!losses.every((loss) => same(loss.shape.slice(1), shape))) {
    throw new RangeError("losses of rows of different shapes cannot be joined");
  }
  const rows = losses.reduce((sum, loss) => sum + (loss.shape[0] ?? 0), 0);
  const data = new Float64Array(losses.reduce((sum, loss) => sum + loss.data.length, 0));
  let start = 0;
  for (const loss of losses) {
    data.set(loss.data, start);
    start += loss.data.length;
  }
  return { data, shape: [rows, ...shape] };
}

/**
 * Add up arrays of exact sums, place by place.
 * @param {readonly (readonly Float64Array[])[]} results For each result its arrays of terms.
 * @returns {Float64Array[]}
 */
function addedUp(results) {
  const planes = results.flat();
  const sums = Array.from(
    planes[0] ?? [],
    (_, place) => new ExactSum().add(planes.map((plane) => plane[place] ?? NaN)).terms,
  );
  const most = sums.reduce((longest, terms) => Math.max(longest, terms.length), 1);
  return Array.from({ length: most }, (_, which) => Float64Array.from(sums, (terms) => terms[which] ?? 0));
}

/**
 * The loss that figures make.
 * @param {LossResult<any>} result
 * @returns {any} A number or an array, as the loss that is there.
 */
function reduced(result) {
  const { loss, reduction, loss_terms, divisor_terms } = result;
  const normalizer = result.options["normalizer"];
  if (typeof loss === "number") {
    if (reduction !== "mean") return result.sum;
    /** @type {Record<string, number>} */
    const divisors = {
      count: result.count,
      weight: result.weight_sum,
      positives: Math.max(result.positives, 1),
    };
    return result.sum / nonzero(divisors[String(normalizer)] ?? Number(normalizer));
  }
  const sums = loss_terms?.[0];
  if (sums === undefined) {
    throw new TypeError("the result does not have the terms of its sums: no mean can be made of it");
  }
  if (reduction !== "mean") return { data: sums, shape: loss.shape };
  const least = normalizer === "positives" ? 1 : -Infinity;
  const data = sums.map((sum, place) => {
    const divisor = typeof normalizer === "number" ? normalizer : (divisor_terms?.[0]?.[place] ?? NaN);
    return sum / nonzero(Math.max(divisor, least));
  });
  return { data, shape: loss.shape };
}

/** @param {number} divisor */
function nonzero(divisor) {
  if (divisor !== 0) return divisor;
  throw new InvalidRequest(422, 'the mean is over nothing; use reduction: "sum", or leave it out', {
    code: "empty_mean",
  });
}

/**
 * @param {LossResult} first
 * @param {LossResult} other
 */
function refuseUnlike(first, other) {
  for (const name of /** @type {const} */ (["loss_name", "reduction", "params", "options"])) {
    if (!same(first[name], other[name])) {
      throw new RangeError(`results of different ${name} cannot be merged`);
    }
  }
  const shapes = [first, other].map(({ loss }) =>
    typeof loss === "number" ? [] : isByRow(first) ? loss.shape.slice(1) : loss.shape,
  );
  if (typeof first.loss !== typeof other.loss || !same(shapes[0], shapes[1])) {
    throw new RangeError("losses of different shapes cannot be merged");
  }
  const weight = /** @type {any} */ (other.options["pos_weight"]);
  if (first !== other && weight?.dtype && !weight.data) {
    // the server's word of a tensor in a file
    throw new RangeError("the numbers of pos_weight are not known here, so these results cannot be merged");
  }
}

/**
 * Whether two values are the same: numbers, texts, and arrays and objects of them.
 * @param {any} one
 * @param {any} other
 * @returns {boolean}
 */
function same(one, other) {
  if (Object.is(one, other)) return true;
  if (typeof one !== "object" || typeof other !== "object" || !one || !other || one instanceof Blob) {
    return false;
  }
  const names = Object.keys(one);
  return (
    names.length === Object.keys(other).length &&
    names.every((name) => name in other && same(one[name], other[name]))
  );
}
