// Whose events there are, for operators.

import { h, add } from "./dom.js";
import { T } from "./texts.js";
import { get } from "./api.js";
import { badge, count, empty, loaded, section, table } from "./widgets.js";

const N = T.tenants;

export function tenants(view) {
  const { node } = loaded(async () => {
    const list = (await get("/api/v1/admin/tenants")).tenants;
    if (!list.length) return empty(N.none, h("a", { href: "#/try" }, T.tail.tryIt));
    return table(
      T.pages.tenants,
      N.heads,
      list.map((one) => [
        h("span", { class: "clip" }, one.tenant),
        count(one.events),
        count(one.events_today),
        count(one.event_types),
        one.last_day ? `${one.first_day} – ${one.last_day}` : "–",
        one.dead_letters ? h("span", { class: "badge bad" }, count(one.dead_letters)) : badge("ok"),
        count(one.keys),
        h("span", { class: "wrap" }, one.readers.join(", ") || "–"),
      ]),
    );
  });
  add(
    view,
    h("p", { class: "lead" }, N.lead),
    node,
    section(N.create, h("p", {}, N.how), h("pre", { tabindex: 0 }, N.command)),
  );
  return null;
}
