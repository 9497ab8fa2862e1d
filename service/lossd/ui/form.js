// The form: which files, which loss; then the request, with its progress.

import { StatusError } from "./client/index.js";
import { commandsElement } from "./commands.js";
import { button, element, sizeText } from "./elements.js";
import { exampleFiles } from "./example.js";
import { FileList, takeFiles } from "./file_list.js";
import { recognise } from "./files.js";
import { LossFields } from "./loss_fields.js";
import { assumed, classIds, isInputs, missing, misfits } from "./places.js";
import { problemElement } from "./problems.js";
import { shown } from "./quoting.js";
import { filesOf, score } from "./requests.js";
import { session } from "./session.js";

/** @import { Info } from "./client/index.js" */
/** @import { Usable } from "./file_list.js" */
/** @import { Item } from "./places.js" */
/** @import { Progress } from "./upload.js" */
/** @import { Run } from "./requests.js" */
/** @typedef {(run: Run, options?: { isFocused: boolean }) => void} OnRun */

/**
 * @param {HTMLElement} root
 * @param {{ onRun: OnRun }} options
 */
export function startForm(root, { onRun }) {
  new Form(root, onRun).start();
}

class Form {
  #root;
  #onRun;
  #files = new FileList(() => this.#show());
  #loss = new LossFields(() => this.#show());
  #problems = element("div", { id: "problems" });
  #fileProblems = element("div", { id: "file-problems" });
  #notes = element("ul", { class: "misfits", id: "misfits" });
  #hint = element("p", { class: "note", id: "hint", role: "status" });
  #next = element("p", { id: "next", role: "status" });
  #go = element("button", { class: "main", id: "go", "aria-describedby": "next" }, ["Show the loss"]);
  #progress = element("progress", { "aria-label": "Upload" });
  #progressText = element("span", { id: "progress-text" });
  #running = element("div", { class: "row running", hidden: "" });
  #said = element("p", { class: "unseen", role: "status", id: "said" });
  #links = element("p", { class: "note", id: "example-files", hidden: "" });
  #commands = commandsElement();
  /** @type {AbortController | null} */
  #controller = null;
  /** @type {Promise<void>} The last run, to its end. */
  #ended = Promise.resolve();
  #isReady = false;
  /** @type {() => void} */
  #tellReady = () => {};
  /** @type {Promise<void>} Until the losses of the server are known. */
  #ready = new Promise((resolve) => (this.#tellReady = resolve));
  #isExample = false;
  #remove = button("Remove all files", () => this.#removeAll(), { class: "quiet", id: "remove-all" });

  /** @param {HTMLElement} root @param {OnRun} onRun */
  constructor(root, onRun) {
    this.#root = root;
    this.#onRun = onRun;
  }

  start() {
    const form = element("form", { class: "score-form" }, [
      this.#dropZone(),
      this.#files.root,
      this.#remove,
      this.#files.notice,
      this.#fileProblems,
      this.#links,
      this.#hint,
      this.#notes,
      this.#loss.root,
      element("div", { class: "actions" }, [this.#go, this.#next]),
      this.#running,
      this.#problems,
      this.#said,
      this.#commands.root,
    ]);
    this.#running.append(
      this.#progress,
      this.#progressText,
      button("Cancel", () => this.#controller?.abort(), { id: "cancel" }),
    );
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#run();
    });
    this.#root.replaceChildren(form);
    takeDrops(this.#root, (files) => this.#take(files));
    session.onKey(() => {
      if (session.hasKey) return this.#load();
      this.#controller?.abort(); // its result is of the team whose key it was
      this.#show();
    });
    this.#load();
    this.#show();
  }

  #dropZone() {
    const input = element("input", {
      type: "file",
      multiple: "",
      id: "choose",
      class: "unseen",
      "aria-describedby": "drop-note",
    });
    input.addEventListener("change", () => {
      this.#take([...(input.files ?? [])]);
      input.value = ""; // the same file can be chosen again
    });
    return element("div", { class: "drop" }, [
      element("h2", {}, ["Drop your model's outputs and the targets here"]),
      element("p", { id: "drop-note" }, [
        "See which classes and rows make the loss. Drop two .npy files, one .npz, an Arrow stream, or a " +
          "saved report.",
      ]),
      element("div", { class: "row" }, [
        element("label", { for: "choose", class: "choose" }, ["Choose files"]),
        input,
        button("Try an example", () => this.#tryExample(), { id: "example" }),
      ]),
      element("p", { class: "note" }, [
        "If you have them, also: another model's outputs to compare with, and names of classes, rows and " +
          "groups in text files, one a line. Files go to this server, which does not keep them.",
      ]),
    ]);
  }

  /** Learn the losses of the server. */
  async #load() {
    try {
      const onProgress = (/** @type {Progress} */ { wait }) =>
        this.#problems.replaceChildren(element("p", { class: "note" }, [wait ?? ""]));
      const { losses } = await session.client(onProgress).info();
      this.#loss.setLosses(losses);
      this.#problems.replaceChildren();
      this.#isReady = true;
      this.#tellReady();
    } catch (error) {
      if (this.#isReady) return; // what it said before stands; the next request asks for a key
      const isKeyless = error instanceof StatusError && error.status === 401 && !session.hasKey;
      this.#problems.replaceChildren(
        ...(isKeyless
          ? [keylessElement()]
          : [problemElement(error), button("Try again", () => this.#load())]),
      );
    }
    this.#show();
  }

  /** @param {readonly File[]} files */
  async #take(files) {
    this.#fileProblems.replaceChildren();
    /** @type {{ found: Usable }[]} */
    const taken = [];
    await takeFiles(files, {
      onFound: (found) => {
        if (found.kind === "report")
          this.#onRun({ name: found.file.name, document: found.document, notes: found.notes, scored: null });
        else taken.push({ found });
      },
      onError: (error) => this.#fileProblems.append(problemElement(error)),
    });
    if (taken.length && this.#isExample) this.#removeAll();
    if (taken.length) this.#files.take(taken);
    this.#fileProblems.scrollIntoView({ block: "nearest" });
    this.#say(`${files.length === 1 ? (files[0]?.name ?? "") : `${files.length} files`} taken.`);
  }

  async #tryExample() {
    const files = await Promise.all(
      exampleFiles().map(async ({ file, place }) => ({ found: await recognise(file), place })),
    );
    this.#controller?.abort(); // what it scores is taken away
    this.#fileProblems.replaceChildren();
    this.#files.clear();
    this.#files.take(files.flatMap(({ found, place }) => (found.kind === "report" ? [] : [{ found, place }])));
    const links = files.flatMap(({ found: { file } }) => [
      element("a", { href: URL.createObjectURL(file), download: file.name }, [file.name]),
      " ",
    ]);
    this.#links.replaceChildren("The example's files: ", ...links);
    this.#links.hidden = false;
    this.#isExample = true;
    await Promise.all([this.#ready, this.#ended]); // a press may come before them
    if (!this.#isExample) return; // its files were taken away meanwhile
    this.#loss.choose("focal");
    await this.#run();
  }

  /** Take all files away, and with the example's what it asked for. */
  #removeAll() {
    this.#files.clear();
    if (!this.#isExample) return;
    this.#controller?.abort();
    this.#isExample = false;
    this.#links.hidden = true;
    this.#loss.reset();
  }

  /** Bring all that depends on files and parameters up to date. */
  #show() {
    const { items } = this.#files;
    this.#loss.suggestClassIds(classIds(items, this.#loss.asked(items).classAxis));
    const { params, classAxis, hasClassIds, lossOf } = this.#loss.asked(items);
    this.#notes.replaceChildren(
      ...misfits(items, classAxis, hasClassIds, lossOf).map((text) => element("li", {}, [text])),
    );
    this.#hint.textContent = assumed(items, this.#loss);
    const next = missing(items, lossOf);
    this.#next.textContent = next ?? "";
    const isComplete = next === null && this.#isReady;
    this.#go.disabled = !isComplete || this.#controller !== null;
    this.#root.classList.toggle("has-files", items.length > 0);
    this.#remove.hidden = items.length < 2;
    const address = new URL("..", import.meta.url).href.replace(/\/$/, "");
    this.#commands.show(
      isComplete ? { loss: this.#loss.name, params, items, address, hasKey: session.hasKey } : null,
    );
  }

  async #run() {
    const next = missing(this.#files.items, this.#loss.lossOf);
    if (this.#controller !== null || next !== null || !this.#isReady) return;
    this.#ended = this.#score(new AbortController());
    await this.#ended;
  }

  /** @param {AbortController} controller */
  async #score(controller) {
    const before = document.activeElement;
    const { signal } = controller;
    this.#controller = controller;
    this.#problems.replaceChildren();
    this.#running.hidden = false;
    this.#progressed({ sent: 0, total: 0 });
    this.#say("Sending.");
    this.#show(); // the button is off
    try {
      const { items } = this.#files;
      const asked = items.map((item) => ({ ...item })); // people may go on
      const name = this.#isExample ? "example" : nameOf(asked);
      const scored = {
        loss: this.#loss.name,
        params: this.#loss.asked(asked).params,
        ...(await filesOf(asked)),
      };
      const found = await score(scored, {
        signal,
        onProgress: (progress) => {
          if (this.#controller === controller) this.#progressed(progress); // no countdown of a former run
        },
      });
      this.#say("Done. The results are shown after the form.");
      for (const item of items) item.hasRun = true;
      const notes = [...found.notes, ...this.#changes(items, asked)];
      const isFocused = [before, document.body].includes(document.activeElement); // not of people who write
      this.#onRun({ name, ...found, notes, scored }, { isFocused });
    } catch (error) {
      if (signal.aborted) this.#say("Cancelled.");
      else this.#fail(error);
    } finally {
      this.#controller = null;
      this.#running.hidden = true;
      this.#show();
    }
  }

  /**
   * A note if files have come, gone or changed their places since a run began.
   * @param {readonly Item[]} items The files of the run.
   * @param {readonly Item[]} asked What they were then.
   */
  #changes(items, asked) {
    const now = this.#files.items;
    const isSame = (/** @type {Item} */ { place, label }, /** @type {number} */ index) =>
      now[index] === items[index] && now[index]?.place === place && now[index]?.label === label;
    if (now.length === asked.length && asked.every(isSame)) return [];
    const names = asked.map(({ found }) => shown(found.file.name)).join(", ");
    return [`the files have been changed since this was asked for; it is of ${names} as they were`];
  }

  /** @param {unknown} error */
  #fail(error) {
    this.#say(""); // the problem is said
    this.#problems.replaceChildren(problemElement(error));
    this.#problems.scrollIntoView({ block: "nearest" });
  }

  /** @param {Progress} progress */
  #progressed({ sent, total, wait }) {
    if (wait !== undefined) {
      this.#progress.removeAttribute("value");
      this.#progressText.textContent = wait;
      return this.#say(wait.replace(/ in \d+ s$/, "")); // each second is no news
    }
    const isSending = sent < total || total === 0;
    if (isSending && total > 0) this.#progress.value = sent / total;
    else this.#progress.removeAttribute("value");
    const percent = Math.floor((100 * sent) / (total || 1));
    this.#progressText.textContent = isSending
      ? `Sending: ${percent} % of ${sizeText(total)}`
      : `Computing: all ${sizeText(total)} are sent`;
    if (!isSending) this.#say("Computing.");
  }

  /** @param {string} text */
  #say(text) {
    if (this.#said.textContent !== text) this.#said.textContent = text;
  }
}

/**
 * What a run is called: the file of the model's outputs. Its loss stands beside it in the list of runs.
 * @param {readonly Item[]} items
 */
function nameOf(items) {
  const main = items.find(isInputs) ?? items[0];
  return main?.found.file.name ?? "";
}

/** What can be done without a key. */
function keylessElement() {
  return element("div", { class: "keyless", role: "status" }, [
    element("p", {}, [
      "Without a key you can look around, and see what files hold; they stay on this machine. To score " +
        "them, and to draw a saved report, this server asks for a key. Whoever runs it gives one to each " +
        "team.",
    ]),
    element("p", {}, [
      "A saved report can be drawn without a server: ",
      element("code", {}, ["lossd merge report.json ", element("span", {}, ["--html"]), " report.html"]),
    ]),
    button("Give a key", () => session.changeKey()),
  ]);
}

/**
 * Take files that are dropped anywhere, while the form is shown.
 * @param {HTMLElement} root
 * @param {(files: readonly File[]) => void} onFiles
 */
function takeDrops(root, onFiles) {
  /** @param {DragEvent} event */
  const holdsFiles = ({ dataTransfer }) =>
    dataTransfer?.types.includes("Files") && root.offsetParent !== null;
  document.addEventListener("dragover", (event) => {
    if (!holdsFiles(event)) return;
    event.preventDefault();
    root.classList.add("dropping");
  });
  document.addEventListener("dragleave", ({ relatedTarget }) => {
    if (relatedTarget === null) root.classList.remove("dropping");
  });
  document.addEventListener("drop", (event) => {
    if (!holdsFiles(event)) return;
    event.preventDefault();
    root.classList.remove("dropping");
    onFiles([...(event.dataTransfer?.files ?? [])]);
  });
}
