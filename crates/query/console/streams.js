// One stream, version by version, and what projections make of it.

import { h, add, fill, say } from "./dom.js";
import { T } from "./texts.js";
import { at, get } from "./api.js";
import {
  badge,
  count,
  empty,
  eventLink,
  field,
  form,
  json,
  loaded,
  moment,
  problem,
  section,
  table,
} from "./widgets.js";

const S = T.streams;

export function streams(view, [id, version]) {
  add(
    view,
    h("p", { class: "lead" }, S.lead),
    form(
      h(
        "div",
        { class: "row" },
        field(S.label, { name: "id", value: id ?? "", placeholder: "order:7", required: true }),
      ),
      ({ id: wanted }) => {
        location.hash = `#/streams/${encodeURIComponent(wanted.trim())}`;
      },
      { label: S.open },
    ),
  );
  if (id) {
    const folded = h("div");
    add(view, loaded(() => stream(id, Number(version), folded)).node);
  } else add(view, section(S.projections, h("p", {}, S.projectionsLead), loaded(definitions).node));
  return null;
}

async function stream(id, wanted, folded) {
  const found = await get(at(["stream", id], { limit: 1000 }));
  if (!found.events.length) return empty(S.none);
  const list = found.events;
  const numbered = list.map((event, index) => event.stream_version ?? index + 1);
  const at_ = Math.max(0, numbered.indexOf(wanted) >= 0 ? numbered.indexOf(wanted) : list.length - 1);
  const slider = h("input", {
    type: "range",
    id: "version",
    min: 0,
    max: list.length - 1,
    step: 1,
    value: String(at_),
  });
  const place = h("output", { for: "version" });
  const shown = h("div", { class: "step" });
  const update = () => {
    const event = list[Number(slider.value)];
    const number = numbered[Number(slider.value)];
    say(place, S.at(number, found.version ?? list.length));
    slider.setAttribute("aria-valuetext", `${place.textContent}: ${event.event_type}`);
    fill(
      shown,
      h("h3", {}, eventLink(event.event_id, event.event_type), " ", badge(event.status)),
      h("p", {}, moment(event.timestamp)),
      h("p", { class: "lead" }, S.changed),
      json(event.data),
    );
  };
  // While it is dragged the event follows; the states are asked for where it is let go.
  let turn = 0;
  const fold = async () => {
    const mine = ++turn;
    const content = await states(id, list[Number(slider.value)].event_id).catch(problem);
    if (mine === turn) fill(folded, content);
  };
  slider.addEventListener("input", update);
  slider.addEventListener("change", fold);
  update();
  fold();
  return [
    section(
      S.steps,
      h("p", {}, found.implicit ? S.implicit : S.explicit),
      found.has_more ? h("p", { class: "note" }, S.more) : null,
      h("div", { class: "slider" }, h("label", { for: "version" }, S.slider), slider, place),
      h("div", { class: "columns" }, shown, h("div", {}, h("h3", {}, S.folded), folded)),
    ),
    section(
      S.versions(found.version ?? list.length),
      table(
        S.label,
        S.heads,
        list.map((event, index) => [
          numbered[index],
          moment(event.timestamp),
          eventLink(event.event_id, event.event_type),
          badge(event.status),
        ]),
      ),
    ),
  ];
}

/** The states that projections had of the entity of a stream after that event. */
async function states(id, until) {
  const [type, ...rest] = id.split(":");
  const entity = rest.join(":");
  const { definitions } = await get(at(["projections"]));
  const concerned = definitions.filter((one) => one.entity_type === type && one.state === "live");
  const found = await Promise.all(
    concerned.map((one) => get(at(["projections", type, entity], { name: one.name, until })).catch(() => null)),
  );
  const known = found.filter(Boolean);
  if (!known.length) return empty(S.noState);
  return known.map((one) => [
    h("h3", {}, S.state(one.projection_name, one.version)),
    one.error ? h("p", { class: "problem" }, one.error) : null,
    json(one.state),
  ]);
}

async function definitions() {
  const all = (await get(at(["projections"]))).definitions;
  if (!all.length) return empty(S.noProjections, h("a", { href: "/docs/" }, S.howTo));
  return table(
    S.projections,
    S.heads2,
    all.map((one) => [
      one.name,
      one.entity_type,
      one.event_types.join(", "),
      h("span", {}, badge(one.state), " ", one.problem ?? ""),
      count(one.entities),
    ]),
  );
}
