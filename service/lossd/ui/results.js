// Results: what the server draws of the newest run, or of two side by side.

import { compared } from "./comparing.js";
import { button, element } from "./elements.js";
import { problemElement, responseError } from "./problems.js";
import { RunList } from "./runs.js";
import { session } from "./session.js";
import { slidersOf } from "./sliders.js";
import { makeSortable } from "./sorting.js";
import { Countdown, isLater, reasonOf, secondsOf, sleep } from "./waiting.js";

/** @import { Report } from "./client/index.js" */
/** @import { Run } from "./requests.js" */
/** @import { Progress } from "./upload.js" */
/** @typedef {{ isFocused?: boolean }} Options */

/**
 * The sections of the parts that stand beside each other where there is room; the others are in the last one.
 */
const PARTS = Object.entries({
  whole: ["totals", "comparison"],
  first: ["classes", "groups", "top"],
  second: null,
});

/** How often a view is asked for while the server says later. */
const MOST_TURNS = 5;

const policy = /** @type {any} */ (globalThis).trustedTypes?.createPolicy("lossd", {
  createHTML: (/** @type {string} */ html) => html,
});

/**
 * HTML that the server has drawn, as nodes.
 * @param {string} html
 */
function fragment(html) {
  const template = document.createElement("template");
  template.innerHTML = policy ? policy.createHTML(html) : html;
  return template.content;
}

/**
 * Fill the part of the page that shows results.
 * @param {HTMLElement} root
 */
export function startResults(root) {
  const results = new Results(root);
  return {
    /**
     * @param {Run} run
     * @param {Options} [options]
     */
    add: (run, options) => results.add(run, options),
    clear: () => results.clear(),
  };
}

class Results {
  #root;
  #said = element("p", { class: "unseen", role: "status" });
  #view = element("div", { class: "result" });
  #runs = new RunList({
    onShow: (run) => this.#show(run),
    onRename: (run) => this.#onRename(run),
    onRemove: (run) => this.#onRemove(run),
  });
  /** @type {readonly Run[]} */
  #shown = [];
  /** @type {(signal: AbortSignal) => Promise<string>} Draws them. */
  #ask = async () => "";
  /** @type {Run | undefined} What the shown run would be compared with. */
  #against;
  /** @type {WeakMap<Run, string>} */
  #drawn = new WeakMap();
  #stop = new AbortController();

  /** @param {HTMLElement} root */
  constructor(root) {
    this.#root = root;
    root.append(this.#said, this.#runs.element, this.#view);
  }

  /**
   * Add a run, and show it.
   * @param {Run} run
   * @param {Options} [options]
   */
  add(run, options) {
    this.#runs.add(run);
    return this.#show(run, options);
  }

  /** Forget all runs. */
  clear() {
    this.#runs.clear();
    this.#empty("The runs are gone.");
  }

  /**
   * Show one run.
   * @param {Run} run
   * @param {Options} [options]
   */
  #show(run, options) {
    return this.#draw(
      [run],
      async (signal) => {
        const html =
          this.#drawn.get(run) ?? (await view({ reports: [run] }, signal, (text) => this.#wait(text)));
        this.#drawn.set(run, html);
        return html;
      },
      options,
    );
  }

  /**
   * Show two runs side by side.
   * @param {Run} run
   * @param {Run} baseline
   */
  #compare(run, baseline) {
    /** @type {{ paired: Report | undefined } | null} */
    let found = null;
    return this.#draw([run, baseline], async (signal) => {
      const onProgress = (/** @type {Progress} */ { sent, total, wait }) => {
        const percent = Math.round((100 * sent) / Math.max(total, 1));
        if (!signal.aborted) this.#wait(wait ?? `Comparing row by row: ${percent} % sent`);
      };
      found ??= { paired: await compared(run, baseline, { onProgress, signal }) }; // once, if drawn again
      return view({ reports: [run, baseline], ...found }, signal, (text) => this.#wait(text));
    });
  }

  /**
   * @param {readonly Run[]} runs
   * @param {(signal: AbortSignal) => Promise<string>} ask
   * @param {Options} [options]
   */
  async #draw(runs, ask, { isFocused = true } = {}) {
    this.#stop.abort();
    this.#stop = new AbortController();
    const { signal } = this.#stop;
    if (runs[1] !== this.#shown[1] || runs[0] !== this.#shown[0]) this.#against = runs[1];
    this.#shown = runs;
    this.#ask = ask;
    this.#runs.mark(runs);
    this.#view.setAttribute("aria-busy", "true");
    this.#view.replaceChildren(this.#head(), element("p", { class: "note result-wait" }));
    this.#wait("Drawing the result");
    const before = document.activeElement;
    const notes = notesOf(runs);
    let body;
    let said = "";
    try {
      body = [notesElement(notes), ...arranged(fragment(await ask(signal)), runs)];
      said = [`${this.#title()}: the result is here.`, ...notes].join(" ");
    } catch (error) {
      if (signal.aborted) return;
      body = [problemElement(error), button("Try again", () => this.#draw(runs, ask, { isFocused }))];
    }
    if (signal.aborted) return;
    this.#say(said); // a problem says itself
    this.#view.querySelector(".result-wait")?.replaceWith(...body); // the head stays: people may be in it
    this.#view.removeAttribute("aria-busy");
    if (isFocused && [before, this.#root, document.body].includes(document.activeElement)) {
      this.#view.querySelector("h2")?.focus();
    }
  }

  /** @param {string} text What is waited for. */
  #wait(text) {
    const line = this.#view.querySelector(".result-wait");
    if (line) line.textContent = `${text} …`;
    // Each percent is no news.
    if (!this.#said.textContent?.startsWith(text.slice(0, 9))) this.#say(`${text} …`);
  }

  /** @param {string} text */
  #say(text) {
    this.#said.textContent = text;
  }

  #title() {
    return this.#shown.map(({ name }) => name).join(" against ");
  }

  #head() {
    const title = element("h2", { class: "result-title", tabindex: "-1" }, [this.#title()]);
    const [run, baseline] = this.#shown;
    if (run === undefined) return title;
    const others = this.#runs.all.filter((other) => other !== run);
    return element("div", { class: "result-head" }, [
      title,
      element("div", { class: "row" }, [
        button(`Download the report${baseline ? ` of ${run.name}` : ""}`, () => download(run)),
        ...(others.length ? [this.#choice(run, others, baseline)] : []),
      ]),
    ]);
  }

  #redrawHead() {
    this.#view.querySelector(".result-head")?.replaceWith(this.#head());
  }

  /**
   * @param {Run} run
   * @param {readonly Run[]} others
   * @param {Run | undefined} baseline
   */
  #choice(run, others, baseline) {
    const options = others.map((other) => element("option", {}, [other.name]));
    const select = element("select", {}, options);
    if (this.#against && others.includes(this.#against)) select.selectedIndex = others.indexOf(this.#against);
    select.addEventListener("change", () => (this.#against = others[select.selectedIndex]));
    const onClick = () => {
      const other = others[select.selectedIndex];
      if (other) this.#compare(run, other);
    };
    return element("span", { class: "row" }, [
      element("label", {}, ["Compare with ", select]),
      button("Compare", onClick),
      ...(baseline ? [button("Swap", () => this.#compare(baseline, run))] : []),
    ]);
  }

  /**
   * A comparison has the names of its runs throughout.
   * @param {Run} run
   */
  #onRename(run) {
    const isNamed = this.#shown.length > 1 && this.#shown.includes(run);
    if (isNamed) this.#draw(this.#shown, this.#ask, { isFocused: false });
    else this.#redrawHead();
  }

  /** @param {Run} run */
  #onRemove(run) {
    const [newest] = this.#runs.all;
    if (!this.#shown.includes(run)) this.#redrawHead();
    else if (newest) this.#show(newest, { isFocused: false });
    else this.#empty("No run is left.");
  }

  /** @param {string} said */
  #empty(said) {
    this.#stop.abort();
    this.#shown = [];
    this.#view.replaceChildren();
    this.#say(said);
  }
}

/**
 * What the server draws.
 * @param {{ reports: readonly Run[], paired?: Report | undefined }} asked
 * @param {AbortSignal} signal
 * @param {(text: string) => void} onWait Told why it is sent again later.
 */
async function view({ reports, paired }, signal, onWait) {
  const named = reports.map(({ name, document }) => ({ name, document }));
  const body = JSON.stringify({ reports: named, paired });
  const headers = { "Content-Type": "application/json" };
  const countdown = new Countdown(({ wait = "" }) => onWait(wait));
  const ask = () => session.request("ui/view", { method: "POST", headers, body, signal });
  let response = await ask();
  for (let turn = 1; isLater(response) && turn < MOST_TURNS; turn++) {
    const seconds = secondsOf(response) || 2;
    countdown.start(reasonOf(response), seconds, signal);
    await sleep(seconds, signal);
    countdown.stop();
    response = await ask();
  }
  if (!response.ok) throw await responseError(response);
  return response.text();
}

/**
 * What was drawn, with its contents, and in columns where there is room.
 * @param {DocumentFragment} drawn
 * @param {readonly Run[]} runs
 */
function arranged(drawn, runs) {
  const root = drawn.firstElementChild;
  if (root === null) return [];
  const [run, baseline] = runs;
  if (run && !baseline) addSliders(root, run.document);
  makeSortable(root);
  const parts = PARTS.map(([part, names]) => {
    const sections = [...root.children].filter(
      (section) => names === null || names.includes(nameOf(section)),
    );
    return element("div", { class: `result-${part}` }, sections);
  });
  root.append(...parts.filter((part) => part.childElementCount));
  return [contentsOf(root), root];
}

/**
 * Notes on runs, as sentences, each with the run's name if not all have it.
 * @param {readonly Run[]} runs
 */
function notesOf(runs) {
  const noted = runs.flatMap((run) =>
    run.notes.map((note) => (runs.every(({ notes }) => notes.includes(note)) ? note : `${run.name}: ${note}`)),
  );
  return [...new Set(noted)].map((note) => `${note}.`);
}

/**
 * What may surprise in losses that are right.
 * @param {readonly string[]} notes
 */
function notesElement(notes) {
  const items = notes.map((note) => element("li", {}, [note]));
  return element("ul", { class: "misfits", "aria-label": "Notes on the result" }, items);
}

/** @param {Element} part */
function nameOf(part) {
  return part.getAttribute("data-section") ?? "";
}

/**
 * @param {Element} root
 * @param {Report} report
 */
function addSliders(root, report) {
  const sliders = slidersOf(report);
  if (sliders === null) return;
  const drawn = root.querySelector('[data-section="sweep"]');
  if (drawn) return drawn.append(sliders);
  const title = element("h2", {}, ["Other parameters"]);
  root.append(element("section", { class: "lossd-section", "data-section": "sweep" }, [title, sliders]));
}

/** @param {Element} root */
function contentsOf(root) {
  const links = [...root.querySelectorAll("[data-section]")].flatMap((section) => {
    const title = section.querySelector("h2")?.textContent;
    if (!title || section.parentElement?.closest("[data-section]")) return [];
    section.id ||= `result-${nameOf(section)}`;
    return [element("li", {}, [element("a", { href: `#${section.id}` }, [title])])];
  });
  return element("nav", { class: "result-contents", "aria-label": "Contents of the result" }, [
    element("ul", {}, links),
  ]);
}

/**
 * Hand over a run's report as a file: exactly the document, as `lossd report` writes it.
 * @param {Run} run
 */
function download({ name, document }) {
  const blob = new Blob([JSON.stringify(document), "\n"], { type: "application/json" });
  const href = URL.createObjectURL(blob);
  element("a", { href, download: `${name.replace(/[^\p{L}\p{N}._ -]+/gu, "_")}.report.json` }).click();
  setTimeout(() => URL.revokeObjectURL(href), 60_000);
}
