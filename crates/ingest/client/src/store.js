/**
 * localStorage or sessionStorage below a prefix. What it does not take, because it is full, forbidden or
 * missing, stays in memory. Nothing here throws.
 */
export class Store {
  /** @type {any} where nothing works if it is missing */
  #area;
  #prefix;
  #memory = new Map();

  /** @param {"localStorage" | "sessionStorage"} name @param {string} prefix */
  constructor(name, prefix) {
    this.#prefix = prefix;
    try {
      this.#area = globalThis[name];
    } catch {
      // Forbidden by the browser's settings or a sandbox.
    }
  }

  /** @param {string} key @returns {string | null} */
  get(key) {
    try {
      return this.#memory.get(key) ?? this.#area.getItem(this.#prefix + key);
    } catch {
      return null;
    }
  }

  /** @param {string} key @param {string} value @returns {boolean} whether it outlives the page */
  set(key, value) {
    try {
      this.#area.setItem(this.#prefix + key, value);
      this.#memory.delete(key);
      return true;
    } catch {
      this.#memory.set(key, value);
      return false;
    }
  }

  /** @param {string} key */
  remove(key) {
    this.#memory.delete(key);
    try {
      this.#area.removeItem(this.#prefix + key);
    } catch {
      // It was not there.
    }
  }

  /** All keys that begin so, in order. @param {string} start @returns {string[]} */
  keys(start) {
    const keys = new Set(this.#memory.keys());
    try {
      for (const key of Object.keys(this.#area)) {
        if (key.startsWith(this.#prefix)) keys.add(key.slice(this.#prefix.length));
      }
    } catch {
      // Memory is all there is.
    }
    return [...keys].filter((key) => key.startsWith(start)).sort();
  }
}
