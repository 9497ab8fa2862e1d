// A team: its limits and what of it is in flight, and its usage by day.

import { element, sizeText } from "./elements.js";
import { drawBars, drawMeter } from "./usage_bars.js";
import { countText, everyDay, FIGURES, figureCells, NOTHING } from "./usage_figures.js";
import { usageTable } from "./usage_table.js";

/** @import { Overview, Usage } from "./client/index.js" */
/** @import { Day } from "./usage_figures.js" */
/** @typedef {Usage | Overview["teams"][number]} Team */
/** @typedef {{ since: string, days: number, notes: readonly string[] }} Period */

const TITLES = FIGURES.map(({ title }) => title);

/** A part of the page that shows a team, and can show another. */
export function teamPart() {
  const heading = element("h2", { tabindex: "-1" });
  const state = element("p", { class: "note" });
  const limits = element("ul", { class: "usage-limits" });
  const why = element("p", { class: "note" });
  const used = usedPart();
  const root = element("section", { class: "lossd usage-team", "aria-label": "A team's usage" }, [
    heading,
    state,
    element("h3", {}, ["Limits"]),
    limits,
    element("h3", {}, ["Usage"]),
    why,
    used.root,
  ]);
  return {
    root,
    heading,
    /**
     * @param {Team} team
     * @param {{ days: Day[], total: Usage["total"] } | null} usage
     * @param {Period} period
     */
    update(team, usage, period) {
      heading.textContent = `Team ${team.team}`;
      state.textContent = stateText(team);
      limits.replaceChildren(...limitItems(team));
      why.textContent = period.notes.join(" ");
      used.root.hidden = usage === null;
      if (usage) used.update(usage, period);
    },
  };
}

/** @param {Team} team */
function stateText(team) {
  const said = [`Its weight is ${team.weight}: its share of the workers' time, in proportion to others'.`];
  if ("disabled" in team && team.disabled) said.unshift("It is disabled: all its keys are refused.");
  return said.join(" ");
}

/** @param {Team} team */
function limitItems({ limits, in_flight }) {
  const most = limits.requests_in_flight;
  const mostBytes = limits.bytes_in_flight;
  return [
    limitItem("Requests in flight", in_flight.requests, most, countText),
    limitItem("Bytes in flight", in_flight.bytes, mostBytes, sizeText),
    rateItem("Requests a second", limits.requests_per_second),
    rateItem("Elements a second", limits.elements_per_second),
  ];
}

/**
 * @param {string} title
 * @param {number} now
 * @param {number | null} most
 * @param {(value: number) => string} text
 */
export function limitItem(title, now, most, text) {
  const said = most === null ? `${text(now)} now, no limit` : `${text(now)} of ${text(most)}`;
  const meter = most === null ? [] : [drawMeter(now / most)];
  return element("li", {}, [element("span", {}, [title]), element("strong", {}, [said]), ...meter]);
}

/**
 * @param {string} title
 * @param {number | null} most
 */
function rateItem(title, most) {
  const said = most === null ? "no limit" : `at most ${countText(most)}`;
  return element("li", {}, [element("span", {}, [title]), element("strong", {}, [said])]);
}

/** Usage: totals, a picture of a figure by day, and all days. */
function usedPart() {
  const totals = usageTable("Totals", ["Period", ...TITLES]);
  const chart = dayChart();
  const days = usageTable("Usage by day", ["Day (UTC)", ...TITLES]);
  const root = element("div", { class: "usage-used" }, [
    element("div", {}, [totals.root, ...chart.parts]),
    days.root,
  ]);
  return {
    root,
    /**
     * @param {{ days: Day[], total: Usage["total"] }} usage
     * @param {Period} period
     */
    update(usage, period) {
      const shown = everyDay(period.since, period.days, usage.days);
      totals.update([
        { key: "today", cells: [{ text: "Today" }, ...figureCells(shown.at(-1) ?? NOTHING)] },
        { key: "all", cells: [{ text: `${period.days} days` }, ...figureCells(usage.total)] },
      ]);
      chart.show(shown);
      const newest = [...usage.days].reverse();
      days.root.hidden = newest.length === 0;
      days.update(newest.map((day) => ({ key: day.day, cells: [{ text: day.day }, ...figureCells(day)] })));
    },
  };
}

/** A picture of the days, of a figure that people choose. */
function dayChart() {
  const options = FIGURES.map(({ title }, place) => element("option", { value: String(place) }, [title]));
  const choice = element("select", { id: "usage-figure" }, options);
  const most = element("span", { class: "note" });
  const picture = element("div");
  const ends = element("div", { class: "usage-ends note", "aria-hidden": "true" });
  const label = element("label", { for: "usage-figure" }, ["By day:"]);
  /** @type {Day[]} */
  let days = [];
  let drawn = "";

  const draw = () => {
    const figure = FIGURES[Number(choice.value)];
    const wanted = figure && JSON.stringify([figure.name, days]);
    if (!figure || wanted === drawn) return;
    drawn = wanted ?? "";
    const { name, title, text } = figure;
    const top = days.reduce((one, other) => (other[name] > one[name] ? other : one));
    most.textContent = top[name] ? `Most: ${text(top[name])}, on ${top.day}` : "None in these days";
    const noun = title.toLowerCase();
    const bars = days.map((day) => ({ day: day.day, value: day[name], text: `${text(day[name])} ${noun}` }));
    const said = `${title} by day. ${most.textContent}. The table below has every day.`;
    picture.replaceChildren(drawBars(bars, said));
    const last = `${days.at(-1)?.day ?? ""} (today, UTC)`;
    ends.replaceChildren(...[days[0]?.day ?? "", last].map((end) => element("span", {}, [end])));
  };
  choice.addEventListener("change", draw);
  return {
    parts: [element("div", { class: "usage-bar row" }, [label, choice, most]), picture, ends],
    /** @param {Day[]} shown */
    show(shown) {
      days = shown;
      draw();
    },
  };
}
