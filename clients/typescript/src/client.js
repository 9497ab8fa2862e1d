// The client.

import { attempt, retryOf, RetryState } from "./attempts.js";
import { BadAnswer, LossdError } from "./errors.js";
import { putBack } from "./labels.js";
import { LossMethods } from "./methods.js";
import { encode, encodeReport } from "./request.js";
import { readJson, readResult } from "./result.js";

/** @import { Answer } from "./attempts.js" */
/** @import * as Types from "./types.js" */

const JSON_TYPE = "application/json";
const NPY_TYPE = "application/x-npy";

/**
 * A client of a lossd server. Make one and keep it: its requests share a budget of retries.
 */
export class LossClient extends LossMethods {
  #base;
  #headers;
  #fetch;
  #limits;
  #state = new RetryState();

  /**
   * @param {string | URL | null} [baseUrl] The server's address. Else LOSSD_BASE_URL of the environment, the page's
   *   own origin, or http://127.0.0.1:8000.
   * @param {Types.ClientOptions} [options]
   */
  constructor(baseUrl, options = {}) {
    const {
      apiKey = environment("LOSSD_API_KEY"),
      headers,
      fetch = globalThis.fetch,
      timeout = 300_000,
      ...others
    } = options;
    const { deadline = null, retry, ...unknown } = others;
    for (const name of Object.keys(unknown)) throw new TypeError(`there is no option ${name}`);
    super((loss, request, options) => this.#loss(loss, request, options));
    this.#base = checkedBase(
      String(baseUrl ?? environment("LOSSD_BASE_URL") ?? pageOrigin() ?? "http://127.0.0.1:8000"),
    );
    this.#headers = new Headers(headers);
    if (apiKey?.trim()) this.#headers.set("Authorization", `Bearer ${apiKey.trim()}`);
    this.#fetch = fetch.bind(globalThis); // browsers ask for that
    this.#limits = { timeout, deadline, retry: retryOf(retry) };
  }

  /**
   * Report what a loss is made of: by class and group, the worst rows and elements, calibration, other gammas, and
   * the comparison with a baseline.
   * @template {Types.LossName} Name
   * @param {Name} loss
   * @param {Types.ReportRequests[Name]} request
   * @param {Types.ReportOptions} [options]
   * @returns {Promise<Types.Report>} The server's document, which `lossd report` and the Python client read too.
   */
  async report(loss, request, { onNote = warn, ...options } = {}) {
    const { asked, groups, ids } = encodeReport(/** @type {any} */ (request)); // whichever loss it is of
    const answer = await this.#score(loss, asked, JSON_TYPE, options);
    const { report, notes } = read(answer, () => {
      const { report, notes = [] } = readJson(answer);
      if (report === undefined) {
        throw new BadAnswer("the answer has no report: the server is of a version that makes none");
      }
      putBack(report, groups, ids);
      return { report, notes: notes.map(String) };
    });
    notes.forEach((/** @type {string} */ note) => onNote?.(note));
    return report;
  }

  /**
   * Versions, losses with their parameters, limits and workers of the server.
   * @param {Types.CallOptions} [options]
   * @returns {Promise<Types.Info>}
   */
  async info(options) {
    return this.#get("/info", options);
  }

  /**
   * What the key's team has used, by day in UTC, and its limits.
   * @param {number | null} [days] How many, today included; 30 by default.
   * @param {Types.CallOptions} [options]
   * @returns {Promise<Types.Usage>}
   */
  async usage(days, options) {
    return this.#get(days == null ? "/usage" : `/usage?days=${days}`, options);
  }

  /**
   * All teams, the workers and the queue: for an operator's key, or on a server without teams.
   * @param {number | null} [days] Of how many days the usage is, today included; 30 by default.
   * @param {Types.CallOptions} [options]
   * @returns {Promise<Types.Overview>}
   */
  async overview(days, options) {
    return this.#get(days == null ? "/overview" : `/overview?days=${days}`, options);
  }

  /**
   * Whether the server is ready for losses.
   * @param {Types.CallOptions} [options]
   */
  async ready(options) {
    const { response } = await this.#send("/readyz", { method: "GET" }, options, [200, 503]);
    return response.status === 200;
  }

  /**
   * @param {Types.LossName} loss
   * @param {Types.ScoreRequest} request
   * @param {Types.CallOptions} [options]
   * @returns {Promise<any>} A result, of the type that its method says.
   */
  async #loss(loss, request, options) {
    const accept = request.reduction === "none" ? NPY_TYPE : JSON_TYPE;
    const answer = await this.#score(loss, request, accept, options);
    return read(answer, () => readResult(loss, request, answer));
  }

  /**
   * @param {Types.LossName} loss
   * @param {Types.ScoreRequest} request
   * @param {string} accept
   * @param {Types.CallOptions} [options]
   */
  #score(loss, request, accept, options) {
    const { query, body } = encode(request);
    return this.#send(`/${loss}?${query}`, { method: "POST", body, accept }, options);
  }

  /**
   * @param {string} path
   * @param {Types.CallOptions} [options]
   */
  async #get(path, options) {
    const answer = await this.#send(path, { method: "GET" }, options);
    return read(answer, () => readJson(answer));
  }

  /**
   * @param {string} path
   * @param {{ method: string, body?: Blob, accept?: string }} request
   * @param {Types.CallOptions} [options]
   * @param {readonly number[]} [accepts]
   */
  #send(path, { accept = JSON_TYPE, ...request }, options = {}, accepts = [200]) {
    const headers = new Headers(this.#headers);
    headers.set("Accept", accept);
    headers.set("X-Request-Id", randomId());
    if (request.body) headers.set("Content-Type", request.body.type);
    const given = Object.entries(options).filter(([, value]) => value !== undefined);
    const limits = { ...this.#limits, ...Object.fromEntries(given), state: this.#state, accepts };
    return attempt(this.#fetch, this.#base + path, { ...request, headers }, limits);
  }
}

/**
 * What a reader makes of an answer; a BadAnswer where it fails.
 * @template Found
 * @param {Answer} answer
 * @param {() => Found} reader
 */
function read({ id }, reader) {
  try {
    return reader();
  } catch (cause) {
    const error =
      cause instanceof LossdError ? cause : new BadAnswer(`the answer cannot be read: ${cause}`, { cause });
    error.request_id ??= id;
    throw error;
  }
}

/** @param {string} note */
function warn(note) {
  console.warn(`lossd: ${note}`);
}

/** @param {string} base */
function checkedBase(base) {
  const { protocol, username, password, search, hash } = new URL(base);
  if (!/^https?:$/.test(protocol)) {
    throw new TypeError(`the base URL begins with http:// or https://, and not with ${protocol}`);
  }
  if (username || password || search || hash) {
    throw new TypeError("the base URL has no user, password, query or fragment; give the key as apiKey");
  }
  return base.replace(/\/+$/, "");
}

/**
 * A variable of the environment, where there is one.
 * @param {string} name
 * @returns {string | undefined}
 */
function environment(name) {
  return /** @type {any} */ (globalThis).process?.env?.[name] || undefined;
}

/** The origin of the page, or of the worker's script. */
function pageOrigin() {
  const origin = globalThis.location?.origin;
  return origin?.startsWith("http") ? origin : undefined;
}

/** An id for the server's log. crypto.randomUUID is there on https alone. */
function randomId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
