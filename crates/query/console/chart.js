// Curves and bars over time.

import { h, say } from "./dom.js";

const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const COLOURS = ["--c1", "--c2", "--c3", "--c4", "--c5", "--c6"];

const pad = (number) => String(number).padStart(2, "0");
const clock = (plot, times) =>
  times.map((time) => {
    const at = new Date(time * 1000);
    return `${pad(at.getHours())}:${pad(at.getMinutes())}:${pad(at.getSeconds())}`;
  });
const days = (plot, times) => times.map((time) => new Date(time * 1000).toISOString().slice(5, 10));
const hours = (plot, times) => times.map((time) => new Date(time * 1000).toISOString().slice(5, 16).replace("T", " "));

function axes(times) {
  const axis = {
    stroke: style("--muted"),
    grid: { stroke: style("--line"), width: 1 },
    ticks: { stroke: style("--line"), width: 1 },
  };
  return [
    { ...axis, values: times, space: times === hours ? 110 : 80, size: 32 },
    { ...axis, size: 56 },
  ];
}

/** A chart in a node that follows its width and the colours of the system. `options(width)` describes it. */
function drawn(label, height, options, data) {
  const text = h("p", { class: "hidden" });
  const node = h("figure", { class: "chart", role: "img", "aria-label": label });
  const figure = h("div", {}, node, text);
  let plot = null;
  let now = data;
  const draw = () => {
    const width = Math.floor(node.clientWidth);
    if (!width || !node.isConnected) return;
    // The script that draws comes after the page's own.
    if (!window.uPlot) return addEventListener("load", draw, { once: true });
    plot?.destroy();
    plot = new window.uPlot(
      { width, height, padding: [12, 8, 0, 0], legend: { show: false }, ...options(width) },
      now,
      node,
    );
  };
  // In a frame of its own: what it changes is seen by the observer again.
  const resized = new ResizeObserver(() =>
    requestAnimationFrame(() => {
      const width = Math.floor(node.clientWidth);
      if (plot && width && node.isConnected && width !== plot.width) plot.setSize({ width, height });
      else if (!plot) draw();
    }),
  );
  resized.observe(node);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  dark.addEventListener("change", draw);
  return {
    node: figure,
    show(data, summary) {
      now = data;
      if (summary) say(text, summary);
      if (plot) plot.setData(data);
      else draw();
    },
    end() {
      resized.disconnect();
      dark.removeEventListener("change", draw);
      plot?.destroy();
    },
  };
}

/** Curves over the last minutes; `names` of the curves. */
export function curves(label, names) {
  const series = () => [
    {},
    ...names.map((name, index) => {
      const stroke = style(COLOURS[index]);
      return {
        label: name,
        stroke,
        width: 2,
        fill: index === 0 ? `${stroke}22` : undefined,
        spanGaps: false,
        points: { show: false },
      };
    }),
  ];
  const range = (plot, least, most) => [0, Math.max(1, most * 1.1)];
  return drawn(
    label,
    180,
    () => ({
      axes: axes(clock),
      series: series(),
      cursor: { y: false, drag: { setScale: false } },
      scales: { y: { range } },
    }),
    [[], ...names.map(() => [])],
  );
}

/** Bars, one on another: `data` is the times and a list of numbers for each name. A click says which. `marks` are
 * times that get a line. */
export function bars(label, names, data, pick, marks = []) {
  // Drawn from the highest sum down, so that each covers the one behind it.
  const stacked = [data[0]];
  data
    .slice(1)
    .forEach((numbers, index) => stacked.push(numbers.map((number, at) => number + (index ? stacked[index][at] : 0))));
  const shown = [stacked[0], ...stacked.slice(1).reverse()];
  const width = data[0].length > 1 ? data[0][1] - data[0][0] : 86400;
  const series = () => [
    {},
    ...names
      .map((name, index) => ({
        label: name,
        paths: window.uPlot.paths.bars({ size: [0.7, 60], align: 0 }),
        points: { show: false },
        stroke: style(COLOURS[index % 6]),
        fill: style(COLOURS[index % 6]),
        width: 0,
      }))
      .reverse(),
  ];
  return drawn(
    label,
    240,
    () => ({
      axes: axes(width < 86400 ? hours : days),
      series: series(),
      tzDate: (time) => window.uPlot.tzDate(new Date(time * 1000), "Etc/UTC"),
      cursor: { y: false, drag: { x: false, setScale: false } },
      scales: {
        x: { range: (plot, least, most) => [least - width / 2, most + width / 2] },
        y: { range: (plot, least, most) => [0, Math.max(1, most * 1.1)] },
      },
      hooks: {
        ready: [(plot) => plot.over.addEventListener("click", () => plot.cursor.idx !== null && pick(plot.cursor.idx))],
        draw: [(plot) => marks.forEach((time) => mark(plot, time - (time % width)))],
      },
    }),
    shown,
  );
}

/** A line across the chart. */
function mark(plot, time) {
  const x = Math.round(plot.valToPos(time, "x", true));
  const { left, top, width, height } = plot.bbox;
  if (x < left || x > left + width) return;
  plot.ctx.save();
  plot.ctx.strokeStyle = style("--bad");
  plot.ctx.setLineDash([4, 4]);
  plot.ctx.beginPath();
  plot.ctx.moveTo(x, top);
  plot.ctx.lineTo(x, top + height);
  plot.ctx.stroke();
  plot.ctx.restore();
}

/** The names of the curves with their colours. */
export function legend(names) {
  return h(
    "ul",
    { class: "legend" },
    names.map((name, index) => h("li", { class: `l${(index % 6) + 1}` }, name)),
  );
}
