// The page: its tabs, its key, and the parts joined.

import { startForm } from "./form.js";
import { problemElement, responseError } from "./problems.js";
import { startResults } from "./results.js";
import { session } from "./session.js";
import { startUsage } from "./usage.js";

/** @param {string} id */
function byId(id) {
  const found = document.getElementById(id);
  if (found === null) throw new Error(`the page has no element ${id}`);
  return found;
}

const results = startResults(byId("results"));
startForm(byId("score"), { onRun: (run) => results.add(run) });
const usage = startUsage(byId("usage"));
startTabs(byId("tab-score"), byId("tab-usage"));
startKey(byId("key"));
showReport().catch((error) => byId("panel-score").prepend(problemElement(error)));

/** Show the report that the server was started with, if it has one. */
async function showReport() {
  const response = await session.request("ui/report");
  if (response.status === 204 || response.status === 401) return; // there is none, or nobody gave a key
  if (!response.ok) throw await responseError(response);
  results.add({ name: "saved report", document: await response.json(), scored: null });
}

/** @param {readonly HTMLElement[]} tabs */
function startTabs(...tabs) {
  /** @param {HTMLElement} chosen */
  const choose = (chosen) => {
    for (const tab of tabs) {
      const isChosen = tab === chosen;
      tab.setAttribute("aria-selected", String(isChosen));
      tab.tabIndex = isChosen ? 0 : -1;
      byId(String(tab.getAttribute("aria-controls"))).hidden = !isChosen;
    }
    if (chosen.id === "tab-usage") usage.show();
  };
  tabs.forEach((tab, place) => {
    tab.addEventListener("click", () => choose(tab));
    tab.addEventListener("keydown", ({ key }) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[key];
      const next = step && tabs[(place + step + tabs.length) % tabs.length];
      if (!next) return;
      next.focus();
      choose(next);
    });
  });
}

/** @param {HTMLElement} button */
function startKey(button) {
  const show = () => (button.textContent = session.hasKey ? "Forget key" : "Give a key");
  button.addEventListener("click", () => (session.hasKey ? session.forgetKey() : session.changeKey()));
  session.onKey(show);
  show();
}
