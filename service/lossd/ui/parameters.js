// The controls of a loss's parameters, made of what GET /info says of them.

import { element } from "./elements.js";

/** @import { Info } from "./client/index.js" */
/** @typedef {Info["losses"][number]["parameters"][number]} Parameter */
/** @typedef {Record<string, unknown>} Schema */
/**
 * @typedef {{
 *   parameter: Parameter, root: HTMLElement, read: () => unknown, write: (value: unknown) => void,
 * }} Control
 */

/** Those that have no control: a report has no use for them, or one value alone, or the files say them. */
const NOT_ASKED = ["reduction", "axis", "per", "report", "first_row", "group_names", "sweep"];

/** Those that one section of a report alone uses, and the section. @type {Readonly<Record<string, string>>} */
const SECTION_OF = { calibration_bins: "calibration" };

/** The loss that has all shared parameters, and none of its own. */
const PLAIN = "bce";

/** A parameter that is off, beside its default. */
const OFF = null;

/**
 * The controls of a loss: those that people reach for first, and the others.
 * @param {Info["losses"]} losses
 * @param {string} name
 * @returns {{ first: Control[], more: Control[] }}
 */
export function controlsOf(losses, name) {
  const loss = losses.find((each) => each.name === name);
  const sections = loss?.sections ?? [];
  /** @param {Parameter} parameter */
  const isAsked = ({ name }) =>
    !NOT_ASKED.includes(name) && (!SECTION_OF[name] || sections.includes(SECTION_OF[name]));
  const parameters = (loss?.parameters ?? []).filter(isAsked);
  const shared = losses.find((each) => each.name === PLAIN)?.parameters ?? [];
  /** @param {Parameter} parameter */
  const isOwn = ({ name }) => !shared.some((each) => each.name === name);
  const isFirst = (/** @type {Parameter} */ parameter) => isOwn(parameter) || parameter.name === "pos_weight";
  return {
    first: [...parameters.filter(isOwn), ...parameters.filter((each) => isFirst(each) && !isOwn(each))].map(
      controlOf,
    ),
    more: parameters.filter((each) => !isFirst(each)).map(controlOf),
  };
}

/**
 * The values of controls that differ from the server's defaults.
 * @param {readonly Control[]} controls
 * @returns {Record<string, unknown>}
 */
export function valuesOf(controls) {
  const values = controls.map(({ parameter, read }) => /** @type {const} */ ([parameter, read()]));
  return Object.fromEntries(
    values
      .filter(([parameter, value]) => JSON.stringify(value) !== JSON.stringify(parameter.default))
      .map(([parameter, value]) => [parameter.name, value]),
  );
}

/**
 * @param {Parameter} parameter
 * @returns {Control}
 */
function controlOf(parameter) {
  const { name, summary } = parameter;
  const id = `parameter-${name}`;
  const note = element("small", { class: "note", id: `${id}-note` }, codeOf(summary));
  const input = inputOf(parameter, id);
  const words = input instanceof HTMLInputElement ? schemasOf(parameter.values).flatMap(wordsOf) : [];
  if (words.length) input.setAttribute("list", `${id}-words`);
  input.addEventListener("input", () => input.setCustomValidity(complaint(input.value, parameter.values)));
  const label = element("label", { for: id }, breakable(name));
  const off = offBox(parameter, input);
  const root = element("div", { class: "parameter" }, [
    label,
    element("span", { class: "row" }, [input, ...(off ? [off] : [])]),
    ...(words.length ? [wordList(`${id}-words`, words)] : []),
    note,
  ]);
  const box = off?.querySelector("input");
  return {
    parameter,
    root,
    read: () => (box?.checked ? OFF : readInput(input, parameter)),
    write: (value) => {
      if (box) {
        box.checked = value === OFF;
        input.disabled = box.checked;
      }
      if (!box?.checked) writeInput(input, value);
    },
  };
}

/**
 * A name that may go on in a new line after each of its underscores.
 * @param {string} name
 */
function breakable(name) {
  return name.split(/(?<=_)/).flatMap((part) => [part, element("wbr")]);
}

/**
 * A summary whose `code` is marked.
 * @param {string} summary
 */
function codeOf(summary) {
  return summary.split("`").map((part, place) => (place % 2 ? element("code", {}, [part]) : part));
}

/**
 * @param {Parameter} parameter
 * @param {string} id
 */
function inputOf({ name, values, default: usual }, id) {
  const attributes = { id, name, "aria-describedby": `${id}-note` };
  const schemas = schemasOf(values);
  const words = schemas.flatMap(wordsOf);
  if (schemas.every(isOfWords)) {
    const options = words.map((word) =>
      element("option", { value: word, selected: word === usual ? "" : null }, [word]),
    );
    return element("select", attributes, [
      ...(usual === null ? [element("option", { value: "" }, ["by default"])] : []),
      ...options,
    ]);
  }
  if (values["type"] === "boolean") {
    return element("input", { ...attributes, type: "checkbox", checked: usual === true ? "" : null });
  }
  const placeholder = usual === null ? "none" : null;
  const input = element("input", {
    ...attributes,
    placeholder,
    autocomplete: "off",
    spellcheck: "false",
    size: "9",
  });
  writeInput(input, usual);
  return input;
}

/**
 * The schemas of which a value fits one.
 * @param {Schema} values
 * @returns {readonly Schema[]}
 */
function schemasOf(values) {
  return /** @type {Schema[]} */ (values["oneOf"] ?? [values]);
}

/**
 * Whether a schema allows words of a list alone, or null.
 * @param {Schema} schema
 */
function isOfWords(schema) {
  return schema["type"] === "null" || wordsOf(schema).length > 0;
}

/**
 * Whether a value of one loss may be another's, as far as it is clear before the server judges.
 * @param {unknown} value
 * @param {Parameter} parameter
 */
export function fits(value, { values }) {
  if (typeof value !== "string") return true;
  const schemas = schemasOf(values);
  return schemas.every(isOfWords) ? schemas.flatMap(wordsOf).includes(value) : complaint(value, values) === "";
}

/**
 * What is wrong with what was written, where it is clear before the server judges.
 * @param {string} text
 * @param {Schema} values
 * @returns {string} A sentence; empty if there is nothing.
 */
function complaint(text, values) {
  const schemas = schemasOf(values);
  const types = schemas.flatMap(({ type }) => type);
  const isFree = schemas.some((each) => each["type"] === "string" && !each["enum"]);
  const word = valueOf(text);
  const isNumber = /number|integer/.test(types.join());
  const isList = types.includes("array");
  if (word === "" || typeof word !== "string" || isFree || !(isNumber || isList)) return "";
  const words = schemas.flatMap(wordsOf);
  if (words.includes(word)) return "";
  if (isNumber) words.push("a number");
  if (isList) words.push("numbers with commas between them");
  return `Write ${words.join(", or ")}.`;
}

/**
 * Words to choose from, beside what else may be written.
 * @param {string} id
 * @param {readonly string[]} words
 */
function wordList(id, words) {
  const options = words.map((word) => element("option", { value: word }));
  return element("datalist", { id }, options);
}

/**
 * The words that a schema allows.
 * @param {Schema} schema
 * @returns {string[]}
 */
function wordsOf(schema) {
  return Array.isArray(schema["enum"]) ? schema["enum"].filter((word) => typeof word === "string") : [];
}

/**
 * A box that turns a parameter off, where null is allowed and not the default.
 * @param {Parameter} parameter
 * @param {HTMLInputElement | HTMLSelectElement} input
 */
function offBox({ name, values, default: usual }, input) {
  const kinds = schemasOf(values).flatMap(({ type }) => type);
  if (usual === null || !kinds.includes("null")) return null;
  const box = element("input", { type: "checkbox", id: `parameter-${name}-off` });
  box.addEventListener("change", () => (input.disabled = box.checked));
  return element("label", { class: "off" }, [box, element("span", { class: "unseen" }, [`${name} `]), "off"]);
}

/**
 * @param {HTMLInputElement | HTMLSelectElement} input
 * @param {Parameter} parameter
 */
function readInput(input, { default: usual }) {
  if (input instanceof HTMLInputElement && input.type === "checkbox") return input.checked;
  return input.value.trim() === "" ? usual : valueOf(input.value);
}

/**
 * @param {HTMLInputElement | HTMLSelectElement} input
 * @param {unknown} value
 */
function writeInput(input, value) {
  input.setCustomValidity("");
  if (input instanceof HTMLInputElement && input.type === "checkbox") input.checked = value === true;
  else
    input.value =
      value === null
        ? ""
        : typeof value === "string"
          ? value
          : JSON.stringify(value).replace(/^\[(.*)\]$/, "$1");
}

/**
 * A value as people write it: JSON, numbers with commas between them, or a word. The server checks it.
 * @param {string} text
 * @returns {unknown}
 */
export function valueOf(text) {
  const trimmed = text.trim();
  for (const attempt of [trimmed, `[${trimmed}]`]) {
    try {
      return JSON.parse(attempt);
    } catch {
      // a word
    }
  }
  return trimmed;
}
