// The runs of this session: a list in which each can be shown, renamed and removed.

import { button, element } from "./elements.js";
import { meanOf } from "./sweep.js";

/** @import { Run } from "./requests.js" */
/** @typedef {{ onShow: (run: Run) => void, onRename: (run: Run) => void, onRemove: (run: Run) => void }} Events */

/** What a parameter is unless it is asked for: it is not worth its place in the list. */
const USUAL = new Map(
  Object.entries({
    variant: "sigmoid",
    normalizer: "count",
    class_axis: -1,
    targets_format: "dense",
    row: "sum",
  }),
);

/** A list of runs, the newest first. */
export class RunList {
  /** @type {Map<Run, HTMLLIElement>} */
  #items = new Map();
  #events;
  #list = element("ul", { class: "runs" });
  element = element("section", { class: "runs-part", "aria-labelledby": "runs-title", hidden: "" }, [
    element("h2", { id: "runs-title", tabindex: "-1" }, ["Runs of this session"]),
    this.#list,
  ]);

  /** @param {Events} events */
  constructor(events) {
    this.#events = events;
  }

  /** The runs, the newest first. */
  get all() {
    return [...this.#items.keys()].reverse();
  }

  /**
   * Add a run, under a name that no other has.
   * @param {Run} run
   */
  add(run) {
    const item = element("li");
    const name = this.#freeName(run.name);
    try {
      this.#fill({ ...run, name }, item);
    } catch (error) {
      if (!(error instanceof TypeError)) throw error;
      throw new Error(`${run.name} is a damaged report: open the file that it was saved to, unchanged.`);
    }
    run.name = name;
    this.#fill(run, item);
    this.#items.set(run, item);
    this.#list.prepend(item);
    this.element.hidden = false;
  }

  clear() {
    this.#items.clear();
    this.#list.replaceChildren();
    this.element.hidden = true;
  }

  /**
   * Mark the runs that are shown.
   * @param {readonly Run[]} runs
   */
  mark(runs) {
    for (const [run, item] of this.#items) {
      if (runs.includes(run)) item.setAttribute("aria-current", "true");
      else item.removeAttribute("aria-current");
    }
  }

  /**
   * @param {Run} run
   * @param {HTMLLIElement} item
   */
  #fill(run, item) {
    const { loss, params } = run.document.totals;
    item.replaceChildren(
      button(run.name, () => this.#events.onShow(run), { class: "runs-name quiet" }),
      element("span", { class: "runs-mean" }, [`mean ${Number(meanOf(run.document).toPrecision(6))}`]),
      element("span", { class: "note runs-params" }, [[loss, ...shownParams(params)].join(", ")]),
      element("span", { class: "runs-actions" }, [
        button("Rename", () => this.#rename(run, item), {
          class: "quiet",
          "aria-label": `Rename the run ${run.name}`,
        }),
        button("Remove", () => this.#remove(run, item), {
          class: "quiet",
          "aria-label": `Remove the run ${run.name}`,
        }),
      ]),
    );
  }

  /**
   * @param {Run} run
   * @param {HTMLLIElement} item
   */
  #rename(run, item) {
    const field = element("input", {
      class: "runs-field",
      "aria-label": `New name of ${run.name}`,
      maxlength: "100",
    });
    field.value = run.name;
    let isOpen = true;
    /** @param {string} name */
    const close = (name) => {
      if (!isOpen) return; // taking the field away blurs it
      isOpen = false;
      if (name && name !== run.name) run.name = this.#freeName(name);
      this.#fill(run, item);
      this.#events.onRename(run);
    };
    field.addEventListener("blur", () => close(field.value.trim()));
    field.addEventListener("keydown", (event) => {
      const { key } = event;
      if (key !== "Enter" && key !== "Escape") return;
      event.preventDefault(); // Enter would also press the button that has the focus next
      close(key === "Enter" ? field.value.trim() : "");
      item.querySelector("button")?.focus();
    });
    item.firstElementChild?.replaceWith(field);
    field.select();
  }

  /**
   * @param {Run} run
   * @param {HTMLLIElement} item
   */
  #remove(run, item) {
    this.#items.delete(run);
    item.remove();
    this.element.hidden = this.#items.size === 0;
    if (!this.element.hidden) this.element.querySelector("h2")?.focus();
    this.#events.onRemove(run);
  }

  /** @param {string} name */
  #freeName(name) {
    const taken = new Set(this.all.map((run) => run.name));
    if (!taken.has(name)) return name;
    let number = 2;
    while (taken.has(`${name} (${number})`)) number++;
    return `${name} (${number})`;
  }
}

/** @param {Readonly<Record<string, unknown>>} params */
function shownParams(params) {
  return Object.entries(params).flatMap(([name, value]) => {
    if (value === null && name === "alpha") return ["alpha off"];
    if (!value || USUAL.get(name) === value) return value === 0 && name === "gamma" ? ["gamma 0"] : [];
    if (typeof value === "object") return [`${name} ${Array.isArray(value) ? "by class" : "of a tensor"}`];
    return [`${name} ${value}`];
  });
}
