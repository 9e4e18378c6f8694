// Who is sent which events, and what failed.

import { h, add, fill } from "./dom.js";
import { T } from "./texts.js";
import { ask, at, get, post } from "./api.js";
import { follow } from "./live.js";
import {
  badge,
  button,
  confirm,
  empty,
  eventLink,
  field,
  form,
  json,
  loaded,
  moment,
  pairs,
  section,
  table,
} from "./widgets.js";

const W = T.webhooks;
const path = (...words) => at(["subscriptions", ...words]);

const changes = (figures) => [figures.changes.deliveries, figures.failing];

const stateOf = (one) =>
  one.enabled
    ? badge(one.failing_since ? "failing" : "enabled")
    : h("span", { class: "badge plain" }, W.off(one.disabled_reason));

/** When an attempt failed last, and why. */
const failure = (last) =>
  last ? h("span", {}, moment(last.at), h("br"), h("small", { class: "clip wide" }, last.error ?? last.status)) : "–";

export function webhooks(view, [id]) {
  if (id) return one(view, id);
  add(view, h("p", { class: "lead" }, W.lead));
  const { node, again } = loaded(async () => {
    const list = await get(path());
    if (!list.length) return empty(W.none);
    return table(
      T.pages.webhooks,
      W.heads,
      list.map((hook) => [
        h("a", { href: `#/webhooks/${hook.subscription_id}` }, hook.subscriber_name),
        hook.event_types.join(", ") || W.all,
        h("span", { class: "clip" }, hook.callback_url),
        stateOf(hook),
        moment(hook.failing_since),
        failure(hook.last_failure),
      ]),
    );
  });
  const make = form(
    h(
      "div",
      { class: "row" },
      field(W.name, { name: "name", required: true }),
      field(W.types, { name: "types", hint: W.typesHint }),
      field(W.url, { name: "url", type: "url", required: true, placeholder: "https://example.com/hook" }),
    ),
    async ({ name, types, url }, out) => {
      const event_types = types
        .split(",")
        .map((one) => one.trim())
        .filter(Boolean);
      const made = await post(path(), { subscriber_name: name, event_types, callback_url: url });
      fill(out, h("p", { class: "note" }, W.secret, " ", h("code", { class: "break" }, made.webhook_secret)));
      again();
    },
    { label: W.make },
  );
  add(view, node, section(W.create, make));
  return follow(changes, again);
}

function one(view, id) {
  const said = h("div", { role: "status" });
  let outcome = "";
  const hook = loaded(async () => {
    const found = await get(path(id));
    const change = (verb) => async () => {
      await post(path(id, verb));
      hook.again();
    };
    const test = async () => {
      const answer = await post(path(id, "test"));
      fill(said, h("p", { class: "note" }, W.tested(answer)));
    };
    const remove = async () => {
      if (!(await confirm(W.removeTitle, h("p", {}, W.removeText), W.removeYes))) return;
      await ask("DELETE", path(id));
      location.hash = "#/webhooks";
    };
    return [
      h("h2", {}, found.subscriber_name, " ", stateOf(found)),
      pairs([
        [W.url, h("span", { class: "break" }, found.callback_url)],
        [W.types, found.event_types.join(", ") || W.all],
        [W.heads[4], found.failing_since ? moment(found.failing_since) : null],
      ]),
      h(
        "div",
        { class: "actions" },
        button(found.enabled ? W.disable : W.enable, change(found.enabled ? "disable" : "enable")),
        button(W.test, test),
        button(W.remove, remove, { kind: "danger" }),
      ),
      found.filter ? json(found.filter) : null,
    ];
  });
  const attempts = loaded(async () => {
    const { deliveries } = await get(at(["subscriptions", id, "deliveries"], { outcome, limit: 100 }));
    if (!deliveries.length) return empty(W.noDeliveries);
    return table(
      W.deliveries,
      W.deliveryHeads,
      deliveries.map((sent) => [
        moment(sent.at),
        eventLink(sent.event_id, sent.event_type),
        sent.attempt,
        badge(sent.outcome),
        h("span", { class: "clip wide" }, [sent.status, sent.error ?? sent.response].filter(Boolean).join(" ")),
        `${sent.duration_ms} ms`,
        sent.outcome === "delivered"
          ? ""
          : button(
              W.resend,
              async () => {
                await post(path(id, "deliveries", sent.event_id, "resend"));
                fill(said, h("p", { class: "note" }, W.resent(1)));
              },
              { kind: "small", "aria-label": `${W.resend}: ${sent.event_type} ${sent.event_id}` },
            ),
      ]),
    );
  });
  const only = h(
    "button",
    {
      type: "button",
      "aria-pressed": "false",
      onclick: () => {
        outcome = outcome ? "" : "failed";
        only.setAttribute("aria-pressed", String(Boolean(outcome)));
        attempts.again();
      },
    },
    W.failures,
  );
  const all = button(W.resendAll, async () => {
    const since = new Date(Date.now() - 7 * 86400000).toISOString();
    if (!(await confirm(W.resendTitle, h("p", {}, W.resendText(since.slice(0, 10))), W.resendYes, { danger: false })))
      return;
    const { resent } = await post(path(id, "resend"), { since });
    fill(said, h("p", { class: "note" }, W.resent(resent)));
  });
  add(view, hook.node, said, section(W.deliveries, h("div", { class: "actions" }, only, all), attempts.node));
  return follow(changes, () => {
    hook.again();
    attempts.again();
  });
}
