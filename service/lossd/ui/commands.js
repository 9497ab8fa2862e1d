// The request as commands to copy.

import { button, element } from "./elements.js";
import { commandText, curlText, pythonText } from "./snippets.js";

/** @import { Asked } from "./snippets.js" */

const COMMANDS = /** @type {const} */ ([
  ["curl", curlText],
  ["Python", pythonText],
  ["lossd report", commandText],
]);

/** An element with the commands of a request; `show(null)` hides it. */
export function commandsElement() {
  const blocks = COMMANDS.map(([name, text]) => {
    const code = element("code", {});
    const copy = button("Copy", () => copyText(code, copy), { "aria-label": `Copy ${name}` });
    const title = element("div", { class: "row" }, [element("h3", {}, [name]), copy]);
    const block = element("div", { class: "command", "data-command": name }, [
      title,
      element("pre", { tabindex: "0", role: "region", "aria-label": `${name}, to copy` }, [code]),
    ]);
    return { text, code, block };
  });
  const root = element("details", { class: "commands", id: "commands" }, [
    element("summary", {}, ["Copy this as curl, Python or lossd report"]),
    element("p", { class: "note" }, [
      "Run it in the folder of the files. Python and the command need the package lossd: " +
        "pip install path/to/lossd",
    ]),
    ...blocks.map(({ block }) => block),
  ]);
  return {
    root,
    /** @param {Asked | null} asked */
    show(asked) {
      root.hidden = asked === null;
      if (asked === null) return;
      const names = asked.items.flatMap(({ found, label }) => [found.file.name, label]);
      for (const { text, code } of blocks) code.replaceChildren(...isolated(text(asked), names));
    },
  };
}

/**
 * A text with each of the names in it kept apart: one that is written from right to left does not move what
 * is around.
 * @param {string} text
 * @param {readonly string[]} names
 */
function isolated(text, names) {
  const longestFirst = [...new Set(names)].filter(Boolean).sort((one, other) => other.length - one.length);
  const patterns = longestFirst.map((name) => name.replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&"));
  if (patterns.length === 0) return [text];
  const parts = text.split(new RegExp(`(${patterns.join("|")})`));
  return parts.map((part, place) => (place % 2 ? element("bdi", {}, [part]) : part));
}

/**
 * @param {HTMLElement} code
 * @param {HTMLButtonElement} copy
 */
async function copyText(code, copy) {
  getSelection()?.selectAllChildren(code); // so that Ctrl+C does it where a page may not
  try {
    await navigator.clipboard.writeText(code.textContent ?? "");
    copy.textContent = "Copied";
  } catch {
    copy.textContent = document.execCommand("copy") ? "Copied" : "Selected: press Ctrl+C";
  }
  setTimeout(() => (copy.textContent = "Copy"), 2000);
}
