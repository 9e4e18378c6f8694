// How much happened, by the day or the hour, and of what.

import { h, add, fill } from "./dom.js";
import { T } from "./texts.js";
import { at, get, post } from "./api.js";
import { CATEGORIES, SOURCES } from "./names.js";
import {
  count,
  duration,
  empty,
  events,
  field,
  form,
  loaded,
  moment,
  pairs,
  problem,
  section,
  table,
} from "./widgets.js";
import { bars, legend } from "./chart.js";

const F = T.flow;
const STEPS = { day: 86400000, hour: 3600000 };
/** What is chosen unless the address says more. */
const USUAL = { interval: "day", by: "event_type", event_type: "", event_source: "", event_category: "" };
/** Days that are shown unless it is said. */
const DAYS = { day: 30, hour: 2 };
/** Parts of time that stand in the table. */
const LISTED = 200;
const FILTERS = ["event_type", "event_source", "event_category"];

const day = (time) => new Date(time).toISOString().slice(0, 10);
const label = (time, interval) =>
  interval === "hour" ? `${new Date(time).toISOString().slice(0, 13).replace("T", " ")}:00` : day(time);

export function flow(view, [range]) {
  const chosen = { ...USUAL, ...Object.fromEntries(new URLSearchParams(range ?? "")) };
  chosen.interval = STEPS[chosen.interval] ? chosen.interval : USUAL.interval;
  chosen.to ||= day(Date.now());
  chosen.from ||= day(Date.parse(chosen.to) - (DAYS[chosen.interval] - 1) * STEPS.day);
  const filters = Object.fromEntries(FILTERS.map((name) => [name, chosen[name]]).filter(([, value]) => value));
  const period = { start_time: `${chosen.from}T00:00:00Z`, end_time: `${chosen.to}T23:59:59.999999Z` };
  /** The address of this page with some of it chosen otherwise. */
  const page = (other) => {
    const all = Object.entries({ ...chosen, ...other }).filter(([name, value]) => value && value !== USUAL[name]);
    return `#/flow/${encodeURIComponent(new URLSearchParams(all))}`;
  };
  const choice = (name, all) =>
    field(F[name], { name, value: chosen[name], options: [["", F.all], ...all.map((one) => [one, one])] });
  add(
    view,
    h("p", { class: "lead" }, F.lead),
    form(
      h(
        "div",
        { class: "row tight" },
        field(F.from, { name: "from", type: "date", value: chosen.from }),
        field(F.to, { name: "to", type: "date", value: chosen.to }),
        field(F.interval, { name: "interval", value: chosen.interval, options: F.intervals }),
        field(F.by, { name: "by", value: chosen.by, options: F.bys }),
        field(F.event_type, { name: "event_type", value: chosen.event_type }),
        choice("event_source", SOURCES),
        choice("event_category", CATEGORIES),
      ),
      (given) => {
        // Days that were not touched are those of the interval that is chosen now.
        const isOther = given.interval !== chosen.interval && given.from === chosen.from && given.to === chosen.to;
        location.hash = page({ ...given, ...(isOther ? { from: "", to: "" } : {}) });
      },
      { label: F.show, kind: "" },
    ),
  );
  const behind = h("div", { role: "status" });
  let chart = null;
  const drawn = loaded(async () => {
    const alerts = get("/api/v1/anomalies?limit=1000").catch(() => ({ anomalies: [] }));
    const { interval, by } = chosen;
    const found = await get(at(["counts"], { ...period, ...filters, interval, by }));
    if (!found.total) return empty(F.none, h("a", { href: "#/try" }, T.tail.tryIt));
    const step = STEPS[interval];
    const times = [];
    for (
      let time = Date.parse(period.start_time);
      time < Date.parse(period.end_time) && times.length < 1000;
      time += step
    )
      times.push(time);
    const names = found.counts.some((one) => one.name === null) ? [...found.names, F.rest] : found.names;
    const numbers = names.map(() => times.map(() => 0));
    const sums = times.map(() => 0);
    for (const one of found.counts) {
      const index = Math.round((Date.parse(one.time) - times[0]) / step);
      if (sums[index] === undefined) continue;
      numbers[names.indexOf(one.name ?? F.rest)][index] += one.count;
      sums[index] += one.count;
    }
    const isShown = (alert) => alert.opened_at.slice(0, 10) >= chosen.from && alert.opened_at.slice(0, 10) <= chosen.to;
    const shown = (await alerts).anomalies.filter(isShown);
    const pick = (time) => show(behind, time, step, label(time, interval), filters);
    chart = bars(
      `${F.chart(F.words[interval], F.words[by])}: ${count(found.total)}`,
      names,
      [times.map((time) => time / 1000), ...numbers],
      (index) => pick(times[index]),
      shown.map((alert) => Date.parse(alert.opened_at) / 1000),
    );
    const filled = times
      .map((time, index) => [time, sums[index]])
      .filter(([, sum]) => sum)
      .reverse()
      .slice(0, LISTED);
    return [
      section(
        F.chart(F.words[interval], F.words[by]),
        legend(names),
        chart.node,
        h("p", { class: "note" }, F.pick),
        marked(shown),
      ),
      behind,
      tall(
        section(
          F.parts[interval],
          table(
            F.parts[interval],
            F.partHeads[interval],
            filled.map(([time, sum]) => [
              h("button", { type: "button", class: "link", onclick: () => pick(time) }, label(time, interval)),
              count(sum),
            ]),
          ),
        ),
      ),
    ];
  });
  const shares = loaded(async () => {
    const stats = await get(at(["stats"], period));
    if (!stats.events_by_day.length) return null;
    const of = (title, name, all) =>
      section(
        title,
        table(
          title,
          F.heads,
          Object.entries(all)
            .sort(([, a], [, b]) => b - a)
            .slice(0, 20)
            .map(([one, number]) => [h("a", { class: "clip", href: page({ [name]: one }) }, one), count(number)]),
        ),
      );
    const users = stats.unique_users_by_day ?? [];
    return [
      h("h2", {}, F.allOf),
      h(
        "div",
        { class: "columns" },
        of(F.types, "event_type", stats.events_by_type),
        of(F.sources, "event_source", stats.events_by_source),
        of(F.categories, "event_category", stats.events_by_category),
        users.some((one) => one.users)
          ? [
              section(
                F.topUsers,
                table(
                  F.topUsers,
                  F.userHeads,
                  stats.top_users.map((one) => [
                    h("a", { class: "clip", href: `#/search/${encodeURIComponent(one.user_id)}` }, one.user_id),
                    count(one.count),
                  ]),
                ),
              ),
              tall(
                section(
                  F.users,
                  table(
                    F.users,
                    F.usersHeads,
                    users.map((one) => [one.date, count(one.users)]),
                  ),
                ),
              ),
            ]
          : null,
        stats.average_processing_time === null
          ? null
          : section(F.took, pairs([[F.mean, duration(stats.average_processing_time / 1000)]])),
      ),
    ];
  });
  add(view, drawn.node, shares.node);
  return () => chart?.end();
}

/** A section whose table scrolls within itself. */
function tall(node) {
  node.classList.add("tall");
  return node;
}

/** What the lines across the chart mean. */
function marked(alerts) {
  if (!alerts.length) return null;
  const line = (alert) => h("li", {}, moment(alert.opened_at), ` ${alert.message}`);
  return h("details", {}, h("summary", {}, F.alerts(alerts.length)), h("ul", { class: "links" }, alerts.map(line)));
}

/** The events of a part of time. */
async function show(node, time, step, title, filters) {
  try {
    const page = await post(at(["query"]), {
      ...filters,
      start_time: new Date(time).toISOString(),
      end_time: new Date(time + step - 1).toISOString(),
      limit: 50,
      count: false,
    });
    const of = F.behind(title, Object.values(filters));
    fill(node, section(of, page.events.length ? events(of, page.events) : empty(F.none)));
  } catch (error) {
    fill(node, problem(error));
  }
}
