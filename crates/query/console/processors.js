// What is done with stored events.

import { h, add } from "./dom.js";
import { T } from "./texts.js";
import { ask, at, get, post } from "./api.js";
import { badge, button, confirm, count, empty, field, form, loaded, moment, section, table } from "./widgets.js";

const P = T.processors;

export function processors(view) {
  add(view, h("p", { class: "lead" }, P.lead));
  const { node, again } = loaded(async () => {
    const list = (await get(at(["processors"]))).processors;
    if (!list.length) return empty(P.none);
    return table(
      T.pages.processors,
      P.heads,
      list.map((one) => [
        h("span", {}, one.processor_name, one.from_code ? h("small", {}, ` ${P.fromCode}`) : null),
        one.processor_type,
        one.priority,
        one.enabled ? badge("enabled") : badge("off"),
        count(one.error_count),
        one.last_error ? h("span", { class: "clip wide", title: one.last_error }, one.last_error) : "–",
        moment(one.last_processed_at),
        actions(one),
      ]),
    );
  });
  const actions = (one) => {
    const name = (text) => ({ kind: "small", "aria-label": `${text}: ${one.processor_name}` });
    const toggle = async () => {
      await ask("PUT", at(["processors", one.processor_id, "toggle"], { enabled: String(!one.enabled) }));
      again();
    };
    const remove = async () => {
      if (!(await confirm(P.removeTitle, h("p", {}, P.removeText), P.removeYes))) return;
      await ask("DELETE", at(["processors", one.processor_id]));
      again();
    };
    const text = one.enabled ? P.off : P.on;
    return h(
      "span",
      { class: "actions" },
      button(text, toggle, name(text)),
      one.from_code ? null : button(P.remove, remove, { ...name(P.remove), kind: "small danger" }),
    );
  };
  const make = form(
    [
      h(
        "div",
        { class: "row" },
        field(P.name, { name: "name", required: true }),
        field(P.type, {
          name: "type",
          options: [
            ["log", "log"],
            ["kafka", "kafka"],
            ["handler", "handler"],
            ["webhook", "webhook"],
          ],
        }),
      ),
      h(
        "div",
        { class: "row" },
        field(P.filters, { name: "filters", rows: 3, value: '{"event_types": ["order.*"]}' }),
        field(P.config, { name: "config", rows: 3, value: "{}" }),
      ),
    ],
    async ({ name, type, filters, config }) => {
      await post(at(["processors"]), {
        processor_name: name,
        processor_type: type,
        filters: JSON.parse(filters || "{}"),
        config: JSON.parse(config || "{}"),
      });
      again();
    },
    { label: P.make },
  );
  add(view, node, section(P.create, make));
  return null;
}
