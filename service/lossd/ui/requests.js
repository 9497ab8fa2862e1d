// The request of a report: what was chosen in the form, as the client takes it.

import { session } from "./session.js";

/** @import { Groups, Report, ReportRequest } from "./client/index.js" */
/** @import { Progress } from "./upload.js" */

/**
 * What is scored, by place. Tensors are .npy files; ids may be names of rows, groups columns of labels by name.
 * @typedef {{
 *   logits?: Blob, probabilities?: Blob, targets?: Blob, weight?: Blob, pos_weight?: Blob, mask?: Blob,
 *   baseline?: Blob, npz?: Blob, arrow?: Blob, ids?: Blob | readonly string[], groups?: Groups,
 * }} Files
 *
 * What a run asked for; `params` are the loss's and the report's parameters that differ from the server's defaults.
 * @typedef {{
 *   loss: string, params: Readonly<Record<string, unknown>>, files: Files, classNames: readonly string[] | null,
 * }} Scored
 *
 * A run of this page; `scored` is null for a saved report.
 * @typedef {{ name: string, document: Report, scored: Scored | null }} Run
 */

/**
 * Score files, and return the document of their report.
 * @param {Scored} scored
 * @param {{ baseline?: Blob | undefined, sections?: readonly string[] | undefined,
 *   onProgress?: ((progress: Progress) => void) | undefined, signal?: AbortSignal | undefined }} [options] `baseline`
 *   takes the place of the one among the files.
 * @returns {Promise<Report>}
 */
export async function score({ loss, params, files, classNames }, { baseline, sections, onProgress, signal } = {}) {
  const request = /** @type {any} */ ({
    ...params,
    ...files,
    ...(baseline && { baseline }),
    ...(sections && { sections }),
  });
  const client = session.client(onProgress);
  const document = await client.report(/** @type {"bce"} */ (loss), /** @type {ReportRequest} */ (request), { signal });
  return withClassNames(document, classNames);
}

/**
 * A report's document with the names of its classes, if they are as many as its classes.
 * @param {Report} document
 * @param {readonly string[] | null} names
 * @returns {Report}
 */
function withClassNames(document, names) {
  if (names === null) return document;
  const run = { version: null, kernel: null, device: null, request_id: null, first_row: null, ...document.run };
  return { ...document, run: { ...run, class_names: names } };
}
