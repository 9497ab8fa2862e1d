// What is asked of the server, and the key that it is asked with. The key is kept in memory alone.

import { LossClient } from "./client/index.js";
import { askForKey } from "./key.js";
import { upload } from "./upload.js";
import { Countdown, isLater, reasonOf, secondsOf } from "./waiting.js";

/** @import { Progress } from "./upload.js" */

/** Where the server's routes are: the folder of the page, also behind a prefix. */
const ROOT = new URL("..", import.meta.url).href;

/** @type {string | null} */
let key = null;
/** @type {Set<() => void>} */
const listeners = new Set();
/** @type {Set<() => void>} */
const askedListeners = new Set();
/** @type {Promise<string | null> | null} */
let asking = null;

export const session = {
  /**
   * A client of this page's server, with the key.
   * @param {(progress: Progress) => void} [onProgress] Of what it uploads.
   */
  client(onProgress) {
    const countdown = new Countdown(onProgress);
    return new LossClient(ROOT, {
      timeout: null, // people see how far it is, and can stop it
      fetch: (url, init = {}) => sendAndTell(String(url), init, onProgress, countdown),
    });
  },

  /**
   * Ask a route, such as "ui/view" or "overview?days=7".
   * @param {string} path Relative to the server's root.
   * @param {RequestInit} [init]
   * @returns {Promise<Response>} The answer, also one that is an error; a TypeError where there is none.
   */
  request(path, init = {}) {
    return send(new URL(path.replace(/^\/+/, ""), ROOT).href, init);
  },

  /**
   * Call back when the key has changed or was forgotten.
   * @param {() => void} callback
   */
  onKey(callback) {
    listeners.add(callback);
  },

  /**
   * Call back when the server asks for a key, or for another one.
   * @param {() => void} callback
   */
  onAsked(callback) {
    askedListeners.add(callback);
  },

  get hasKey() {
    return key !== null;
  },

  /** Ask for a key, in the place of the one that there is. */
  async changeKey() {
    await askAgain("");
  },

  forgetKey() {
    setKey(null);
  },
};

/** @param {string | null} given */
function setKey(given) {
  if (given === key) return;
  key = given;
  for (const listener of listeners) listener();
}

/**
 * Send a request with the key; while the server wants another, ask for it, and send again.
 * @param {string} url
 * @param {RequestInit} init
 * @param {(progress: Progress) => void} [onProgress]
 */
async function send(url, init, onProgress) {
  for (;;) {
    const sentWith = key;
    const response = await sendOnce(url, init, onProgress);
    if (response.status !== 401) return response;
    for (const listener of askedListeners) listener();
    const isNew =
      key !== sentWith ||
      (await askAgain(sentWith === null ? "" : "The server does not know this key, or no longer."));
    if (!isNew) return response;
  }
}

/**
 * Send a request of the client, which sends it again later, and tell why.
 * @param {string} url
 * @param {RequestInit} init
 * @param {((progress: Progress) => void) | undefined} onProgress
 * @param {Countdown} countdown
 */
async function sendAndTell(url, init, onProgress, countdown) {
  countdown.stop();
  try {
    const response = await send(url, init, onProgress);
    if (isLater(response)) countdown.start(reasonOf(response), secondsOf(response), init.signal);
    return response;
  } catch (error) {
    if (!init.signal?.aborted) countdown.start("The server cannot be reached", 0, init.signal);
    throw error;
  }
}

/**
 * @param {string} url
 * @param {RequestInit} init
 * @param {(progress: Progress) => void} [onProgress]
 */
function sendOnce(url, { method = "GET", headers, body, signal }, onProgress) {
  const all = new Headers(headers);
  if (key !== null) all.set("Authorization", `Bearer ${key}`);
  return upload(
    { url, method, headers: all, body: /** @type {Blob | string | undefined} */ (body) },
    { onProgress, signal },
  );
}

/**
 * Show the dialog, once for all requests that wait for a key.
 * @param {string} complaint What is wrong with the last one.
 * @returns {Promise<boolean>} Whether one was given.
 */
async function askAgain(complaint) {
  asking ??= askForKey(complaint).finally(() => (asking = null));
  const given = await asking;
  if (given !== null) setKey(given);
  return given !== null;
}
