import { backoff, isTemporary, retryAfter } from "./retry.js";
import { warn } from "./warn.js";

/** The service sends a heartbeat every 15 s; a connection that is silent for so long is dead. */
const SILENCE = 60_000;

/**
 * A user's live events, in order and each once, over server-sent events. After a lost connection, and
 * after a reload of the page, it goes on behind the last one that was handled.
 */
export class Listener {
  #url;
  #store;
  #key;
  #options;
  #handler;
  #ended;
  #abort;
  #wake = () => {};
  #closed = false;
  #retry = 3000;
  #position;

  /**
   * @param {string} base where the query service is
   * @param {import("./store.js").Store} store
   * @param {string} user
   * @param {(event: object, id: string) => void} handler
   * @param {import("../tidegate.d.ts").ListenOptions} options
   * @param {(listener: Listener) => void} ended is told when it was closed
   */
  constructor(base, store, user, handler, options, ended) {
    const types = [options.types ?? []].flat().map((type) => `&types=${encodeURIComponent(type)}`).join("");
    this.#url = `${base}/api/v1/sse/users/${encodeURIComponent(user)}?named=false${types}`;
    this.#store = store;
    this.#key = `position:${user}${types}`;
    this.#handler = handler;
    this.#options = options;
    this.#ended = ended;
    this.#position = options.after ?? (options.resume === false ? null : store.get(this.#key));
    this.#run();
  }

  /** Where a later listener has to go on, as `after`. @returns {string | null} */
  get position() {
    return this.#position;
  }

  close() {
    this.#closed = true;
    this.#abort?.abort();
    this.#wake();
    this.#ended(this);
  }

  /** Tries at once instead of waiting. */
  online() {
    this.#wake();
  }

  async #run() {
    for (let failures = 0; !this.#closed; ) {
      let opened = false;
      let asked = 0;
      this.#abort = new AbortController();
      try {
        const after = this.#position ? `&last_event_id=${encodeURIComponent(this.#position)}` : "";
        const { headers } = this.#options;
        const response = await fetch(this.#url + after, { headers, signal: this.#abort.signal, cache: "no-store" });
        if (response.ok) {
          failures = 0;
          opened = true;
          await this.#read(response.body);
        } else if (isTemporary(response.status)) {
          asked = retryAfter(response);
        } else {
          const { detail } = await response.json().catch(() => ({}));
          this.close();
          this.#call(() => this.#options.onRefused?.({ status: response.status, detail }));
          return;
        }
      } catch {
        // Not reached, or lost in the middle.
      }
      if (!this.#closed) await this.#sleep(opened ? this.#retry : asked || backoff(++failures));
    }
  }

  #sleep(milliseconds) {
    return new Promise((/** @type {(value?: unknown) => void} */ resolve) => {
      const timer = setTimeout(resolve, milliseconds);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  async #read(body) {
    const reader = body.pipeThrough(new TextDecoderStream()).getReader();
    const message = { id: this.#position, event: "", data: [] };
    let rest = "";
    for (;;) {
      const silence = setTimeout(() => this.#abort.abort(), SILENCE);
      const { done, value } = await reader.read().finally(() => clearTimeout(silence));
      if (done) return;
      const lines = (rest + value).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) this.#line(message, line.replace(/\r$/, ""));
    }
  }

  #line(message, line) {
    const [, field, value] = /^([^:]*):? ?(.*)$/.exec(line) ?? [];
    if (field === "data") message.data.push(value);
    else if (field === "event" || field === "id") message[field] = value;
    else if (field === "retry" && /^\d+$/.test(value)) this.#retry = Number(value);
    if (line || this.#closed) return;
    if (message.data.length) this.#dispatch(message);
    this.#position = message.id;
    if (this.#options.resume !== false && this.#position) this.#store.set(this.#key, this.#position);
    message.event = "";
    message.data = [];
  }

  #dispatch({ id, event, data }) {
    const callback = event === "reset" ? this.#options.onReset : this.#handler;
    this.#call(() => callback?.(JSON.parse(data.join("\n")), id));
  }

  /** The page's own errors are its own: they end nothing here. */
  #call(act) {
    try {
      act();
    } catch (error) {
      warn(error);
    }
  }
}
