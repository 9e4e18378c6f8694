// One event: what happened to it, its JSON, its stream before and after. And how it is found.

import { h, add } from "./dom.js";
import { T } from "./texts.js";
import { at, get, post } from "./api.js";
import { badge, button, duration, empty, eventLink, events, json, loaded, moment, section, table } from "./widgets.js";

const E = T.event;
const F = T.find;
/** Events that a text is looked for in. */
const RECENT = 500;
const AROUND = 3;

/** One line of the timeline. */
function step(name, when, text, kind = "") {
  return h(
    "li",
    { class: kind },
    h("strong", {}, name),
    h("div", {}, when ? moment(when) : null, text ? h("span", { class: "means" }, text) : null),
  );
}

function timeline(event, receipt, deliveries) {
  const steps = [];
  const put = (...parts) => steps.push(step(...parts));
  const seconds = (from, to) => duration(Math.max(0, (Date.parse(to) - Date.parse(from)) / 1000));
  put(E.happened, event.timestamp, E.byClient);
  put(E.accepted, receipt.accepted_at, { gateway: E.byGateway, log: E.byLog }[receipt.door] ?? E.unknownDoor);
  put(E.logged, null, receipt.record ? E.place(receipt.record) : E.noPlace);
  put(E.stored, receipt.stored_at, E.after(seconds(receipt.accepted_at, receipt.stored_at)), "good");
  if (receipt.stream_id) {
    put(
      E.inStream,
      null,
      h(
        "span",
        {},
        h("a", { href: `#/streams/${encodeURIComponent(receipt.stream_id)}` }, receipt.stream_id),
        ", ",
        receipt.stream_version === null ? E.noVersion : E.version(receipt.stream_version),
      ),
    );
  }
  put(E.counted, null, receipt.counted ? E.countedAs(receipt.counted) : E.notCounted);
  for (const run of receipt.processors) {
    put(
      `${E.handled} ${run.processor_name}`,
      run.processed_at,
      h("span", {}, badge(run.status), ` ${E.attempts(run.attempts)} `, run.message ?? ""),
      run.status === "failed" ? "bad" : "",
    );
  }
  put(E.announced, null, receipt.announced.waits ? E.waits : E.sent);
  put(E.live, null, receipt.live.user_id === null ? E.notLive : E.toUser(receipt.live.user_id));
  for (const one of [...deliveries].reverse()) {
    put(
      E.delivery,
      one.at,
      h(
        "span",
        {},
        badge(one.outcome),
        " ",
        one.status === null ? (one.error ?? E.notAnswered) : E.deliveryAt(one.status),
      ),
      one.outcome === "failed" ? "bad" : "",
    );
  }
  if (receipt.duplicates.dropped)
    put(E.duplicates, receipt.duplicates.places[0]?.at, E.dropped(receipt.duplicates.dropped));
  for (const letter of receipt.dead_letters) {
    put(
      E.letter,
      letter.created_at,
      h("a", { href: `#/dead/one/${letter.id}` }, `${letter.reason}: ${letter.detail}`),
      "bad",
    );
  }
  return h("ol", { class: "timeline" }, steps);
}

/** The events of its stream around it. */
async function around(event, receipt) {
  if (!receipt.stream_id) return empty(E.none);
  if (receipt.stream_version !== null) {
    const from = Math.max(1, receipt.stream_version - AROUND);
    const stream = await get(at(["stream", receipt.stream_id], { from_version: from, limit: 2 * AROUND + 1 }));
    return mark(events(E.around, stream.events), stream.events, event);
  }
  const before = await post(at(["query"]), {
    user_id: event.user_id,
    end_time: event.timestamp,
    limit: AROUND + 1,
    count: false,
  });
  const since = await post(at(["query"]), {
    user_id: event.user_id,
    start_time: event.timestamp,
    limit: 100,
    count: false,
  });
  const all = new Map([...since.events.slice(-AROUND - 1), ...before.events].map((one) => [one.event_id, one]));
  const list = [...all.values()].sort((a, b) => a.timestamp.localeCompare(b.timestamp));
  return mark(events(E.around, list), list, event);
}

function mark(node, list, event) {
  const row = node.querySelectorAll("tbody tr")[list.findIndex((one) => one.event_id === event.event_id)];
  row?.setAttribute("aria-current", "true");
  return node;
}

export function event(view, [id], heading) {
  const { node } = loaded(async () => {
    let found;
    try {
      found = await get(at([id]));
    } catch (error) {
      if (error.status === 404) return nowhere(id);
      throw error;
    }
    const receipt = await get(at([id, "receipt"]));
    const { deliveries } = await get(at([id, "deliveries"], { limit: 20 })).catch(() => ({ deliveries: [] }));
    heading.replaceChildren(found.event_type);
    const stream = loaded(() => around(found, receipt));
    return [
      h(
        "p",
        { class: "lead" },
        h("code", { class: "break" }, found.event_id),
        " ",
        badge(found.status),
        " ",
        button(E.copy, async () => navigator.clipboard?.writeText(location.href), { kind: "quiet" }),
      ),
      found.user_id
        ? h(
            "p",
            {},
            `${E.user}: `,
            h("a", { class: "break", href: `#/search/${encodeURIComponent(found.user_id)}` }, found.user_id),
          )
        : null,
      h(
        "div",
        { class: "columns" },
        section(E.receipt, timeline(found, receipt, deliveries)),
        section(E.json, json(found)),
      ),
      section(E.around, stream.node),
    ];
  });
  add(view, node);
  return null;
}

/** How many characters differ, up to 4. */
function distance(a, b) {
  if (Math.abs(a.length - b.length) > 3) return 4;
  let row = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++)
      next[j] = Math.min(row[j] + 1, next[j - 1] + 1, row[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1));
    row = next;
  }
  return row[b.length];
}

/** Events whose id differs from that one by a typing error. */
async function similar(id, recent) {
  const wanted = id.toLowerCase();
  const list = [...recent];
  // The first digits of an id that we made are its time.
  const digits = wanted.replace(/[^0-9a-f]/g, "").slice(0, 12);
  const time = parseInt(digits, 16);
  if (wanted.length > 30 && digits.startsWith("01") && time < 4e12) {
    const near = (seconds) => new Date(time + seconds * 1000).toISOString();
    const found = await post(at(["query"]), { start_time: near(-10), end_time: near(10), limit: 1000, count: false });
    list.push(...found.events);
  }
  const fits = new Map();
  for (const one of list) {
    const names = [one.event_id, one.client_event_id].filter(Boolean);
    const least = Math.min(...names.map((name) => distance(wanted, name.toLowerCase())));
    if (least > 0 && least <= Math.min(3, wanted.length / 4)) fits.set(one.event_id, [least, one]);
  }
  return [...fits.values()]
    .sort(([a], [b]) => a - b)
    .slice(0, 10)
    .map(([, one]) => one);
}

const recently = async () => (await get(at(["history"], { limit: RECENT }))).events;

/** What can be said of an event that is not stored. */
async function nowhere(id) {
  const receipt = await get(at([id, "receipt"])).catch((error) => error.body ?? {});
  const near = await similar(id, await recently());
  const letters = receipt.dead_letters ?? [];
  const positions = receipt.positions ?? [];
  return [
    empty(F.none(id)),
    near.length
      ? section(
          F.similar,
          h("p", {}, F.similarLead),
          h(
            "ul",
            { class: "links" },
            near.map((one) =>
              h(
                "li",
                {},
                eventLink(one.event_id, one.client_event_id ?? one.event_id),
                ` ${one.event_type} `,
                moment(one.timestamp),
              ),
            ),
          ),
        )
      : null,
    letters.length
      ? section(
          F.letters,
          h(
            "ul",
            { class: "links" },
            letters.map((one) =>
              h(
                "li",
                {},
                h("a", { href: `#/dead/one/${one.id}` }, F.openLetter(one.id)),
                ` ${one.reason}: ${one.detail}`,
              ),
            ),
          ),
        )
      : null,
    positions.length
      ? section(
          F.positions,
          h("p", {}, F.positionsLead),
          table(
            F.positions,
            F.positionHeads,
            positions.map((one) => [
              one.next.topic ?? "PostgreSQL",
              one.next.partition,
              one.next.offset,
              moment(one.updated_at),
            ]),
          ),
        )
      : null,
  ];
}

export function search(view, [text = ""]) {
  add(view, h("p", { class: "lead" }, F.lead));
  if (!text) return null;
  const { node } = loaded(async () => {
    try {
      const found = await get(at([text]));
      location.replace(`#/event/${encodeURIComponent(found.event_id)}`);
      return [];
    } catch (error) {
      if (error.status !== 404) throw error;
    }
    const [ofUser, recent] = await Promise.all([
      get(at(["user", text], { format: "full", limit: 50 })).catch(() => ({ events: [] })),
      recently(),
    ]);
    const low = text.toLowerCase();
    // Where search is on, all events are looked through.
    const hits = await get(at(["search"], { q: text, limit: 50 })).catch(() => null);
    const has = (one) => JSON.stringify(one).toLowerCase().includes(low);
    const isFound = Boolean(hits?.events?.length);
    const having = isFound ? hits.events : recent.filter(has).slice(0, 50);
    const title = isFound ? F.found(text) : F.withText(text);
    const parts = [];
    if (ofUser.events.length) parts.push(section(F.ofUser(text), events(F.ofUser(text), ofUser.events)));
    if (having.length) parts.push(section(title, events(title, having)));
    return parts.length ? parts : nowhere(text);
  });
  add(view, node);
  return null;
}
