// The second tab: what a team has used, against its limits; for an operator all teams, workers and the queue.

import { StatusError } from "./client/index.js";
import { button, element } from "./elements.js";
import { problemElement } from "./problems.js";
import { session } from "./session.js";
import { overviewPart } from "./usage_overview.js";
import { teamPart } from "./usage_team.js";

/** @import { Overview, Usage } from "./client/index.js" */

const REFRESH_MS = 5000;
const PERIODS = [7, 30, 90, 365];

/** @param {HTMLElement} root */
export function startUsage(root) {
  const tab = new UsageTab(root);
  return { show: () => void tab.load() };
}

class UsageTab {
  /** @type {{ overview: Overview | null, usage: Usage | null } | null} What is shown. */
  last = null;

  /** Whether the last answer was no refusal, which asking again would not change. */
  isFresh = false;

  team = teamPart();
  overview = overviewPart((team) => this.choose(team));

  /** @param {HTMLElement} root */
  constructor(root) {
    this.root = root;
    this.days = 30;
    /** @type {string | null} The team whose days an operator looks at. */
    this.chosen = null;
    /** @type {boolean | null} Whether the key is an operator's; null: not known yet. */
    this.isOperator = null;
    this.loads = 0;
    /** @type {number | undefined} */
    this.timer = undefined;
    this.updated = element("span", { class: "note" });
    this.trouble = element("div");
    this.parts = element("div");
    root.replaceChildren(this.bar(), this.trouble, this.parts);
    this.clear("");
    session.onKey(() => this.changeKey());
    document.addEventListener("visibilitychange", () => this.isSeen && this.isFresh && void this.load());
  }

  /** Whether somebody can see the tab. */
  get isSeen() {
    return !this.root.hidden && document.visibilityState === "visible";
  }

  /** The row of controls. */
  bar() {
    const periods = element(
      "select",
      { id: "usage-days" },
      PERIODS.map((days) => element("option", { value: String(days) }, [`${days} days`])),
    );
    periods.value = String(this.days);
    periods.addEventListener("change", () => {
      this.days = Number(periods.value);
      void this.load();
    });
    const refresh = button("Refresh", () => void this.load());
    return element("div", { class: "usage-bar row" }, [
      element("label", { for: "usage-days" }, ["The last"]),
      periods,
      refresh,
      this.updated,
    ]);
  }

  /** @param {string} team */
  choose(team) {
    this.chosen = team;
    if (this.last) this.render(this.last);
    this.team.root.scrollIntoView({ block: "nearest" });
    this.team.heading.focus();
  }

  changeKey() {
    this.isOperator = this.chosen = null;
    this.loads += 1; // an answer to the key before is no longer wanted
    clearTimeout(this.timer);
    this.clear(session.hasKey ? "" : "The key is forgotten. Give a key to see its team's usage.");
    if (session.hasKey && this.isSeen) void this.load();
  }

  /**
   * Begin anew: nothing of a forgotten key's figures stays in the page.
   * @param {string} why What is said in their place.
   */
  clear(why) {
    this.last = null;
    this.isFresh = false;
    this.team = teamPart();
    this.overview = overviewPart((team) => this.choose(team));
    this.overview.root.hidden = this.team.root.hidden = true;
    this.parts.replaceChildren(this.overview.root, this.team.root);
    this.trouble.replaceChildren();
    this.updated.textContent = why;
  }

  /** Ask the server, show what it says, and ask again as long as somebody looks. */
  async load() {
    clearTimeout(this.timer);
    const number = (this.loads += 1);
    if (!this.last) this.updated.textContent = "Asking the server…";
    try {
      const found = await this.ask();
      if (number !== this.loads) return;
      this.isOperator = found.isOperator;
      this.chosen ??= found.usage?.team ?? null;
      this.trouble.replaceChildren();
      this.render(found);
      this.isFresh = true;
      const now = new Date().toLocaleTimeString("en-GB");
      this.updated.textContent = `As of ${now}, renewed every ${REFRESH_MS / 1000} s`;
    } catch (error) {
      if (number !== this.loads) return;
      this.complain(error);
    }
    if (this.isFresh) this.timer = setTimeout(() => this.isSeen && void this.load(), REFRESH_MS);
  }

  /**
   * The overview if the key is an operator's, else its team's usage.
   * @returns {Promise<{ overview: Overview | null, usage: Usage | null, isOperator: boolean }>}
   */
  async ask() {
    const client = session.client();
    if (this.isOperator) return { overview: await client.overview(this.days), usage: null, isOperator: true };
    try {
      const usage = await client.usage(this.days);
      const overview = usage.operator ? await client.overview(this.days) : null;
      return { usage, overview, isOperator: usage.operator };
    } catch (error) {
      if (!(error instanceof StatusError) || error.status !== 404) throw error;
      // The server keeps no usage; an operator sees the rest.
      const overview = await client.overview(this.days).catch((refusal) => {
        throw refusal instanceof StatusError && refusal.status === 403 ? error : refusal;
      });
      return { usage: null, overview, isOperator: true };
    }
  }

  /** @param {{ overview: Overview | null, usage: Usage | null }} found */
  render(found) {
    this.last = found;
    const { overview, usage } = found;
    this.overview.root.hidden = overview === null;
    if (overview) this.overview.update(overview, this.days);
    const team = overview
      ? (overview.teams.find(({ team }) => team === this.chosen) ?? overview.teams[0])
      : usage;
    this.team.root.hidden = !team;
    if (!team) return;
    const used = "usage" in team ? team.usage : team;
    const since = (overview ?? usage)?.since ?? "";
    this.team.update(team, used, { since, days: this.days, notes: overview?.notes ?? [] });
  }

  /** @param {unknown} error */
  complain(error) {
    const status = error instanceof StatusError ? error.status : 0;
    this.isFresh = status === 0 || status >= 500; // others would be refused again
    if (status === 403) this.isOperator = null; // a team may be an operator no longer
    if (!this.isFresh) this.clear("");
    const problem = problemElement(error);
    if (problem.textContent !== this.trouble.textContent) this.trouble.replaceChildren(problem); // said once
    this.updated.textContent = this.last ? "These are older figures" : "";
  }
}
