// The figures of usage, and how they are written.

import { sizeText } from "./elements.js";

/** @import { Usage } from "./client/index.js" */
/** @typedef {Usage["total"]} Total */
/** @typedef {Usage["days"][number]} Day */

const whole = new Intl.NumberFormat("en");
const seconds = new Intl.NumberFormat("en", { minimumFractionDigits: 1, maximumFractionDigits: 1 });
const fine = new Intl.NumberFormat("en", { maximumSignificantDigits: 2 });

/** @param {number} value */
export function countText(value) {
  return whole.format(value);
}

/** @param {number} value */
function secondsText(value) {
  return value === 0 || value >= 0.1 ? seconds.format(value) : fine.format(value);
}

/**
 * The figures that are counted by day.
 * @type {readonly { name: keyof Total, title: string, text: (value: number) => string }[]}
 */
export const FIGURES = [
  { name: "requests", title: "Requests", text: countText },
  { name: "elements", title: "Elements", text: countText },
  { name: "bytes", title: "Bytes", text: sizeText },
  { name: "device_seconds", title: "Device seconds", text: secondsText },
];

/**
 * The figures of a total, as cells of a table.
 * @param {Total} total
 */
export function figureCells(total) {
  return FIGURES.map(({ name, text }) => ({ text: text(total[name]), value: total[name] }));
}

/** @type {Total} */
export const NOTHING = { requests: 0, elements: 0, bytes: 0, device_seconds: 0 };

/**
 * All days of a period, also those without use, the newest last.
 * @param {string} since
 * @param {number} days
 * @param {readonly Day[]} used
 * @returns {Day[]}
 */
export function everyDay(since, days, used) {
  const byDay = new Map(used.map((day) => [day.day, day]));
  const first = Date.parse(`${since}T00:00:00Z`);
  return Array.from({ length: days }, (_, place) => {
    const day = new Date(first + 86_400_000 * place).toISOString().slice(0, 10);
    return byDay.get(day) ?? { day, ...NOTHING };
  });
}
