const START = "event:";

/**
 * The events that were not acknowledged yet, of all tabs of this origin, oldest first. Each has a key of
 * its own, so tabs cannot overwrite each other's, and a tab that dies leaves its events to the others.
 */
export class Queue {
  #store;
  #limit;
  #evicted;
  #bytes = 0;

  /**
   * @param {import("./store.js").Store} store
   * @param {number} limit most bytes to keep, as browsers count: two for each character
   * @param {(texts: string[]) => void} evicted is told what had to go
   */
  constructor(store, limit, evicted) {
    this.#store = store;
    this.#limit = limit;
    this.#evicted = evicted;
    this.list();
  }

  /** Adds an event, or replaces it. @param {string} id a UUIDv7 @param {string} text its JSON */
  put(id, text) {
    this.#bytes += cost(text);
    if (this.#bytes > this.#limit) this.#evict(cost(text));
    this.#store.set(START + id, text);
  }

  /** @returns {{ id: string, text: string }[]} */
  list() {
    const events = [];
    this.#bytes = 0;
    for (const key of this.#store.keys(START)) {
      const text = this.#store.get(key);
      if (text === null) continue;
      this.#bytes += cost(text);
      events.push({ id: key.slice(START.length), text });
    }
    return events;
  }

  /** @param {string} id @returns {boolean} whether it was there */
  remove(id) {
    const there = this.#store.get(START + id) !== null;
    this.#store.remove(START + id);
    return there;
  }

  /** Makes room for so many bytes, counting what other tabs have put there. @param {number} room */
  #evict(room) {
    const evicted = [];
    for (const { id, text } of this.list()) {
      if (this.#bytes + room <= this.#limit) break;
      this.#bytes -= cost(text);
      this.remove(id);
      evicted.push(text);
    }
    this.#bytes += room;
    if (evicted.length) this.#evicted(evicted);
  }
}

/** The key is longer than the part that is known here. @param {string} text */
function cost(text) {
  return 2 * (text.length + 100);
}
