// Errors for people: what is wrong, where, and what to do.

import { LossdError, StatusError } from "./client/index.js";
import { statusError } from "./client/errors.js";
import { element } from "./elements.js";
import { UnusableFile } from "./remedies.js";

/**
 * The error of an answer that is one, as the client has it.
 * @param {Response} response
 */
export async function responseError(response) {
  return statusError(response, await response.arrayBuffer());
}

/**
 * An error as an element.
 * @param {unknown} error A LossdError or another one.
 * @returns {HTMLElement}
 */
export function problemElement(error) {
  const known = error instanceof LossdError ? error : null;
  const detail =
    error instanceof StatusError ? error.detail : error instanceof Error ? error.message : String(error);
  const [first = "", ...rest] = detail.split(/(?<=\.) (?=[A-Z])/);
  const places = (known?.errors ?? []).filter(
    ({ detail: its, pointer }) => !(its === detail && /^(\/reports\b|$)/.test(pointer)),
  );
  const remedy = error instanceof UnusableFile ? error.remedy : undefined;
  // The last number of a box's place is no class.
  const last = /\bbox|\bcoordinate/.test(detail) ? "coordinate" : "class";
  const ids = [known?.code, known?.request_id && `request ${known.request_id}`].filter(Boolean).join(", ");
  return element("div", { class: "problem", role: "alert" }, [
    element("p", { class: "problem-title" }, [first]),
    ...rest.map((sentence) => element("p", {}, [sentence])),
    ...(remedy ? [element("p", {}, [`${remedy.lead}: `, element("code", {}, [remedy.command])])] : []),
    ...(places.length ? [element("ul", {}, places.map((place) => placeItem(place, last)))] : []),
    ...(ids ? [element("p", { class: "note" }, [ids])] : []),
  ]);
}

/** @param {{ pointer: string, detail: string }} item @param {string} last What the last axis is of. */
function placeItem({ pointer, detail }, last) {
  return element("li", {}, [element("strong", {}, [placeText(pointer, last)]), `: ${detail}`]);
}

/**
 * A JSON pointer for people: "/targets/17/3" is "targets, row 17, class 3".
 * @param {string} pointer
 * @param {string} last What the last axis is of.
 */
function placeText(pointer, last) {
  const [name = "", ...indices] = pointer
    .split("/")
    .slice(1)
    .map((part) => part.replaceAll("~1", "/").replaceAll("~0", "~"));
  if (name === "") return "The request";
  if (!indices.every((index) => /^\d+$/.test(index))) return [name, ...indices].join(", ");
  if (indices.length > 2) return `${name}, row ${indices[0]}, at [${indices.slice(1).join(", ")}]`;
  return [name, ...indices.map((index, axis) => `${axis === 0 ? "row" : last} ${index}`)].join(", ");
}
