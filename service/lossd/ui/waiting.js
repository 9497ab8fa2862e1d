// Why a request waits before it is sent again, and for how long, counted down.

/** @import { Progress } from "./upload.js" */
/** @typedef {((progress: Progress) => void) | undefined} OnProgress */

const SECOND = 1000;

/** What is told of a request that waits, until it is sent again or stopped. */
export class Countdown {
  #onProgress;
  /** @type {ReturnType<typeof setInterval> | undefined} */
  #timer;

  /** @param {OnProgress} onProgress */
  constructor(onProgress) {
    this.#onProgress = onProgress;
  }

  /**
   * Tell why, and count down.
   * @param {string} reason
   * @param {number} seconds Until it is sent again; 0 where nobody knows.
   * @param {AbortSignal | null} [signal] Ends it, too.
   */
  start(reason, seconds, signal) {
    this.stop();
    let left = seconds;
    const tell = () => {
      const when = left > 0 ? `in ${left} s` : "soon";
      this.#onProgress?.({ sent: 0, total: 0, wait: `${reason}: it is sent again ${when}` });
      left--;
      if (left < -1) this.stop();
    };
    tell();
    this.#timer = setInterval(tell, SECOND);
    signal?.addEventListener("abort", () => this.stop(), { once: true });
  }

  stop() {
    clearInterval(this.#timer);
  }
}

/**
 * Whether an answer says that the request may be sent again later.
 * @param {Response} response
 */
export function isLater({ status }) {
  return status === 429 || status === 503;
}

/** @param {Response} response */
export function reasonOf({ status }) {
  return status === 429 ? "Your team's limit is reached" : "The server is busy";
}

/**
 * The seconds that an answer asks to wait; 0 where it does not say.
 * @param {Response} response
 */
export function secondsOf({ headers }) {
  const seconds = Number(headers.get("Retry-After"));
  return seconds > 0 ? Math.ceil(seconds) : 0;
}

/**
 * @param {number} seconds
 * @param {AbortSignal} signal
 * @returns {Promise<void>}
 */
export function sleep(seconds, signal) {
  return new Promise((resolve, reject) => {
    signal.throwIfAborted();
    const timer = setTimeout(resolve, seconds * SECOND);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    });
  });
}
