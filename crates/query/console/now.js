// What is happening, and what is wrong.

import { h, add, fill, say } from "./dom.js";
import { T } from "./texts.js";
import { listen, live } from "./live.js";
import { count, duration, empty, rate, section } from "./widgets.js";
import { curves, legend } from "./chart.js";

const N = T.now;

/** A figure with its name and what stands below it; gives the node and what sets them. */
function figure(name) {
  const value = h("span", { class: "value" }, "–");
  const below = h("span", { class: "below" }, " ");
  return {
    node: h("div", { class: "figure" }, h("dt", {}, name), h("dd", {}, value, below)),
    set(text, under) {
      say(value, text);
      say(below, under || " ");
    },
  };
}

// Some parts may be down while the process is ready all the same: their words say so.
const isDown = (check) => !check.ok || check.detail.startsWith("down");

/** What is wrong, each as a sentence with a link to where it is mended. */
function wrongs(moment) {
  const list = [];
  for (const [name, check] of Object.entries(moment.checks)) {
    if (isDown(check)) list.push([`${N.part[name]?.[0] ?? name}: ${N.part[name]?.[2] ?? check.detail}`, null]);
  }
  const figures = moment.figures;
  if (!figures) return list.length ? list : [[N.waitForDatabase, null]];
  if (figures.dead) list.push([N.deadOpen(figures.dead), "#/dead"]);
  if (figures.alerts) list.push([N.alerts(figures.alerts), "#/alerts"]);
  if (figures.failing) list.push([N.failing(figures.failing), "#/webhooks"]);
  if (figures.in_kafka > 10000) list.push([N.inKafka(figures.in_kafka), null]);
  if (figures.in_log > 1000) list.push([N.inLog(figures.in_log), null]);
  if (figures.unannounced > 1000) list.push([N.unannounced(figures.unannounced), null]);
  return list;
}

export function now(view) {
  if (live.state === "refused") {
    add(view, empty(T.signIn.limited));
    return null;
  }
  const verdict = h("div", { class: "verdict", role: "status" });
  const figures = {
    rate: figure(N.rate),
    total: figure(N.total),
    lag: figure(N.lag),
    waiting: figure(N.waiting),
    live: figure(N.live),
    dead: figure(N.dead),
  };
  const chart = curves(N.chartLabel, N.curves);
  const parts = h("ul", { class: "parts" });
  add(
    view,
    verdict,
    h(
      "dl",
      { class: "figures" },
      Object.values(figures).map((one) => one.node),
    ),
    section(N.chart, legend(N.curves), chart.node),
    section(N.parts, parts),
  );
  let shownVerdict = null;
  let shownParts = null;

  const update = () => {
    const moment = live.moment;
    if (!moment) return;
    const list = wrongs(moment);
    const key = JSON.stringify(list);
    if (key !== shownVerdict) {
      shownVerdict = key;
      verdict.className = `verdict ${list.length ? "bad" : "good"}`;
      fill(
        verdict,
        list.length
          ? [
              h("h2", {}, N.wrong),
              h(
                "ul",
                {},
                list.map(([text, link]) =>
                  h(
                    "li",
                    {},
                    text,
                    " ",
                    link ? h("a", { href: link, "aria-label": `${N.see}: ${text}` }, N.see) : null,
                  ),
                ),
              ),
            ]
          : h("p", {}, N.well),
      );
    }
    const one = moment.figures;
    if (one) {
      figures.rate.set(rate(one.stored_per_second));
      figures.total.set(count(one.stored));
      const isQuiet = one.lag_median_seconds === null;
      figures.lag.set(
        isQuiet ? "–" : duration(Math.max(0, one.lag_median_seconds)),
        isQuiet ? N.quiet : N.most(duration(Math.max(0, one.lag_most_seconds))),
      );
      const toStore = one.in_log + (one.in_kafka ?? 0);
      figures.waiting.set(
        count(toStore + one.unprocessed + one.undelivered),
        N.waitingHelp(count(toStore), count(one.unprocessed), count(one.undelivered)),
      );
      figures.dead.set(count(one.dead), one.dead ? N.deadHelp : N.noDead);
    }
    figures.live.set(
      count(moment.live?.listeners),
      moment.live ? N.liveHelp(rate(moment.live.sent_per_second)) : N.noLive,
    );
    const states = JSON.stringify(moment.checks);
    if (states !== shownParts) {
      shownParts = states;
      fill(
        parts,
        Object.entries(moment.checks).map(([name, check]) => {
          const [label, well, ill] = N.part[name] ?? [name, "", ""];
          const down = isDown(check);
          return h(
            "li",
            { class: down ? "down" : "up" },
            h("span", { class: `dot ${down ? "refused" : "open"}`, "aria-hidden": "true" }),
            h("strong", {}, label),
            h("span", { class: "means" }, down ? ill : well),
            h("small", {}, check.detail),
          );
        }),
      );
    }
    const series = live.series;
    const rates = series.map((point) => point[1]);
    chart.show(
      [series.map((point) => point[0]), rates, series.map((point) => point[2])],
      N.summary(rate(one?.stored_per_second), rate(Math.max(0, ...rates.filter((number) => number !== null)))),
    );
  };
  update();
  const stop = listen((name) => (name === "moment" || name === "history") && update());
  return () => {
    stop();
    chart.end();
  };
}
