const FIRST = 1000;
const LONGEST = 60_000;
/** A `Retry-After` beyond that is not believed. */
export const LONGEST_WAIT = 3_600_000;

/** Whether the same request may be answered otherwise later. @param {number} status */
export function isTemporary(status) {
  return status < 400 || status >= 500 || [408, 425, 429].includes(status);
}

/** Milliseconds until the next attempt after so many failures, not the same for all clients. @param {number} failures */
export function backoff(failures) {
  return Math.min(FIRST * 2 ** (failures - 1), LONGEST) * (0.5 + Math.random() / 2);
}

/** Milliseconds that `Retry-After` asks for, as seconds or a date; 0 if there is none. @param {Response} response */
export function retryAfter(response) {
  const text = response.headers.get("retry-after") ?? "";
  const wanted = /^\d+$/.test(text) ? Number(text) * 1000 : Date.parse(text) - Date.now();
  return wanted > 0 ? Math.min(wanted, LONGEST_WAIT) : 0;
}
