// How much happened, by day and type.

import { h, add, fill } from "./dom.js";
import { T } from "./texts.js";
import { at, get, post } from "./api.js";
import { count, empty, events, field, form, loaded, moment, problem, section, table } from "./widgets.js";
import { bars, legend } from "./chart.js";

const F = T.flow;
const DAY = 86400000;
/** Types that have a colour; the others are one. */
const SHOWN = 5;
const day = (time) => new Date(time).toISOString().slice(0, 10);

export function flow(view, [range]) {
  const chosen = new URLSearchParams(range ?? "");
  const from = chosen.get("from") || day(Date.now() - 29 * DAY);
  const to = chosen.get("to") || day(Date.now());
  let chart = null;
  add(
    view,
    h("p", { class: "lead" }, F.lead),
    form(
      h(
        "div",
        { class: "row" },
        field(F.from, { name: "from", type: "date", value: from }),
        field(F.to, { name: "to", type: "date", value: to }),
      ),
      (given) => {
        location.hash = `#/flow/${encodeURIComponent(new URLSearchParams(given))}`;
      },
      { label: F.show, kind: "" },
    ),
  );
  const behind = h("div");
  const { node } = loaded(async () => {
    const found = get("/api/v1/anomalies?limit=1000").catch(() => ({ anomalies: [] }));
    const stats = await get(at(["stats"], { start_time: `${from}T00:00:00Z`, end_time: `${to}T23:59:59.999999Z` }));
    if (!stats.events_by_day.length) return empty(F.none, h("a", { href: "#/try" }, T.tail.tryIt));
    const top = stats.top_event_types.slice(0, SHOWN).map((one) => one.event_type);
    const names = Object.keys(stats.events_by_type).length > top.length ? [...top, F.rest] : top;
    const days = [];
    for (let time = Date.parse(from); time <= Date.parse(to) && days.length < 1000; time += DAY) days.push(time);
    const numbers = names.map(() => days.map(() => 0));
    const sums = days.map(() => 0);
    for (const one of stats.events_by_day) {
      const index = Math.round((Date.parse(one.date) - days[0]) / DAY);
      const name = top.includes(one.event_type) ? one.event_type : F.rest;
      if (numbers[names.indexOf(name)]?.[index] === undefined) continue;
      numbers[names.indexOf(name)][index] += one.count;
      sums[index] += one.count;
    }
    const isShown = (alert) => alert.opened_at.slice(0, 10) >= from && alert.opened_at.slice(0, 10) <= to;
    const alerts = (await found).anomalies.filter(isShown);
    chart = bars(
      `${F.chart}: ${count(sums.reduce((a, b) => a + b, 0))}`,
      names,
      [days.map((time) => time / 1000), ...numbers],
      (index) => show(behind, days[index]),
      alerts.map((alert) => Date.parse(alert.opened_at) / 1000),
    );
    const shares = (title, of) =>
      section(
        title,
        table(
          title,
          F.heads,
          Object.entries(of)
            .sort(([, a], [, b]) => b - a)
            .slice(0, 20)
            .map(([name, number]) => [h("span", { class: "clip" }, name), count(number)]),
        ),
      );
    const filled = days
      .map((time, index) => [time, sums[index]])
      .filter(([, sum]) => sum)
      .reverse();
    return [
      section(F.chart, legend(names), chart.node, h("p", { class: "note" }, F.pick), marked(alerts)),
      behind,
      h(
        "div",
        { class: "columns" },
        shares(F.types, stats.events_by_type),
        section(
          F.days,
          table(
            F.days,
            F.dayHeads,
            filled.map(([time, sum]) => [
              h("button", { type: "button", class: "link", onclick: () => show(behind, time) }, day(time)),
              count(sum),
            ]),
          ),
        ),
        shares(F.sources, stats.events_by_source),
        shares(F.categories, stats.events_by_category),
      ),
    ];
  });
  add(view, node);
  return () => chart?.end();
}

/** What the lines across the chart mean. */
function marked(alerts) {
  if (!alerts.length) return null;
  const line = (alert) => h("li", {}, moment(alert.opened_at), ` ${alert.message}`);
  return h("details", {}, h("summary", {}, F.alerts(alerts.length)), h("ul", { class: "links" }, alerts.map(line)));
}

/** The events of a day. */
async function show(node, time) {
  try {
    const page = await post(at(["query"]), {
      start_time: new Date(time).toISOString(),
      end_time: new Date(time + DAY - 1).toISOString(),
      limit: 50,
      count: false,
    });
    fill(
      node,
      section(F.behind(day(time)), page.events.length ? events(F.behind(day(time)), page.events) : empty(F.none)),
    );
  } catch (error) {
    fill(node, problem(error));
  }
}
