// The second tab: what the team has used.

/** @param {HTMLElement} root */
export function startUsage(root) {
  return {
    show() {
      root.textContent = "";
    },
  };
}
