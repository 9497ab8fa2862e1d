// Everything that the client throws for a request; what is wrong with the arguments is a TypeError or a RangeError.
//
//   LossdError
//   ├── ConnectionFailed        nothing, or not all of it, came back
//   ├── TimedOut                the timeout or the deadline passed
//   ├── BadAnswer               a success that cannot be read as one
//   └── StatusError             the server or a proxy answered with an error status
//       ├── InvalidRequest      400, 406, 415, 422 and other 4xx
//       ├── Unauthorized        401, 403
//       ├── NotFound            404, 405
//       ├── TooLarge            413, 431
//       ├── Throttled           429
//       ├── DeadlineExceeded    408, 504
//       ├── Unavailable         503
//       └── ServerError         500, 502, 507 and other 5xx

/** @import { ErrorItem } from "./types.js" */

/** Any failure of a request: the one class to catch. */
export class LossdError extends Error {
  name = "LossdError";
  /**
   * The server's code, such as "target_out_of_range", or "connection_failed", "timed_out" and "bad_answer".
   * Null when the answer was not a lossd server's.
   * @type {string | null}
   */
  code = null;
  /**
   * The request's id in the server's log.
   * @type {string | null}
   */
  request_id = null;
  /** Whether the same request may succeed later. It has been sent again already, as `retry` says. */
  retryable = false;
  /**
   * The single errors and their places.
   * @type {readonly ErrorItem[]}
   */
  errors = [];
}

/** The server could not be reached, or the connection broke before the answer was whole; see `cause`. */
export class ConnectionFailed extends LossdError {
  name = "ConnectionFailed";
  /** @type {string | null} */
  code = "connection_failed";
  retryable = true;
}

/** The timeout of an attempt, or the call's deadline, passed. */
export class TimedOut extends LossdError {
  name = "TimedOut";
  /** @type {string | null} */
  code = "timed_out";
}

/** The answer says success but is not one that a lossd server gives. */
export class BadAnswer extends LossdError {
  name = "BadAnswer";
  /** @type {string | null} */
  code = "bad_answer";
}

/** An answer whose status is not 200. */
export class StatusError extends LossdError {
  name = "StatusError";

  /**
   * @param {number} status The HTTP status; 0 for a redirection that a browser hides.
   * @param {string} detail What is wrong and what to do about it.
   * @param {{ code?: string | null, request_id?: string | null, retryable?: boolean,
   *   errors?: readonly ErrorItem[], retry_after?: number | null, headers?: Headers }} [more]
   */
  constructor(status, detail, more = {}) {
    super(`${status} ${more.code ? `${more.code}: ` : ""}${detail}`);
    this.status = status;
    this.detail = detail;
    this.code = more.code ?? null;
    this.request_id = more.request_id ?? null;
    this.retryable = more.retryable ?? false;
    this.errors = more.errors ?? [];
    /** Seconds to wait before trying again, if the server named them. */
    this.retry_after = more.retry_after ?? null;
    this.headers = more.headers ?? new Headers();
  }
}

/** The request is at fault (400, 406, 415, 422 and other 4xx): sending it again will not help. */
export class InvalidRequest extends StatusError {
  name = "InvalidRequest";
}

/** The API key is missing, unknown or disabled (401, 403). */
export class Unauthorized extends StatusError {
  name = "Unauthorized";
}

/** The server has no such route or method (404, 405): most often a wrong base URL. */
export class NotFound extends StatusError {
  name = "NotFound";
}

/** The body, the answer or the headers would exceed a limit of the server (413, 431). */
export class TooLarge extends StatusError {
  name = "TooLarge";
}

/** Too many requests, or too many at once (429); see `retry_after`. */
export class Throttled extends StatusError {
  name = "Throttled";
}

/** The server gave the request up: its deadline passed, or the upload was too slow (408, 504). */
export class DeadlineExceeded extends StatusError {
  name = "DeadlineExceeded";
}

/** The server is overloaded or shutting down (503); see `retry_after`. */
export class Unavailable extends StatusError {
  name = "Unavailable";
}

/** The server failed (500, 507 and other 5xx), or a proxy found none (502). */
export class ServerError extends StatusError {
  name = "ServerError";
}

/** @type {Readonly<Record<number, typeof StatusError>>} */
const KINDS = {
  401: Unauthorized,
  403: Unauthorized,
  404: NotFound,
  405: NotFound,
  408: DeadlineExceeded,
  413: TooLarge,
  429: Throttled,
  431: TooLarge,
  503: Unavailable,
  504: DeadlineExceeded,
};

/** @param {number} status */
function kindOf(status) {
  if (status >= 500) return KINDS[status] ?? ServerError;
  return KINDS[status] ?? (status >= 400 ? InvalidRequest : StatusError);
}

/**
 * The error of an answer whose status is not 200.
 * @param {Response} response
 * @param {ArrayBuffer} body
 */
export function statusError(response, body) {
  const { status, headers } = response;
  const problem = problemOf(headers, body);
  const Kind = kindOf(status);
  return new Kind(status, problem.detail ?? problem.title ?? unexplained(response), {
    code: problem.code ?? null,
    request_id: problem.request_id ?? headers.get("x-request-id"),
    retryable: problem.retryable ?? status === 502, // of a proxy that found no server
    errors: problem.errors ?? [],
    retry_after: seconds(headers.get("retry-after")),
    headers,
  });
}

/**
 * @param {Headers} headers
 * @param {ArrayBuffer} body
 * @returns {{ title?: string, detail?: string, code?: string, request_id?: string, retryable?: boolean,
 *   errors?: ErrorItem[] }}
 */
function problemOf(headers, body) {
  if (!headers.get("content-type")?.startsWith("application/problem+json")) return {};
  try {
    return JSON.parse(new TextDecoder().decode(body)) ?? {};
  } catch {
    return {};
  }
}

/**
 * The likely reason of an answer that is not lossd's.
 * @param {Response} response
 */
function unexplained({ status, type, headers }) {
  if (type === "opaqueredirect" || (status >= 300 && status < 400)) {
    const where = headers.get("location")?.split("?")[0] ?? "elsewhere";
    return `it leads on to ${where}, which the client does not follow: is the base URL the server's, or is there a login before it?`;
  }
  if (status === 413) {
    return "a proxy before the server refuses bodies of this size: raise its limit (client_max_body_size in nginx)";
  }
  const kind = headers.get("content-type") ?? "no content type";
  return `the answer (${kind}) does not explain itself; is there a proxy before the server, or another one?`;
}

/**
 * The seconds that a Retry-After asks for, as a number or a date.
 * @param {string | null} text
 */
function seconds(text) {
  if (text === null) return null;
  const number = /^\s*\d+(\.\d+)?\s*$/.test(text) ? Number(text) : (Date.parse(text) - Date.now()) / 1000;
  return Number.isNaN(number) ? null : Math.max(0, number);
}
