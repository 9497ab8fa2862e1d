// The page: its tabs, its key, and the parts joined.

import { button, element } from "./elements.js";
import { startForm } from "./form.js";
import { problemElement, responseError } from "./problems.js";
import { startResults } from "./results.js";
import { session } from "./session.js";
import { startUsage } from "./usage.js";

/** @import { Run } from "./requests.js" */

/** @param {string} id */
function byId(id) {
  const found = document.getElementById(id);
  if (found === null) throw new Error(`the page has no element ${id}`);
  return found;
}

const results = startResults(byId("results"));
startForm(byId("score"), {
  onRun: (run, { isFocused } = { isFocused: true }) => {
    show(run, { isFocused });
    if (!isFocused) return;
    byId("results").scrollIntoView();
    byId("results").focus({ preventScroll: true });
  },
});
const usage = startUsage(byId("usage"));
startTabs(byId("tab-score"), byId("tab-usage"));
startKey(byId("key"));
startReport();

/**
 * @param {Run} run
 * @param {{ isFocused?: boolean }} [options]
 */
function show(run, options) {
  const shown = results.add(run, options);
  byId("panel-score").classList.add("has-runs");
  return shown;
}

/**
 * Show the report that the server was started with, if it has one; where it asks for a key, once people gave
 * one.
 */
function startReport() {
  let isDone = false;
  let asked = 0;
  const ask = async () => {
    if (isDone) return;
    const turn = (asked += 1);
    // Nobody has asked for anything yet: without a key this is no reason to ask for one.
    const response = await (session.hasKey
      ? session.request("ui/report")
      : fetch(new URL("report", import.meta.url)));
    if (response.status === 401 || turn !== asked) return; // it may be of another key
    if (!response.ok) throw await responseError(response);
    const document = response.status === 204 ? null : await response.json();
    if (turn !== asked) return;
    isDone = true;
    if (document === null) return;
    const name = document.run?.name ?? "saved report";
    show({ name, document, notes: [], scored: null }, { isFocused: false });
  };
  const problem = element("div");
  document.querySelector("main")?.prepend(problem);
  const start = () => {
    problem.replaceChildren();
    return ask().catch((error) => problem.replaceChildren(problemElement(error), button("Try again", start)));
  };
  session.onKey(() => {
    if (session.hasKey) return start();
    isDone = false;
    asked += 1;
    results.clear(); // they are of the team whose key it was
    byId("panel-score").classList.remove("has-runs");
  });
  start();
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
  session.onAsked(() => (button.hidden = false));
  button.addEventListener("click", () => (session.hasKey ? session.forgetKey() : session.changeKey()));
  session.onKey(show);
  show();
}
