// Results: the newest run, the list of runs, and two of them side by side.

/** @import { Run } from "./requests.js" */

/** @param {HTMLElement} root */
export function startResults(root) {
  return {
    /** @param {Run} run */
    add(run) {
      root.textContent = run.name;
    },
  };
}
