// The loss at other parameters, from the sums of a report that it is linear in: no request is needed.

import { fsum } from "./client/exact-sum.js";

/** @import { Report, Terms } from "./client/types.js" */

/**
 * Parameters; those that are not given are the request's. Null turns alpha off, and is a pos_weight of 1. A
 * list has a number for each class.
 * @typedef {{ alpha?: unknown, pos_weight?: unknown, gamma?: number | undefined }} Chosen
 * @typedef {Readonly<Record<string, number>>} Factors What each sum is multiplied with.
 */

/**
 * The mean of a report.
 * @param {Report} document
 */
export function meanOf(document) {
  return divided(document, fsum(document.totals.sum_terms.map(Number)), null);
}

/**
 * The mean of each class of a report that has them.
 * @param {Report} document
 */
export function classMeansOf(document) {
  const { count = [], sum_terms: terms = [] } = document.classes ?? {};
  return count.map((_, index) => divided(document, fsum(terms.map((plane) => Number(plane[index]))), index));
}

/**
 * The mean at other parameters, under the request's normalizer, within 1e-12 of what a request would say.
 * @param {Report} document
 * @param {Chosen} [chosen]
 * @throws {RangeError} The report has no sums for one of them, or it is out of its range.
 */
export function meanAt(document, chosen = {}) {
  const { sweep, place, alphas, weights } = read(document, chosen);
  const isOfAll = alphas.length === 1 && weights.length === 1;
  if (!isOfAll && sweep.classes === undefined) {
    throw new RangeError(
      "a number for each class needs sums by class: ask for the sections classes and sweep",
    );
  }
  const products = isOfAll
    ? scaled(sweep, place, null, factorsOf(alphas[0] ?? null, weights[0] ?? 1))
    : byClass(document, sweep, place, alphas, weights).flat();
  return divided(document, fsum(products), null);
}

/**
 * The mean of each class at other parameters; null if the report has no sums by class.
 * @param {Report} document
 * @param {Chosen} [chosen]
 * @throws {RangeError} As `meanAt`.
 */
export function classMeansAt(document, chosen = {}) {
  const { sweep, place, alphas, weights } = read(document, chosen);
  if (sweep.classes === undefined || document.classes === undefined) return null;
  return byClass(document, sweep, place, alphas, weights).map((products, index) =>
    divided(document, fsum(products), index),
  );
}

/**
 * Whether the loss at another pos_weight follows from the report: under the variant exp it does not.
 * @param {Report} document
 */
export function hasPosWeight(document) {
  return document.sweep !== undefined && document.sweep.terms === undefined;
}

/**
 * The numbers of a parameter as it was asked for; null if the report does not hold them, as it was a tensor.
 * @param {unknown} given
 */
export function numbersOf(given) {
  const numbers = Array.isArray(given) ? given : [given ?? 1];
  return numbers.every((number) => typeof number === "number") ? /** @type {number[]} */ (numbers) : null;
}

/**
 * @param {Report} document
 * @param {Chosen} chosen
 */
function read(document, chosen) {
  const { sweep } = document;
  const { params } = document.totals;
  if (sweep === undefined) throw new RangeError("the report has no section sweep");
  const isBce = sweep.gamma === undefined;
  if (isBce && (chosen.alpha !== undefined || chosen.gamma !== undefined)) {
    throw new RangeError("bce has no alpha and no gamma");
  }
  const alpha = chosen.alpha === undefined ? params.alpha : chosen.alpha;
  return {
    sweep,
    place: isBce ? null : gammaPlace(sweep.gamma ?? [], chosen.gamma ?? params.gamma),
    alphas: isBce || alpha === null ? [null] : checked("alpha", alpha, 1),
    weights: posWeights(document, chosen.pos_weight),
  };
}

/**
 * @param {readonly number[]} gammas
 * @param {unknown} wanted
 */
function gammaPlace(gammas, wanted) {
  const place = gammas.findIndex((gamma) => gamma === wanted);
  if (place < 0) throw new RangeError(`the sweep has no gamma ${wanted}; it has ${gammas.join(", ")}`);
  return place;
}

/**
 * @param {Report} document
 * @param {unknown} given
 */
function posWeights(document, given) {
  const asked = document.totals.params.pos_weight;
  if (hasPosWeight(document)) return checked("pos_weight", given === undefined ? asked : given);
  if (given !== undefined && String(numbersOf(given)) !== String(numbersOf(asked))) {
    throw new RangeError("the variant exp is not linear in pos_weight: the sums are at the request's alone");
  }
  return [1]; // it is in the sums
}

/**
 * @param {string} name
 * @param {unknown} given
 * @param {number} [greatest]
 */
function checked(name, given, greatest = Number.MAX_VALUE) {
  const numbers = numbersOf(given);
  if (numbers === null)
    throw new RangeError(`${name} was a tensor, which the report does not hold: choose a number`);
  if (!numbers.length || !numbers.every((number) => number >= 0 && number <= greatest)) {
    throw new RangeError(`${name} is from 0 ${greatest === 1 ? "to 1" : "on"}, and is ${numbers.join(", ")}`);
  }
  return numbers;
}

/**
 * The products of each class.
 * @param {Report} document
 * @param {NonNullable<Report["sweep"]>} sweep
 * @param {number | null} place
 * @param {readonly (number | null)[]} alphas
 * @param {readonly number[]} weights
 */
function byClass(document, sweep, place, alphas, weights) {
  const { params, row_shape } = document.totals;
  const axis = Number(params.class_axis); // from 1 on, or from the last: axis 0 has the rows
  const classes =
    document.classes?.count.length ?? Number(axis < 0 ? row_shape.at(axis) : row_shape[axis - 1]);
  for (const [name, numbers] of /** @type {const} */ ([
    ["alpha", alphas],
    ["pos_weight", weights],
  ])) {
    if (numbers.length !== 1 && numbers.length !== classes) {
      throw new RangeError(`${name} has ${numbers.length} numbers, and there are ${classes} classes`);
    }
  }
  return Array.from({ length: classes }, (_, index) => {
    const factors = factorsOf(alphas[index % alphas.length] ?? null, weights[index % weights.length] ?? 1);
    return scaled(sweep.classes ?? {}, place, index, factors);
  });
}

/**
 * The first letter of a focal sum is the target's factor in alpha, the second its factor in the cross
 * entropy: y counts positives, z negatives. `terms` is the one sum of the variant exp.
 * @param {number | null} alpha
 * @param {number} posWeight
 * @returns {Factors}
 */
function factorsOf(alpha, posWeight) {
  const [positive, negative] = alpha === null ? [1, 1] : [alpha, 1 - alpha];
  return {
    yy_terms: positive * posWeight,
    yz_terms: positive,
    zy_terms: negative * posWeight,
    zz_terms: negative,
    y_terms: posWeight,
    z_terms: 1,
    terms: positive,
  };
}

/**
 * The terms of sums times their factors.
 * @param {object} sums Terms by name, each a number or an array by gamma, then by class.
 * @param {number | null} place Along the axis of gammas, if there is one.
 * @param {number | null} index Of the class, or null for all classes.
 * @param {Factors} factors
 */
function scaled(sums, place, index, factors) {
  return Object.entries(sums).flatMap(([name, terms]) => {
    const factor = factors[name];
    if (factor === undefined) return [];
    return /** @type {any[]} */ (terms).map((term) => {
      const ofGamma = place === null ? term : term[place];
      const number = Number(index === null ? ofGamma : ofGamma[index]);
      return factor === 0 && !Number.isNaN(number) ? 0 : factor * number; // 0 times Infinity is nothing here
    });
  });
}

/**
 * A sum divided as a mean is; NaN over nothing.
 * @param {Report} document
 * @param {number} sum
 * @param {number | null} index The class, or null for all.
 */
function divided(document, sum, index) {
  const { totals, classes } = document;
  const normalizer = totals.params.normalizer ?? "count";
  /** @param {"weight_sum_terms" | "positives_terms"} name */
  const whole = (name) => {
    const terms = index === null ? totals[name] : (classes?.[name] ?? []).map((plane) => plane[index]);
    return fsum(/** @type {Terms} */ (terms).map(Number));
  };
  const divisor =
    normalizer === "count"
      ? Number(index === null ? totals.count : classes?.count[index])
      : normalizer === "weight"
        ? whole("weight_sum_terms")
        : normalizer === "positives"
          ? Math.max(whole("positives_terms"), 1)
          : Number(normalizer);
  return divisor ? sum / divisor : NaN;
}
