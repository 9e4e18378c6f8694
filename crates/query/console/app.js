// The page: sign-in, navigation, and one page after another by the hash of the address.

import { h, add, fill, say } from "./dom.js";
import { T } from "./texts.js";
import { isSignedIn, onRefused, signIn } from "./api.js";
import { connect, listen, live } from "./live.js";
import { field, form } from "./widgets.js";
import { now } from "./now.js";
import { tail } from "./tail.js";
import { event, search } from "./event.js";
import { dead } from "./dead.js";
import { webhooks } from "./webhooks.js";
import { streams } from "./streams.js";
import { flow } from "./flow.js";
import { replays } from "./replays.js";
import { processors } from "./processors.js";
import { alerts } from "./alerts.js";
import { audits } from "./audits.js";
import { report } from "./report.js";
import { keys } from "./keys.js";
import { erasures } from "./erasures.js";
import { tenants } from "./tenants.js";
import { tryIt } from "./try.js";

// Name, page, the scope it needs (or `operator`); without one everybody who reads sees it.
const PAGES = [
  ["now", now, "read"],
  ["tail", tail, "read"],
  ["flow", flow, "read"],
  ["streams", streams],
  ["alerts", alerts, "read"],
  ["dead", dead, "admin"],
  ["webhooks", webhooks, "admin"],
  ["processors", processors, "admin"],
  ["replays", replays, "replay"],
  ["audits", audits, "operator"],
  ["report", report, "read"],
  ["erasures", erasures, "admin"],
  ["keys", keys, "admin"],
  ["tenants", tenants, "operator"],
  ["try", tryIt, "write"],
];
const OTHERS = { event, search };

const main = h("main", { id: "main", tabindex: -1 });
const nav = h("nav", { "aria-label": T.nav });
const dot = h("span", { class: "dot", "aria-hidden": "true" });
const state = h("span", { role: "status" });
const out = h(
  "button",
  { type: "button", class: "quiet", hidden: true, onclick: () => location.reload() },
  T.signIn.out,
);
let leave = null;
let isFirst = true;

function may(scope) {
  const who = live.hello;
  if (scope === "operator") return !who || who.is_operator;
  return !who || !scope || who.scopes.includes(scope);
}

function menu() {
  const [current] = route();
  const shown = PAGES.filter(([, , scope]) => may(scope));
  fill(
    nav,
    shown.map(([name]) =>
      h(
        "a",
        { href: `#/${name}`, "aria-current": name === current ? "page" : null },
        T.pages[name],
        name === "dead" && live.moment?.figures?.dead ? h("span", { class: "number" }, live.moment.figures.dead) : null,
      ),
    ),
  );
  // On a phone they stand in a row that scrolls.
  const link = nav.querySelector("[aria-current]");
  if (link) nav.scrollLeft = link.offsetLeft - nav.clientWidth / 2 + link.clientWidth / 2;
}

function route() {
  const words = location.hash
    .replace(/^#\/?/, "")
    .split("/")
    .map((word) => {
      try {
        return decodeURIComponent(word);
      } catch {
        return word;
      }
    });
  return [words[0] || "now", words.slice(1)];
}

function show() {
  leave?.();
  const [name, rest] = route();
  const page = OTHERS[name] ?? PAGES.find(([known]) => known === name)?.[1];
  const title = T.pages[name] ?? T.missing;
  document.title = `${title} · ${T.name}`;
  const heading = h("h1", { tabindex: -1 }, title);
  const view = h("div", { class: "view", id: `page-${name}` });
  fill(main, heading, view);
  leave = page ? page(view, rest, heading) : (add(view, h("p", {}, T.missing)), null);
  menu();
  if (!isFirst) {
    heading.focus({ preventScroll: true });
    scrollTo(0, 0);
  }
  isFirst = false;
}

function askWho(message) {
  leave?.();
  leave = null;
  document.title = `${T.signIn.title} · ${T.name}`;
  nav.replaceChildren();
  fill(
    main,
    h("h1", {}, T.signIn.title),
    h(
      "div",
      { class: "narrow" },
      h("p", {}, T.signIn.text),
      message ? h("div", { class: "problem", role: "alert" }, h("p", {}, message)) : null,
      form(
        field(T.signIn.label, { name: "key", type: "password", required: true }),
        async ({ key }) => {
          signIn(key.trim());
          connect();
        },
        { label: T.signIn.go },
      ),
    ),
  );
  main.querySelector("input").focus();
}

function header() {
  const text = h("input", {
    type: "search",
    id: "find",
    placeholder: T.search.short,
    autocomplete: "off",
    spellcheck: "false",
  });
  const find = h(
    "form",
    {
      role: "search",
      onsubmit: (event) => {
        event.preventDefault();
        const wanted = text.value.trim();
        if (wanted) location.hash = `#/search/${encodeURIComponent(wanted)}`;
      },
    },
    h("label", { for: "find", class: "hidden" }, T.search.label),
    text,
    h("button", { class: "quiet" }, T.search.go),
  );
  return h(
    "header",
    {},
    h("a", { href: "#/now", class: "brand" }, h("img", { src: "icon.svg", alt: "", width: 22, height: 22 }), T.name),
    find,
    h("div", { class: "state" }, dot, state, out),
  );
}

let shown = null;
/** What to show once it is known who is asking: the page, or the sign-in. */
function settle() {
  dot.className = `dot ${live.state}`;
  say(state, T.state[live.state]);
  out.hidden = !isSignedIn();
  if (live.state === "refused" && live.status === 401) {
    askWho(isSignedIn() ? T.signIn.wrong : "");
    signIn(null);
    shown = "sign-in";
  } else if (live.state !== "connecting" && shown !== "page") {
    shown = "page";
    show();
  }
}

onRefused(() => connect());
listen((name) => {
  if (name === "state") settle();
  if (name === "hello") menu();
  if (name === "moment") {
    const number = live.moment.figures?.dead || "";
    const mark = nav.querySelector(".number");
    if (String(mark?.textContent ?? "") !== String(number)) menu();
  }
});
addEventListener("hashchange", () => shown === "page" && show());
add(
  document.getElementById("app"),
  h(
    "a",
    {
      class: "skip",
      href: "#main",
      onclick: (event) => {
        event.preventDefault();
        main.focus();
      },
    },
    T.skip,
  ),
  header(),
  h("div", { class: "body" }, nav, main),
);
settle();
connect();
