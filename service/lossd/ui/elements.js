// Elements of the page, made without HTML text.

/**
 * Make an element.
 * @template {keyof HTMLElementTagNameMap} Name
 * @param {Name} name
 * @param {Readonly<Record<string, string | null | undefined>>} [attributes] Null and undefined leave one out.
 * @param {readonly (Node | string)[]} [children]
 * @returns {HTMLElementTagNameMap[Name]}
 */
export function element(name, attributes = {}, children = []) {
  const made = document.createElement(name);
  for (const [attribute, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined) made.setAttribute(attribute, value);
  }
  made.append(...children);
  return made;
}

/**
 * A button and what it does.
 * @param {string} text
 * @param {() => void} onClick
 * @param {Readonly<Record<string, string | null | undefined>>} [attributes]
 */
export function button(text, onClick, attributes = {}) {
  const made = element("button", { type: "button", ...attributes }, [text]);
  made.addEventListener("click", onClick);
  return made;
}

/**
 * Bytes for people.
 * @param {number} bytes
 */
export function sizeText(bytes) {
  for (const [unit, size] of /** @type {const} */ ([
    ["GB", 1e9],
    ["MB", 1e6],
    ["kB", 1e3],
  ])) {
    if (bytes >= size) return `${(bytes / size).toPrecision(3)} ${unit}`;
  }
  return `${bytes} bytes`;
}
