// API keys: who may send, read, replay, manage.

import { h, add, fill } from "./dom.js";
import { T } from "./texts.js";
import { get, post } from "./api.js";
import { badge, button, confirm, empty, field, form, loaded, moment, section, table } from "./widgets.js";

const K = T.keys;
const PATH = "/api/v1/admin/keys";

export function keys(view) {
  const said = h("div", { role: "status" });
  const shown = (made) => fill(said, h("p", { class: "note" }, K.shown, " ", h("code", { class: "break" }, made.key)));
  const { node, again } = loaded(async () => {
    const list = (await get(PATH)).keys;
    if (!list.length) return empty(K.none);
    return table(
      T.pages.keys,
      K.heads,
      list.map((key) => [
        key.name,
        h("code", {}, key.hint),
        key.tenant,
        key.scopes.join(", "),
        moment(key.created_at),
        key.revoked_at ? badge("revoked") : key.expires_at ? moment(key.expires_at) : K.never,
        key.revoked_at ? "" : actions(key),
      ]),
    );
  });
  const actions = (key) => {
    const change = (verb, title, text, yes, danger, then) => async () => {
      if (!(await confirm(title, h("p", {}, text), yes, { danger }))) return;
      then(await post(`${PATH}/${key.id}/${verb}`, verb === "rotate" ? { overlap_seconds: 86400 } : {}));
      again();
    };
    return h(
      "span",
      { class: "actions" },
      button(K.rotate, change("rotate", K.rotateTitle, K.rotateText, K.rotateYes, false, shown), {
        kind: "small",
        "aria-label": `${K.rotate} ${key.name}`,
      }),
      button(
        K.revoke,
        change("revoke", K.revokeTitle, K.revokeText, K.revokeYes, true, () => {}),
        { kind: "small danger", "aria-label": `${K.revoke} ${key.name}` },
      ),
    );
  };
  const make = form(
    h(
      "div",
      { class: "row" },
      field(K.name, { name: "name", required: true }),
      field(K.kind, { name: "kind", options: K.kinds }),
      field(K.scopes, { name: "scopes", value: "write, read" }),
      field(K.days, { name: "days", type: "number" }),
    ),
    async ({ name, kind, scopes, days }) => {
      const words =
        kind === "write"
          ? ["write"]
          : scopes
              .split(",")
              .map((one) => one.trim())
              .filter(Boolean);
      shown(await post(PATH, { name, kind, scopes: words, ...(days ? { expires_in_days: Number(days) } : {}) }));
      again();
    },
    { label: K.make },
  );
  add(view, h("p", { class: "lead" }, K.lead), said, node, section(K.create, make));
  return null;
}
