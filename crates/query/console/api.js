// The API. The credentials are kept in memory, and nowhere else.

import { T } from "./texts.js";

export const EVENTS = "/api/v1/events";

let credentials = null;
let refused = () => {};

/** Whom the page asks as: a key or a token. */
export function signIn(text) {
  credentials = text || null;
}

export function isSignedIn() {
  return credentials !== null;
}

/** What is to be done when the service wants credentials. */
export function onRefused(act) {
  refused = act;
}

export function headers() {
  return credentials ? { authorization: `Bearer ${credentials}` } : {};
}

/** What the service said no with. */
export class Problem extends Error {
  constructor(status, body) {
    super(body?.detail || T.problem.status(status));
    this.status = status;
    this.body = body ?? {};
  }
}

/** Asks, and gives the JSON of the answer, or null where there is none. */
export async function ask(method, path, body) {
  let answer;
  try {
    answer = await fetch(path, {
      method,
      headers: { ...headers(), ...(body === undefined ? {} : { "content-type": "application/json" }) },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch {
    throw new Problem(0, { detail: T.problem.network });
  }
  const text = await answer.text();
  let json = null;
  try {
    json = text ? JSON.parse(text) : null;
  } catch {
    // Not from the service: its status says enough.
  }
  if (answer.status === 401) refused();
  if (!answer.ok) throw new Problem(answer.status, json);
  return json;
}

export const get = (path) => ask("GET", path);
export const post = (path, body = {}) => ask("POST", path, body);

/** A path below the events' prefix, its words escaped, with the parameters that have a value. */
export function at(words, parameters = {}) {
  const path = [EVENTS, ...words.map(encodeURIComponent)].join("/");
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) {
    if (value !== undefined && value !== null && value !== "") query.set(name, value);
  }
  return query.size ? `${path}?${query}` : path;
}
