// The list of files, each with what it is and what it stands for.

import { button, element, sizeText } from "./elements.js";
import { recognise } from "./files.js";
import { PLACE_TEXT, placeByName, PLACES_OF, shapeText, stem } from "./places.js";

/** @import { Found } from "./files.js" */
/** @import { Item, Place } from "./places.js" */
/** @typedef {{ item: Item, root: HTMLElement, show: () => void }} Row */

let made = 0;

export class FileList {
  root = element("ul", { class: "files", "aria-label": "Files" });
  /** @type {Row[]} */
  #rows = [];
  #onChange;

  /** @param {() => void} onChange */
  constructor(onChange) {
    this.#onChange = onChange;
  }

  get items() {
    return this.#rows.map(({ item }) => item);
  }

  /**
   * Add a file; one of the same name takes the place of the former.
   * @param {Exclude<Found, { kind: "report" }>} found
   * @param {Place} [place] By default what its name says, if no other file has it.
   */
  add(found, place) {
    const former = this.#rows.find(({ item }) => item.found.file.name === found.file.name);
    if (former) this.#drop(former);
    const byName = place ?? former?.item.place ?? placeByName(found);
    const isTaken = byName !== "groups" && this.items.some((item) => slot(item.place) === slot(byName));
    const item = { found, place: isTaken ? "" : byName, label: stem(found.file.name).replaceAll(",", " ") };
    const row = this.#rowOf(item);
    this.#rows.push(row);
    this.root.append(row.root);
    this.#changed();
  }

  clear() {
    for (const row of [...this.#rows]) this.#drop(row);
    this.#changed();
  }

  /** @param {Row} row */
  #drop(row) {
    this.#rows = this.#rows.filter((each) => each !== row);
    row.root.remove();
  }

  #changed() {
    for (const row of this.#rows) row.show();
    this.#onChange();
  }

  /** @param {Item} item @returns {Row} */
  #rowOf(item) {
    const name = item.found.file.name;
    const id = `file-${made++}`;
    const select = element("select", { id, "aria-label": `What ${name} is` }, [
      element("option", { value: "" }, ["what is it?"]),
      ...PLACES_OF[item.found.kind].map((place) => element("option", { value: place }, [PLACE_TEXT[place]])),
    ]);
    const label = element("input", {
      "aria-label": `What the groups of ${name} are called`,
      value: item.label,
      size: "10",
    });
    const called = element("span", { class: "called note" }, ["called", label]);
    select.addEventListener("change", () => this.#place(item, /** @type {Place} */ (select.value)));
    label.addEventListener("input", () => {
      item.label = label.value.replaceAll(",", " ").trim() || stem(name);
      this.#onChange();
    });
    const remove = button("×", () => this.#remove(row), { class: "quiet", "aria-label": `Remove ${name}` });
    const root = element("li", { class: "file" }, [
      element("span", { class: "file-name" }, [
        element("strong", {}, [name]),
        element("span", { class: "note" }, [factsOf(item.found)]),
      ]),
      ...(PLACES_OF[item.found.kind].length ? [select] : []),
      called,
      remove,
    ]);
    const row = {
      item,
      root,
      show: () => {
        select.value = item.place;
        root.classList.toggle("unplaced", item.place === "" && PLACES_OF[item.found.kind].length > 0);
        called.hidden = item.place !== "groups";
      },
    };
    return row;
  }

  /** @param {Item} item @param {Place} place */
  #place(item, place) {
    for (const other of this.items) {
      if (other !== item && place !== "groups" && slot(other.place) === slot(place)) other.place = "";
    }
    item.place = place;
    this.#changed();
  }

  /** @param {Row} row */
  #remove(row) {
    const next = this.#rows[this.#rows.indexOf(row) + 1] ?? this.#rows[this.#rows.indexOf(row) - 1];
    this.#drop(row);
    this.#changed();
    next?.root.querySelector("button")?.focus();
  }
}

/**
 * Logits and probabilities share one: a request has either.
 * @param {Place} place
 */
function slot(place) {
  return place === "probabilities" ? "logits" : place || Symbol("none");
}

/** @param {Found} found */
function factsOf(found) {
  const size = sizeText(found.file.size);
  if (found.kind === "npy") return `${found.head.dtype} ${shapeText(found.head.shape)}, ${size}`;
  if (found.kind === "lines") return `${found.lines.length} lines, ${size}`;
  if (found.kind === "report") return size;
  const members = found.members.map(({ name, head }) => (head ? `${name} ${shapeText(head.shape)}` : name));
  return `${found.kind === "npz" ? "arrays" : "Arrow stream, columns"} ${members.join(", ")}; ${size}`;
}

/**
 * Recognise files, and hand each on.
 * @param {readonly File[]} files
 * @param {{ onFound: (found: Found) => void, onError: (error: unknown) => void }} handlers
 */
export async function takeFiles(files, { onFound, onError }) {
  for (const file of files) {
    try {
      onFound(await recognise(file));
    } catch (error) {
      onError(error);
    }
  }
}
