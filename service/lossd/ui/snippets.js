// The form's request as commands: curl, Python, and lossd report. Each runs in the folder of the files, and
// gives the page's numbers; what a command cannot say is said in a comment.

import { INPUTS, LOSSES } from "./client/methods.js";
import { encode, encodeReport } from "./client/request.js";
import { isUnsafe, pathOf, pythonText as quoted, shellWord as shell, shown } from "./quoting.js";

/** @import { Item, Place } from "./places.js" */
/**
 * @typedef {{ loss: string, params: Readonly<Record<string, unknown>>, items: readonly Item[],
 *   address: string, hasKey: boolean }} Asked `address` is the server's, without a slash at its end.
 */

const TYPES = /** @type {const} */ ({
  npz: "application/x-npz",
  arrow: "application/vnd.apache.arrow.stream",
});
const TENSORS = /** @type {Place[]} */ ([
  ...INPUTS,
  "targets",
  "weight",
  "pos_weight",
  "mask",
  "baseline",
]);
/** The losses that the Python client and the command have. */
const KNOWN = Object.keys(LOSSES);

/** @param {readonly Item[]} items */
function wholeOf(items) {
  return items.find(({ found }) => found.kind === "npz" || found.kind === "arrow");
}

/** @param {readonly Item[]} items @param {Place} place */
function at(items, place) {
  return items.filter((item) => item.place === place);
}

/** @param {Item} item */
function path({ found }) {
  return pathOf(found.file.name);
}

/**
 * Why no shell's command is made of files, as a comment: a name that a terminal may take for commands; else
 * empty.
 * @param {readonly Item[]} items
 */
function unsafeNote(items) {
  const names = items.flatMap((item) => [
    item.found.file.name,
    ...(item.place === "groups" ? [item.label] : []),
    ...membersOf(item),
  ]);
  const unsafe = names.find(isUnsafe);
  if (unsafe === undefined) return "";
  const name = shell(shown(unsafe)); // quoted: where a shell has no comments, it does nothing either
  return `# The name ${name} has characters that a terminal may take for commands: use another, or Python.`;
}

/** @param {Asked} asked */
function addressOf({ loss, params, items, address }) {
  const groups = at(items, "groups").filter(
    ({ found }) => found.kind === "npy" && found.head.shape.length === 1,
  );
  const { pos_weight: weights, ...others } = params;
  const { asked } = encodeReport(/** @type {any} */ (others));
  const { query } = encode({ ...asked, ...(groups.length === 1 && { group_names: [groups[0]?.label] }) });
  query.delete("tensors");
  // A list would be a tensor to the client.
  if (weights !== undefined) query.set("pos_weight", JSON.stringify(weights));
  return `${address}/${loss}?${query}`;
}

/**
 * @param {Asked} asked
 * @returns {string}
 */
export function curlText(asked) {
  const { items, hasKey } = asked;
  const unsafe = unsafeNote(items);
  if (unsafe) return unsafe;
  const whole = wholeOf(items);
  const groups = at(items, "groups");
  const isSplit = groups.length > 1 || groups.some(({ found }) => found.kind === "lines");
  const left = [
    ...at(items, "ids").filter(({ found }) => found.kind === "lines"),
    ...(isSplit ? groups : []),
  ];
  const files = items.filter((item) => !left.includes(item) && item.place !== "classes" && item.place !== "");
  /** @param {Item} item */
  const part = (item) => shell(`${item.place}=@"${path(item).replace(/["\\]/g, "\\$&")}"`);
  const words = [
    ...(hasKey ? ['-H "Authorization: Bearer $LOSSD_API_KEY"'] : []),
    ...(whole
      ? [
          `-H 'Content-Type: ${TYPES[/** @type {"npz" | "arrow"} */ (whole.found.kind)]}'`,
          `--data-binary ${shell(`@${path(whole)}`)}`,
        ]
      : files.map((item) => `-F ${part(item)}`)),
    shell(addressOf(isSplit ? { ...asked, items: files } : asked)),
  ];
  const note = left.length
    ? [
        "# curl sends no text and one file of groups: this leaves out " +
          `${left.map((item) => shell(path(item))).join(", ")}. All other figures are the same.`,
      ]
    : [];
  return [...note, `curl ${words.join(" \\\n  ")}`].join("\n");
}

/**
 * @param {Asked} asked
 * @returns {string}
 */
export function pythonText(asked) {
  if (wholeOf(asked.items)) return pythonBody(asked);
  if (!KNOWN.includes(asked.loss)) return `# lossd_client has no method for ${shown(asked.loss)}. Use curl.`;
  const { loss, params, items, address } = asked;
  /** @param {Item} item */
  const read = (item) =>
    item.found.kind === "npy"
      ? `np.load(${python(path(item))})`
      : `open(${python(path(item))}, encoding="utf-8-sig").read().splitlines()`;
  const groups = at(items, "groups");
  const isTable = groups[0]?.found.kind === "npy" && groups[0].found.head.shape.length === 2;
  const given = [
    ...[...TENSORS, /** @type {const} */ ("ids")].flatMap((place) =>
      at(items, place).map((item) => `${place}=${read(item)}`),
    ),
    ...(isTable && groups[0] ? [`groups=${read(groups[0])}`] : []),
    ...(groups.length && !isTable
      ? [`groups={${groups.map((item) => `${python(item.label)}: ${read(item)}`).join(", ")}}`]
      : []),
    ...Object.entries(params).map(([name, value]) => `${name}=${python(value)}`),
  ];
  return [
    "import numpy as np",
    "from lossd_client import LossClient",
    "",
    `client = LossClient(${python(address)})${asked.hasKey ? "  # takes the key from LOSSD_API_KEY" : ""}`,
    `report = client.report(\n    ${[python(loss), ...given].join(",\n    ")},\n)`,
    "print(report.mean, report.interval(0.95))",
    'report.save("report.json")',
  ].join("\n");
}

/**
 * The same bytes as the page's, for a file that has all tensors.
 * @param {Asked} asked
 */
function pythonBody(asked) {
  const whole = wholeOf(asked.items);
  if (whole === undefined) return "";
  const type = TYPES[/** @type {"npz" | "arrow"} */ (whole.found.kind)];
  return [
    "import json",
    ...(asked.hasKey ? ["import os"] : []),
    "",
    "import httpx",
    "from lossd_client import Report",
    "",
    `headers = {"Content-Type": ${python(type)}}`,
    ...(asked.hasKey ? ['headers["Authorization"] = f"Bearer {os.environ[\'LOSSD_API_KEY\']}"'] : []),
    `url = ${python(addressOf(asked))}`,
    `with open(${python(path(whole))}, "rb") as body:`,
    "    answer = httpx.post(url, content=body, headers=headers, timeout=None)",
    "answer.raise_for_status()",
    'with open("report.json", "w") as file:',
    '    json.dump(answer.json()["report"], file)',
    'report = Report.load("report.json")',
    "print(report.mean, report.interval(0.95))",
  ].join("\n");
}

/**
 * A value as Python writes it.
 * @param {unknown} value
 * @returns {string}
 */
function python(value) {
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (Array.isArray(value)) return `[${value.map(python).join(", ")}]`;
  if (typeof value === "object") {
    return `{${Object.entries(value)
      .map(([name, each]) => `${python(name)}: ${python(each)}`)
      .join(", ")}}`;
  }
  return typeof value === "string" ? quoted(value) : JSON.stringify(value);
}

/**
 * @param {Asked} asked
 * @returns {string}
 */
export function commandText(asked) {
  const { loss, params, items, address } = asked;
  if (!KNOWN.includes(loss)) return `# lossd report has no loss ${shell(shown(loss))}. Use curl.`;
  const unsafe = unsafeNote(items);
  if (unsafe) return unsafe;
  const reason = cannotCommand(items);
  if (reason) return `# ${reason} Use curl or Python.`;
  /** @type {string[]} */
  const before = [];
  /** A file of one value a row. @param {Item} item @param {string} name */
  const column = (item, name) => {
    if (item.found.kind === "npy") return path(item);
    const word = name.replace(/[\s,;|"/]+/g, "_"); // of one column, whatever it is separated by
    const header = /^(?!nan$|inf)\p{L}/iu.test(word) ? word : `name_${word}`; // no number, and no comment
    const table = pathOf(`${header}.lossd.csv`);
    before.push(
      `{ printf '%s\\n' ${shell(header)}; tr -d '\\r' < ${shell(path(item))} | ` +
        `sed 's/"/""/g; s/.*/"&"/'; } > ${shell(table)}`,
    );
    return table;
  };
  const words = [
    "lossd report",
    ...inputWords(items),
    `--loss ${loss}`,
    ...at(items, "ids").map((item) => `--ids ${shell(column(item, "id"))}`),
    ...at(items, "groups").map((item) => `--by ${shell(column(item, item.label))}`),
    ...Object.entries(params).map(([name, value]) => option(name, value)),
    ...at(items, "classes").map((item) => `--class-names ${shell(path(item))}`),
    `--url ${shell(address)}`,
    "--out report.json --html report.html",
  ];
  return [...before, words.join(" \\\n  ")].join("\n");
}

/**
 * Why the command cannot make the request; empty if it can.
 * @param {readonly Item[]} items
 */
function cannotCommand(items) {
  const whole = wholeOf(items);
  if (whole && membersOf(whole).includes("pos_weight"))
    return "lossd report takes pos_weight from a file of its own.";
  const table = at(items, "groups").find(
    ({ found }) => found.kind === "npy" && found.head.shape.length === 2,
  );
  if (table === undefined) return "";
  return `lossd report takes one column of groups a file, and ${shell(path(table))} has several.`;
}

/** @param {Item} whole */
function membersOf({ found }) {
  return found.kind === "npz" || found.kind === "arrow" ? found.members.map(({ name }) => name) : [];
}

/**
 * The tensors, as options.
 * @param {readonly Item[]} items
 * @returns {string[]}
 */
function inputWords(items) {
  const whole = wholeOf(items);
  if (whole === undefined) {
    /** @param {Place} place */
    const file = (place) => at(items, place).map((item) => shell(path(item)));
    const others = /** @type {const} */ (["weight", "mask", "baseline", "pos_weight"]);
    return [
      ...file("logits"),
      ...file("probabilities"),
      ...file("boxes"),
      ...file("targets"),
      ...(file("probabilities").length ? ["--probabilities"] : []),
      ...others.flatMap((place) => file(place).map((name) => `--${place.replace("_", "-")} ${name}`)),
    ];
  }
  const names = membersOf(whole);
  const flags = /** @type {const} */ ({
    weight: "--weight-column",
    mask: "--mask-column",
    baseline: "--baseline",
    ids: "--ids",
  });
  return [
    shell(path(whole)),
    ...(names.includes("probabilities") ? ["--probabilities"] : []),
    ...Object.entries(flags).flatMap(([name, flag]) => (names.includes(name) ? [`${flag} ${name}`] : [])),
    ...names
      .filter((name) => name === "groups" || name.startsWith("group."))
      .map((name) => `--by ${shell(name)}`),
  ];
}

/**
 * @param {string} name
 * @param {unknown} value
 */
function option(name, value) {
  const flag = `--${name.replaceAll("_", "-")}`;
  if (value === true) return flag;
  if (value === null) return `${flag} none`;
  if (name === "sweep") return `${flag} gamma:${/** @type {{ gamma: number[] }} */ (value).gamma.join(",")}`;
  return `${flag} ${shell(String(value))}`; // a list as its numbers with commas between them
}
