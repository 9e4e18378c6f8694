// Send an event from here, and see where it goes.

import { h, add, fill } from "./dom.js";
import { T } from "./texts.js";
import { ask, EVENTS } from "./api.js";
import { connect, listen } from "./live.js";
import { badge, button, eventLink, field, form, moment, values } from "./widgets.js";

const Y = T.try;
const PATH = `${EVENTS}/create`;

function body(given) {
  let data;
  try {
    data = JSON.parse(given.data || "{}");
  } catch {
    data = null;
  }
  if (data === null || typeof data !== "object" || Array.isArray(data)) throw new Error(Y.notJson);
  const event = {
    event_type: given.event_type,
    user_id: given.user_id,
    aggregate_type: given.aggregate_type,
    aggregate_id: given.aggregate_id,
    data,
  };
  return Object.fromEntries(Object.entries(event).filter(([, value]) => value !== ""));
}

const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

export function tryIt(view) {
  const seen = new Map();
  const sent = h("ol", { class: "timeline" });
  const curl = async () => {
    const text = `curl -X POST ${quoted(location.origin + PATH)} -H 'Content-Type: application/json' -d ${quoted(JSON.stringify(body(values(node))))}`;
    fill(code, text);
    code.hidden = false;
    await navigator.clipboard?.writeText(text).catch(() => {});
  };
  const code = h("pre", { hidden: true, tabindex: 0, role: "group", "aria-label": "curl" });
  const node = form(
    [
      h(
        "div",
        { class: "row" },
        field(Y.type, { name: "event_type", value: "order.placed", required: true }),
        field(Y.user, { name: "user_id", value: "u-1" }),
        field(Y.aggregateType, { name: "aggregate_type", value: "order" }),
        field(Y.aggregateId, { name: "aggregate_id", value: "7" }),
      ),
      field(Y.data, { name: "data", rows: 4, value: '{"total": 49.5}' }),
    ],
    async (given) => {
      const event = { event_id: newId(), ...body(given) };
      const steps = { stored: h("span", {}, Y.waiting), seen: h("span", {}, Y.waiting) };
      seen.set(event.event_id, steps);
      let answer;
      try {
        answer = await ask("POST", `${PATH}?wait=stored`, event);
      } catch (error) {
        seen.delete(event.event_id);
        if (error.status === 404 || error.status === 405) error.message = Y.noGateway;
        throw error;
      }
      const isStored = answer.status !== "pending" || answer.stream_version !== null;
      fill(steps.stored, isStored ? badge("stored") : badge(answer.status));
      sent.prepend(
        h(
          "li",
          {},
          h("strong", {}, eventLink(answer.event_id, answer.event_type)),
          h(
            "div",
            {},
            moment(answer.created_at),
            h(
              "span",
              { class: "means" },
              `${Y.stored}: `,
              steps.stored,
              ` · ${Y.seen}: `,
              steps.seen,
              " · ",
              h("a", { href: `#/event/${answer.event_id}`, "data-id": answer.event_id }, Y.receipt),
            ),
          ),
        ),
      );
    },
    { label: Y.send, actions: button(Y.curl, curl, { kind: "quiet" }) },
  );
  add(view, h("p", { class: "lead" }, Y.lead), node, code, h("div", { role: "log", "aria-label": Y.sentAs }, sent));
  const stop = listen((name, data) => {
    const steps = name === "stored" && seen.get(data.event_id);
    if (!steps) return;
    fill(steps.stored, badge("stored"));
    fill(steps.seen, badge("live"), " ", moment(data.created_at, { date: false }));
  });
  connect({});
  return () => {
    stop();
    connect(null);
  };
}

/** A UUID of version 7, which is also there without a secure context. */
function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  let time = Date.now();
  for (let index = 5; index >= 0; index--) {
    bytes[index] = time % 256;
    time = Math.floor(time / 256);
  }
  bytes[6] = 0x70 | (bytes[6] & 15);
  bytes[8] = 0x80 | (bytes[8] & 63);
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}
