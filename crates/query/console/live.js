// The one stream of this page: who is asking, the figures of each second, and stored events.

import { headers } from "./api.js";

const PATH = "/api/v1/sse/console";
/** Seconds that are shown. */
export const KEPT = 300;

const listeners = new Set();
let watched = null;
let running = null;

/** What was heard last. `state`: connecting, open, lost, refused (401, 403). */
export const live = { state: "connecting", status: 0, hello: null, moment: null, series: [] };

/** Has `hear(name, data)` called for each message; gives what ends that. */
export function listen(hear) {
  listeners.add(hear);
  return () => listeners.delete(hear);
}

/** Calls `again` when what `pick(figures)` gives is another than when this was called; gives what ends that. */
export function follow(pick, again) {
  const read = () => JSON.stringify(live.moment?.figures ? pick(live.moment.figures) : null);
  let before = read();
  return listen((name) => {
    if (name !== "moment" || read() === before) return;
    before = read();
    again();
  });
}

function tell(name, data) {
  for (const hear of listeners) hear(name, data);
}

function become(state, status = 0) {
  live.state = state;
  live.status = status;
  tell("state", state);
}

/** Connects, or connects anew: after signing in, or to watch other events (null: none). */
export function connect(watch = watched) {
  watched = watch;
  running?.abort();
  const abort = new AbortController();
  running = abort;
  run(abort.signal);
}

/** Ends it. */
export function disconnect() {
  running?.abort();
  running = null;
}

async function run(signal) {
  let pause = 1000;
  while (!signal.aborted) {
    try {
      const query = new URLSearchParams(watched ? { tail: "true", ...watched } : {});
      const answer = await fetch(`${PATH}?${query}`, { headers: headers(), signal });
      if ([401, 403, 422].includes(answer.status)) {
        tell("problem", await answer.json().catch(() => null));
        become("refused", answer.status);
        return;
      }
      if (!answer.ok || !answer.body) throw new Error(String(answer.status));
      become("open");
      pause = 1000;
      await read(answer.body, signal);
    } catch {
      // The network, or a service that stops: it is tried again.
    }
    if (signal.aborted) return;
    become("lost");
    await new Promise((resolve) => setTimeout(resolve, pause * (0.5 + Math.random())));
    pause = Math.min(pause * 2, 15000);
  }
}

async function read(body, signal) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done || signal.aborted) return;
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) take(block);
  }
}

function take(block) {
  let name = "message";
  let data = "";
  for (const line of block.split("\n")) {
    if (line.startsWith("event: ")) name = line.slice(7);
    else if (line.startsWith("data: ")) data += line.slice(6);
  }
  if (!data) return;
  const value = JSON.parse(data);
  if (name === "hello") live.hello = value;
  if (name === "history") begin(value);
  if (name === "moment") {
    live.moment = value;
    const rate = value.figures?.stored_per_second;
    // The first one has no rate: there is nothing before it. While the database is away there is a gap.
    if (!value.figures || typeof rate === "number") {
      live.series.push([Date.parse(value.at) / 1000, rate ?? null, value.live?.sent_per_second ?? null]);
    }
    const oldest = Date.parse(value.at) / 1000 - KEPT;
    while (live.series.length && live.series[0][0] < oldest) live.series.shift();
  }
  tell(name, value);
}

/** The seconds before this page was opened; what it saw itself stays. */
function begin(history) {
  const now = Math.floor(Date.now() / 1000);
  const counts = new Map(history);
  const seen = new Map(live.series.map((point) => [Math.floor(point[0]), point]));
  live.series = [];
  for (let second = now - KEPT; second < now; second++)
    live.series.push(seen.get(second) ?? [second, counts.get(second) ?? 0, null]);
}
