// Files that people give: what each is, told by its first bytes, and what to do about one that cannot be
// used.

import { sizeText } from "./elements.js";
import { arrowColumns, beginning, itemSize, npyHead, zipMembers } from "./heads.js";
import { shown } from "./quoting.js";
import {
  inPython,
  inShell,
  notNumbers,
  OTHERS,
  otherNames,
  reported,
  safetensorsFile,
  savedAgain,
  torchFile,
  UnusableFile,
} from "./remedies.js";

/** @import { Report } from "./client/index.js" */
/** @import { ArrayHead, Member } from "./heads.js" */

/**
 * A file that can be used.
 * @typedef {{ file: File, kind: "npy", head: ArrayHead }
 *   | { file: File, kind: "npz" | "arrow", members: readonly Member[] }
 *   | { file: File, kind: "lines", lines: readonly string[] }
 *   | { file: File, kind: "report", document: Report, notes: string[] }} Found
 */

const SCHEMA = "lossd.report/1";
const MOST_TEXT = 64 << 20;

/**
 * Say what a file is.
 * @param {File} file
 * @returns {Promise<Found>}
 * @throws {UnusableFile}
 */
export async function recognise(file) {
  let head;
  try {
    head = new Uint8Array(await file.slice(0, 4096).arrayBuffer());
  } catch {
    throw new UnusableFile(`${shown(file.name)} cannot be read. If it is a folder, drop the files in it.`);
  }
  if (head.length === 0) throw new UnusableFile(`${shown(file.name)} is empty. Save it again.`);
  try {
    return await recogniseHead(file, head);
  } catch (error) {
    if (error instanceof UnusableFile) throw error;
    const reason = error instanceof Error ? error.message : String(error);
    throw new UnusableFile(`${shown(file.name)} is damaged: ${reason}. Save or copy it again.`);
  }
}

/**
 * @param {File} file
 * @param {Uint8Array} head
 * @returns {Promise<Found>}
 */
async function recogniseHead(file, head) {
  if (begins(head, "\x93NUMPY")) return npyFile(file);
  if (begins(head, "PK\x03\x04")) return zipFile(file);
  if (begins(head, "\xff\xff\xff\xff")) return { file, kind: "arrow", members: await arrowColumns(file) };
  if (begins(head, "\x1f\x8b")) return gzipFile(file);
  const other = OTHERS.find(({ magic }) => begins(head, magic));
  if (other !== undefined)
    throw new UnusableFile(`${shown(file.name)} is ${other.what}.`, other.remedy(file.name));
  if (begins(head, "version https://git-lfs")) {
    throw new UnusableFile(
      `${shown(file.name)} is a pointer of Git LFS, not the file itself. ` +
        "Fetch the file with Git LFS, and drop it again.",
    );
  }
  const [ending] = /\.np[yz]$/i.exec(file.name) ?? [];
  if (ending) throw savedAgain(file.name, `is no ${ending} file: it does not begin as one`);
  if (head[8] === 0x7b && begins(head.subarray(4), "\0\0\0\0")) throw safetensorsFile(file.name);
  if (head.includes(0)) throw savedAgain(file.name, "is of a format that is not known here");
  return textFile(file);
}

/**
 * @param {Uint8Array} head
 * @param {string} magic
 */
function begins(head, magic) {
  return head.length >= magic.length && [...magic].every((byte, place) => head[place] === byte.charCodeAt(0));
}

/**
 * @param {File} file
 * @returns {Promise<Found>}
 */
async function npyFile(file) {
  const { dtype, shape, dataStart } = await npyHead(file);
  const size = itemSize(dtype);
  if (size === null || dtype.startsWith("complex")) throw notNumbers(file.name, dtype);
  const announced = dataStart + size * shape.reduce((product, length) => product * length, 1);
  if (file.size < announced)
    throw new Error(`it has ${file.size} bytes of the ${announced} that its header announces`);
  return { file, kind: "npy", head: { dtype, shape } };
}

/**
 * @param {File} file
 * @returns {Promise<Found>}
 */
async function zipFile(file) {
  const members = await zipMembers(file);
  if (members.some(({ name }) => name.endsWith("data.pkl"))) throw torchFile(file.name);
  const arrays = unnamed(members.filter(({ name }) => name.endsWith(".npy")));
  if (arrays.length === 0) {
    const lead = "In Python, where the arrays are made";
    const line = 'np.savez("batch.npz", logits=logits, targets=targets)';
    const what = `${shown(file.name)} is a zip without .npy files.`;
    throw new UnusableFile(what, inPython(file.name, line, lead));
  }
  const lacking = otherNames(file.name, arrays);
  if (lacking) throw lacking;
  return { file, kind: "npz", members: unnamed(members) };
}

/** Members as their arrays are called. @param {readonly Member[]} members */
function unnamed(members) {
  return members.map((member) => ({ ...member, name: member.name.replace(/\.npy$/, "") }));
}

/**
 * @param {File} file
 * @returns {Promise<Found>}
 */
async function gzipFile(file) {
  const start = await (await beginning(file, "gzip")).slice(0, 64).text();
  if (!/^\uFEFF?\s*\{/.test(start)) {
    const unpack = /.\.gz$/.test(file.name) ? "gunzip -k NAME" : "gunzip < NAME > unpacked";
    throw new UnusableFile(
      `${shown(file.name)} is compressed, and no saved report.`,
      inShell(file.name, unpack, "Unpack it first"),
    );
  }
  return jsonFile(file, await inflated(file));
}

/**
 * The text of a compressed report, of a size that the page can hold.
 * @param {File} file
 */
async function inflated(file) {
  const reader = file.stream().pipeThrough(new DecompressionStream("gzip")).getReader();
  const decoder = new TextDecoder();
  let size = 0;
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return text + decoder.decode();
    size += value.byteLength;
    if (size > MOST_TEXT) {
      reader.cancel().catch(() => {});
      throw tooLarge(file.name, `has more than ${sizeText(MOST_TEXT)} once it is unpacked`);
    }
    text += decoder.decode(value, { stream: true });
  }
}

/**
 * A report that the page cannot hold, and that a command draws.
 * @param {string} name
 * @param {string} what
 */
function tooLarge(name, what) {
  const most = `A saved report has at most ${sizeText(MOST_TEXT)} here.`;
  const draw = inShell(name, "lossd merge NAME --html page.html", "The lossd command makes a page of it");
  return new UnusableFile(`${shown(name)} ${what}. ${most}`, draw);
}

/**
 * @param {File} file
 * @returns {Promise<Found>}
 */
async function textFile(file) {
  if (/\.(csv|tsv|jsonl)$/i.test(file.name))
    throw new UnusableFile(`${shown(file.name)} is a table of text.`, reported(file.name));
  const isJson = /^\s*[{[]/.test(await file.slice(0, 4096).text());
  if (file.size > MOST_TEXT) {
    const size = `has ${sizeText(file.size)}`;
    if (isJson) throw tooLarge(file.name, size);
    throw new UnusableFile(`${shown(file.name)} ${size}. Text has at most ${sizeText(MOST_TEXT)} here.`);
  }
  const text = await file.text();
  if (isJson) return jsonFile(file, text);
  const lines = text.replace(/\r?\n$/, "").split(/\r?\n/);
  if (lines.length > 1 && lines.slice(0, 20).every(areNumbers)) {
    const [separator] = /[,;]/.exec(lines[0] ?? "") ?? [];
    const delimiter = separator ? `, delimiter="${separator}"` : "";
    const line = `import numpy as np; np.save(OUT, np.loadtxt(NAME${delimiter}))`;
    throw new UnusableFile(`${shown(file.name)} is numbers as text.`, inPython(file.name, line));
  }
  return { file, kind: "lines", lines };
}

/** @param {string} line */
function areNumbers(line) {
  return /^\s*[-+\d.eE]+([\s,;][-+\d.eE\s,;]*)?$/.test(line) && /[.,;\s]\d/.test(line.trim());
}

/**
 * @param {File} file
 * @param {string} text
 * @returns {Found}
 */
function jsonFile(file, text) {
  let document;
  try {
    document = JSON.parse(text);
  } catch (error) {
    throw new Error(`it begins as JSON, and is none (${/** @type {Error} */ (error).message})`);
  }
  if (document.schema === SCHEMA) return { file, kind: "report", document, notes: [] };
  if (document.report?.schema === SCHEMA) {
    const notes = [document.notes ?? []].flat().map(String);
    return { file, kind: "report", document: document.report, notes };
  }
  if (Array.isArray(document) && document.every((item) => typeof item === "string")) {
    return { file, kind: "lines", lines: document };
  }
  throw new UnusableFile(
    `${shown(file.name)} is JSON, but neither a report nor a list of names. ` +
      "Reports are written by lossd report --out, and downloaded from this page.",
  );
}
