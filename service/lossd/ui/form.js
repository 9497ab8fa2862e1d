// The form: which files, which loss.

/** @import { Run } from "./requests.js" */

/**
 * @param {HTMLElement} root
 * @param {{ onRun: (run: Run) => void }} options
 */
export function startForm(root, { onRun }) {
  root.textContent = "";
}
