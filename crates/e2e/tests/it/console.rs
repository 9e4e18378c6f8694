//! The console in a real browser: what happens is seen, and what went wrong is mended.

use serde_json::{Value, json};
use testkit::{Browser, Edge, LIMIT, Receiver, Reply, Tab, eventually};

use crate::SHAPE;
use crate::direct::{Record, produce};
use crate::sender::client;
use crate::system::System;
use crate::world::{BACKEND, Shape, World, beside_others};

/// In every page before its own scripts: hands and eyes for the test, and what went wrong.
const HELP: &str = r#"
window.wrong = [];
addEventListener("securitypolicyviolation", (e) => wrong.push(`policy: ${e.violatedDirective} ${e.blockedURI}`));
addEventListener("error", (e) => wrong.push(`error: ${e.message}`));
addEventListener("unhandledrejection", (e) => wrong.push(`rejection: ${e.reason}`));
const all = (query) => [...document.querySelectorAll(query)];
window.sees = (text) => document.body.innerText.includes(text);
window.click = (text) => {
  const open = document.querySelector("dialog[open]");
  const found = all("button, a, summary").filter((one) => !open || open.contains(one))
    .find((one) => one.textContent.trim() === text && !one.disabled);
  found?.click();
  return Boolean(found);
};
window.put = (label, value) => {
  const found = all("label").find((one) => one.textContent === label);
  const input = found && document.getElementById(found.htmlFor);
  if (!input) return false;
  input.value = value;
  input.dispatchEvent(new Event("input", { bubbles: true }));
  return true;
};
window.find = (text) => {
  document.getElementById("find").value = text;
  document.querySelector("header form").requestSubmit();
  return true;
};
"#;

/// A tab with the console of a running system.
pub(crate) struct Console {
    pub(crate) tab: Tab,
    _browser: Browser,
}

impl Console {
    pub(crate) async fn open(base: String) -> Self {
        let browser = Browser::start();
        let tab = browser.open("about:blank").await;
        tab.always(HELP).await;
        tab.goto(&format!("{base}/console/")).await;
        Self {
            tab,
            _browser: browser,
        }
    }

    pub(crate) async fn evaluate(&self, script: &str) -> Value {
        let value = self.tab.evaluate(script).await;
        value.unwrap_or_else(|error| panic!("{script}: {error}"))
    }

    /// Waits until a script is true; it may be tried many times.
    pub(crate) async fn until(&self, script: &str) {
        eventually(script, LIMIT, || async {
            if self.tab.evaluate(script).await == Ok(json!(true)) {
                return Ok(());
            }
            Err(self.tab.evaluate("document.body.innerText").await)
        })
        .await;
    }

    pub(crate) async fn sees(&self, text: &str) {
        self.until(&format!("sees({})", json!(text))).await;
    }

    pub(crate) async fn click(&self, text: &str) {
        self.until(&format!("click({})", json!(text))).await;
    }

    pub(crate) async fn put(&self, label: &str, value: &str) {
        let script = format!("put({}, {})", json!(label), json!(value));
        self.until(&script).await;
    }

    /// Goes to a page by its address, as one who follows a link.
    pub(crate) async fn page(&self, hash: &str) {
        let script = format!("location.hash = {}; true", json!(format!("#/{hash}")));
        self.evaluate(&script).await;
    }

    /// Goes to a page until a text is there, which nobody tells the page of.
    pub(crate) async fn comes_to_see(&self, hash: &str, text: &str) {
        eventually(text, LIMIT, || async {
            self.page("now").await;
            self.page(hash).await;
            self.until("document.querySelector('main [aria-busy]') === null")
                .await;
            let seen = self.evaluate(&format!("sees({})", json!(text))).await;
            (seen == json!(true)).then_some(()).ok_or(seen)
        })
        .await;
    }

    /// The browser refused nothing, and no script failed.
    pub(crate) async fn assert_well(&self) {
        assert_eq!(self.evaluate("wrong").await, json!([]));
    }
}

/// The address that serves everything, as long as the edge lives.
pub(crate) async fn door(system: &System) -> (String, Option<Edge>) {
    match SHAPE {
        Shape::AllInOne => (system.query_url(""), None),
        Shape::Split => {
            let edge = Edge::start(system.ingest().port(), system.query().port()).await;
            (edge.url(""), Some(edge))
        }
    }
}

pub(crate) async fn send(base: &str, event: &Value) -> String {
    let url = format!("{base}/api/v1/events/create?wait=stored");
    let answer = client().post(url).json(event).send().await.unwrap();
    assert_eq!(answer.status(), 201);
    let answer: Value = answer.json().await.unwrap();
    answer["event_id"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_is_seen_and_one_event_is_followed_to_its_receipt() {
    let _turn = beside_others().await;
    let world = World::shared().await;
    let mut system = world.system().start().await;
    let (base, _edge) = door(&system).await;
    let console = Console::open(base.clone()).await;
    console.sees("Now").await;
    let order = |n: usize| {
        json!({"event_type": "order.placed", "user_id": "u-1", "aggregate_type": "order",
            "aggregate_id": "7", "data": {"n": n, "note": format!("parcel {n}")}})
    };
    let url = format!("{base}/api/v1/events/projections");
    let counted = json!({"name": "counted", "entity_type": "order", "fold": [{"rule": "count"}]});
    let made = client().post(url).json(&counted).send().await.unwrap();
    assert_eq!(made.status(), 201);
    let mut ids = Vec::new();
    for n in 0..5 {
        ids.push(send(&base, &order(n)).await);
    }
    // The figure of all that is stored.
    let stored = "[...document.querySelectorAll('.figure')].some((one) => one.innerText.startsWith('Stored in all') && one.querySelector('.value').textContent === '5')";
    console.until(stored).await;
    console.sees("PostgreSQL").await;

    // As they come, those that are wanted.
    console.click("Live tail").await;
    console.sees("parcel 4").await;
    console.put("Type pattern", "order.*").await;
    console.put("Text", "parcel 6").await;
    console.click("Watch").await;
    console.until("location.hash.includes('parcel')").await;
    ids.push(send(&base, &order(5)).await);
    ids.push(send(&base, &order(6)).await);
    console.sees("parcel 6").await;
    console.until("!sees('parcel 5')").await;

    // An id with two wrong letters leads to the right one, and that to the receipt.
    let last = &ids[6];
    let wrong = format!("{}zz", &last[..last.len() - 2]);
    console.evaluate(&format!("find({})", json!(wrong))).await;
    console.sees("Did you mean").await;
    console.click(last).await;
    console.sees("over HTTP, by the gateway").await;
    console.sees("version 7").await;
    console.until("location.hash.startsWith('#/event/')").await;
    // The neighbours in its stream, and the stream.
    console
        .until("document.querySelectorAll('tr[aria-current]').length === 1")
        .await;
    console.click("order:7").await;
    console.sees("Version 7 of 7").await;
    let slide = "(() => { const s = document.getElementById('version'); if (!s) return false; s.value = 2; s.dispatchEvent(new Event('input')); return sees('Version 3 of 7') && sees('parcel 2'); })()";
    console.until(slide).await;
    console
        .evaluate("document.getElementById('version').dispatchEvent(new Event('change'))")
        .await;
    console.sees("counted: the state after 3 events").await;
    // By user, and by a text.
    console.evaluate("find('u-1')").await;
    console.sees("What “u-1” did").await;
    console.evaluate("find('parcel 3')").await;
    console.sees("with “parcel 3”").await;

    // How much.
    console.page("flow").await;
    console
        .until("[...document.querySelectorAll('td')].some((one) => one.textContent === '7')")
        .await;
    console
        .until("document.querySelector('.chart canvas') !== null")
        .await;

    // From the page itself.
    console.page("try").await;
    console
        .put("Data (JSON object)", r#"{"from": "the page"}"#)
        .await;
    console.click("Send it").await;
    console
        .until("document.querySelectorAll('[role=log] .badge.good').length === 2")
        .await;
    console.click("Copy as curl").await;
    console.sees("curl -X POST").await;
    console.click("Its receipt").await;
    console.sees("the page").await;
    console.assert_well().await;
    system.assert_well();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_went_wrong_is_mended_from_the_page() {
    let _turn = beside_others().await;
    let world = World::shared().await;
    let system = world
        .system()
        .env("WEBHOOK_ALLOWED_NETWORKS", "127.0.0.0/8");
    let mut system = system.env("PROCESSING_INTERVAL", 1).start().await;
    let (base, _edge) = door(&system).await;
    let console = Console::open(base.clone()).await;

    // A record with a comma too many.
    let bad = r#"{"event_type": "mended.by_hand", "user_id": "u-1", "data": {"n": 1,}}"#;
    produce(&world, BACKEND, &[Record::new(0, "k", bad.to_owned())]).await;
    console.sees("1 record could not be stored").await;
    console.click("Dead letters1").await;
    console.click("invalid_json").await;
    let number = "(() => { const one = document.querySelector('a[href^=\"#/dead/one/\"]'); one?.click(); return Boolean(one); })()";
    console.until(number).await;
    console
        .until("document.querySelector('pre mark')?.textContent === '}'")
        .await;
    console.put("The record", &bad.replace(",}", "}")).await;
    console.click("Dry run").await;
    console.sees("It would put 1 record").await;
    console.click("Send it on").await;
    console.sees("It is on the log once more").await;
    console.page("dead").await;
    console.sees("No dead letters").await;
    console.evaluate("find('mended.by_hand')").await;
    console.sees("with “mended.by_hand”").await;

    // A webhook whose endpoint refuses at first.
    let receiver = Receiver::start(|n, _| Reply::status(if n == 0 { 418 } else { 204 }));
    let receiver = receiver.await.unwrap();
    let url = format!("{base}/api/v1/events/subscriptions");
    let hook = json!({"subscriber_name": "billing", "event_types": ["order.*"],
        "callback_url": receiver.url(), "retry_policy": {"max_retries": 0}});
    let made = client().post(url).json(&hook).send().await.unwrap();
    assert_eq!(made.status(), 201);
    console.page("webhooks").await;
    console.click("billing").await;
    console.sees("Nothing was sent yet").await;
    let order = json!({"event_type": "order.placed", "aggregate_type": "order",
        "aggregate_id": "7", "data": {"total": 49.5}});
    send(&base, &order).await;
    // It looks again by itself when something was sent.
    console.sees("418").await;
    console.click("Send again").await;
    console.sees("1 event is sent once more").await;
    console.sees("delivered").await;
    console.click("Disable").await;
    console.click("Enable").await;
    console.sees("enabled").await;

    // A replay: what it would do, then for real.
    let url = format!("{base}/api/v1/events/projections");
    let totals = json!({"name": "totals", "entity_type": "order", "fold": [{"rule": "sum", "field": "total"}]});
    let made = client().post(url).json(&totals).send().await.unwrap();
    assert_eq!(made.status(), 201);
    console.page("replays").await;
    console.put("Stream", "order:7").await;
    console.click("Preview").await;
    console.sees("It would run 1 event").await;
    console.click("Run it…").await;
    console.sees("1 event is run again").await;
    console.click("Run it").await;
    console.sees("completed").await;
    console.page("streams/order%3A7").await;
    console.sees("totals: the state after 1 event").await;

    // A user is erased, with a receipt.
    console.page("erasures").await;
    console.put("User", "u-1").await;
    console.click("Erase…").await;
    console.sees("1 event of “u-1”").await;
    console.click("Erase").await;
    console.sees("completed").await;

    // A processor, and a key.
    console.page("processors").await;
    console.put("Name", "to the log").await;
    console.click("Make it").await;
    console.click("Switch off").await;
    console.click("Switch on").await;
    console.click("Delete…").await;
    console.click("Delete it").await;
    console.sees("No processor.").await;
    console.page("keys").await;
    console.put("Name", "shop").await;
    console.click("Make it").await;
    console.sees("tg_secret_").await;
    console.click("Revoke…").await;
    console.click("Revoke it").await;
    console.sees("revoked").await;
    console.assert_well().await;
    system.assert_well();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_unusual_and_what_differs_is_seen_and_acted_on() {
    let _turn = beside_others().await;
    let world = World::shared().await;
    // Nobody judges the alert of this test.
    let system = world.system().env("ANOMALY_INTERVAL", 0);
    let mut system = system.start().await;
    let (base, _edge) = door(&system).await;
    let client = client();
    let url = format!("{base}/api/v1/events/batch");
    let event = |event_type: &str, source: &str, user: usize, days: i64| {
        let at = time::OffsetDateTime::now_utc() - time::Duration::days(days);
        json!({"event_type": event_type, "event_source": source, "user_id": format!("u-{user}"),
            "timestamp": domain::timestamp::format(at), "data": {"n": user}})
    };
    let mut events: Vec<Value> = (0..6)
        .map(|n| event("order.placed", "backend", n, 0))
        .collect();
    events.extend((0..3).map(|_| event("orderPlaced", "backend", 1, 1)));
    events.extend((0..4).map(|n| event("page.viewed", "frontend", n, 1)));
    let sent = client.post(&url).json(&events).send().await.unwrap();
    assert!(sent.status().is_success());
    let console = Console::open(base.clone()).await;
    let total = "[...document.querySelectorAll('.figure')].some((one) => one.innerText.startsWith('Stored in all') && one.querySelector('.value').textContent === '13')";
    console.until(total).await;

    // What waits to be stored is said, in either log.
    let locked = world.database.connect().await.unwrap();
    locked
        .batch_execute("begin; lock table event_ids in access exclusive mode")
        .await
        .unwrap();
    let more: Vec<Value> = (0..20)
        .map(|n| event("load.made", "system", n, 0))
        .collect();
    let sent = client.post(&url).json(&more).send().await.unwrap();
    assert!(sent.status().is_success());
    console.sees("20 to be stored").await;
    locked.batch_execute("rollback").await.unwrap();
    console.until("!sees('20 to be stored')").await;
    console.until(&total.replace("13", "33")).await;

    // How many, of what, and the events behind a bar.
    console.page("flow").await;
    console.sees("Events by day and type").await;
    console.click("frontend").await;
    console.until("location.hash.includes('frontend')").await;
    let bar = "(() => { const one = document.querySelector('main tbody button.link'); one?.click(); return sees('page.viewed') && document.querySelectorAll('#page-flow [role=status] tbody tr').length === 4; })()";
    console.until(bar).await;
    console.evaluate("(() => { const one = document.querySelector('select[name=event_source]'); one.value = ''; return true; })()").await;
    console.evaluate("(() => { const one = document.querySelector('select[name=interval]'); one.value = 'hour'; return true; })()").await;
    console.click("Show").await;
    console.sees("Events by hour and type").await;
    console
        .until("[...document.querySelectorAll('main td button.link')].length >= 2 && document.querySelector('.chart canvas') !== null")
        .await;
    // Users are counted a moment after the events.
    console.comes_to_see("flow", "Top users").await;
    console
        .until("[...document.querySelectorAll('main td')].some((one) => one.textContent === 'u-1')")
        .await;

    // A rule: what it would have done, then for real, then no more.
    console.page("alerts").await;
    console.sees("comes with Tidegate").await;
    console.put("Name", "orders").await;
    console.put("Types", "order.*").await;
    console.click("Try it on the past").await;
    console.sees("it would have opened 0 alerts").await;
    console.until("!sees('orders ·')").await;
    console.click("Make it").await;
    console.sees("orders · error_rate").await;
    // One that is open is seen as soon as it is there.
    let open = "insert into anomaly_alerts (alert_id, tenant, rule, kind, subject, state, opened_at, value, usual, \
            worst, events, window_minutes, message, notified, notified_at) \
        values (gen_random_uuid(), 'default', 'orders', 'error_rate', 'backend', 'open', now(), 0.5, 0.05, 0.5, 40, 5, \
            'half of it went wrong', 0.5, now())";
    let db = world.database.connect().await.unwrap();
    db.batch_execute(open).await.unwrap();
    console.sees("50.0 % of 40 events").await;
    console.page("now").await;
    console.sees("1 alert is open").await;
    console.click("Look").await;
    console.until("location.hash === '#/alerts'").await;
    console.click("orders · error_rate").await;
    console.click("Delete…").await;
    console.click("Delete it").await;
    console.until("!sees('orders ·')").await;

    // A count that differs: found, looked at, repaired.
    db.batch_execute(
        "update aggregated_events set count = count + 1 where event_type = 'order.placed'",
    )
    .await
    .unwrap();
    console.page("audits").await;
    console.click("Begin an audit").await;
    console.sees("completed").await;
    console
        .evaluate("document.querySelector('main tbody a').click()")
        .await;
    console.sees("daily_count").await;
    console.sees("1 difference, 0 repaired").await;
    console.page("audits").await;
    console.evaluate("(() => { document.querySelector('select[name=repair]').value = 'true'; return true; })()").await;
    console.click("Begin an audit").await;
    console.click("Repair").await;
    console
        .until("[...document.querySelectorAll('main tbody tr')].filter((one) => one.innerText.includes('completed')).length === 2")
        .await;
    console
        .evaluate("document.querySelector('main tbody a').click()")
        .await;
    console.sees("1 difference, 1 repaired").await;

    // How events are named.
    console.comes_to_see("report", "orderPlaced").await;
    console.put("Days", "3").await;
    console.click("Show").await;
    console.until("location.hash === '#/report/3'").await;
    console.sees("not in snake case").await;

    // Whose they are.
    console.page("tenants").await;
    console
        .until("[...document.querySelectorAll('main tbody tr')].some((one) => one.innerText.startsWith('default') && one.innerText.includes('33'))")
        .await;
    console.assert_well().await;
    system.assert_well();
}
