// The paired report of two runs over the same rows: one run's, with the other one's inputs as its baseline.

import { changedFile, score } from "./requests.js";

/** @import { Report } from "./client/index.js" */
/** @import { Files, Run } from "./requests.js" */
/** @import { Progress } from "./upload.js" */

const CHUNK = 1 << 23; // bytes of two files that are held beside each other
const SAME = /** @type {const} */ (["targets", "weight", "mask", "pos_weight"]);

/**
 * Score a run with the other one's inputs as its baseline.
 * @param {Run} run
 * @param {Run} baseline
 * @param {{ onProgress: (progress: Progress) => void, signal: AbortSignal }} options
 * @returns {Promise<Report | undefined>} Undefined where the runs are not of the same targets, or differ in
 *   what the server refuses to compare, which it says itself.
 */
export async function compared(run, baseline, options) {
  if (run.scored === null || baseline.scored === null) return undefined;
  const totals = [run, baseline].map(({ document }) => document.totals);
  const [mine, its] = totals.map(({ loss, inputs, params }) => JSON.stringify([loss, inputs, params]));
  if (mine !== its) return undefined;
  const name = totals[0]?.inputs ?? "logits";
  const other = baseline.scored.files[name];
  if (!other || !run.scored.files[name]) return undefined;
  const files = [run.scored.files, baseline.scored.files];
  const [own, others] = [run.scored.files, baseline.scored.files];
  const isPaired = await areAlike(own, others).catch(async (error) => {
    throw (await changedFile(own)) ?? (await changedFile(others)) ?? error;
  });
  if (!isPaired) return undefined;
  const { sweep, calibration_bins, top, ...params } = run.scored.params; // of sections that are not asked for
  const { groups, ids } = run.scored.files;
  // Names of rows are for lists.
  const wanted = ["classes", ...(groups ? ["groups"] : []), ...(ids ? ["top"] : [])];
  const kept = wanted.filter((section) => section in run.document);
  const sections = ["totals", ...kept, "paired"];
  const paired = await score({ ...run.scored, params }, { ...options, baseline: other, sections });
  return paired.document;
}

/**
 * Whether all that stands beside the inputs is the same.
 * @param {Files} one
 * @param {Files} other
 */
async function areAlike(one, other) {
  for (const name of SAME) {
    const [mine, its] = [one[name], other[name]];
    if (!mine !== !its || (mine && its && !(await haveSameBytes(mine, its)))) return false;
  }
  return true;
}

/**
 * @param {Blob} one
 * @param {Blob} other
 */
async function haveSameBytes(one, other) {
  if (one === other) return true;
  if (one.size !== other.size) return false;
  for (let start = 0; start < one.size; start += CHUNK) {
    const parts = [one, other].map((blob) => blob.slice(start, start + CHUNK).arrayBuffer());
    const [mine, its] = (await Promise.all(parts)).map((part) => new Uint8Array(part));
    if (!mine?.every((byte, place) => byte === its?.[place])) return false;
  }
  return true;
}
