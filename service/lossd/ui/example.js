// An example to try: the outputs of a made-up model for 600 images of 8 classes, the same each time. Bicycles
// are hard for it, the rear camera sees less, and a few labels are wrong.

import { toNpy } from "./client/npy.js";

/** @import { Place } from "./places.js" */

const ROWS = 600;
const CLASSES = ["car", "truck", "bus", "motorbike", "bicycle", "person", "dog", "traffic light"];
const PREVALENCE = [0.5, 0.18, 0.1, 0.12, 0.2, 0.4, 0.08, 0.25];
const CAMERAS = ["front", "left", "rear", "right"];
const WEAK = CLASSES.indexOf("bicycle");
const WRONG = [37, 142, 268, 391, 455, 573];

/**
 * The files of the example, with their places.
 * @returns {{ file: File, place: Place }[]}
 */
export function exampleFiles() {
  const random = randomNumbers(22);
  const targets = new Uint8Array(ROWS * CLASSES.length);
  const logits = new Float32Array(targets.length);
  const baseline = new Float32Array(targets.length);
  for (let row = 0; row < ROWS; row++) {
    const sight = row % CAMERAS.length === CAMERAS.indexOf("rear") ? 0.6 : 1;
    CLASSES.forEach((_, label) => {
      const place = row * CLASSES.length + label;
      const isThere = random() < (PREVALENCE[label] ?? 0);
      const isWrong = WRONG.includes(row) && label === row % CLASSES.length;
      const strength = sight * (label === WEAK ? 0.7 : 2.6);
      logits[place] = (isWrong ? 6 : strength) * (isThere ? 1 : -1) + 1.1 * normal(random);
      baseline[place] = 0.75 * strength * (isThere ? 1 : -1) + 1.3 * normal(random);
      targets[place] = Number(isThere !== isWrong);
    });
  }
  const shape = [ROWS, CLASSES.length];
  const lines = (/** @type {string[]} */ names) => [names.join("\n") + "\n"];
  return [
    given("logits.npy", "logits", toNpy("logits", { data: logits, shape })),
    given("targets.npy", "targets", toNpy("targets", { data: targets, shape, dtype: "bool" })),
    given("baseline.npy", "baseline", toNpy("baseline", { data: baseline, shape })),
    given("classes.txt", "classes", lines(CLASSES)),
    given(
      "images.txt",
      "ids",
      lines(Array.from({ length: ROWS }, (_, row) => `frame-${String(row).padStart(4, "0")}.jpg`)),
    ),
    given(
      "camera.txt",
      "groups",
      lines(Array.from({ length: ROWS }, (_, row) => CAMERAS[row % CAMERAS.length] ?? "")),
    ),
  ];
}

/** @param {string} name @param {Place} place @param {BlobPart[]} parts */
function given(name, place, parts) {
  return { file: new File(parts, name), place };
}

/**
 * Numbers from 0 to 1, the same for a seed on every machine: a linear congruential generator of 32 bits
 * (Numerical Recipes), of which the upper 24 are used.
 * @param {number} seed
 */
function randomNumbers(seed) {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state >>> 8) / 2 ** 24;
  };
}

/**
 * About normal: a sum of uniform numbers, which needs no logarithm, whose last digit differs between
 * browsers.
 * @param {() => number} random
 */
function normal(random) {
  let sum = -6;
  for (let count = 0; count < 12; count++) sum += random();
  return sum;
}
