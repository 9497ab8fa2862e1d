// Sliders for alpha, pos_weight and gamma: the mean at other parameters, without a request.

import { button, element } from "./elements.js";
import { makeSortable, sortAgain } from "./sorting.js";
import { classMeansAt, classMeansOf, hasPosWeight, meanAt, meanOf, numbersOf } from "./sweep.js";

/** @import { Report } from "./client/types.js" */
/** @import { Chosen } from "./sweep.js" */

/**
 * What a control shows: a number, null where it is off, undefined where the request's is no single number.
 * @typedef {number | null | undefined} Shown
 * @typedef {{ row: HTMLElement, show: (value: Shown) => void, initial: Shown }} Control
 * @typedef {{ onInput: (value: Shown) => void, onEnd: () => void, onInvalid: () => void }} Events
 * @typedef {{ min: number, max: number, step: number, valueOf: (at: number) => number, at: (value: number) =>
 *   number }} Scale
 */

/** After so long without a move the table is sorted. */
const SETTLED_MS = 300;
/** @type {Scale} */
const SHARE = { min: 0, max: 1, step: 0.01, valueOf: (at) => at, at: (value) => value };
/** @type {Scale} A tenth to ten times in the middle, and further at the ends. */
const FACTOR = {
  min: -2,
  max: 2,
  step: 0.02,
  valueOf: (at) => Number((10 ** at).toPrecision(3)),
  at: (value) => Math.log10(Math.max(value, 0.01)),
};

/**
 * The sliders of a report; null if it has no sums for other parameters.
 * @param {Report} document
 */
export function slidersOf(document) {
  const { sweep } = document;
  if (sweep === undefined) return null;
  const { params } = document.totals;
  /** @type {Chosen} */
  let chosen = startOf(document);
  const answer = answerOf(document);
  const update = () => answer.show(chosen);
  /** @param {keyof Chosen} name @returns {Events} */
  const events = (name) => ({
    onInput: (value) => {
      chosen = { ...chosen, [name]: value };
      update();
    },
    onEnd: answer.sort,
    onInvalid: answer.drop,
  });
  const controls = [
    ...(sweep.gamma?.length
      ? [gammaControl(sweep.gamma, chosen.gamma ?? params.gamma, events("gamma"))]
      : []),
    ...(sweep.gamma ? [alphaControl(params.alpha, events("alpha"))] : []),
    ...(hasPosWeight(document) ? [posWeightControl(params.pos_weight, events("pos_weight"))] : []),
  ];
  const reset = button("Back to the request's", () => {
    chosen = startOf(document);
    for (const { show, initial } of controls) show(initial);
    update();
    answer.sort();
  });
  update();
  return element("div", { class: "sliders" }, [
    element("h3", {}, ["Try other parameters"]),
    element("p", { class: "note" }, ["The mean follows from sums in the report. Nothing is sent."]),
    ...controls.map(({ row }) => row),
    ...notesOf(document).map((note) => element("p", { class: "note" }, [note])),
    element("div", { class: "row" }, [answer.mean, reset]),
    ...(answer.table ? [answer.table] : []),
  ]);
}

/**
 * The request's parameters; of its gamma the nearest that the sweep has.
 * @param {Report} document
 * @returns {Chosen}
 */
function startOf({ sweep, totals }) {
  const asked = Number(totals.params.gamma);
  const gammas = sweep?.gamma ?? [];
  if (gammas.length === 0 || gammas.includes(asked)) return {};
  return { gamma: [...gammas].sort((a, b) => Math.abs(a - asked) - Math.abs(b - asked))[0] };
}

/**
 * What cannot be moved, and why.
 * @param {Report} document
 */
function notesOf(document) {
  const { params, loss } = document.totals;
  const notes = [];
  const { gamma } = startOf(document);
  if (gamma !== undefined) {
    notes.push(`The request's gamma, ${params.gamma}, is not in the sweep. Name it there to start from it.`);
  }
  if (!hasPosWeight(document)) {
    notes.push(
      "pos_weight stays as it was: with the variant exp the modulator depends on it, and the loss is not " +
        "linear in it. Score again for another one.",
    );
  }
  for (const name of loss === "bce" ? ["pos_weight"] : ["alpha", "pos_weight"]) {
    if (
      params[name] !== null &&
      numbersOf(params[name]) === null &&
      (name === "alpha" || hasPosWeight(document))
    ) {
      notes.push(
        `${name} was a tensor, which the report does not hold. Choose one number for all in its place.`,
      );
    }
  }
  if (loss === "bce") notes.push("bce has no alpha and no gamma; focal loss has.");
  return notes;
}

/**
 * @param {readonly number[]} gammas
 * @param {unknown} asked
 * @param {Events} events
 */
function gammaControl(gammas, asked, events) {
  const ascending = [...gammas].sort((a, b) => a - b);
  /** @type {Scale} */
  const scale = {
    min: 0,
    max: ascending.length - 1,
    step: 1,
    valueOf: (at) => Number(ascending[at]),
    at: (value) => ascending.indexOf(value),
  };
  return control("gamma", Number(asked), scale, events, {
    hasField: false,
    note: `of ${ascending.join(", ")}`,
  });
}

/**
 * @param {unknown} asked
 * @param {Events} events
 * @returns {Control}
 */
function alphaControl(asked, events) {
  const off = element("input", { type: "checkbox" });
  const made = control("alpha", asked === null ? null : single(asked), SHARE, {
    onInput: (value) => {
      off.checked = false;
      events.onInput(value);
    },
    onEnd: events.onEnd,
    onInvalid: events.onInvalid,
  });
  off.checked = asked === null;
  off.addEventListener("change", () => {
    const value = off.checked ? null : (made.initial ?? 0.25);
    made.show(value);
    events.onInput(value);
    events.onEnd();
  });
  made.row.lastElementChild?.before(element("label", { class: "sliders-off" }, [off, " off"]));
  const show = (/** @type {Shown} */ value) => {
    off.checked = value === null;
    made.show(value);
  };
  return { ...made, show };
}

/**
 * @param {unknown} asked
 * @param {Events} events
 */
function posWeightControl(asked, events) {
  return control("pos_weight", single(asked ?? 1), FACTOR, events);
}

/**
 * A parameter if it is one number for all.
 * @param {unknown} asked
 */
function single(asked) {
  const numbers = numbersOf(asked);
  return numbers?.length === 1 ? numbers[0] : undefined;
}

/**
 * A slider, with a field beside it for exact numbers.
 * @param {string} name
 * @param {Shown} initial
 * @param {Scale} scale
 * @param {Events} events
 * @param {{ hasField?: boolean, note?: string }} [options]
 * @returns {Control}
 */
function control(name, initial, scale, { onInput, onEnd, onInvalid }, { hasField = true, note = "" } = {}) {
  const [slider, field] = inputsOf(name, scale);
  const said = element("output", {}, []);
  const wrong = element("span", { class: "note", role: "status" });
  /** @param {Shown} value */
  const show = (value) => {
    if (typeof value === "number") slider.value = String(scale.at(value));
    wrong.textContent = "";
    field.value = typeof value === "number" ? String(value) : "";
    field.placeholder = value === null ? "off" : value === undefined ? "several" : "";
    said.textContent = field.value;
    slider.setAttribute("aria-valuetext", field.value || field.placeholder);
  };
  slider.addEventListener("input", () => {
    const value = scale.valueOf(slider.valueAsNumber);
    show(value);
    onInput(value);
  });
  field.addEventListener("input", () => {
    const isWrong = field.value === "" || !field.checkValidity();
    wrong.textContent = isWrong
      ? `${name} is a number ${scale === SHARE ? "from 0 to 1" : "from 0 on"}.`
      : "";
    if (isWrong) return onInvalid();
    slider.value = String(scale.at(field.valueAsNumber));
    slider.setAttribute("aria-valuetext", field.value);
    onInput(field.valueAsNumber);
  });
  for (const input of [slider, field]) input.addEventListener("change", onEnd);
  show(initial);
  const row = element("div", { class: "sliders-control" }, [
    element("span", { class: "sliders-name", "aria-hidden": "true" }, [name]),
    slider,
    hasField ? field : said,
    ...(note ? [element("span", { class: "note" }, [note])] : []),
    wrong,
  ]);
  return { row, show, initial };
}

/**
 * @param {string} name
 * @param {Scale} scale
 * @returns {[HTMLInputElement, HTMLInputElement]} The slider, and the field.
 */
function inputsOf(name, scale) {
  const [min, max, step] = [scale.min, scale.max, scale.step].map(String);
  const greatest = scale === SHARE ? "1" : null;
  const label = `${name}, exactly`;
  return [
    element("input", { type: "range", min, max, step, "aria-label": name }),
    element("input", { type: "number", min: "0", max: greatest, step: "any", "aria-label": label }),
  ];
}

/**
 * The mean, and the means of classes, at the parameters that are chosen.
 * @param {Report} document
 */
function answerOf(document) {
  const mean = element("output", { class: "sliders-mean" });
  const table = classTable(document);
  const asked = meanOf(document);
  let frame = 0;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  /** @param {Chosen} chosen */
  const draw = (chosen) => {
    try {
      const found = meanAt(document, chosen);
      const than = asked ? ` (${(found / asked).toPrecision(4)} times the request's)` : "";
      mean.replaceChildren("Mean ", element("strong", {}, [shownNumber(found)]), than);
      mean.dataset.value = String(found);
      table?.fill(classMeansAt(document, chosen) ?? []);
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      mean.replaceChildren(`No mean: ${error.message}.`);
      delete mean.dataset.value;
      table?.fill([]);
    }
  };
  /** @param {Chosen} chosen */
  const show = (chosen) => {
    cancelAnimationFrame(frame);
    frame = requestAnimationFrame(() => draw(chosen));
    clearTimeout(timer);
    timer = setTimeout(sort, SETTLED_MS);
  };
  const drop = () => {
    cancelAnimationFrame(frame);
    mean.replaceChildren("No mean: a number is wrong or missing.");
    delete mean.dataset.value;
    table?.fill([]);
  };
  const sort = () => requestAnimationFrame(() => table && sortAgain(table.table));
  return { mean, show, drop, sort, table: table?.whole };
}

/** @param {Report} document */
function classTable(document) {
  if (document.classes === undefined || document.sweep?.classes === undefined) return null;
  const names = /** @type {readonly string[] | undefined} */ (document.run?.class_names);
  const rows = classMeansOf(document).map((asked, index) => {
    const bar = element("span", { class: "sliders-bar" });
    const cell = element("td");
    const cells = [element("th", { scope: "row" }, [names?.[index] ?? `class ${index}`]), cell];
    const drawn = element("td", { class: "sliders-bars", "aria-hidden": "true" }, [bar]);
    const before = element("td", { "data-value": String(asked) }, [shownNumber(asked)]);
    return { row: element("tr", {}, [...cells, before, drawn]), cell, bar };
  });
  const { table, whole } = tableOf(rows.map(({ row }) => row));
  let isSorted = false;
  /** @param {readonly number[]} means */
  const fill = (means) => {
    const greatest = Math.max(...means.filter(Number.isFinite), 0);
    rows.forEach(({ cell, bar }, index) => {
      const mean = means[index] ?? NaN;
      cell.textContent = shownNumber(mean);
      cell.dataset.value = String(mean);
      bar.style.inlineSize = `${mean > 0 && greatest ? (100 * Math.min(mean, greatest)) / greatest : 0}%`;
    });
    if (!isSorted) sortAgain(table);
    isSorted = true;
  };
  return { table, whole, fill };
}

/**
 * @param {readonly HTMLTableRowElement[]} rows
 * @returns {{ table: HTMLTableElement, whole: HTMLElement }} The table, and what it stands in.
 */
function tableOf(rows) {
  const titles = ["class", "mean here", "mean as requested", ""].map((title) =>
    element("th", { scope: "col" }, [title]),
  );
  titles[1]?.setAttribute("aria-sort", "descending");
  titles[3]?.setAttribute("aria-hidden", "true");
  const table = element("table", { class: "lossd-sortable" }, [
    element("caption", {}, ["Mean loss by class at these parameters"]),
    element("thead", {}, [element("tr", {}, titles)]),
    element("tbody", {}, rows),
  ]);
  const attributes = { class: "lossd-scroll", role: "region", tabindex: "0", "aria-label": "Loss by class" };
  const whole = element("div", {}, [element("div", attributes, [table])]);
  makeSortable(whole);
  return { table, whole };
}

/** @param {number} number */
function shownNumber(number) {
  return Number.isFinite(number) ? String(Number(number.toPrecision(6))) : String(number);
}
