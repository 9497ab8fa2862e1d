// The dialog that asks for an API key.

import { element } from "./elements.js";

/**
 * Ask for a key.
 * @param {string} complaint What is wrong with the last one; empty if there was none.
 * @returns {Promise<string | null>} The key; null if none was given.
 */
export function askForKey(complaint) {
  return new Promise((resolve) => {
    const input = element("input", {
      type: "password",
      id: "key-text",
      autocomplete: "off",
      spellcheck: "false",
      required: "",
      "aria-describedby": "key-note",
    });
    const problem = element("div");
    /** @param {string} text */
    const complain = (text) =>
      problem.replaceChildren(element("p", { class: "problem", role: "alert" }, [text]));
    if (complaint) complain(complaint);
    const form = element("form", {}, [
      element("h2", { id: "key-title" }, ["This server asks for a key"]),
      problem,
      element("p", { id: "key-note" }, [
        "Ask whoever runs the server: each team has its own. The key stays in the memory of this page; " +
          "closing or reloading the page forgets it. Cancel, and the page says what can be done without one.",
      ]),
      element("p", { class: "row" }, [element("label", { for: "key-text" }, ["Key"]), input]),
      element("p", { class: "row" }, [
        element("button", { class: "main" }, ["Use this key"]),
        element("button", { type: "button", id: "key-cancel" }, ["Cancel"]),
      ]),
    ]);
    const dialog = element("dialog", { "aria-labelledby": "key-title" }, [form]);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      // What is not seen comes along with copied text.
      const given = input.value.replace(/[\s\p{Cc}\p{Cf}]/gu, "");
      if (/^[\x21-\x7e]+$/.test(given)) return dialog.close(given);
      complain("This is no key: it has characters that no key has. Copy the key alone.");
      input.focus();
    });
    form.querySelector("#key-cancel")?.addEventListener("click", () => dialog.close(""));
    dialog.addEventListener("cancel", () => (dialog.returnValue = ""));
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue || null);
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}
