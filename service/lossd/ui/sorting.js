// Tables that people sort by a column, and filter by name.

import { button, element } from "./elements.js";

const FILTERED = 20; // a longer table has a field to filter it

const collator = new Intl.Collator(undefined, { numeric: true });

/**
 * Make all tables of a part of the page that can be sorted so.
 * @param {ParentNode} root
 */
export function makeSortable(root) {
  for (const table of /** @type {NodeListOf<HTMLTableElement>} */ (
    root.querySelectorAll("table.lossd-sortable")
  )) {
    if (table.tBodies.length === 0 || table.querySelector("thead button")) continue;
    addHeaders(table);
    if (rowsOf(table).length <= FILTERED) continue;
    table.closest(".lossd-scroll")?.classList.add("long");
    addFilter(table);
  }
}

/**
 * Sort a table anew by the column that it is sorted by, if it is.
 * @param {HTMLTableElement} table
 */
export function sortAgain(table) {
  const column = headersOf(table).findIndex((header) => header.hasAttribute("aria-sort"));
  if (column >= 0) sort(table, column, headersOf(table)[column]?.getAttribute("aria-sort") === "descending");
}

/** @param {HTMLTableElement} table */
function addHeaders(table) {
  headersOf(table).forEach((header, column) => {
    const name = header.textContent?.trim();
    if (!name) return;
    const onClick = () => {
      const before = header.getAttribute("aria-sort");
      // People look for the greatest losses, and for names from the first on.
      const isDescending = before === null ? isNumeric(table, column) : before === "ascending";
      sort(table, column, isDescending);
    };
    header.replaceChildren(button(name, onClick, { class: "sort" }));
  });
}

/** @param {HTMLTableElement} table */
function headersOf(table) {
  return [...(table.tHead?.rows[0]?.cells ?? [])];
}

/** @param {HTMLTableElement} table */
function rowsOf(table) {
  return [...(table.tBodies[0]?.rows ?? [])];
}

/**
 * @param {HTMLTableElement} table
 * @param {number} column
 */
function isNumeric(table, column) {
  return rowsOf(table).some((row) => row.cells[column]?.dataset.value !== undefined);
}

/**
 * Sort a table: rows that are equal stay in the order that they are in, and NaN and gaps are last.
 * @param {HTMLTableElement} table
 * @param {number} column
 * @param {boolean} isDescending
 */
function sort(table, column, isDescending) {
  headersOf(table).forEach((header, place) => {
    if (place === column) header.setAttribute("aria-sort", isDescending ? "descending" : "ascending");
    else header.removeAttribute("aria-sort");
  });
  const direction = isDescending ? -1 : 1;
  const keyOf = isNumeric(table, column) ? numberOf : textOf;
  const rows = rowsOf(table).map((row) => ({ row, key: keyOf(row.cells[column]) }));
  rows.sort((one, other) => compare(one.key, other.key, direction));
  const sorted = document.createDocumentFragment();
  for (const { row } of rows) sorted.append(row);
  table.tBodies[0]?.append(sorted);
}

/**
 * @param {number | string} one
 * @param {number | string} other Of the same type.
 * @param {number} direction
 */
function compare(one, other, direction) {
  if (typeof one === "string") return direction * collator.compare(one, String(other));
  const gaps = Number(Number.isNaN(one)) - Number(Number.isNaN(other));
  return gaps || (one === other || Number.isNaN(one) ? 0 : direction * (one < Number(other) ? -1 : 1));
}

/** @param {HTMLTableCellElement | undefined} cell */
function numberOf(cell) {
  return Number(cell?.dataset.value ?? NaN);
}

/** @param {HTMLTableCellElement | undefined} cell */
function textOf(cell) {
  return cell?.textContent ?? "";
}

/** @param {HTMLTableElement} table */
function addFilter(table) {
  const rows = rowsOf(table).map((row) => ({ row, name: nameOf(row) }));
  const shown = element("span", { class: "note", role: "status" });
  const field = element("input", { type: "search", autocomplete: "off", spellcheck: "false" });
  field.addEventListener("input", () => {
    const wanted = field.value.trim().toLowerCase();
    let count = 0;
    for (const { row, name } of rows) {
      const isShown = name.includes(wanted);
      row.hidden = !isShown;
      count += Number(isShown);
    }
    shown.textContent = wanted ? `${count.toLocaleString("en")} of ${rows.length.toLocaleString("en")}` : "";
  });
  const bar = element("div", { class: "filter row" }, [
    element("label", {}, ["Name contains ", field]),
    shown,
  ]);
  (table.closest(".lossd-scroll") ?? table).before(bar);
}

/** @param {HTMLTableRowElement} row */
function nameOf(row) {
  const names = row.querySelectorAll("th");
  return (names.length ? [...names] : [row])
    .map((cell) => cell.textContent)
    .join(" ")
    .toLowerCase();
}
