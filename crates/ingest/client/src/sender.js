import { LONGEST_WAIT, backoff, isTemporary, retryAfter } from "./retry.js";
import { warn } from "./warn.js";

/** The gateway's recommendation; it takes more, but a beacon does not. */
const BATCH_EVENTS = 50;
/** Browsers carry at most 64 KiB for a page that is gone. */
const BATCH_BYTES = 60_000;
const TIMEOUT = 30_000;
const WAIT = "wait";

/**
 * Sends what is in the queue, whichever tab put it there. An event leaves the queue when the gateway has
 * answered for it, never before; as it keeps its id, sending it twice stores it once.
 */
export class Sender {
  #url;
  #queue;
  #store;
  #interval;
  #clientInfo;
  #dropped;
  #running;
  #again = false;
  #timer;
  #due = Infinity;
  #failures = 0;
  #size = BATCH_EVENTS;
  /** Events of this page that were not acknowledged, and whether they were sent as it was left. */
  #own = new Map();

  /**
   * @param {string} url where batches go
   * @param {import("./queue.js").Queue} queue
   * @param {import("./store.js").Store} store
   * @param {{ interval: number, clientInfo: string, dropped: (reason: string, texts: string[], more: object) => void }} options
   */
  constructor(url, queue, store, { interval, clientInfo, dropped }) {
    this.#url = url;
    this.#queue = queue;
    this.#store = store;
    this.#interval = interval;
    this.#clientInfo = clientInfo;
    this.#dropped = dropped;
  }

  /** Queues an event. @param {string} id @param {string} text @param {number} enough how many are sent at once */
  add(id, text, enough) {
    this.#queue.put(id, text);
    this.#own.set(id, false);
    this.schedule(this.#own.size >= enough ? 0 : this.#interval);
  }

  /** Sends in so many milliseconds, unless that is due earlier or the gateway asked for patience. @param {number} delay */
  schedule(delay) {
    const due = Date.now() + Math.max(delay, this.#wait());
    if (due >= this.#due) return;
    clearTimeout(this.#timer);
    this.#due = due;
    this.#timer = setTimeout(() => this.flush(), due - Date.now());
  }

  /** The network is there again: what the gateway asked for still counts, our own patience does not. */
  online() {
    this.#failures = 0;
    this.stop();
    this.schedule(0);
  }

  stop() {
    clearTimeout(this.#timer);
    this.#due = Infinity;
  }

  /** Sends all there is; resolves when it is answered, or has to wait. @returns {Promise<void>} */
  flush() {
    this.stop();
    this.#again = true;
    this.#running ??= this.#run().catch(warn).finally(() => {
      this.#running = undefined;
    });
    return this.#running;
  }

  /**
   * The page is going, or hidden and may never be shown again: the browser sends what it has not carried
   * yet. A beacon is never answered, so its events stay in the queue, to be sent once more.
   * @param {boolean} gone
   */
  leave(gone) {
    const events = take(this.#pending().filter(({ id }) => this.#own.get(id) === false), Infinity);
    while (events.length && !this.#wait()) {
      const batch = take(events, BATCH_EVENTS);
      if (!gone) this.#send(batch, true).catch(warn);
      else if (!navigator.sendBeacon(this.#url, this.#body(batch))) return;
      for (const { id } of batch) this.#own.set(id, true);
    }
  }

  async #run() {
    while (this.#again) {
      this.#again = false;
      await exclusively(this.#url, () => this.#drain());
    }
  }

  async #drain() {
    for (;;) {
      const batch = take(this.#pending(), this.#size);
      if (!batch.length) return;
      if (this.#wait() || !(await this.#send(batch, false))) break;
    }
    this.schedule(this.#failures ? backoff(this.#failures) : this.#interval);
  }

  #pending() {
    const events = this.#queue.list();
    const ids = new Set(events.map(({ id }) => id));
    for (const id of this.#own.keys()) if (!ids.has(id)) this.#own.delete(id);
    return events;
  }

  /** Milliseconds that the gateway asked all tabs, and the pages after them, to wait. */
  #wait() {
    const left = Number(this.#store.get(WAIT)) - Date.now();
    // A clock that was set back must not make it longer.
    return left > 0 && left <= LONGEST_WAIT ? left : 0;
  }

  #body(batch) {
    return `{"events":[${batch.map(({ text }) => text).join()}],"client_info":${this.#clientInfo}}`;
  }

  /** Whether to go on at once. */
  async #send(batch, keepalive) {
    let response;
    let answer;
    const abort = new AbortController();
    const timer = setTimeout(() => abort.abort(), TIMEOUT);
    try {
      // Plain text needs no preflight.
      const request = { method: "POST", body: this.#body(batch), headers: { "Content-Type": "text/plain" } };
      response = await fetch(`${this.#url}${this.#url.includes("?") ? "&" : "?"}partial=true`, { ...request, keepalive, signal: abort.signal });
      answer = await response.json().catch(() => undefined);
    } catch {
      response = undefined;
    } finally {
      clearTimeout(timer);
    }
    if (!response || response.redirected || (isTemporary(response.status) && !isAnswered(response, answer, batch))) {
      this.#failures += 1;
      const wait = response && retryAfter(response);
      if (wait) this.#store.set(WAIT, String(Date.now() + wait));
      return false;
    }
    this.#failures = 0;
    if (response.status === 413 && batch.length > 1) {
      this.#size = Math.ceil(batch.length / 2);
      return true;
    }
    this.#size = Math.min(this.#size * 2, BATCH_EVENTS);
    this.#settle(batch, response, answer ?? {});
    return true;
  }

  /** Removes what was taken and what never will be. */
  #settle(batch, response, answer) {
    const refused = response.ok ? [] : batch.slice();
    const errors = new Map();
    for (const error of Array.isArray(answer.errors) ? answer.errors : []) {
      const [, index, path] = /^events\[(\d+)]\.?(.*)/.exec(error?.path) ?? [];
      const event = batch[Number(index)];
      if (!event) continue;
      if (!refused.includes(event)) refused.push(event);
      errors.set(event, [...(errors.get(event) ?? []), { ...error, path }]);
    }
    for (const event of batch) {
      const wrong = errors.get(event) ?? [];
      const undated = wrong.length && wrong.every(({ path }) => path === "timestamp") && withoutTime(event.text);
      if (undated) {
        this.#queue.put(event.id, undated);
        continue;
      }
      this.#own.delete(event.id);
      if (this.#queue.remove(event.id) && refused.includes(event)) {
        this.#dropped("refused", [event.text], { status: response.status, detail: answer.detail, errors: wrong });
      }
    }
  }
}

/** Takes the first events as one batch. */
function take(events, most) {
  let bytes = 0;
  let count = 0;
  for (const { text } of events.slice(0, most)) {
    bytes += size(text);
    if (count && bytes > BATCH_BYTES) break;
    count += 1;
  }
  return events.splice(0, count);
}

function size(text) {
  return new TextEncoder().encode(text).length + 1;
}

/** Whether it is the gateway that speaks of this batch, not the log-in page of some network. */
function isAnswered(response, answer, batch) {
  return response.ok && answer?.status === "accepted"
    && answer.processed_count + (answer.rejected ?? 0) === batch.length;
}

/** The event as of its receipt, as this device's clock is wrong beyond what the gateway takes. */
function withoutTime(text) {
  const { timestamp, ...event } = JSON.parse(text);
  return timestamp && JSON.stringify(event);
}

/** One tab at a time, where the browser has locks (not on plain http); without them ids have to do. */
async function exclusively(name, work) {
  let begun = false;
  const once = () => {
    begun = true;
    return work();
  };
  try {
    await navigator.locks.request(`tidegate ${name}`, once);
  } catch {
    if (!begun) await once();
  }
}
