// Files that cannot be used: what each is, and the command that makes one of it that can.

import { INPUTS } from "./client/methods.js";
import { itemSize } from "./heads.js";
import { isUnsafe, pathOf, pythonText, shellWord, shown } from "./quoting.js";
import { placeOfArray, shapeText, stem } from "./places.js";

/** @import { Member } from "./heads.js" */
/** @typedef {{ lead: string, command: string }} Remedy Where a command runs, and the command. */

/** A file that cannot be used: what it is, and what to do. */
export class UnusableFile extends Error {
  name = "UnusableFile";

  /**
   * @param {string} message Sentences.
   * @param {Remedy} [remedy]
   */
  constructor(message, remedy) {
    super(message);
    this.remedy = remedy;
  }
}

/**
 * A line of Python.
 * @param {string} name The file's.
 * @param {string} line In it NAME is the file's, OUT that of the .npy file to make, and others as in `words`.
 * @param {string} [lead]
 * @param {Readonly<Record<string, string>>} [words] Python itself, for words in capitals.
 * @returns {Remedy}
 */
export function inPython(name, line, lead = "In Python", words = {}) {
  const all = new Map(
    Object.entries({ NAME: pythonText(name), OUT: pythonText(`${stem(name)}.npy`), ...words }),
  );
  return { lead, command: line.replace(/\b[A-Z]+\b/g, (word) => all.get(word) ?? word) };
}

/**
 * A command of a shell.
 * @param {string} name The file's.
 * @param {string} command In it NAME is the file's.
 * @param {string} lead
 * @returns {Remedy}
 */
export function inShell(name, command, lead) {
  if (isUnsafe(name)) {
    const rename = 'import os; os.rename(NAME, "renamed")';
    return inPython(name, rename, "Its name has characters that a terminal may take for commands. In Python");
  }
  return { lead, command: command.replaceAll("NAME", () => shellWord(pathOf(name))) };
}

/**
 * A command that reads a table, and asks this page's server.
 * @param {string} name The file's.
 */
export function reported(name) {
  const address = new URL("..", import.meta.url).href.replace(/\/$/, "");
  const command = `lossd report NAME --url ${shellWord(address)} --out report.json`;
  return inShell(name, command, "The lossd command reads it; drop the report that it writes");
}

const STREAM =
  '; stream = pa.ipc.new_stream("stream.arrow", table.schema); stream.write_table(table); stream.close()';
const TORCH =
  'import numpy as np, torch; np.save(OUT, torch.load(NAME, map_location="cpu").detach().float().numpy())';

/** @typedef {{ magic: string, what: string, remedy: (name: string) => Remedy }} Format */

/** @param {string} magic @param {string} what @param {string} line @returns {Format} */
const python = (magic, what, line) => ({ magic, what, remedy: (name) => inPython(name, line) });

/** Formats that are not read, by their first bytes. @type {readonly Format[]} */
export const OTHERS = [
  python(
    "ARROW1",
    "an Arrow file (Feather), not an Arrow stream",
    `import pyarrow as pa; table = pa.ipc.open_file(NAME).read_all()${STREAM}`,
  ),
  python(
    "FEA1",
    "a Feather file of version 1",
    `import pyarrow as pa, pyarrow.feather; table = pa.feather.read_table(NAME)${STREAM}`,
  ),
  { magic: "PAR1", what: "a Parquet file", remedy: reported },
  python(
    "\x89HDF",
    "an HDF5 file",
    'import h5py, numpy as np; np.save(OUT, h5py.File(NAME)["logits"][:])',
  ),
  python(
    "MATLAB 5.0",
    "a MATLAB file",
    'import numpy as np, scipy.io; np.save(OUT, scipy.io.loadmat(NAME)["logits"])',
  ),
  python("\x80\x02\x8a\nl\xfc\x9cF\xf9", "a PyTorch file", TORCH),
  ...["\x80\x02", "\x80\x03", "\x80\x04", "\x80\x05"].map((magic) =>
    python(
      magic,
      "a Python pickle, which may run any code and is never opened here",
      'import numpy as np, pickle; np.save(OUT, np.asarray(pickle.load(open(NAME, "rb"))))',
    ),
  ),
];

/** @param {string} name */
export function torchFile(name) {
  return new UnusableFile(`${shown(name)} is a PyTorch file.`, inPython(name, TORCH));
}

/** @param {string} name */
export function safetensorsFile(name) {
  const line =
    'import numpy as np; from safetensors.numpy import load_file; np.save(OUT, load_file(NAME)["logits"])';
  return new UnusableFile(`${shown(name)} is a safetensors file.`, inPython(name, line));
}

/**
 * A file that is not what its name says, or of no known format.
 * @param {string} name
 * @param {string} what
 */
export function savedAgain(name, what) {
  const lead = "Save the array again. In Python, where it is made";
  return new UnusableFile(`${shown(name)} ${what}.`, inPython(name, "np.save(OUT, array)", lead));
}

/**
 * An array whose elements are no numbers.
 * @param {string} name
 * @param {string} dtype
 */
export function notNumbers(name, dtype) {
  if (dtype !== "object") {
    return new UnusableFile(
      `${shown(name)} holds elements of type ${dtype}. Names go in a text file, one a line; ` +
        "numbers as float32, integers or bools.",
    );
  }
  const line =
    "import numpy as np; array = np.load(NAME, allow_pickle=True); " +
    "np.save(PLAIN, np.stack(list(array)).astype(np.float32))";
  const words = { PLAIN: pythonText(`${stem(name)}-plain.npy`) };
  return new UnusableFile(
    `${shown(name)} holds pickled Python objects, which may run any code when they are read.`,
    inPython(name, line, "If you trust it, in Python", words),
  );
}

const TENSORS = [...INPUTS, "targets", "weight", "pos_weight", "mask", "baseline", "groups", "ids"];

/**
 * What an .npz file lacks, if its arrays have other names than a request's, or are too few.
 * @param {string} name
 * @param {readonly Member[]} members Named without .npy.
 * @returns {UnusableFile | null}
 */
export function otherNames(name, members) {
  const names = members.map((member) => member.name);
  if (names.includes("targets") && INPUTS.some((each) => names.includes(each))) return null;
  const pairs = namesFor(members);
  const has = members
    .slice(0, 12)
    .map(({ name: its, head }) => `${shown(its)}${head ? ` ${shapeText(head.shape)}` : ""}`);
  const what = `${shown(name)} has the arrays ${has.join(", ")}`;
  const places = pairs.map(([place]) => place);
  if (!places.includes("targets") || !INPUTS.some((each) => places.includes(each))) {
    const [place, its] = pairs[0] ?? ["logits", names[0] ?? ""];
    const line = "import numpy as np; np.save(PLACE, np.load(NAME)[FIRST])";
    const words = { PLACE: pythonText(`${place}.npy`), FIRST: pythonText(its) };
    return new UnusableFile(
      `${what}; a request needs logits (or probabilities) and targets.`,
      inPython(name, line, "Save each of its arrays in a file, and add what is missing. In Python", words),
    );
  }
  const line = "import numpy as np; arrays = np.load(NAME); np.savez(RENAMED, ARRAYS)";
  const words = {
    RENAMED: pythonText(`${stem(name)}-renamed.npz`),
    ARRAYS: pairs.map(([place, its]) => `${place}=arrays[${pythonText(its)}]`).join(", "),
  };
  return new UnusableFile(
    `${what}; a request has logits (or probabilities) and targets. ` +
      "Check which is which in the line that renames them.",
    inPython(name, line, "In Python", words),
  );
}

/**
 * The names of a request, each with that of an array: its own, else by the array's name, else by its type.
 * @param {readonly Member[]} members
 */
function namesFor(members) {
  const kept = members.filter(({ name }) => TENSORS.includes(name));
  const others = members.filter((member) => !kept.includes(member));
  const open = others.filter(({ head }) => itemSize(head?.dtype ?? "") !== null);
  /** @type {[string, string][]} */
  const pairs = kept.map(({ name }) => [name, name]);
  /** @param {readonly string[]} places @param {RegExp} types */
  const find = (places, types) => {
    if (pairs.some(([place]) => places.includes(place))) return;
    const found =
      open.find(({ name }) => places.includes(placeOfArray(name))) ??
      open.find(({ name, head }) => placeOfArray(name) === "" && types.test(head?.dtype ?? ""));
    if (found === undefined) return;
    const place = placeOfArray(found.name) || places[0] || "";
    pairs.push([place, found.name]);
    open.splice(open.indexOf(found), 1);
  };
  find(INPUTS, /float/);
  find(["targets"], /./);
  return pairs;
}
