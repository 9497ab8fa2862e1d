export { LossClient } from "./client.js";
export * from "./errors.js";
export { fsum } from "./exact-sum.js";
export { asMean, merge } from "./result.js";

/** @typedef {import("./types.js").BceParams} BceParams */
/** @typedef {import("./types.js").BceRequest} BceRequest */
/** @typedef {import("./types.js").CallOptions} CallOptions */
/** @typedef {import("./types.js").ClientOptions} ClientOptions */
/** @typedef {import("./types.js").Column} Column */
/** @typedef {import("./types.js").ErrorItem} ErrorItem */
/** @typedef {import("./types.js").Figure} Figure */
/** @typedef {import("./types.js").FocalParams} FocalParams */
/** @typedef {import("./types.js").FocalRequest} FocalRequest */
/** @typedef {import("./types.js").Groups} Groups */
/** @typedef {import("./types.js").Info} Info */
/** @typedef {import("./types.js").Inputs} Inputs */
/** @typedef {import("./types.js").LossArray} LossArray */
/** @typedef {import("./types.js").LossName} LossName */
/** @typedef {import("./types.js").LossParams} LossParams */
/** @typedef {import("./types.js").Overview} Overview */
/** @typedef {import("./types.js").Report} Report */
/** @typedef {import("./types.js").ReportOptions} ReportOptions */
/** @typedef {import("./types.js").Retry} Retry */
/** @typedef {import("./types.js").Tensor} Tensor */
/** @typedef {import("./types.js").TensorLike} TensorLike */
/** @typedef {import("./types.js").TypedArray} TypedArray */
/** @typedef {import("./types.js").Usage} Usage */
/**
 * @template {number | LossArray} [Loss=number | LossArray]
 * @typedef {import("./types.js").LossResult<Loss>} LossResult
 */
/**
 * @template {LossName} Name
 * @typedef {import("./types.js").LossRequests[Name]} LossRequest
 */
/**
 * @template {LossName} Name
 * @typedef {import("./types.js").ReportRequests[Name]} ReportRequest
 */
