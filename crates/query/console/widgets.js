// What several pages are made of.

import { h, add, fill } from "./dom.js";
import { T } from "./texts.js";

const pad = (number, digits = 2) => String(number).padStart(digits, "0");

/** A time in the reader's zone, with UTC beside it where that is another. */
export function moment(text, { date = true } = {}) {
  if (!text) return "–";
  const at = new Date(text);
  const clock = (hour) =>
    `${pad(hour)}:${pad(at.getMinutes())}:${pad(at.getSeconds())}.${pad(at.getMilliseconds(), 3)}`;
  const day = `${at.getFullYear()}-${pad(at.getMonth() + 1)}-${pad(at.getDate())} `;
  const isUtc = at.getTimezoneOffset() === 0;
  const utc = at.toISOString();
  return h(
    "time",
    { datetime: text, title: utc },
    (date ? day : "") + clock(at.getHours()),
    isUtc ? h("small", {}, " UTC") : h("small", {}, ` ${utc.slice(11, 19)} UTC`),
  );
}

/** How long something took. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 0.0005) return "0 ms";
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 120) return `${seconds.toFixed(1)} s`;
  return seconds < 7200 ? `${Math.round(seconds / 60)} min` : `${Math.round(seconds / 3600)} h`;
}

const whole = new Intl.NumberFormat("en");
const part = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
export const count = (number) => (number === null || number === undefined ? "–" : whole.format(number));
export const rate = (number) => (number === null || number === undefined ? "–" : part.format(number));

/** A word with a colour: good, bad, busy, or none. */
export function badge(word) {
  const good = ["processed", "success", "delivered", "live", "completed", "enabled", "ok", "stored"];
  const bad = ["failed", "open", "failing", "gone", "revoked", "refused"];
  const busy = ["pending", "processing", "retry", "running", "building", "paused"];
  const kind = good.includes(word) ? "good" : bad.includes(word) ? "bad" : busy.includes(word) ? "busy" : "plain";
  return h("span", { class: `badge ${kind}` }, word);
}

/** JSON, with line breaks. */
export function json(value) {
  return h("pre", { class: "json", tabindex: 0, role: "group", "aria-label": "JSON" }, JSON.stringify(value, null, 2));
}

/** A table that scrolls within itself on a phone. `rows`: lists of cells. */
export function table(caption, heads, rows) {
  const head = h(
    "thead",
    {},
    h(
      "tr",
      {},
      heads.map((name) => h("th", { scope: "col" }, name || h("span", { class: "hidden" }, T.actions))),
    ),
  );
  const body = h(
    "tbody",
    {},
    rows.map((row) =>
      row instanceof Node
        ? row
        : h(
            "tr",
            {},
            row.map((cell) => h("td", {}, cell)),
          ),
    ),
  );
  return h(
    "div",
    { class: "scroll", tabindex: 0, role: "group", "aria-label": caption },
    h("table", {}, h("caption", { class: "hidden" }, caption), head, body),
  );
}

/** Pairs of a name and a value. */
export function pairs(list) {
  return h(
    "dl",
    { class: "pairs" },
    list
      .filter(([, value]) => value !== null && value !== undefined && value !== "")
      .map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))),
  );
}

/** What there is to do where there is nothing to see. */
export function empty(text, ...more) {
  return h("div", { class: "empty" }, h("p", {}, text), more);
}

/** What went wrong, read out. */
export function problem(error) {
  const errors = error.body?.errors ?? [];
  const isShort = errors.length < 2;
  return h(
    "div",
    { class: "problem", role: "alert" },
    h("p", {}, error.status === 403 ? T.problem.forbidden : error.message),
    isShort
      ? null
      : h(
          "ul",
          {},
          errors.map((one) => h("li", {}, `${one.path}: ${one.message}`)),
        ),
  );
}

/** A button that does something, is off meanwhile, and shows what went wrong beside it. */
export function button(text, act, { kind = "", ...more } = {}) {
  const node = h(
    "button",
    {
      type: "button",
      class: kind,
      ...more,
      onclick: async () => {
        node.disabled = true;
        node.parentNode.querySelector(":scope > .problem")?.remove();
        try {
          await act();
        } catch (error) {
          node.after(problem(error));
        }
        node.disabled = false;
      },
    },
    text,
  );
  return node;
}

let fields = 0;

/** A labelled input; `options` makes it a choice, `rows` a text of several lines. */
export function field(
  label,
  { name, value = "", type = "text", options, rows, hint, placeholder, required, list } = {},
) {
  const id = `f${++fields}`;
  const common = { id, name, required, placeholder, "aria-describedby": hint ? `${id}h` : null };
  const input = options
    ? h(
        "select",
        common,
        options.map(([word, shown]) => h("option", { value: word }, shown)),
      )
    : rows
      ? h("textarea", { ...common, rows, spellcheck: "false" })
      : h("input", { ...common, type, list, autocomplete: "off", spellcheck: "false" });
  if (value !== "") input.value = value;
  return h(
    "div",
    { class: "field" },
    h("label", { for: id }, label),
    input,
    hint ? h("small", { id: `${id}h` }, hint) : null,
  );
}

/** A form; `act(values)` gets the values by name. What goes wrong is shown in it. */
export function form(children, act, { label = T.send, actions = [], kind = "primary" } = {}) {
  const out = h("div", { class: "out" });
  const submit = h("button", { class: kind }, label);
  const node = h(
    "form",
    {
      onsubmit: async (event) => {
        event.preventDefault();
        submit.disabled = true;
        try {
          await act(values(node), out);
        } catch (error) {
          fill(out, problem(error));
        }
        submit.disabled = false;
      },
    },
    children,
    h("div", { class: "actions" }, submit, actions),
    out,
  );
  return node;
}

/** The values of a form by name. */
export function values(node) {
  return Object.fromEntries(new FormData(node));
}

/** Asks before something is done that cannot be undone; `what` says what it will do. */
export function confirm(title, what, yes, { danger = true } = {}) {
  return new Promise((resolve) => {
    const dialog = h(
      "dialog",
      {
        "aria-labelledby": "confirm-title",
        onclose: () => {
          dialog.remove();
          resolve(dialog.returnValue === "yes");
        },
      },
      h("h2", { id: "confirm-title" }, title),
      what,
      h(
        "form",
        { method: "dialog", class: "actions" },
        h("button", { value: "no", autofocus: true }, T.cancel),
        h("button", { value: "yes", class: danger ? "danger" : "primary" }, yes),
      ),
    );
    document.body.append(dialog);
    dialog.showModal();
  });
}

/** Something that is shown once it is there; `load()` gives nodes. Gives the node and what loads it anew. */
export function loaded(load) {
  const node = h("div", { class: "loaded", "aria-busy": "true" });
  let turn = 0;
  const again = async () => {
    const mine = ++turn;
    try {
      const content = await load();
      if (mine === turn) fill(node, content);
    } catch (error) {
      if (mine === turn) fill(node, problem(error));
    }
    if (mine === turn) node.removeAttribute("aria-busy");
  };
  again();
  return { node, again };
}

/** A link to an event, with the beginning of its id. */
export function eventLink(id, text) {
  return h(
    "a",
    { href: `#/event/${encodeURIComponent(id)}`, class: "id", title: id },
    text ?? `${id.slice(0, 8)}…${id.slice(-4)}`,
  );
}

/** Events as a table. */
export function events(caption, list) {
  return table(
    caption,
    T.events.heads,
    list.map((event) => [
      moment(event.timestamp),
      eventLink(event.event_id, event.event_type),
      h("span", { class: "clip" }, event.user_id ?? "–"),
      event.event_source,
      badge(event.status),
      event.stream_version ?? "",
    ]),
  );
}

/** Appends a heading and what belongs to it. */
export function section(title, ...children) {
  return add(h("section", {}), h("h2", {}, title), children);
}
