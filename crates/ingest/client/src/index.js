import { uuid7 } from "./id.js";
import { Listener } from "./listen.js";
import { Queue } from "./queue.js";
import { Sender } from "./sender.js";
import { Store } from "./store.js";
import { warn } from "./warn.js";

export const VERSION = "1.0.0";

/** What the gateway takes of one event. */
const EVENT_BYTES = 256 * 1024;
const SESSION_MINUTES = 30;

/**
 * Sends a page's events to Tidegate, and listens to a user's. No method throws, whatever happens: what
 * goes wrong is told to `onDrop` or the console.
 */
export class Tidegate {
  #url;
  #options;
  #store;
  #tab;
  #sender;
  #listeners = new Set();
  #leaving = new AbortController();
  /** How many events were given up: evicted, refused, or not to be written as JSON. */
  dropped = 0;

  /** @param {import("../tidegate.d.ts").Options} [options] */
  constructor(options) {
    options ??= {};
    this.#options = options;
    this.#url = String(options.url ?? globalThis.location?.origin ?? "").replace(/\/+$/, "");
    const prefix = `tidegate ${this.#url} `;
    this.#store = new Store("localStorage", prefix);
    this.#tab = new Store("sessionStorage", prefix);
    const dropped = (reason, texts, more) => this.#safely(() => {
      this.#drop({ reason, events: texts.map((text) => JSON.parse(text)), ...more });
    });
    const queue = new Queue(this.#store, options.storageBytes ?? 1 << 20, (texts) => dropped("storage", texts, {}));
    const key = options.writeKey ? `?write_key=${encodeURIComponent(options.writeKey)}` : "";
    this.#sender = new Sender(`${this.#url}/api/v1/events/frontend/batch${key}`, queue, this.#store, {
      interval: options.interval ?? 3000,
      clientInfo: environment(options.clientInfo),
      dropped,
    });
    this.#safely(() => this.#watch());
    // What an earlier page, or a tab that died, has left.
    if (queue.list().length) this.#sender.schedule(0);
  }

  /**
   * Something happened. It is kept at once, and sent soon.
   * @param {string} type
   * @param {object} [data]
   * @param {import("../tidegate.d.ts").EventOptions} [options] further fields of the event
   */
  track(type, data = {}, options = {}) {
    this.#safely(() => {
      const id = uuid7();
      const event = {
        event_id: id,
        event_type: String(type),
        category: "user_interaction",
        timestamp: new Date().toISOString(),
        user_id: this.#store.get("user") ?? undefined,
        session_id: this.#session(),
        device_id: this.#device(),
        page_url: globalThis.location?.href.slice(0, 4000),
        ...options,
        data: typeof data === "object" && data && !Array.isArray(data) ? data : { value: data },
      };
      let text;
      try {
        text = storable(JSON.stringify(event));
      } catch (error) {
        return this.#drop({ reason: "invalid", events: [event], detail: String(error) });
      }
      if (new TextEncoder().encode(text).length > EVENT_BYTES) {
        return this.#drop({ reason: "too_large", events: [event], detail: `more than ${EVENT_BYTES} bytes` });
      }
      this.#sender.add(id, text, this.#options.batch ?? 10);
    });
  }

  /** A page was shown. @param {object} [data] @param {import("../tidegate.d.ts").EventOptions} [options] */
  page(data = {}, options = {}) {
    this.#safely(() => {
      const { title, referrer } = globalThis.document ?? {};
      this.track("page_view", { title, referrer, path: globalThis.location?.pathname, ...data }, options);
    });
  }

  /** Who it is, from now on and after a reload. @param {string} user @param {object} [traits] */
  identify(user, traits = {}) {
    this.#safely(() => {
      this.#store.set("user", String(user));
      this.track("identify", traits, { category: "business_action" });
    });
  }

  /** Forgets who it was: what comes now is another user's, session's and device's. */
  reset() {
    for (const key of ["user", "session", "device"]) this.#store.remove(key);
  }

  /** Sends all there is; resolves when it is answered or has to wait, and never rejects. @returns {Promise<void>} */
  async flush() {
    await this.#sender.flush();
  }

  /**
   * Hands the user's live events to the handler, until it is closed.
   * @param {string} user
   * @param {(event: object, id: string) => void} handler
   * @param {import("../tidegate.d.ts").ListenOptions} [options]
   * @returns {Listener}
   */
  listen(user, handler, options) {
    const base = this.#options.queryUrl ?? this.#url;
    const ended = (listener) => this.#listeners.delete(listener);
    const listener = new Listener(base, this.#tab, wellFormed(user), handler, options ?? {}, ended);
    this.#listeners.add(listener);
    return listener;
  }

  /** A call as an array, as a page makes it before the script is there. @param {[string, ...unknown[]]} call */
  push(call) {
    this.#safely(() => {
      const [method, ...values] = call;
      this[method](...values);
    });
  }

  /** Ends timers and listeners. What is queued stays for the next one. */
  close() {
    this.#leaving.abort();
    this.#sender.stop();
    for (const listener of this.#listeners) listener.close();
  }

  #watch() {
    const on = (target, name, act) => {
      target?.addEventListener?.(name, () => this.#safely(act), { signal: this.#leaving.signal });
    };
    on(globalThis, "pagehide", () => this.#sender.leave(true));
    on(globalThis, "pageshow", () => this.#sender.schedule(0));
    on(globalThis, "online", () => {
      this.#sender.online();
      for (const listener of this.#listeners) listener.online();
    });
    on(globalThis.document, "visibilitychange", () => {
      if (document.visibilityState === "hidden") this.#sender.leave(false);
    });
  }

  /** One visit: it ends after half an hour without an event. */
  #session() {
    const now = Date.now();
    const [id, seen] = (this.#store.get("session") ?? "").split(" ");
    const idle = (now - Number(seen)) / 60_000;
    const session = id && idle < SESSION_MINUTES ? id : uuid7();
    if (session !== id || idle > 1) this.#store.set("session", `${session} ${now}`);
    return session;
  }

  #device() {
    const known = this.#store.get("device");
    if (known) return known;
    const device = uuid7();
    this.#store.set("device", device);
    return device;
  }

  #drop(drop) {
    this.dropped += drop.events.length;
    this.#safely(() => (this.#options.onDrop ?? warn)(drop));
  }

  #safely(act) {
    try {
      act();
    } catch (error) {
      warn(error);
    }
  }
}

/** What is told of the browser with every batch, as JSON. */
function environment(more) {
  const { screen } = globalThis;
  const known = {
    library: `tidegate.js/${VERSION}`,
    language: globalThis.navigator?.language,
    timezone: Intl.DateTimeFormat().resolvedOptions().timeZone,
    screen_resolution: screen && `${screen.width}x${screen.height}`,
  };
  try {
    return storable(JSON.stringify({ ...known, ...more }));
  } catch (error) {
    warn(error);
    return JSON.stringify(known);
  }
}

/** PostgreSQL holds neither NUL nor half a surrogate pair, which a cut emoji leaves. */
function storable(json) {
  return json.replace(/\\\\|\\u(?:0000|d[89a-f]..)/gi, (found) => (found === "\\\\" ? found : "\ufffd"));
}

/** Half a surrogate pair cannot stand in a URL either. */
function wellFormed(text) {
  return JSON.parse(storable(JSON.stringify(String(text))));
}
