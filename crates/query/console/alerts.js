// Surges, silences and error rates, and the rules that find them.

import { h, add } from "./dom.js";
import { T } from "./texts.js";
import { ask, get, post } from "./api.js";
import { follow } from "./live.js";
import { badge, button, confirm, empty, field, form, json, loaded, moment, rate, section, table } from "./widgets.js";

const A = T.alerts;
const PATH = "/api/v1/anomalies";

export function alerts(view) {
  const found = loaded(async () => {
    const list = (await get(`${PATH}?limit=200`)).anomalies;
    if (!list.length) return empty(A.none);
    return table(
      A.list,
      A.heads,
      list.map((one) => [
        badge(one.state),
        moment(one.opened_at),
        one.kind,
        h("span", { class: "clip" }, one.subject),
        h("span", { class: "wrap" }, one.message),
        rate(one.value),
        rate(one.usual),
        moment(one.resolved_at),
      ]),
    );
  });
  const rules = loaded(async () => {
    const list = (await get(`${PATH}/rules`)).rules;
    return list.map((rule) =>
      h(
        "details",
        {},
        h("summary", {}, `${rule.name} · ${rule.kind} `, rule.is_default ? h("small", {}, A.isDefault) : null),
        json(rule),
        rule.is_default
          ? null
          : h(
              "div",
              { class: "actions" },
              button(
                A.remove,
                async () => {
                  if (!(await confirm(A.removeTitle, h("p", {}, A.removeText), A.removeYes))) return;
                  await ask("DELETE", `${PATH}/rules/${encodeURIComponent(rule.name)}`);
                  rules.again();
                },
                { kind: "danger", "aria-label": `${A.remove} ${rule.name}` },
              ),
            ),
      ),
    );
  });
  const make = form(
    h(
      "div",
      { class: "row" },
      field(A.name, { name: "name", required: true }),
      field(A.kind, { name: "kind", options: A.kinds }),
      field(A.types, { name: "types", hint: T.tail.typesHint }),
      field(A.threshold, { name: "threshold", type: "number", hint: A.thresholdHint }),
    ),
    async ({ name, kind, types, threshold }) => {
      const event_types = types
        .split(",")
        .map((one) => one.trim())
        .filter(Boolean);
      await post(`${PATH}/rules`, { name, kind, event_types, ...(threshold ? { threshold: Number(threshold) } : {}) });
      rules.again();
    },
    { label: A.make },
  );
  add(view, h("p", { class: "lead" }, A.lead), found.node, section(A.rules, rules.node), section(A.create, make));
  return follow((figures) => figures.changes.alerts, found.again);
}
