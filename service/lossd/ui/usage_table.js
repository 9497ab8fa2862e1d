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

/**
 * @param {string} label What the table is, for who cannot see where it stands.
 * @param {readonly string[]} columns
 * @param {{ sortable?: boolean, numbers?: number, head?: (key: string) => Node }} [options] From which column on
 *   there are numbers, and what a row's first cell holds, if that is more than text.
 */
export function usageTable(label, columns, { sortable = false, numbers = 1, head } = {}) {
  const kind = (/** @type {number} */ place) => (place >= numbers ? "lossd-number" : "lossd-text");
  const root = element("div", { class: "lossd-scroll", role: "region", tabindex: "0", "aria-label": label });
  /** @type {Map<string, HTMLTableRowElement>} */
  let rows = new Map();
  /** @type {HTMLTableElement} */
  let table;

  /** @param {readonly Row[]} wanted */
  const build = (wanted) => {
    rows = new Map(wanted.map(({ key, cells }) => [key, element("tr", {}, cells.map((_, place) => cellOf(key, place)))]));
    const heads = columns.map((column, place) => element("th", { scope: "col", class: kind(place) }, [column]));
    table = element("table", { class: sortable ? "lossd-sortable" : null }, [
      element("thead", {}, [element("tr", {}, heads)]),
      element("tbody", {}, [...rows.values()]),
    ]);
    root.previousElementSibling?.matches(".filter") && root.previousElementSibling.remove();
    root.replaceChildren(table);
  };
  /**
   * @param {string} key
   * @param {number} place
   */
  const cellOf = (key, place) => {
    if (place === 0) return element("th", { scope: "row" }, head ? [head(key)] : []);
    return element("td", { class: kind(place) });
  };

  return {
    root,
    /** @param {readonly Row[]} wanted */
    update(wanted) {
      const isNew = !table || wanted.length !== rows.size || wanted.some(({ key }) => !rows.has(key));
      let isChanged = isNew;
      if (isNew) build(wanted);
      for (const { key, cells } of wanted) {
        const row = rows.get(key);
        cells.forEach(({ text, value }, place) => {
          const cell = row?.cells[place];
          if (!cell || (place === 0 && head)) return;
          if (value !== undefined) cell.dataset.value = String(value);
          if (cell.textContent === text) return;
          isChanged = true;
          cell.textContent = text;
        });
      }
      if (!sortable || !isChanged) return;
      if (isNew) makeSortable(root);
      const focused = document.activeElement;
      sortAgain(table);
      if (focused instanceof HTMLElement && root.contains(focused)) focused.focus({ preventScroll: true }); // rows moved
    },
  };
}
