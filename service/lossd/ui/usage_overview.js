// What operators see: the queue, the memory, the workers, and all teams.

import { button, element, sizeText } from "./elements.js";
import { countText, FIGURES, figureCells } from "./usage_figures.js";
import { usageTable } from "./usage_table.js";
import { limitItem } from "./usage_team.js";

/** @import { Overview } from "./client/index.js" */
/** @typedef {Overview["teams"][number]} Team */

const PARTS = {
  bodies: "Memory for bodies",
  small_bodies: "Memory for small bodies",
  answers: "Memory for array answers",
};

/**
 * @param {(team: string) => void} choose Called with the team whose days are to be shown.
 */
export function overviewPart(choose) {
  const now = element("ul", { class: "usage-limits" });
  const workers = usageTable("Workers", ["Worker", "Device", "State", "Restarts"], { numbers: 3 });
  const names = ["Team", "State", "In flight", "Waiting", "Weight", ...FIGURES.map(({ title }) => title)];
  const teams = usageTable("Teams", names, {
    sortable: true,
    numbers: 2,
    head: (team) => button(team, () => choose(team), { class: "quiet usage-name" }),
  });
  const period = element("p", { class: "note" });
  const root = element("section", { class: "lossd usage-overview", "aria-label": "The server" }, [
    element("div", { class: "usage-server" }, [
      element("div", {}, [element("h2", {}, ["Queue and memory"]), now]),
      element("div", {}, [element("h2", {}, ["Workers"]), workers.root]),
    ]),
    element("h2", {}, ["Teams"]),
    period,
    teams.root,
  ]);
  return {
    root,
    /**
     * @param {Overview} overview
     * @param {number} days
     */
    update(overview, days) {
      now.replaceChildren(...nowItems(overview));
      workers.update(overview.workers.map(workerRow));
      period.textContent =
        `Usage of the last ${days} days, in UTC. ` + "Press a team's name to see its limits and its days.";
      teams.update(overview.teams.map(teamRow));
    },
  };
}

/** @param {Overview} overview */
function nowItems({ queue, memory }) {
  const waiting = `${countText(queue.waiting.requests)}, for ${sizeText(queue.waiting.bytes)}`;
  return [
    nowItem("Requests in flight", countText(queue.in_flight.requests)),
    nowItem("Requests waiting", queue.waiting.requests ? waiting : "0"),
    ...memory.map(({ part, bytes, reserved }) => limitItem(PARTS[part], reserved, bytes, sizeText)),
  ];
}

/**
 * @param {string} title
 * @param {string} said
 */
function nowItem(title, said) {
  return element("li", {}, [element("span", {}, [title]), element("strong", {}, [said])]);
}

/** @param {Overview["workers"][number]} worker */
function workerRow({ pid, device, state, restarts }) {
  const texts = [`process ${pid}`, device, state].map((text) => ({ text }));
  return { key: String(pid), cells: [...texts, { text: countText(restarts), value: restarts }] };
}

/** @param {Team} team */
function teamRow(team) {
  const { in_flight, limits, waiting, usage } = team;
  const most = limits.requests_in_flight;
  const flags = [...(team.disabled ? ["disabled"] : []), ...(team.operator ? ["operator"] : [])];
  const unknown = { text: "none kept" };
  return {
    key: team.team,
    cells: [
      { text: team.team },
      { text: flags.join(", ") || "active" },
      {
        text: countText(in_flight.requests) + (most === null ? "" : ` of ${countText(most)}`),
        value: in_flight.requests,
      },
      { text: countText(waiting.requests), value: waiting.requests },
      { text: String(team.weight), value: team.weight },
      ...(usage ? figureCells(usage.total) : FIGURES.map(() => unknown)),
    ],
  };
}
