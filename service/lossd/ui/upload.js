// A request that tells how much of its body has been sent. fetch cannot say; XMLHttpRequest can.

/**
 * @typedef {{ sent: number, total: number, wait?: string }} Progress Bytes of the body; `wait` is why it is
 *   sent again, and when.
 * @typedef {{
 *   url: string, method: string, headers: Headers, body?: Blob | string | undefined,
 * }} UploadRequest
 */

/**
 * Send a request and read its whole answer.
 * @param {UploadRequest} request
 * @param {{
 *   onProgress?: ((progress: Progress) => void) | undefined, signal?: AbortSignal | null | undefined,
 * }} [options]
 * @returns {Promise<Response>} As of fetch: a TypeError where there is no answer, the signal's reason if it
 *   is aborted.
 */
export function upload({ url, method, headers, body }, { onProgress, signal } = {}) {
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted();
    const request = new XMLHttpRequest();
    const stop = () => request.abort();
    request.open(method, url);
    request.responseType = "arraybuffer";
    headers.forEach((value, name) => request.setRequestHeader(name, value));
    request.upload.onprogress = ({ loaded, total }) => onProgress?.({ sent: loaded, total });
    request.onload = () => resolve(answerOf(request));
    request.onerror = () => reject(new TypeError("the connection failed"));
    request.onabort = () => reject(signal?.reason ?? new DOMException("it was stopped", "AbortError"));
    request.onloadend = () => signal?.removeEventListener("abort", stop);
    signal?.addEventListener("abort", stop);
    request.send(body ?? null);
  });
}

/** @param {XMLHttpRequest} request */
function answerOf(request) {
  const { status, statusText } = request;
  const headers = new Headers();
  for (const line of request.getAllResponseHeaders().trim().split("\r\n")) {
    const colon = line.indexOf(":");
    if (colon > 0) headers.append(line.slice(0, colon), line.slice(colon + 1).trim());
  }
  const isEmpty = [204, 205, 304].includes(status); // Response takes no body for these, not even an empty one
  return new Response(isEmpty ? null : request.response, { status, statusText, headers });
}
