// The request of a report: what was chosen in the form, as the client takes it.

import { ConnectionFailed } from "./client/index.js";
import { readIntegers } from "./heads.js";
import { shown } from "./quoting.js";
import { session } from "./session.js";

/** @import { Groups, Report, ReportRequest } from "./client/index.js" */
/** @import { Item } from "./places.js" */
/** @import { Progress } from "./upload.js" */

/**
 * What is scored, by place. Tensors are .npy files; ids may be names of rows, groups columns of labels by
 * name.
 * @typedef {{
 *   logits?: Blob, probabilities?: Blob, boxes?: Blob, targets?: Blob, weight?: Blob, pos_weight?: Blob, mask?: Blob,
 *   baseline?: Blob, npz?: Blob, arrow?: Blob, ids?: Blob | readonly string[], groups?: Groups,
 * }} Files
 *
 * What a run asked for; `params` are the loss's and the report's parameters that differ from the server's
 * defaults.
 * @typedef {{
 *   loss: string, params: Readonly<Record<string, unknown>>, files: Files,
 *   classNames: readonly string[] | null,
 * }} Scored
 *
 * A run of this page; `scored` is null for a saved report. Notes are on a loss that is right and may surprise.
 * @typedef {{ name: string, document: Report, notes: readonly string[], scored: Scored | null }} Run
 */

/**
 * What files stand for, as the client takes it.
 * @param {readonly Item[]} items
 * @returns {Promise<{ files: Files, classNames: readonly string[] | null }>}
 */
export async function filesOf(items) {
  /** @type {Record<string, unknown>} */
  const files = {};
  /** @type {Map<string, readonly string[] | BigInt64Array>} By any names, such as those that objects have. */
  const columns = new Map();
  let classNames = null;
  for (const { found, place, label } of items) {
    const value = found.kind === "lines" ? found.lines : found.file;
    if (found.kind === "npz" || found.kind === "arrow") files[found.kind] = found.file;
    else if (place === "classes" && found.kind === "lines") classNames = found.lines;
    else if (place !== "groups") files[place] = value;
    else if (columns.has(label))
      throw new Error(`Two files of groups are called ${shown(label)}. Rename one, beside its file's name.`);
    else if (found.kind === "lines") columns.set(label, found.lines);
    else if (found.kind === "npy" && found.head.shape.length === 1)
      columns.set(label, await readIntegers(found.file));
    else files["groups"] = value; // several columns in one file
  }
  if (columns.size > 0) files["groups"] = columns;
  return { files: /** @type {Files} */ (files), classNames };
}

/**
 * Score files, and return the document of their report, and the notes on it.
 * @param {Scored} scored
 * @param {{ baseline?: Blob | undefined, sections?: readonly string[] | undefined,
 *   onProgress?: ((progress: Progress) => void) | undefined, signal?: AbortSignal | undefined }} [options]
 *   `baseline` takes the place of the one among the files.
 * @returns {Promise<{ document: Report, notes: readonly string[] }>}
 */
export async function score(
  { loss, params, files, classNames },
  { baseline, sections, onProgress, signal } = {},
) {
  const request = /** @type {any} */ ({
    ...params,
    ...files,
    ...(baseline && { baseline }),
    ...(sections && { sections }),
  });
  /** @type {string[]} */
  const notes = [];
  const onNote = (/** @type {string} */ note) => notes.push(note);
  const client = session.client(onProgress);
  const asking = client.report(
    /** @type {"bce"} */ (loss),
    /** @type {ReportRequest<"bce">} */ (request),
    { signal, onNote },
  );
  const document = await asking.catch(async (error) => {
    throw (error instanceof ConnectionFailed && (await changedFile({ ...files, baseline }))) || error;
  });
  return { document: withClassNames(document, classNames), notes };
}

/**
 * What is wrong with a file that can no longer be read: browsers then break off the connection.
 * @param {Readonly<Record<string, unknown>>} files
 * @returns {Promise<Error | null>}
 */
export async function changedFile(files) {
  for (const file of Object.values(files)) {
    if (!(file instanceof File)) continue;
    try {
      await file.slice(0, 1).arrayBuffer();
    } catch {
      return new Error(`${shown(file.name)} has changed on disk, or is gone, since it was chosen. Choose it again.`);
    }
  }
  return null;
}

/**
 * A report's document with the names of its classes.
 * @param {Report} document
 * @param {readonly string[] | null} names
 * @returns {Report}
 */
function withClassNames(document, names) {
  const classes = document.classes?.count.length;
  if (names === null || classes === undefined) return document;
  if (names.length !== classes) {
    throw new Error(
      `There are ${names.length} names of classes, and ${classes} classes. Mend or remove the names.`,
    );
  }
  const run = {
    version: null,
    kernel: null,
    device: null,
    request_id: null,
    first_row: null,
    ...document.run,
  };
  return { ...document, run: { ...run, class_names: names } };
}
