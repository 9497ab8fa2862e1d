// The types of requests and answers. This file has no code: nothing imports it when the client runs.

import type { LossInputs, LossParams } from "./losses.js";

export type * from "./losses.js";

// ---- Tensors

interface Float16Array extends ArrayBufferView {
  readonly [Symbol.toStringTag]: "Float16Array";
  readonly length: number;
  readonly BYTES_PER_ELEMENT: number;
}

export type TypedArray =
  | Int8Array
  | Int16Array
  | Int32Array
  | BigInt64Array
  | Uint8Array
  | Uint8ClampedArray
  | Uint16Array
  | Uint32Array
  | BigUint64Array
  | Float16Array
  | Float32Array
  | Float64Array;

export interface Tensor {
  readonly data: TypedArray;
  readonly shape: readonly number[];
  /** What elements of the same size stand for: float16 and bfloat16 in a Uint16Array, bool in a Uint8Array. */
  readonly dtype?: "float16" | "bfloat16" | "bool";
}

export type Nested<Item> = readonly (Item | Nested<Item> | TypedArray)[];

/** A typed array (of one dimension), a tensor, nested arrays, or a .npy file. Null is NaN. */
export type TensorLike = TypedArray | Tensor | Nested<number | boolean | null> | Blob;

/** An integer or a string for each row. */
export type Column = readonly (number | bigint)[] | readonly string[] | TypedArray | Tensor | Blob;

/** The group of each row, or several of them: [N, G], or columns by name; a map may have any names, an object not "shape". */
export type Groups =
  | Column
  | readonly (readonly (number | bigint | string)[])[]
  | Readonly<Record<string, readonly (number | bigint)[] | readonly string[] | TypedArray>>
  | ReadonlyMap<string, readonly (number | bigint)[] | readonly string[] | TypedArray>;

// ---- Requests

/** The losses. */
export type LossName = keyof LossParams;

/** The names that inputs may have. */
export type InputName = LossInputs[LossName];

export interface Reduction {
  readonly reduction?: "none" | "sum" | "mean";
  readonly axis?: number | readonly number[] | null;
}

interface Beside {
  readonly weight?: TensorLike;
  readonly mask?: TensorLike;
}

/** Tensors by name, or one file that has them all. */
export type Inputs<Input extends InputName = "logits" | "probabilities"> =
  | {
      [Name in Input]: Beside & { readonly [Each in Name]: TensorLike } & {
        readonly [Other in Exclude<InputName, Name>]?: never;
      } & { readonly targets: TensorLike; readonly npz?: never; readonly arrow?: never };
    }[Input]
  | ({ readonly npz: Blob; readonly arrow?: never } & { readonly [Each in InputName]?: never })
  | ({ readonly arrow: Blob; readonly npz?: never } & { readonly [Each in InputName]?: never });

/** The requests of each loss; names and meaning are the API's: docs/reference/api.md#parameters. */
export type LossRequests = {
  readonly [Name in LossName]: Inputs<LossInputs[Name]> & LossParams[Name] & Reduction;
};
export type BceRequest = LossRequests["bce"];
export type FocalRequest = LossRequests["focal"];

export interface ReportParams {
  readonly groups?: Groups;
  /** Unique integers or strings. */
  readonly ids?: Column;
  /** The logits or probabilities of another model. */
  readonly baseline?: TensorLike;
  /** By default all that the tensors allow. */
  readonly sections?: readonly Section[] | "all";
  readonly top?: number;
  readonly row?: "sum" | "mean";
  readonly first_row?: number;
  readonly calibration_bins?: number | "exact";
  readonly sweep?: { readonly gamma: readonly number[] };
}

export type Section =
  "totals" | "classes" | "groups" | "top" | "histogram" | "calibration" | "sweep" | "paired";

export type ReportRequests = {
  readonly [Name in LossName]: Inputs<LossInputs[Name]> & LossParams[Name] & ReportParams;
};
export type ReportRequest = ReportRequests[LossName];

/** A request as it is sent. */
export type ScoreRequest = { readonly [name: string]: any };

/** What scores: the client. */
export type Score = (loss: LossName, request: ScoreRequest, options?: CallOptions) => Promise<any>;

/** What the client has to know of a loss. */
export interface LossFacts {
  /** Its own parameters. */
  readonly own: readonly string[];
  /** What has one loss; "": each element. */
  readonly row: "" | "classes" | "sample" | "box";
}

/** One number, unless `reduction: "none"` or `axis` asks for more. */
export interface LossMethod<Request> {
  (request: Request & { readonly reduction: "none" }, options?: CallOptions): Promise<LossResult<LossArray>>;
  (
    request: Request & { readonly reduction?: "sum" | "mean"; readonly axis?: null },
    options?: CallOptions,
  ): Promise<LossResult<number>>;
  (request: Request, options?: CallOptions): Promise<LossResult>;
}

// ---- Options

/** Milliseconds throughout. */
export interface Retry {
  /** The most times that a request is sent: 12. */
  readonly attempts?: number;
  /** The same while no server has answered this client: 3. */
  readonly firstContact?: number;
  /** Before the second attempt: 250. Later ones are twice as long each, and spread by chance. */
  readonly firstWait?: number;
  /** Between attempts at most, Retry-After aside: 8,000. */
  readonly longestWait?: number;
  /** What a Retry-After may ask for: 300,000. Beyond, the answer is thrown. */
  readonly longestRetryAfter?: number;
  /** The retries in the client's full budget: 20. */
  readonly burst?: number;
  /** The retries added to it each second: 4. */
  readonly perSecond?: number;
}

export interface Limits {
  /** Milliseconds for each attempt, from the first byte sent to the last received: 300,000; null for ever. */
  readonly timeout?: number | null;
  /** Milliseconds for the whole call, on the server too: none by default. */
  readonly deadline?: number | null;
  /** When a request is sent again after a failed connection, 502, or a `retryable` answer; null never. */
  readonly retry?: Retry | null;
}

export interface CallOptions extends Limits {
  readonly signal?: AbortSignal | undefined;
}

export interface ReportOptions extends CallOptions {
  /** Told each note on the report: a sentence on a loss that is right and may surprise. Else console.warn; null: none. */
  readonly onNote?: ((note: string) => void) | null | undefined;
}

export interface ClientOptions extends Limits {
  /** Sent as a bearer token. Else LOSSD_API_KEY of the environment, else none. */
  readonly apiKey?: string;
  /** Further headers of every request, such as a gateway's. */
  readonly headers?: HeadersInit;
  /** Instead of the global one: for a proxy, say, or to show progress. */
  readonly fetch?: typeof fetch;
}

// ---- Results

export interface LossArray {
  data: Float64Array;
  shape: readonly number[];
}

export interface LossResult<Loss extends number | LossArray = number | LossArray> {
  loss: Loss;
  reduction: "none" | "sum" | "mean";
  /** Of the whole request, as are `count`, `weight_sum` and `positives`. */
  sum: number;
  count: number;
  weight_sum: number;
  positives: number;
  /** The inputs' shape. */
  shape: readonly number[];
  loss_name: string;
  /** The loss's own parameters, defaults too. */
  params: Record<string, unknown>;
  /** Those of every loss. */
  options: Record<string, unknown>;
  /** Numbers that add up to `sum` exactly. */
  sum_terms: number[];
  weight_sum_terms: number[];
  positives_terms: number[];
  /** Where rows are summed and other axes stay: arrays that add up to the sums of `loss` exactly. */
  loss_terms?: Float64Array[];
  /** The same for what a mean divides by. */
  divisor_terms?: Float64Array[];
  /** What is valid and may still not be meant. */
  notes: string[];
  kernel: string | null;
  device: string | null;
  version: string | null;
  request_id: string | null;
  /** Milliseconds that the server spent, by stage. */
  timing: Record<string, number>;
}

export interface ErrorItem {
  /** A JSON pointer, such as "/targets/17/3". */
  readonly pointer: string;
  readonly detail: string;
}

export interface Info {
  version: string;
  torch: string | null;
  cpu_capability: string | null;
  kernel: string | null;
  notes: string[];
  losses: {
    name: string;
    title: string;
    summary: string;
    /** Those that a request for it may have. */
    tensors: string[];
    /** Those that its report may have. */
    sections: string[];
    /** `values` are those allowed, as JSON Schema. */
    parameters: { name: string; default: unknown; values: Record<string, unknown>; summary: string }[];
  }[];
  limits: {
    body_bytes: number;
    json_bytes: number;
    chunked_bytes: number;
    expanded_bytes: number;
    batch_bytes: number;
    output_bytes: number;
    arena_bytes: number;
    report_top: number;
    report_cells: number;
    row_elements: number;
    timeout_seconds: number;
  };
  workers: WorkerInfo[];
}

export interface WorkerInfo {
  pid: number;
  device: string;
  state: "starting" | "ready" | "lost";
  restarts: number;
}

export interface UsageTotal {
  requests: number;
  elements: number;
  bytes: number;
  device_seconds: number;
}

export interface UsageDay extends UsageTotal {
  /** In UTC, as `2026-11-26`. */
  day: string;
}

/** Requests at this moment, of one server. */
export interface RequestsNow {
  requests: number;
  bytes: number;
}

/** A team and its limits, of which null is none. */
export interface TeamState {
  team: string;
  /** Whether its keys may ask for the overview. */
  operator: boolean;
  weight: number;
  limits: {
    requests_per_second: number | null;
    elements_per_second: number | null;
    requests_in_flight: number | null;
    bytes_in_flight: number | null;
  };
  in_flight: RequestsNow;
}

export interface Usage extends TeamState {
  since: string;
  days: UsageDay[];
  total: UsageTotal;
}

export interface TeamOverview extends TeamState {
  disabled: boolean;
  waiting: RequestsNow;
  /** Null where the notes say why there is none. */
  usage: { days: UsageDay[]; total: UsageTotal } | null;
}

/** What operators see. */
export interface Overview {
  since: string;
  notes: string[];
  teams: TeamOverview[];
  workers: WorkerInfo[];
  queue: { in_flight: RequestsNow; waiting: RequestsNow };
  memory: { part: "bodies" | "small_bodies" | "answers"; bytes: number; reserved: number }[];
}

// ---- Reports: the document as the server writes it, docs/reference/api.md#reports

/** A number; read the strings by `Number(figure)`. */
export type Figure = number | "Infinity" | "-Infinity" | "NaN";

/** What adds up to a sum exactly; the first is the sum, rounded. */
export type Terms = Figure[];
/** Terms of several sums: all first terms, all second ones, and so on. */
export type Planes = Figure[][];
type Planes2 = Figure[][][];
type Counts2 = number[][];

export interface Report {
  schema: "lossd.report/1";
  totals: {
    loss: string;
    params: { row: "sum" | "mean"; [name: string]: unknown };
    inputs: InputName;
    loss_of?: "classes" | "sample" | "box";
    row_shape: number[];
    weighted: boolean;
    sum: Figure;
    weight_sum: Figure;
    positives: Figure;
  } & RowCounts<number> &
    RowSums<Terms>;
  classes?: { count: number[] } & Sums<Planes>;
  groups?: {
    names: string[];
    kinds: ("integer" | "string")[];
    /** For each column the ids of the groups, which are the combinations that occur. */
    ids: (number | string)[][];
    classes?: { count: Counts2 } & Sums<Planes2>;
    paired?: Pairs<number[], Planes> & { rows: RowPairs<number[], Planes> };
  } & RowCounts<number[]> &
    RowSums<Planes>;
  top?: {
    k: number;
    ids: "integer" | "string" | null;
    rows: (Place<number> & { loss: Figure })[];
    elements: (Place<number[]> & {
      position?: number[];
      loss: Figure;
      target?: Figure;
      logit?: Figure;
      probability?: Figure;
      predicted?: number;
      confidence?: Figure;
    })[];
  };
  histogram?: {
    elements: Histogram & { weight_terms?: Planes; zero_weight_terms?: Terms; infinite_weight_terms?: Terms };
    rows: Histogram;
  };
  calibration?: {
    bins: number | "exact";
    soft: number;
    undefined: number;
    count: number[];
    positives_terms: Planes;
    probability_terms?: Planes;
    brier_terms: Terms;
    cross_entropy_terms: Terms;
    classes?: { count: Counts2; positives_terms: Planes2; probability_terms: Planes2 };
    dtype?: "float16" | "bfloat16";
    values?: Figure[];
  };
  sweep?: {
    gamma?: number[];
    y_terms?: Terms;
    z_terms?: Terms;
    terms?: Planes;
    classes?: SweepSums<Planes2> & { y_terms?: Planes; z_terms?: Planes; terms?: Planes2 };
  } & SweepSums<Planes>;
  paired?: Pairs<number, Terms> & {
    rows: RowPairs<number, Terms>;
    classes?: Pairs<number[], Planes>;
    top?: { worse: PairedLists; better: PairedLists };
  };
  run?: {
    version: string | null;
    kernel: string | null;
    device: string | null;
    request_id: string | null;
    first_row: number | null;
    [name: string]: unknown;
  };
}

interface RowCounts<Count> {
  rows: Count;
  rows_dropped: Count;
  elements: Count;
  dropped: Count;
  count: Count;
  nan: Count;
  infinite: Count;
}

interface Sums<Terms> {
  sum_terms: Terms;
  weight_sum_terms: Terms;
  positives_terms: Terms;
}

interface RowSums<Terms> extends Sums<Terms> {
  row_squares_terms: Terms;
  row_products_terms: Terms;
  divisor_squares_terms: Terms;
  element_squares_terms?: Terms;
}

interface SweepSums<Terms> {
  yy_terms?: Terms;
  yz_terms?: Terms;
  zy_terms?: Terms;
  zz_terms?: Terms;
}

interface Better<Count> {
  better: Count;
  worse: Count;
  equal: Count;
  undefined: Count;
}

interface Pairs<Count, Terms> extends Better<Count> {
  baseline_sum_terms: Terms;
  squares_terms: Terms;
}

interface RowPairs<Count, Terms> extends Better<Count> {
  squares_terms: Terms;
  products_terms: Terms;
  baseline_squares_terms?: Terms;
  baseline_products_terms?: Terms;
}

interface Place<Index> {
  index?: Index;
  id?: number | string;
}

interface PairedLists {
  rows: (Place<number> & { difference: Figure; loss: Figure; baseline: Figure })[];
  elements: (Place<number[]> & {
    position?: number[];
    difference: Figure;
    loss: Figure;
    baseline: Figure;
    target?: Figure;
    logit?: Figure;
    baseline_logit?: Figure;
    probability?: Figure;
    baseline_probability?: Figure;
    confidence?: Figure;
    baseline_confidence?: Figure;
  })[];
}

interface Histogram {
  zero: number;
  infinite: number;
  nan: number;
  bins: number[];
  counts: number[];
}
