// The fields of the loss and its parameters.

import { LOSSES } from "./client/methods.js";
import { element } from "./elements.js";
import { controlsOf, fits, valueOf, valuesOf } from "./parameters.js";
import { sectionsOf } from "./places.js";

/** @import { Info } from "./client/index.js" */
/** @import { Control } from "./parameters.js" */
/** @import { Item, LossOf } from "./places.js" */

const GAMMAS = [0, 0.5, 1, 1.5, 2, 3];
/** The loss whose gammas a report can sweep. */
const SWEPT = "focal";
/** The loss with sums for every pos_weight, which a report of all leaves out. */
const SUMMED = "bce";

export class LossFields {
  root = element("fieldset", { class: "loss", hidden: "" });
  #select = element("select", { id: "loss" });
  #first = element("div", { class: "parameters" });
  #more = element("div", { class: "parameters" });
  #gammas = element("input", { id: "gammas", autocomplete: "off", "aria-describedby": "gammas-note" });
  #gammasRow = element("div", { class: "parameter" });
  #summary = element("small", { class: "note", id: "loss-note" });
  #classIds = element("input", { type: "checkbox", id: "class-ids" });
  #classIdsText = element("span");
  #classIdsRow = element("p", { class: "suggestion", hidden: "" });
  #areGammasOwn = false;
  /** Whether all is as the example chose it. */
  #isOfExample = false;
  #onChange;
  /** @type {Info["losses"]} */
  #losses = [];
  /** @type {readonly Control[]} */
  #controls = [];

  /** @param {() => void} onChange */
  constructor(onChange) {
    this.#onChange = onChange;
    this.#gammasRow.append(
      element("label", { for: "gammas" }, ["gammas to compare"]),
      this.#gammas,
      element("small", { class: "note", id: "gammas-note" }, [
        "The slider of the results has these: numbers with commas between them.",
      ]),
    );
    this.#classIdsRow.append(element("label", {}, [this.#classIds, this.#classIdsText]));
    this.root.append(
      element("legend", {}, ["Loss and parameters"]),
      this.#classIdsRow,
      element("div", { class: "parameter" }, [
        element("label", { for: "loss" }, ["loss"]),
        this.#select,
        this.#summary,
      ]),
      this.#first,
      element("details", { class: "more" }, [element("summary", {}, ["More parameters"]), this.#more]),
    );
    this.#gammas.addEventListener("input", () => (this.#areGammasOwn = this.#gammas.value.trim() !== ""));
    this.#select.addEventListener("change", () => this.#build());
    this.#classIds.addEventListener("input", () =>
      this.#write("targets_format", this.#classIds.checked ? "index" : "dense"),
    );
    // What is wrong can be seen.
    this.root.addEventListener(
      "invalid",
      ({ target }) => target instanceof Element && target.closest("details")?.setAttribute("open", ""),
      true,
    );
    for (const kind of ["input", "change"]) {
      this.root.addEventListener(kind, () => {
        this.#isOfExample = false;
        this.#changed();
      });
    }
  }

  get name() {
    return this.#select.value;
  }

  /**
   * What has one loss; a loss that an operator added is of elements.
   * @returns {LossOf}
   */
  get lossOf() {
    return /** @type {Readonly<Record<string, { row: LossOf }>>} */ (LOSSES)[this.name]?.row ?? "";
  }

  /** Whether it takes probabilities in place of logits. */
  get takesProbabilities() {
    const loss = this.#losses.find(({ name }) => name === this.name);
    return loss?.tensors.includes("probabilities") ?? true;
  }

  /** Whether targets are class ids; null where their shape says it. */
  get hasClassIds() {
    const format = this.#value("targets_format");
    return format === null && this.lossOf === "classes" ? null : format === "index";
  }

  /** @param {Info["losses"]} losses */
  setLosses(losses) {
    const chosen = this.name;
    this.#losses = losses;
    this.#select.replaceChildren(
      ...losses.map(({ name, title }) => element("option", { value: name }, [`${name}: ${title}`])),
    );
    if (losses.some(({ name }) => name === chosen)) this.#select.value = chosen;
    this.root.hidden = false;
    this.#build();
  }

  /**
   * Choose the example's loss.
   * @param {string} name
   */
  choose(name) {
    this.#select.value = name;
    this.#build();
    this.#isOfExample = true;
  }

  /** Begin anew with the server's defaults after the example, unless somebody has chosen since. */
  reset() {
    if (!this.#isOfExample) return;
    this.#isOfExample = false;
    this.#select.selectedIndex = 0;
    this.#controls = [];
    this.#areGammasOwn = false;
    this.#classIdsRow.hidden = true;
    this.#build();
  }

  /** Show the chosen loss's controls; parameters that it shares with the last one keep their values. */
  #build() {
    const former = valuesOf(this.#controls);
    const { first, more } = controlsOf(this.#losses, this.name);
    this.#controls = [...first, ...more];
    for (const { parameter, write } of this.#controls) {
      if (parameter.name in former && fits(former[parameter.name], parameter)) write(former[parameter.name]);
    }
    this.#first.replaceChildren(...first.map(({ root }) => root));
    this.#more.replaceChildren(
      ...(this.name === SWEPT ? [this.#gammasRow] : []),
      ...more.map(({ root }) => root),
    );
    this.#changed();
  }

  #changed() {
    const isIndex = this.#value("targets_format") === "index";
    this.#classIds.checked = isIndex;
    if (!this.#areGammasOwn) {
      const gamma = Number(this.#value("gamma") ?? 0);
      this.#gammas.value = [...new Set([...GAMMAS, gamma])].sort((one, other) => one - other).join(", ");
    }
    this.#onChange();
  }

  /** @param {string} name */
  #value(name) {
    return this.#controls.find(({ parameter }) => parameter.name === name)?.read();
  }

  /** @param {string} name @param {unknown} value */
  #write(name, value) {
    this.#controls.find(({ parameter }) => parameter.name === name)?.write(value);
  }

  /**
   * Take targets as class ids, and say so; or no longer.
   * @param {number} classes How many there are; 0 if targets are none.
   */
  suggestClassIds(classes) {
    const ids = `integers from 0 to ${classes - 1}, with one dimension less than the inputs`;
    this.#classIdsText.textContent = ` The targets are class ids (targets_format=index): ${ids}`;
    if (this.lossOf === "classes" || this.#value("targets_format") === undefined) {
      if (!this.#classIdsRow.hidden) this.#write("targets_format", null);
      this.#classIdsRow.hidden = true; // by shape, or there are none
      return;
    }
    const isLikely = classes > 0;
    if (this.#classIdsRow.hidden !== isLikely) return; // it stands as it was
    this.#classIdsRow.hidden = !isLikely;
    this.#classIds.checked = isLikely;
    this.#write("targets_format", isLikely ? "index" : "dense");
  }

  /**
   * What is asked for: parameters that differ from the server's defaults, and what the shapes depend on.
   * @param {readonly Item[]} items
   */
  asked(items) {
    const params = valuesOf(this.#controls);
    const gammas = [valueOf(this.#gammas.value)].flat();
    const sweep =
      this.name === SWEPT && gammas[0] !== "" ? { sweep: { gamma: /** @type {number[]} */ (gammas) } } : {};
    const classAxis = Number(this.#value("class_axis") ?? -1);
    const sections = this.name === SUMMED ? sectionsOf(items, classAxis) : null;
    return {
      params: { ...params, ...sweep, ...(sections && { sections }) },
      classAxis,
      hasClassIds: this.hasClassIds,
      lossOf: this.lossOf,
    };
  }
}
