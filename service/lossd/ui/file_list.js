// The list of files, each with what it is and what it stands for.

import { button, element, sizeText } from "./elements.js";
import { recognise } from "./files.js";
import {
  isOfSecondModel,
  PLACE_TEXT,
  placeByName,
  placeByType,
  PLACES_OF,
  shapeText,
  stem,
} from "./places.js";
import { shown } from "./quoting.js";

/** @import { Found } from "./files.js" */
/** @import { Item, Place } from "./places.js" */
/** @typedef {Exclude<Found, { kind: "report" }>} Usable */
/** @typedef {{ item: Item, root: HTMLElement, show: () => void }} Row */

const MOST_MEMBERS = 20; // that are shown
let made = 0;

export class FileList {
  root = element("ul", { class: "files", "aria-label": "Files" });
  /** What was done with files that others stood in the way of, and what else could be. */
  notice = element("div", { class: "notice", role: "status" });
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
   * Take files: each has the place that its name says, else that its type leaves, else people are asked.
   * @param {readonly { found: Usable, place?: Place }[]} given One of a name takes the place of the former.
   */
  take(given) {
    this.notice.replaceChildren();
    for (const { found, place } of given) this.#add(found, place);
    for (const [item, place] of placeByType(this.items)) Object.assign(item, { place, isByType: true });
    for (const row of [...this.#rows]) this.#takeSecondModel(row);
    this.#changed();
  }

  clear() {
    this.notice.replaceChildren();
    for (const row of [...this.#rows]) this.#drop(row);
    this.#changed();
  }

  /** @param {Usable} found @param {Place} [place] */
  #add(found, place) {
    const { name } = found.file;
    const former = this.#rows.find(({ item }) => item.found.file.name === name);
    if (former) this.#drop(former);
    const label = stem(name).replaceAll(",", " ");
    /** @type {Item} */
    const item = { found, place: place ?? former?.item.place ?? placeByName(found), label };
    this.#makeRoom(item);
    this.#append(this.#rowOf(item));
  }

  /**
   * Take away files that were scored and that a new one follows; before that, who is first keeps its place.
   * @param {Item} item
   */
  #makeRoom(item) {
    const scored = this.#rows.filter((row) => row.item.hasRun && standsInTheWay(row.item, item));
    for (const row of scored) this.#drop(row);
    if (scored.length) this.#sayReplaced(item, scored);
    const holder = this.items.find((other) => isOfSameSlot(other, item));
    if (holder?.isByType)
      holder.place = placeByName(holder.found); // this one's name says more
    else if (holder) item.place = "";
  }

  /**
   * Take outputs of the inputs' shape, whose place is taken or not known, as another model's: after a run
   * they are what is scored next, before it what is compared with.
   * @param {Row} row
   */
  #takeSecondModel({ item }) {
    const inputs = this.#rows.find((row) => isOfSecondModel(item, row.item, this.items));
    if (inputs === undefined) return;
    if (inputs.item.hasRun) {
      item.place = inputs.item.place;
      this.#drop(inputs);
      this.#sayReplaced(item, [inputs]);
    } else if (!this.items.some(({ place }) => place === "baseline")) {
      item.place = "baseline";
      this.#say(
        `${nameOf(item)} is taken as another model's outputs, which ${nameOf(inputs.item)} is compared with.`,
        button(`Score ${nameOf(item)} alone, without ${nameOf(inputs.item)}`, () =>
          this.#swap(item, inputs.item.place, inputs),
        ),
      );
    }
  }

  /** @param {Item} item @param {readonly Row[]} former */
  #sayReplaced(item, former) {
    const names = former.map((row) => nameOf(row.item)).join(", ");
    const inputs = former.find((row) =>
      isOfSecondModel({ ...item, place: "" }, row.item, [row.item, ...this.items]),
    );
    const instead = inputs && !this.items.some(({ place }) => place === "baseline");
    this.#say(
      `${nameOf(item)} takes the place of ${names}, whose run stays in the list of runs, to compare with.`,
      ...(instead
        ? [
            button(`Score ${nameOf(inputs.item)} against ${nameOf(item)} instead`, () =>
              this.#swap(item, "baseline", null, inputs),
            ),
          ]
        : []),
    );
  }

  /** @param {string} text @param {readonly HTMLElement[]} choices */
  #say(text, ...choices) {
    this.notice.append(element("p", { class: "row" }, [text, ...choices]));
  }

  /**
   * Do what was offered instead.
   * @param {Item} item
   * @param {Place} place
   * @param {Row | null} gone
   * @param {Row} [back]
   */
  #swap(item, place, gone, back) {
    if (gone) this.#drop(gone);
    if (back) this.#append(back);
    item.place = place;
    this.notice.replaceChildren();
    this.#changed();
  }

  /** @param {Row} row */
  #append(row) {
    this.#rows.push(row);
    this.root.append(row.root);
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
        element("strong", {}, [element("bdi", {}, [shown(name)])]),
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
    this.notice.replaceChildren();
    item.place = place;
    item.isByType = false;
    for (const other of this.#rows) {
      if (other.item === item || !isOfSameSlot(other.item, item)) continue;
      if (other.item.hasRun) this.#drop(other);
      else other.item.place = "";
    }
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

/** @param {Item} item */
function nameOf({ found }) {
  return shown(found.file.name);
}

/** @param {Item} item */
function isWhole({ found }) {
  return found.kind === "npz" || found.kind === "arrow";
}

/**
 * Whether a request has either of two files. Logits, probabilities and boxes share their slot.
 * @param {Item} one
 * @param {Item} other
 */
function isOfSameSlot({ place: one }, { place: other }) {
  const slots = [one, other].map((place) => (place === "probabilities" || place === "boxes" ? "logits" : place));
  return slots[0] === slots[1] && one !== "" && one !== "groups";
}

/**
 * Whether a file that was scored has to go for a new one.
 * @param {Item} former
 * @param {Item} item
 */
function standsInTheWay(former, item) {
  if (!isWhole(former) && !isWhole(item)) return isOfSameSlot(former, item);
  return former.place !== "classes" && item.place !== "classes";
}

/** @param {Found} found */
function factsOf(found) {
  const size = sizeText(found.file.size);
  if (found.kind === "npy") return `${found.head.dtype} ${shapeText(found.head.shape)}, ${size}`;
  if (found.kind === "lines") return `${found.lines.length} lines, ${size}`;
  if (found.kind === "report") return size;
  const members = found.members
    .slice(0, MOST_MEMBERS)
    .map(({ name, head }) => (head ? `${shown(name)} ${shapeText(head.shape)}` : shown(name)));
  const others = found.members.length - members.length;
  if (others > 0) members.push(`and ${others} more`);
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
