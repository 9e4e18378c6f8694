// How events are named and built: reported, never enforced.

import { h, add } from "./dom.js";
import { T } from "./texts.js";
import { get } from "./api.js";
import { count, duration, empty, field, form, loaded, moment, section, table } from "./widgets.js";

const R = T.report;

export function report(view, [chosen]) {
  const days = Number(chosen) || 7;
  const { node } = loaded(async () => {
    const found = await get(`/api/v1/reports/instrumentation?days=${days}`);
    const part = (title, heads, list, row) => (list.length ? section(title, table(title, heads, list.map(row))) : null);
    const parts = [
      part(R.names, R.nameHeads, found.names, (one) => [
        clip(one.event_type),
        count(one.events),
        one.problems.map((word) => R.problem[word] ?? word).join(", "),
      ]),
      part(R.typos, R.typoHeads, found.typos, (one) => [clip(one.event_type), clip(one.likely), count(one.events)]),
      part(R.mixed, R.memberHeads, found.mixed_types, member),
      part(R.changed, R.memberHeads, found.changed, member),
      part(R.missing, R.missingHeads, found.missing_ids, (one) => [
        clip(one.event_type),
        one.event_source,
        count(one.events),
        count(one.without_ids),
      ]),
      part(R.sources, R.sourceHeads, found.sources, (one) => [
        one.event_source,
        count(one.events),
        count(one.duplicates),
        count(one.late),
        count(one.early),
        duration(one.worst_seconds),
      ]),
    ];
    return parts.some(Boolean) ? parts : empty(R.none);
  });
  add(
    view,
    h("p", { class: "lead" }, R.lead),
    form(
      h("div", { class: "row" }, field(R.days, { name: "days", type: "number", value: String(days) })),
      ({ days: wanted }) => {
        location.hash = `#/report/${encodeURIComponent(wanted)}`;
      },
      { label: T.flow.show, kind: "" },
    ),
    node,
  );
  return null;
}

const clip = (text) => h("span", { class: "clip" }, text);
const member = (one) => [
  clip(one.event_type),
  h("code", { class: "clip" }, one.path),
  one.json_types.join(", "),
  moment(one.first_seen),
  moment(one.last_seen),
];
