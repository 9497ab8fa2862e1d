// Files that people give: what each is, told by its first bytes, and what to do about one that cannot be
// used.

import { arrowColumns, beginning, itemSize, npyHead, zipMembers } from "./heads.js";

/** @import { Report } from "./client/index.js" */
/** @import { ArrayHead, Member } from "./heads.js" */

/**
 * A file that can be used.
 * @typedef {{ file: File, kind: "npy", head: ArrayHead }
 *   | { file: File, kind: "npz" | "arrow", members: readonly Member[] }
 *   | { file: File, kind: "lines", lines: readonly string[] }
 *   | { file: File, kind: "report", document: Report }} Found
 */

/** A file that cannot be used: what it is, and what to do. */
export class UnusableFile extends Error {
  name = "UnusableFile";
}

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
    throw new UnusableFile(`${file.name} cannot be read. If it is a folder, drop the files in it.`);
  }
  if (head.length === 0) throw new UnusableFile(`${file.name} is empty. Save it again.`);
  try {
    return await recogniseHead(file, head);
  } catch (error) {
    if (error instanceof UnusableFile) throw error;
    const reason = error instanceof Error ? error.message : String(error);
    throw new UnusableFile(`${file.name} is damaged: ${reason}. Save or copy it again.`);
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
  if (other !== undefined) throw unusable(file, other.what, other.remedy);
  if (head[8] === 0x7b && begins(head.subarray(4), "\0\0\0\0")) {
    throw unusable(
      file,
      "a safetensors file",
      `from safetensors.numpy import load_file; np.save("NAME.npy", load_file("${file.name}")["NAME"])`,
    );
  }
  if (head.includes(0))
    throw unusable(file, "of a format that is not known here", 'np.save("logits.npy", logits)');
  return textFile(file, await file.slice(0, MOST_TEXT).text());
}

/**
 * @param {Uint8Array} head
 * @param {string} magic
 */
function begins(head, magic) {
  return head.length >= magic.length && [...magic].every((byte, place) => head[place] === byte.charCodeAt(0));
}

const STREAM =
  'table = pa.ipc.open_file("NAME").read_all(); ' +
  'stream = pa.ipc.new_stream("stream.arrow", table.schema); stream.write_table(table); stream.close()';
/** @type {readonly { magic: string, what: string, remedy: string }[]} */
const OTHERS = [
  { magic: "ARROW1", what: "an Arrow file (Feather), not an Arrow stream", remedy: STREAM },
  {
    magic: "FEA1",
    what: "a Feather file of version 1",
    remedy: STREAM.replace('pa.ipc.open_file("NAME").read_all()', 'pyarrow.feather.read_table("NAME")'),
  },
  { magic: "PAR1", what: "a Parquet file", remedy: "lossd report NAME --out report.json" },
  { magic: "\x89HDF", what: "an HDF5 file", remedy: 'np.save("logits.npy", h5py.File("NAME")["logits"][:])' },
  {
    magic: "MATLAB 5.0",
    what: "a MATLAB file",
    remedy: 'np.save("logits.npy", scipy.io.loadmat("NAME")["logits"])',
  },
  {
    magic: "\x80\x02\x8a\nl\xfc\x9cF\xf9",
    what: "a PyTorch file",
    remedy: 'np.save("logits.npy", torch.load("NAME").float().cpu().numpy())',
  },
  ...["\x80\x02", "\x80\x03", "\x80\x04", "\x80\x05"].map((magic) => ({
    magic,
    what: "a Python pickle, which may run any code and is never opened here",
    remedy: 'np.save("logits.npy", np.asarray(pickle.load(open("NAME", "rb"))))',
  })),
];

/**
 * @param {File} file
 * @param {string} what
 * @param {string} remedy A line of Python or of the shell, in which NAME is the file's.
 */
function unusable(file, what, remedy) {
  const runs = remedy.startsWith("lossd ")
    ? "The lossd command reads it; drop the report that it writes"
    : "In Python";
  return new UnusableFile(`${file.name} is ${what}. ${runs}: ${remedy.replaceAll("NAME", file.name)}`);
}

/**
 * @param {File} file
 * @returns {Promise<Found>}
 */
async function npyFile(file) {
  const { dtype, shape, dataStart } = await npyHead(file);
  const size = itemSize(dtype);
  if (size === null || dtype.startsWith("complex")) {
    const remedy =
      dtype === "object"
        ? '. In Python: np.save("%", np.stack(list(array)).astype(np.float32))'
        : ". Names go in a text file, one a line; numbers as float32, integers or bools";
    const what = dtype === "object" ? "pickled Python objects" : `elements of type ${dtype}`;
    throw new UnusableFile(`${file.name} holds ${what}${remedy.replace("%", file.name)}`);
  }
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
  if (members.some(({ name }) => name.endsWith("data.pkl"))) {
    throw unusable(file, "a PyTorch file", 'np.save("logits.npy", torch.load("NAME").float().cpu().numpy())');
  }
  if (!members.some(({ name }) => name.endsWith(".npy"))) {
    throw new UnusableFile(
      `${file.name} is a zip without .npy files. ` +
        'In Python: np.savez("batch.npz", logits=logits, targets=targets)',
    );
  }
  return {
    file,
    kind: "npz",
    members: members.map((member) => ({ ...member, name: member.name.replace(/\.npy$/, "") })),
  };
}

/**
 * @param {File} file
 * @returns {Promise<Found>}
 */
async function gzipFile(file) {
  const start = await (await beginning(file, "gzip")).slice(0, 64).text();
  if (!/^\uFEFF?\s*\{/.test(start)) {
    throw new UnusableFile(
      `${file.name} is compressed, and no saved report. Unpack it first: gunzip -k ${file.name}`,
    );
  }
  return jsonFile(
    file,
    await new Response(file.stream().pipeThrough(new DecompressionStream("gzip"))).text(),
  );
}

/**
 * @param {File} file
 * @param {string} text
 * @returns {Found}
 */
function textFile(file, text) {
  if (/^\s*[{[]/.test(text)) return jsonFile(file, text);
  const lines = text.replace(/\r?\n$/, "").split(/\r?\n/);
  if (/\.(csv|tsv|jsonl)$/i.test(file.name)) {
    throw unusable(file, "a table of text", "lossd report NAME --out report.json");
  }
  if (
    lines.length > 1 &&
    lines
      .slice(0, 20)
      .every((line) => /^\s*[-+\d.eE]+([\s,;][-+\d.eE\s,;]*)?$/.test(line) && /[.,;\s]\d/.test(line.trim()))
  ) {
    throw unusable(file, "numbers as text", 'np.save("logits.npy", np.loadtxt("NAME"))');
  }
  return { file, kind: "lines", lines };
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
  if (document.schema === SCHEMA) return { file, kind: "report", document };
  if (document.report?.schema === SCHEMA) return { file, kind: "report", document: document.report };
  if (Array.isArray(document) && document.every((item) => typeof item === "string")) {
    return { file, kind: "lines", lines: document };
  }
  throw new UnusableFile(
    `${file.name} is JSON, but neither a report (of lossd report --out, or this page) nor a list of names. ` +
      'Save arrays in Python: np.save("logits.npy", logits)',
  );
}
