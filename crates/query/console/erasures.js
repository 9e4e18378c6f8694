// Users that were erased, and the receipts.

import { h, add } from "./dom.js";
import { T } from "./texts.js";
import { get, post } from "./api.js";
import { follow } from "./live.js";
import { badge, confirm, count, empty, field, form, loaded, moment, pairs, section } from "./widgets.js";

const E = T.erasures;
const PATH = "/api/v1/admin/erasures";

export function erasures(view) {
  const list = loaded(async () => {
    const all = (await get(PATH)).erasures;
    if (!all.length) return empty(E.none);
    return all.map(receipt);
  });
  const erase = form(
    h(
      "div",
      { class: "row" },
      field(E.user, { name: "user_id", required: true }),
      field(E.counts, { name: "counts", options: E.keep }),
    ),
    async ({ user_id, counts }) => {
      const wanted = { user_id: user_id.trim(), counts: counts === "true" };
      const would = await post(PATH, { ...wanted, dry_run: true });
      if (!(await confirm(E.title, h("p", {}, E.would(would, wanted)), E.yes))) return;
      await post(PATH, wanted);
      list.again();
    },
    { label: E.erase, kind: "danger" },
  );
  add(view, h("p", { class: "lead" }, E.lead), erase, section(E.list, list.node));
  return follow((figures) => figures.changes.erasures, list.again);
}

/** What was erased, and what is left to do elsewhere. */
function receipt(one) {
  const topics = (one.remains?.kafka ?? []).map((topic) => E.topic(topic.topic, topic.gone_by));
  return h(
    "details",
    { open: one.status === "running" },
    h("summary", {}, badge(one.status), " ", moment(one.accepted_until), " ", one.user_id ?? E.nobody),
    pairs([
      [E.id, h("code", { class: "break" }, one.id)],
      [E.tenant, one.tenant],
      [E.ended, one.ended_at ? moment(one.ended_at) : null],
      ...Object.entries(one.erased).map(([place, number]) => [place, count(number)]),
      [E.dropped, one.dropped || null],
      [
        E.kafka,
        topics.length
          ? h(
              "ul",
              { class: "links" },
              topics.map((text) => h("li", {}, text)),
            )
          : null,
      ],
      [E.hooks, one.remains?.subscriptions.join(", ")],
      [E.projections, one.remains?.projections.join(", ")],
      [E.problem, one.problem],
    ]),
  );
}
