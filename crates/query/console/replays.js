// Stored events that are run again: what it would do, and how far it is.

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
  events,
  field,
  form,
  json,
  loaded,
  moment,
  section,
  table,
  values,
} from "./widgets.js";

const R = T.replays;

function wanted(given) {
  const time = (text) => (text ? new Date(text).toISOString() : undefined);
  const all = {
    stream_id: given.stream_id,
    start_time: time(given.start),
    end_time: time(given.end),
    event_type: given.event_type,
    target_service: given.target,
    rate: given.rate ? Number(given.rate) : undefined,
  };
  return Object.fromEntries(Object.entries(all).filter(([, value]) => value !== undefined && value !== ""));
}

const preview = (given) => post(at(["replay"]), { ...wanted(given), dry_run: true, limit: 20 });

export function replays(view) {
  const shown = h("div", { role: "status" });
  const list = loaded(async () => {
    const all = (await get(at(["replays"], { limit: 50 }))).replays;
    if (!all.length) return empty(R.none);
    return table(
      R.list,
      R.heads,
      all.map((one) => [
        moment(one.created_at),
        badge(one.status),
        count(one.events_count),
        count(one.replayed),
        count(one.failed),
        one.problem ?? "",
        actions(one),
      ]),
    );
  });
  const actions = (one) => {
    const change = (verb) => async () => {
      await post(at(["replays", one.replay_id, verb]));
      list.again();
    };
    const cancel = async () => {
      if (await confirm(R.cancelTitle, h("p", {}, R.cancelText), R.cancelYes)) await change("cancel")();
    };
    if (!["running", "paused"].includes(one.status)) return "";
    return h(
      "span",
      { class: "actions" },
      one.status === "running"
        ? button(R.pause, change("pause"), { kind: "small" })
        : button(R.resume, change("resume"), { kind: "small" }),
      button(R.cancel, cancel, { kind: "small danger" }),
    );
  };
  const run = button(
    R.run,
    async () => {
      const given = values(node);
      const would = await preview(given);
      if (!(await confirm(R.runTitle, h("p", {}, R.runText(would)), R.runYes, { danger: false }))) return;
      await post(at(["replay"]), wanted(given));
      list.again();
    },
    { kind: "primary" },
  );
  const node = form(
    h(
      "div",
      { class: "row" },
      field(R.stream, { name: "stream_id", hint: R.streamHint }),
      field(R.from, { name: "start", type: "datetime-local" }),
      field(R.to, { name: "end", type: "datetime-local" }),
      field(R.type, { name: "event_type" }),
      field(R.target, { name: "target", hint: R.targetHint }),
      field(R.rate, { name: "rate", type: "number", placeholder: "1000" }),
    ),
    async (given) => {
      const would = await preview(given);
      fill(
        shown,
        section(
          R.would(would),
          would.events.length ? events(R.first, would.events) : null,
          would.projections.length
            ? section(
                R.states,
                would.projections.map((one) =>
                  h(
                    "details",
                    {},
                    h(
                      "summary",
                      {},
                      `${one.projection_name} · ${one.entity_type}:${one.entity_id} · `,
                      one.changes ? R.changes : R.same,
                    ),
                    h("div", { class: "columns" }, json(one.before), json(one.after)),
                  ),
                ),
              )
            : null,
        ),
      );
    },
    { label: R.preview, kind: "", actions: run },
  );
  add(view, h("p", { class: "lead" }, R.lead), node, shown, section(R.list, list.node));
  return follow((figures) => figures.changes.replays, list.again);
}
