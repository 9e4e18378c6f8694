// Records that could not be stored: why, their bytes, and what can be done.

import { h, add, fill } from "./dom.js";
import { T } from "./texts.js";
import { at, get, post } from "./api.js";
import { follow } from "./live.js";
import {
  badge,
  button,
  confirm,
  count,
  empty,
  eventLink,
  field,
  form,
  json,
  loaded,
  moment,
  pairs,
  section,
  table,
  values,
} from "./widgets.js";

const D = T.dead;

const changes = (figures) => [figures.changes.dead_letters, figures.dead];

export function dead(view, [kind, value, state]) {
  if (kind === "one") return one(view, value);
  if (kind === "reason") return list(view, value, state ?? "open");
  add(view, h("p", { class: "lead" }, D.lead));
  const { node, again } = loaded(async () => {
    const { counts } = await get(at(["dead-letters", "counts"]));
    if (!counts.length) return empty(D.none);
    return section(
      D.groups,
      table(
        D.groups,
        D.heads,
        counts.map((group) => [
          h("a", { href: `#/dead/reason/${encodeURIComponent(group.reason)}/${group.state}` }, group.reason),
          h("span", { class: "clip" }, group.topic),
          badge(group.state),
          count(group.count),
          moment(group.newest),
        ]),
      ),
    );
  });
  add(view, node);
  return follow(changes, again);
}

function list(view, reason, state) {
  const said = h("div", { role: "status" });
  const { node, again } = loaded(async () => {
    const page = await get(at(["dead-letters"], { reason, state, limit: 100 }));
    if (!page.dead_letters.length) return empty(D.none);
    return table(
      D.list(reason),
      D.listHeads,
      page.dead_letters.map((letter) => [
        h("a", { href: `#/dead/one/${letter.id}` }, letter.id),
        moment(letter.created_at),
        h("span", { class: "clip" }, `${letter.topic} ${letter.partition}/${letter.offset}`),
        h("span", { class: "wrap" }, letter.detail),
      ]),
    );
  });
  const all = async (verb, title, what) => {
    const would = await post(at(["dead-letters", verb]), { reason, state, dry_run: true });
    if (
      !(await confirm(title, h("p", {}, what(would)), verb === "redrive" ? D.redrive : D.discard, {
        danger: verb !== "redrive",
      }))
    )
      return;
    const done = await post(at(["dead-letters", verb]), { reason, state, ...(verb === "discard" ? { note: "" } : {}) });
    fill(said, h("p", { class: "note" }, verb === "redrive" ? D.redrivenAll(done) : D.discarded));
    again();
  };
  add(
    view,
    h("h2", {}, D.list(reason)),
    h(
      "div",
      { class: "actions" },
      button(D.redriveAll, () => all("redrive", D.redriveTitle, D.wouldChange), { kind: "primary" }),
      state === "open"
        ? button(D.discardAll, () => all("discard", D.discardTitle, (would) => D.wouldDiscard(would.selected)))
        : null,
    ),
    said,
    node,
  );
  return follow(changes, again);
}

/** The bytes with the place of the fault marked. */
function marked(letter) {
  const fault = letter.faults.find((one) => one.at !== null && one.at !== undefined);
  const text = letter.payload;
  if (text === null)
    return h("pre", { tabindex: 0, role: "group", "aria-label": D.payload }, letter.payload_base64 ?? "");
  if (!fault) return h("pre", { tabindex: 0, role: "group", "aria-label": D.payload }, text);
  const bytes = new TextEncoder().encode(text);
  const decode = (from, to) => new TextDecoder().decode(bytes.slice(from, to));
  return h(
    "pre",
    { tabindex: 0, role: "group", "aria-label": D.payload },
    decode(0, fault.at),
    h("mark", { title: D.fault }, decode(fault.at, fault.at + 1) || "⏎"),
    decode(fault.at + 1),
  );
}

function one(view, id) {
  const said = h("div", { role: "status" });
  const { node, again } = loaded(async () => {
    let letter;
    try {
      letter = await get(at(["dead-letters", id]));
    } catch (error) {
      if (error.status === 404) return empty(D.gone);
      throw error;
    }
    const isText = letter.payload !== null;
    const edited = (given) => {
      if (!isText) return { ids: [letter.id], payload_base64: given.payload };
      return { ids: [letter.id], ...(given.payload === letter.payload ? {} : { payload: given.payload }) };
    };
    const dry = button(D.dryRun, async () => {
      const would = await post(at(["dead-letters", "redrive"]), {
        ...edited(values(edit)),
        state: letter.state,
        dry_run: true,
      });
      fill(said, h("p", { class: "note" }, D.wouldChange(would)));
    });
    const edit = form(
      field(D.edit, {
        name: "payload",
        rows: 8,
        value: isText ? letter.payload : (letter.payload_base64 ?? ""),
        hint: isText ? D.editHint : D.notText,
      }),
      async (given) => {
        await post(at(["dead-letters", "redrive"]), { ...edited(given), state: letter.state });
        fill(said, h("p", { class: "note" }, D.redriven));
        again();
      },
      { label: D.redrive, actions: dry },
    );
    const aside = form(
      field(D.noteLabel, { name: "note" }),
      async ({ note }) => {
        await post(at(["dead-letters", "discard"]), { ids: [letter.id], note });
        fill(said, h("p", { class: "note" }, D.discarded));
        again();
      },
      { label: D.discard, kind: "danger" },
    );
    return [
      pairs([
        [D.reason, letter.reason],
        [D.why, letter.detail],
        [D.state, badge(letter.state)],
        [D.kept, moment(letter.created_at)],
        [D.place, `${letter.topic}, ${letter.partition}/${letter.offset}`],
        [D.size, D.bytes(letter.payload_size)],
        [D.attempts, letter.attempts || null],
        [D.note, letter.note],
        [D.key, letter.key],
        [T.pages.event, letter.event_id ? eventLink(letter.event_id, letter.event_id) : null],
      ]),
      letter.faults.length
        ? section(
            D.faults,
            h(
              "ul",
              { class: "faults" },
              letter.faults.map((fault) =>
                h(
                  "li",
                  {},
                  h("code", {}, fault.path || "·"),
                  ` ${fault.message}`,
                  fault.value === null || fault.value === undefined
                    ? null
                    : [`; ${D.is} `, h("code", { class: "clip wide" }, JSON.stringify(fault.value))],
                ),
              ),
            ),
          )
        : null,
      section(D.payload, marked(letter)),
      section(D.redrive, edit),
      letter.state === "open" ? section(D.discard, aside) : null,
      letter.headers.length ? section(D.headers, pairs(letter.headers)) : null,
      letter.history.length ? section(D.history, json(letter.history)) : null,
    ];
  });
  add(view, h("h2", {}, D.one(id)), said, node);
  return null;
}
