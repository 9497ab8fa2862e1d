// One request through all its attempts.

import { ConnectionFailed, LossdError, statusError, StatusError, TimedOut } from "./errors.js";

/** @import { CallOptions, Retry } from "./types.js" */
/** @typedef {{ response: Response, body: ArrayBuffer, id: string | null }} Answer `id` is the one that was sent. */

/** @type {Readonly<Required<Retry>>} */
const RETRY = {
  attempts: 12,
  firstContact: 3,
  firstWait: 250,
  longestWait: 8_000,
  longestRetryAfter: 300_000,
  burst: 20,
  perSecond: 4,
};

/**
 * Retries with their defaults.
 * @param {Retry | null | undefined} given
 */
export function retryOf(given) {
  if (given === null) return { ...RETRY, attempts: 1 };
  const retry = { ...RETRY, ...given };
  for (const [name, value] of Object.entries(retry)) {
    if (!(name in RETRY)) {
      throw new TypeError(`retry: there is no ${name}; there are ${Object.keys(RETRY).join(", ")}`);
    }
    if (!(value > 0)) {
      throw new RangeError(`retry: ${name} must be a positive number; retry: null tries once`);
    }
  }
  return retry;
}

/** What the requests of a client share: whether the server has answered, and the budget of retries. */
export class RetryState {
  hasAnswered = false;
  #spent = 0; // retries that the budget lacks
  #seen = performance.now();

  /**
   * Take a retry out of the budget.
   * @param {Required<Retry>} retry
   * @returns {number} The milliseconds until its turn; infinite if that is too far away: then nothing is taken.
   */
  reserve(retry) {
    const now = performance.now();
    this.#spent = Math.max(0, this.#spent - ((now - this.#seen) / 1000) * retry.perSecond);
    this.#seen = now;
    const wait = (Math.max(0, this.#spent + 1 - retry.burst) / retry.perSecond) * 1000;
    if (wait > retry.longestWait) return Infinity;
    this.#spent += 1;
    return wait;
  }
}

/**
 * Send a request until it is answered, or its retries are used up.
 * @param {typeof fetch} send
 * @param {string} url
 * @param {{ method: string, headers: Headers, body?: Blob }} request
 * @param {CallOptions & { state: RetryState, accepts: readonly number[] }} limits
 * @returns {Promise<Answer>} An answer whose status is one of `accepts`.
 */
export async function attempt(send, url, request, { signal, state, accepts, ...limits }) {
  const retry = retryOf(limits.retry);
  const timeout = milliseconds("timeout", limits.timeout);
  const ends = performance.now() + milliseconds("deadline", limits.deadline);
  const headers = new Headers(request.headers);
  for (let failures = 1; ; failures++) {
    const left = ends - performance.now();
    if (left !== Infinity) headers.set("X-Timeout-Ms", String(Math.max(1, Math.floor(left))));
    let wait;
    try {
      if (left <= 0) throw new TimedOut("the deadline passed before the request could be sent");
      const answer = await exchange(send, url, { ...request, headers }, Math.min(timeout, left), signal);
      state.hasAnswered = true;
      if (accepts.includes(answer.response.status)) return answer;
      throw statusError(answer.response, answer.body);
    } catch (error) {
      if (!(error instanceof LossdError)) throw error;
      error.request_id ??= headers.get("X-Request-Id");
      wait = waitAfter(error, failures, ends - performance.now(), retry, state);
      if (wait === Infinity) throw error;
    }
    await sleep(wait, signal);
  }
}

/**
 * The milliseconds until the next attempt; infinite for no further one.
 * @param {LossdError} error
 * @param {number} failures
 * @param {number} left
 * @param {Required<Retry>} retry
 * @param {RetryState} state
 */
function waitAfter(error, failures, left, retry, state) {
  const most = state.hasAnswered ? retry.attempts : Math.min(retry.attempts, retry.firstContact);
  if (!error.retryable || failures >= most) return Infinity;
  const askedFor = error instanceof StatusError ? (error.retry_after ?? 0) * 1000 : 0;
  const longest = Math.min(retry.longestWait, retry.firstWait * 2 ** (failures - 1));
  const wait = Math.max(askedFor, longest * (0.5 + Math.random() / 2));
  if (askedFor > retry.longestRetryAfter || wait >= left) return Infinity;
  const turn = Math.max(wait, state.reserve(retry));
  return turn < left ? turn : Infinity;
}

/**
 * Send a request once, and read the whole answer.
 *
 * AbortSignal.any and AbortSignal.timeout would do, but some versions of Node collect their signals too early.
 * @param {typeof fetch} send
 * @param {string} url
 * @param {RequestInit & { headers: Headers }} request
 * @param {number} timeout
 * @param {AbortSignal | undefined} signal
 * @returns {Promise<Answer>}
 */
async function exchange(send, url, request, timeout, signal) {
  signal?.throwIfAborted();
  const controller = new AbortController();
  const stop = () => controller.abort(signal?.reason);
  signal?.addEventListener("abort", stop);
  const late = () => controller.abort(new TimedOut(`no answer within ${timeout / 1000} s`));
  const timer = timeout <= LONGEST_TIMER ? setTimeout(late, timeout) : undefined;
  try {
    const response = await send(url, { ...request, redirect: "manual", signal: controller.signal });
    return { response, body: await response.arrayBuffer(), id: request.headers.get("X-Request-Id") };
  } catch (error) {
    if (controller.signal.aborted) throw controller.signal.reason;
    throw unreachable(url, error);
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", stop);
  }
}

const LONGEST_TIMER = 2 ** 31 - 1; // setTimeout fires longer ones at once

/**
 * @param {string} url
 * @param {unknown} error
 */
function unreachable(url, error) {
  const cause = /** @type {Error & { cause?: any }} */ (error);
  const { origin } = new URL(url);
  // Node says why; browsers do not tell a page.
  const reason = cause.cause ? cause.cause.message || cause.cause.code : `${cause.message}; ${advice(origin)}`;
  return new ConnectionFailed(`${origin} cannot be reached, or its answer broke off: ${reason}`, { cause });
}

/** @param {string} origin */
function advice(origin) {
  return origin === globalThis.location?.origin
    ? "is the server running?"
    : "is the server running, and are pages of this origin among its LOSSD_CORS_ORIGINS?";
}

/**
 * @param {string} name
 * @param {number | null | undefined} given
 */
function milliseconds(name, given) {
  if (given == null) return Infinity;
  if (!(given > 0)) {
    throw new RangeError(`${name} must be a positive number of milliseconds, or null, and is ${given}`);
  }
  return given;
}

/**
 * @param {number} wait
 * @param {AbortSignal | undefined} signal
 * @returns {Promise<void>}
 */
function sleep(wait, signal) {
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted();
    const stop = () => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", stop);
      resolve();
    }, wait);
    signal?.addEventListener("abort", stop, { once: true });
  });
}
