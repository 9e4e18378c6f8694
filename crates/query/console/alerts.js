// Surges, silences and error rates, and the rules that find them.

import { h, add, fill } from "./dom.js";
import { T } from "./texts.js";
import { ask, get, post } from "./api.js";
import { follow } from "./live.js";
import {
  badge,
  button,
  confirm,
  empty,
  field,
  form,
  json,
  loaded,
  moment,
  problem,
  rate,
  section,
  table,
} from "./widgets.js";

const A = T.alerts;
const PATH = "/api/v1/anomalies";

/** Alerts, as a table. */
const listed = (caption, list) =>
  table(
    caption,
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

/** A rule as the API takes it, from the fields of the form. */
function asked({ name, kind, types, threshold }) {
  const event_types = types
    .split(",")
    .map((one) => one.trim())
    .filter(Boolean);
  return { ...(name ? { name } : {}), kind, event_types, ...(threshold ? { threshold: Number(threshold) } : {}) };
}

export function alerts(view) {
  const found = loaded(async () => {
    const list = (await get(`${PATH}?limit=200`)).anomalies;
    return list.length ? listed(A.list, list) : empty(A.none);
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
  const tried = h("div", { role: "status" });
  const days = field(A.days, { name: "days", type: "number", value: "7", hint: A.daysHint });
  const attempt = h("button", { type: "button" }, A.trial);
  const make = form(
    h(
      "div",
      { class: "row" },
      field(A.name, { name: "name", required: true }),
      field(A.kind, { name: "kind", options: A.kinds }),
      field(A.types, { name: "types", hint: T.tail.typesHint }),
      field(A.threshold, { name: "threshold", type: "number", hint: A.thresholdHint }),
      days,
    ),
    async (given) => {
      await post(`${PATH}/rules`, asked(given));
      fill(tried);
      rules.again();
    },
    { label: A.make, actions: attempt },
  );
  attempt.addEventListener("click", async () => {
    attempt.disabled = true;
    try {
      const given = Object.fromEntries(new FormData(make));
      const result = await post(`${PATH}/rules/trial`, { ...asked(given), days: Number(given.days) || 7 });
      fill(
        tried,
        h("p", { class: "note" }, A.tried(result)),
        result.alerts.length ? listed(A.wouldHave, result.alerts) : null,
      );
    } catch (error) {
      fill(tried, problem(error));
    }
    attempt.disabled = false;
  });
  add(
    view,
    h("p", { class: "lead" }, A.lead),
    found.node,
    section(A.rules, rules.node),
    section(A.create, make, tried),
  );
  return follow((figures) => figures.changes.alerts, found.again);
}
