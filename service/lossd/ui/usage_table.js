// Tables whose cells change in place: what has the focus, is selected or sorted stays so.

import { element } from "./elements.js";
import { makeSortable, sortAgain } from "./sorting.js";

/**
 * A cell: its text, and the number that it is sorted by, if it is one.
 * @typedef {{ text: string, value?: number }} Cell
 *
 * A row: what tells it from others, and its cells.
 * @typedef {{ key: string, cells: readonly Cell[] }} Row
 */

/** @typedef {(key: string) => Node} Head What a row's first cell holds, if that is more than text. */

/**
 * @param {string} label What the table is, for who cannot see where it stands.
 * @param {readonly string[]} columns
 * @param {{ sortable?: boolean, numbers?: number, head?: Head }} [options] `numbers` is the first column of
 *   them.
 */
export function usageTable(label, columns, { sortable = false, numbers = 1, head } = {}) {
  const root = element("div", { class: "lossd-scroll", role: "region", tabindex: "0", "aria-label": label });
  const kinds = columns.map((_, place) => (place >= numbers ? "lossd-number" : "lossd-text"));
  /** @type {Map<string, HTMLTableRowElement>} */
  let rows = new Map();
  /** @type {HTMLTableElement} */
  let table;

  /** @param {readonly Row[]} wanted */
  const build = (wanted) => {
    rows = new Map(wanted.map(({ key }) => [key, rowOf(key, kinds, head)]));
    const heads = columns.map((column, place) =>
      element("th", { scope: "col", class: kinds[place] }, [column]),
    );
    table = element("table", { class: sortable ? "lossd-sortable" : null }, [
      element("thead", {}, [element("tr", {}, heads)]),
      element("tbody", {}, [...rows.values()]),
    ]);
    root.previousElementSibling?.matches(".filter") && root.previousElementSibling.remove();
    root.replaceChildren(table);
  };
  return {
    root,
    /** @param {readonly Row[]} wanted */
    update(wanted) {
      const isNew = !table || wanted.length !== rows.size || wanted.some(({ key }) => !rows.has(key));
      if (isNew) build(wanted);
      const changed = wanted.filter(({ key, cells }) => fill(rows.get(key), cells, head !== undefined));
      if (!sortable || !(isNew || changed.length)) return;
      if (isNew) makeSortable(root);
      const focused = document.activeElement;
      sortAgain(table);
      // Rows moved.
      if (focused instanceof HTMLElement && root.contains(focused)) focused.focus({ preventScroll: true });
    },
  };
}

/**
 * @param {string} key
 * @param {readonly string[]} kinds
 * @param {Head | undefined} head
 */
function rowOf(key, kinds, head) {
  const first = element("th", { scope: "row" }, head ? [head(key)] : []);
  return element("tr", {}, [first, ...kinds.slice(1).map((kind) => element("td", { class: kind }))]);
}

/**
 * Bring a row's cells up to date.
 * @param {HTMLTableRowElement | undefined} row
 * @param {readonly Cell[]} cells
 * @param {boolean} hasHead Whether the first cell stays as it is.
 * @returns {boolean} Whether any has changed.
 */
function fill(row, cells, hasHead) {
  let isChanged = false;
  cells.forEach(({ text, value }, place) => {
    const cell = row?.cells[place];
    if (!cell || (place === 0 && hasHead)) return;
    if (value !== undefined) cell.dataset.value = String(value);
    if (cell.textContent === text) return;
    isChanged = true;
    cell.textContent = text;
  });
  return isChanged;
}
