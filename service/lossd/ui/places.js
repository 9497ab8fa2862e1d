// Places: what a file can stand for in a request, told by its name, its type, or people, never by its values.

import { INPUTS } from "./client/methods.js";
import { isInteger } from "./heads.js";

/** @import { ArrayHead } from "./heads.js" */
/** @import { Found } from "./files.js" */

/**
 * What a file stands for; "" while nobody has said it.
 * @typedef {"logits" | "probabilities" | "boxes" | "targets" | "baseline" | "weight" | "pos_weight" | "mask"
 *   | "groups" | "ids" | "classes" | ""} Place
 *
 * What has one loss, where that is not each input: the classes of a row, a sample, a box; "" elsewhere.
 * @typedef {"" | "classes" | "sample" | "box"} LossOf
 *
 * A file, its place, for groups what they are called, whether its type said the place, and whether it was
 * scored.
 * @typedef {{ found: Found, place: Place, label: string, isByType?: boolean, hasRun?: boolean }} Item
 */

/** @type {Readonly<Record<Exclude<Place, "">, string>>} */
export const PLACE_TEXT = {
  logits: "logits",
  probabilities: "probabilities",
  boxes: "predicted boxes",
  targets: "targets",
  baseline: "another model",
  groups: "groups of rows",
  ids: "row names",
  classes: "class names",
  weight: "weight",
  pos_weight: "pos_weight",
  mask: "mask",
};

/** @type {Readonly<Record<Found["kind"], readonly Exclude<Place, "">[]>>} */
export const PLACES_OF = {
  npy: [
    "logits",
    "probabilities",
    "boxes",
    "targets",
    "baseline",
    "groups",
    "ids",
    "weight",
    "pos_weight",
    "mask",
  ],
  lines: ["classes", "ids", "groups"],
  npz: [],
  arrow: [],
  report: [],
};

/** What words in a file's name say, the surest first. @type {readonly [Place, RegExp][]} */
const NPY_WORDS = [
  ["pos_weight", /\bpos weights?\b/],
  ["baseline", /\b(baseline|old|previous|before)\b/],
  ["targets", /\b(targets?|labels?|gt|truth)\b.*\bb?box(es)?\b|\bb?box(es)?\b.*\b(targets?|labels?|gt|truth)\b/],
  ["boxes", /\bb?box(es)?\b/],
  ["weight", /\bweights?\b/],
  // The last word says what it is: mask_targets are the targets of a mask.
  ["mask", /\b(mask|valid)\b(?!.*\b(logits?|probs?|preds?|targets?|labels?|gt|truth)\b)/],
  ["groups", /\b(groups?|cameras?|sites?|slices?|domains?)\b/],
  ["targets", /\b(class(es)? ids?|class(es)?|cls)\b/],
  ["ids", /\bids?\b/],
  ["probabilities", /\b(probs?|proba|probabilities|probability)\b/],
  ["logits", /\b(logits?|preds?|predictions?|scores?|outputs?|x)\b/],
  ["targets", /\b(targets?|labels?|gt|truth|y)\b/],
];
/** @type {readonly [Place, RegExp][]} */
const LINES_WORDS = [
  ["classes", /\b(class(es)?|classnames?|categories)\b/],
  ["ids", /\b(ids?|rows?|rownames?|names?|files?|filenames?|images?|paths?)\b/],
  ["groups", /\b(groups?|cameras?|sites?|slices?|domains?)\b/],
];

/**
 * What a file's name says of its place.
 * @param {Found} found
 * @returns {Place}
 */
export function placeByName(found) {
  const rules = found.kind === "npy" ? NPY_WORDS : found.kind === "lines" ? LINES_WORDS : [];
  const name = stem(found.file.name);
  const likely = isFloat(found) ? rules.filter(([place]) => place !== "mask") : rules;
  return placeIn(likely, name) || placeIn(rules, name);
}

/**
 * What an array's name says of its place.
 * @param {string} name Without an extension.
 */
export function placeOfArray(name) {
  return placeIn(NPY_WORDS, name);
}

/** @param {readonly [Place, RegExp][]} rules @param {string} name @returns {Place} */
function placeIn(rules, name) {
  const words = wordsOf(name);
  return rules.find(([, pattern]) => pattern.test(words))?.[0] ?? "";
}

/**
 * The places that types leave to files whose names say nothing: logits are never integers, and of two files
 * one is the targets. Without other targets, ids may be those of classes.
 * @param {readonly Item[]} items
 * @returns {[Item, Place][]}
 */
export function placeByType(items) {
  const open = items.filter(({ found, place }) => found.kind === "npy" && place === "");
  const [float, ...floats] = open.filter(({ found }) => isFloat(found));
  const [whole, ...wholes] = open.filter(({ found }) => !isFloat(found));
  const inputs = items.find(isInputs);
  const hasTargets = items.some(({ place }) => place === "targets");
  const isTargets = !hasTargets && whole !== undefined && wholes.length === 0;
  /** @type {[Item, Place][]} */
  const found = [];
  if (!inputs && float && floats.length === 0 && (hasTargets || isTargets)) found.push([float, "logits"]);
  const other = inputs ?? found[0]?.[0];
  if (isTargets && other && canBeTargets(whole.found, other.found)) found.push([whole, "targets"]);
  const ids = hasTargets || whole ? undefined : items.find(({ place }) => place === "ids");
  if (inputs && ids && canBeClassIds(ids.found, inputs.found)) found.push([ids, "targets"]);
  return found;
}

/** @param {Item} item */
export function isInputs({ place }) {
  return INPUTS.includes(place);
}

/** @param {Found} found */
function isFloat(found) {
  return found.kind === "npy" && /^b?float/.test(found.head.dtype);
}

/**
 * Whether shapes fit, of elements or of class ids.
 * @param {Found} targets
 * @param {Found} inputs
 */
function canBeTargets(targets, inputs) {
  if (targets.kind !== "npy" || inputs.kind !== "npy") return false;
  return same(targets.head.shape, inputs.head.shape) || canBeClassIds(targets, inputs);
}

/**
 * Whether shapes fit, of class ids.
 * @param {Found} targets
 * @param {Found} inputs
 */
function canBeClassIds(targets, inputs) {
  if (targets.kind !== "npy" || inputs.kind !== "npy") return false;
  const { dtype, shape } = targets.head;
  const its = inputs.head.shape;
  return isInteger(dtype) && its.some((_, axis) => same(shape, without(its, axis)));
}

/**
 * Whether a file without a place can be the outputs of another model than the inputs', beside targets.
 * @param {Item} item
 * @param {Item} inputs
 * @param {readonly Item[]} items
 */
export function isOfSecondModel({ found, place }, inputs, items) {
  if (place !== "" || found.kind !== "npy" || inputs.found.kind !== "npy" || !isFloat(found)) return false;
  const byName = placeByName(found);
  return (
    isInputs(inputs) &&
    (byName === "" || byName === inputs.place) &&
    same(found.head.shape, inputs.found.head.shape) &&
    items.some((other) => other.place === "targets")
  );
}

/**
 * What was assumed of files by their names, and is not sure.
 * @param {readonly Item[]} items
 * @param {{ name: string, lossOf: LossOf, takesProbabilities: boolean }} loss
 * @returns {string} Sentences; empty if there is nothing to say.
 */
export function assumed(items, loss) {
  const logits = items.find(({ place }) => place === "logits");
  if (logits === undefined || /logit/i.test(logits.found.file.name)) return "";
  const name = logits.found.file.name;
  const taken = `${name} is taken as logits`;
  if (loss.lossOf === "classes") {
    const remedy = "If it has probabilities, save their logarithms, of which the softmax is these again.";
    return `${taken}, as a model gives them before the softmax. ${remedy}`;
  }
  if (!loss.takesProbabilities) return `${taken}, which ${loss.name} takes as they are.`;
  return `${taken}, as a model gives them before the sigmoid. If it has probabilities, choose so beside its name.`;
}

/** @param {string} name */
function wordsOf(name) {
  return name
    .replace(/([a-z])([A-Z])/g, "$1 $2")
    .toLowerCase()
    .replace(/[^a-z]+/g, " ");
}

/** @param {string} name */
export function stem(name) {
  return name.replace(/\.[^.]*$/, "");
}

const SCORED = /** @type {Place[]} */ (INPUTS);

/**
 * The array at a place.
 * @param {readonly Item[]} items
 * @param {readonly Place[]} places
 * @returns {ArrayHead | null}
 */
export function headAt(items, ...places) {
  for (const { found, place } of items) {
    if (found.kind === "npy" && places.includes(place)) return found.head;
    if (found.kind === "npz") {
      const member = found.members.find(({ name }) => places.includes(/** @type {Place} */ (name)));
      if (member?.head) return member.head;
    }
  }
  return null;
}

/**
 * The sections of a report of all, and the sums of other parameters, which all leaves out; null where shapes
 * are not known.
 * @param {readonly Item[]} items
 * @param {number} classAxis
 * @returns {readonly string[] | null}
 */
export function sectionsOf(items, classAxis) {
  const members = items.flatMap(({ found, place }) => {
    if (found.kind === "npz" || found.kind === "arrow") return found.members;
    const head = found.kind === "npy" ? found.head : null;
    return [{ name: place, head, axes: head?.shape.length ?? null }];
  });
  const axes = members.find(({ name }) => INPUTS.includes(name))?.axes;
  if (!axes) return null;
  const hasClasses = classAxis < 0 ? classAxis + axes > 0 : classAxis > 0;
  const hasGroups = members.some(({ name }) => name === "groups" || name.startsWith("group."));
  const hasBaseline = members.some(({ name }) => name === "baseline");
  return [
    "totals",
    ...(hasClasses ? ["classes"] : []),
    ...(hasGroups ? ["groups"] : []),
    ...["top", "histogram", "calibration", "sweep"],
    ...(hasBaseline ? ["paired"] : []),
  ];
}

/**
 * Of how many classes targets can only be ids: integers of one dimension less than the inputs.
 * @param {readonly Item[]} items
 * @param {number} classAxis
 * @returns {number} 0 if they are none. Of one class there are no ids: 0 and 1 are whether it is there.
 */
export function classIds(items, classAxis) {
  const inputs = headAt(items, ...SCORED);
  const targets = headAt(items, "targets");
  if (!inputs || !targets || !isInteger(targets.dtype)) return 0;
  const classes = inputs.shape.at(classAxis) ?? 0;
  return targets.shape.length === inputs.shape.length - 1 && classes > 1 ? classes : 0;
}

/**
 * What cannot fit, as far as shapes say. The server judges.
 * @param {readonly Item[]} items
 * @param {number} classAxis
 * @param {boolean | null} hasClassIds Whether the targets are class ids; null if their shape says it.
 * @param {LossOf} lossOf What has one loss.
 * @returns {string[]} Sentences.
 */
export function misfits(items, classAxis, hasClassIds, lossOf) {
  const inputs = headAt(items, ...SCORED);
  if (inputs === null) return [];
  const shape = inputs.shape;
  const axis = classAxis < 0 ? classAxis + shape.length : classAxis;
  /** @type {string[]} */
  const found = shape[0] === 0 ? ["There are no rows."] : [];
  /** @param {string} what @param {readonly number[]} its @param {boolean} fits @param {string} remedy */
  const check = (what, its, fits, remedy) => {
    if (!fits)
      found.push(`${what}: ${shapeText(its)} does not fit the inputs' ${shapeText(shape)}. ${remedy}`);
  };
  const targets = headAt(items, "targets");
  if (targets) {
    const areIds = hasClassIds ?? targets.shape.length < shape.length;
    const expected = areIds ? without(shape, axis) : shape;
    const remedy = areIds
      ? idsRemedy(targets.shape, shape, axis)
      : targetsRemedy(targets, shape, axis, lossOf);
    check("targets", targets.shape, same(targets.shape, expected), remedy);
  }
  const baseline = headAt(items, "baseline");
  if (baseline)
    check(
      "the other model's outputs",
      baseline.shape,
      same(baseline.shape, shape),
      isTurned(baseline.shape, shape)
        ? "Both must have the same shape: turn one of them, as by logits.T."
        : "Both must have the same shape.",
    );
  for (const name of /** @type {const} */ (["weight", "mask"])) {
    const head = headAt(items, name);
    const losses = lossesShape(shape, axis, lossOf);
    const remedy = lossOf ? `A value for each loss has shape ${shapeText(losses)}.` : BY_ROW;
    if (head) check(name, head.shape, broadcasts(head.shape, losses), remedy);
  }
  return [...found, ...lengthMisfits(items, shape[0] ?? 0, shape.length > 1 ? (shape[axis] ?? null) : null)];
}

/**
 * What to do about class ids whose shape does not fit.
 * @param {readonly number[]} ids
 * @param {readonly number[]} shape The inputs'.
 * @param {number} axis That of the classes.
 */
function idsRemedy(ids, shape, axis) {
  const other = shape.findIndex((_, place) => place > 0 && same(ids, without(shape, place)));
  return other < 0
    ? `Class ids have shape ${shapeText(without(shape, axis))}.`
    : `If the classes are along axis ${other}, set class_axis to ${other}, under More parameters.`;
}

/**
 * What to do about targets of elements whose shape does not fit.
 * @param {ArrayHead} targets
 * @param {readonly number[]} shape The inputs'.
 * @param {number} axis That of the classes.
 * @param {LossOf} lossOf
 */
function targetsRemedy({ dtype, shape: its }, shape, axis, lossOf) {
  if (lossOf !== "box" && its.length === shape.length - 1) {
    if (shape[axis] === 1) return "Add the axis of the class, by targets[:, None].";
    if (!isInteger(dtype)) return "Class ids must be saved as integers, as by targets.astype(np.int64).";
  }
  return isTurned(its, shape)
    ? "Both must have the same shape: turn one of them, as by targets.T."
    : "Both must have the same shape: are the files of different runs?";
}

const BY_ROW = "A value for each row has shape [N, 1].";

/**
 * The shape of the losses of inputs.
 * @param {readonly number[]} shape
 * @param {number} axis That of the classes.
 * @param {LossOf} lossOf
 */
function lossesShape(shape, axis, lossOf) {
  if (lossOf === "classes") return without(shape, axis);
  if (lossOf === "box") return shape.slice(0, -1);
  return lossOf === "sample" ? shape.slice(0, 1) : shape;
}

/**
 * @param {readonly Item[]} items
 * @param {number} rows
 * @param {number | null} classes Null where the inputs have no class axis.
 * @returns {string[]}
 */
function lengthMisfits(items, rows, classes) {
  return items.flatMap(({ found, place }) => {
    const length =
      found.kind === "lines" ? found.lines.length : found.kind === "npy" ? (found.head.shape[0] ?? 0) : null;
    if (length === null) return [];
    if (place === "classes" && length !== classes) {
      return [`${found.file.name} has ${length} names, and the inputs have ${classes ?? "no"} classes.`];
    }
    if ((place === "ids" || place === "groups") && length !== rows) {
      return [`${found.file.name} has ${length} entries, and the inputs have ${rows} rows.`];
    }
    if (place === "groups" && found.kind === "npy" && !isInteger(found.head.dtype)) {
      return [
        `${found.file.name} is ${found.head.dtype}; ` +
          "groups are integers, or text, one a line, in a .txt file.",
      ];
    }
    return [];
  });
}

/**
 * @param {readonly number[]} one
 * @param {readonly number[]} other
 */
function same(one, other) {
  return one.length === other.length && one.every((size, place) => size === other[place]);
}

/**
 * Whether two axes stand in the other order.
 * @param {readonly number[]} one
 * @param {readonly number[]} other
 */
function isTurned(one, other) {
  return one.length === 2 && same([...one].reverse(), other);
}

/**
 * @param {readonly number[]} shape
 * @param {number} axis
 */
function without(shape, axis) {
  return shape.filter((_, place) => place !== axis);
}

/**
 * @param {readonly number[]} shape
 * @param {readonly number[]} target
 */
function broadcasts(shape, target) {
  const offset = target.length - shape.length;
  return offset >= 0 && shape.every((size, place) => size === 1 || size === target[place + offset]);
}

/** @param {readonly number[]} shape */
export function shapeText(shape) {
  return `[${shape.join(", ")}]`;
}

/**
 * What a request still lacks.
 * @param {readonly Item[]} items
 * @param {LossOf} lossOf What has one loss.
 * @returns {string | null} A sentence that says what to do; null if nothing is missing.
 */
export function missing(items, lossOf) {
  const whole = items.find(({ found }) => found.kind === "npz" || found.kind === "arrow");
  const unplaced = items.find(({ found, place }) => place === "" && PLACES_OF[found.kind].length > 0);
  if (items.length === 0) return "";
  if (unplaced) return `Say what ${unplaced.found.file.name} is. If it is not needed, remove it by its ×.`;
  if (whole) {
    const other = items.find((item) => item !== whole && item.place !== "classes");
    return other
      ? `${whole.found.file.name} holds all arrays and goes alone. Remove it, or ${other.found.file.name}.`
      : null;
  }
  const wanted = lossOf === "box" ? ["boxes"] : ["logits", "probabilities"];
  if (!items.some(({ place }) => wanted.includes(place))) {
    if (lossOf === "box") return "Add the predicted boxes.";
    const isOfBoxes = items.some(({ place }) => place === "boxes");
    return isOfBoxes ? "Choose the loss box for these boxes." : "Add the model's logits or probabilities.";
  }
  return items.some(({ place }) => place === "targets") ? null : "Add the targets.";
}
