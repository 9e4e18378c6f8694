// Every event as it is stored.

import { h, add, fill, say } from "./dom.js";
import { T } from "./texts.js";
import { connect, listen } from "./live.js";
import { SOURCES } from "./names.js";
import { empty, eventLink, field, form, moment, problem, table } from "./widgets.js";

const L = T.tail;
/** Rows that are kept; the oldest go. */
const KEPT = 300;

export function tail(view, [kept]) {
  const chosen = Object.fromEntries(new URLSearchParams(kept ?? ""));
  const waiting = [];
  let isPaused = false;
  const body = h("tbody");
  const box = table(L.label, L.heads, []);
  box.querySelector("tbody").replaceWith(body);
  const none = empty(L.empty, h("a", { href: "#/try" }, L.tryIt));
  const note = h("p", { class: "note", role: "status" });
  const said = h("div");
  const pause = h(
    "button",
    {
      type: "button",
      "aria-pressed": "false",
      onclick: () => {
        isPaused = !isPaused;
        pause.setAttribute("aria-pressed", String(isPaused));
        say(pause, isPaused ? L.go : L.pause);
        if (!isPaused) put(waiting.splice(0));
        say(note, isPaused ? L.paused(0) : "");
      },
    },
    L.pause,
  );
  const fields = [
    field(L.types, { name: "types", value: chosen.types ?? "", hint: L.typesHint }),
    field(L.user, { name: "user_id", value: chosen.user_id ?? "" }),
    field(L.source, {
      name: "source",
      value: chosen.source ?? "",
      options: [["", L.anySource], ...SOURCES.map((one) => [one, one])],
    }),
    field(L.text, { name: "text", value: chosen.text ?? "", hint: L.textHint }),
  ];
  add(
    view,
    h("p", { class: "lead" }, L.lead),
    form(
      h("div", { class: "row" }, fields),
      ({ ...conditions }) => {
        const query = new URLSearchParams(Object.entries(conditions).filter(([, value]) => value.trim()));
        const hash = `#/tail/${encodeURIComponent(query)}`;
        if (location.hash === hash) connect(Object.fromEntries(query));
        else location.hash = hash;
      },
      { label: L.apply, kind: "", actions: pause },
    ),
    said,
    note,
    none,
    box,
  );
  box.hidden = true;

  function put(list) {
    if (!list.length) return;
    none.hidden = true;
    box.hidden = false;
    const rows = list
      .slice(-KEPT)
      .reverse()
      .map((event) =>
        h(
          "tr",
          {},
          h("td", {}, moment(event.created_at, { date: false })),
          h("td", {}, eventLink(event.event_id, event.event_type)),
          h("td", {}, h("span", { class: "clip" }, event.user_id ?? "–")),
          h("td", {}, event.event_source),
          h("td", {}, h("code", { class: "clip wide" }, event.excerpt)),
        ),
      );
    body.prepend(...rows);
    while (body.rows.length > KEPT) body.lastChild.remove();
  }

  let batch = [];
  let sampled = 0;
  const stop = listen((name, data) => {
    if (name === "problem") fill(said, problem({ message: data?.detail ?? T.state.lost, body: data }));
    if (name === "hello") {
      fill(said);
      // A stream that begins anew begins with the last events again.
      body.replaceChildren();
      waiting.length = 0;
    }
    if (name === "sample") {
      sampled = 2;
      if (!isPaused) say(note, L.sample(data));
    }
    // What is said of a sample stays until there is none any more.
    if (name === "moment" && --sampled < 0 && !isPaused) say(note, "");
    if (name !== "stored") return;
    if (!batch.length)
      queueMicrotask(() => {
        const list = batch;
        batch = [];
        if (!isPaused) return put(list);
        waiting.push(...list);
        waiting.splice(0, Math.max(0, waiting.length - KEPT));
        say(note, L.paused(waiting.length));
      });
    batch.push(data);
  });
  connect(chosen);
  return () => {
    stop();
    connect(null);
  };
}
