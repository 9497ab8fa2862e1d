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
    const form = element("form", {}, [
      element("h2", { id: "key-title" }, ["This server asks for a key"]),
      ...(complaint ? [element("p", { class: "problem", role: "alert" }, [complaint])] : []),
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
      dialog.close(input.value.trim());
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
