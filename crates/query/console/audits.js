// Everything worked out anew from the rows, and what differs.

import { h, add } from "./dom.js";
import { T } from "./texts.js";
import { get, post } from "./api.js";
import { follow } from "./live.js";
import { badge, confirm, count, empty, eventLink, field, form, loaded, moment, section, table } from "./widgets.js";

const A = T.audits;
const PATH = "/api/v1/admin/audits";

export function audits(view, [id]) {
  if (id) {
    const one = loaded(() => report(id));
    add(view, one.node);
    return follow((figures) => figures.changes.audits, one.again);
  }
  const list = loaded(async () => {
    const all = (await get(PATH)).audits;
    if (!all.length) return empty(A.none);
    return table(
      A.list,
      A.heads,
      all.map((one) => [
        h("a", { href: `#/audits/${one.audit_id}` }, moment(one.created_at)),
        badge(one.state),
        one.nightly ? A.nightly : A.asked,
        one.state === "running" ? one.phase : "",
        count(one.checked),
        count(one.findings),
        count(one.repaired),
        one.problem ?? "",
      ]),
    );
  });
  const begin = form(
    h(
      "div",
      { class: "row" },
      field(A.from, { name: "from", type: "date" }),
      field(A.to, { name: "to", type: "date" }),
      field(A.repair, { name: "repair", options: A.repairs }),
    ),
    async (given) => {
      const repair = given.repair === "true";
      if (repair && !(await confirm(A.title, h("p", {}, A.text), A.yes))) return;
      await post(PATH, { repair, ...(given.from ? { from: given.from } : {}), ...(given.to ? { to: given.to } : {}) });
      list.again();
    },
    { label: A.begin },
  );
  add(view, h("p", { class: "lead" }, A.lead), begin, list.node);
  return follow((figures) => figures.changes.audits, list.again);
}

async function report(id) {
  const one = await get(`${PATH}/${encodeURIComponent(id)}`);
  const summary = h("p", {}, badge(one.state), " ", moment(one.created_at), " ", A.summary(one));
  if (!one.differences.length) return [summary, empty(one.state === "running" ? A.running : A.well)];
  return [
    summary,
    section(
      A.differences,
      table(
        A.differences,
        A.differenceHeads,
        one.differences.map((of) => [
          of.kind,
          of.tenant_id ?? "",
          h("span", { class: "wrap" }, of.subject),
          of.expected,
          of.found,
          of.events.slice(0, 3).map((event) => [eventLink(event), " "]),
          of.repaired ? A.repaired : "",
        ]),
      ),
    ),
  ];
}
