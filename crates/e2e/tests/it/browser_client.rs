//! The browser client in a real browser: what a page tracked is stored once, whatever happens to the
//! page and its network, and what happens to a user reaches the page.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use testkit::{Browser, Edge, Proxy, Tab, eventually};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::ledger::{assert_counts, everything_on_the_log, wait_worked_off};
use crate::live::feed::{Feed, user};
use crate::system::System;
use crate::world::{PATIENCE, World, beside_others, sum};

/// A shop's page. Its functions take the numbers of the events, which the test counts.
const PAGE: &str = r#"<!doctype html><meta charset="utf-8"><title>A shop</title>
<script>
  window.drops = [];
  (window.tidegate = window.tidegate || []).push(["identify", "user-0", { plan: "pro" }]);
  const track = (from, count, type = "shop.viewed") => {
    for (let n = from; n < from + count; n++) tidegate.track(type, { n });
  };
  const seen = (text) => {
    const before = JSON.parse(sessionStorage.seen ?? "[]");
    sessionStorage.seen = JSON.stringify([...before, text]);
  };
  const listen = (options) => tidegate.listen("user-0", (event) => seen(event.payload.n),
    { types: ["order.*", "chat.**"], onReset: ({ reason }) => seen(reason), ...options });
</script>
<script src="SCRIPT"></script>"#;

/// A running system behind an edge and a wire to cut, and a shop on another origin.
struct Shop {
    world: World,
    system: System,
    proxy: Proxy,
    _edge: Edge,
    url: String,
    serving: JoinHandle<()>,
    browser: Browser,
    /// How many events were tracked: their numbers are 0, 1, 2 …
    tracked: usize,
}

impl Drop for Shop {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Shop {
    async fn open() -> Self {
        let world = World::shared().await;
        let system = world.system().start().await;
        let edge = Edge::start(system.ingest().port(), system.query().port()).await;
        let proxy = Proxy::start(&[edge.port()]).await.unwrap();
        let page = PAGE.replace("SCRIPT", &proxy.url("/tidegate.js"));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let answer = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{page}",
            page.len()
        );
        let serving = tokio::spawn(async move {
            loop {
                let (mut client, _) = listener.accept().await.unwrap();
                // The browser sends its whole request at once, and is content to be answered at once.
                let _ = client.read(&mut [0; 8192]).await;
                let _ = client.write_all(answer.as_bytes()).await;
            }
        });
        Self {
            world,
            system,
            proxy,
            _edge: edge,
            url,
            serving,
            browser: Browser::start(),
            tracked: 0,
        }
    }

    async fn tab(&self) -> Tab {
        self.browser.open(&self.url).await
    }

    /// The call that tracks so many more events.
    fn track(&mut self, count: usize) -> String {
        let from = self.tracked;
        self.tracked += count;
        format!("track({from}, {count})")
    }

    /// Waits until exactly what was tracked is stored.
    async fn assert_stored(&self) {
        let expected: BTreeSet<i64> = (0..i64::try_from(self.tracked).unwrap()).collect();
        eventually("everything tracked is stored", PATIENCE, || async {
            let numbers = self.numbers("shop.viewed").await;
            let distinct: BTreeSet<_> = numbers.iter().copied().collect();
            assert_eq!(distinct.len(), numbers.len(), "stored twice");
            assert!(distinct.is_subset(&expected));
            let lost: Vec<_> = expected.difference(&distinct).collect();
            lost.is_empty().then_some(()).ok_or(format!("{lost:?}"))
        })
        .await;
    }

    async fn numbers(&self, event_type: &str) -> Vec<i64> {
        let query = "select (data->>'n')::bigint from events where event_type = $1";
        let rows = self.world.database.rows(query, &[&event_type]).await;
        rows.unwrap_or_default()
            .iter()
            .map(|row| row.get(0))
            .collect()
    }

    /// Requests for batches that the gateway has answered.
    async fn requests(&self) -> f64 {
        let name = "tidegate_ingest_request_seconds_count";
        let labels = [("route", "frontend_batch")];
        sum(&self.system.ingest_url("/metrics"), name, &labels).await
    }
}

async fn evaluate(tab: &Tab, script: &str) -> Value {
    let value = tab.evaluate(script).await;
    value.unwrap_or_else(|error| panic!("{script}: {error}"))
}

/// How many events wait in the browser.
async fn queued(tab: &Tab) -> Value {
    let script = "Object.keys(localStorage).filter((key) => key.includes(' event:')).length";
    evaluate(tab, script).await
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_or_doubled_by_reloads_outages_and_a_killed_tab() {
    let _turn = beside_others().await;
    let mut shop = Shop::open().await;
    let mut tab = shop.tab().await;

    // A burst goes in batches of fifty.
    evaluate(&tab, "tidegate.flush()").await;
    let before = shop.requests().await;
    evaluate(&tab, &format!("{}, tidegate.flush()", shop.track(100))).await;
    assert_eq!(shop.requests().await - before, 2.0);
    assert_eq!(queued(&tab).await, 0);

    // Twenty reloads, each with events that nobody had time to send; some while nothing can be.
    for round in 0..20 {
        match round {
            5 | 12 => shop.proxy.close(),
            8 | 14 => shop.proxy.open(),
            _ => {}
        }
        tab.reload_after(&shop.track(7)).await;
    }
    shop.assert_stored().await;

    // Ten times without a network: by the browser's own account, and by nobody's.
    for round in 0..10 {
        if round % 2 == 0 {
            tab.offline(true).await;
            evaluate(&tab, &format!("{}, tidegate.flush()", shop.track(6))).await;
            tab.offline(false).await;
        } else {
            shop.proxy.close();
            evaluate(&tab, &format!("{}, tidegate.flush()", shop.track(6))).await;
            shop.proxy.open();
        }
        evaluate(&tab, &shop.track(6)).await;
    }
    shop.assert_stored().await;

    // Without a gateway, the answer is 503 and asks for patience.
    shop.system.ingest_mut().kill();
    tab.reload_after(&shop.track(15)).await;
    evaluate(&tab, &format!("{}, tidegate.flush()", shop.track(5))).await;
    shop.system.ingest_mut().restart().await;
    shop.assert_stored().await;

    // A page that is left sends what it has, though nobody will hear the answer.
    tab.goto(&shop.url).await;
    evaluate(
        &tab,
        &format!("{}, location.href = 'about:blank'", shop.track(8)),
    )
    .await;
    shop.assert_stored().await;
    tab.close().await;

    // Two tabs at once; then one dies with what it could not send, and the next page finds it.
    let tabs = [shop.tab().await, shop.tab().await];
    for _ in 0..5 {
        for one in &tabs {
            evaluate(one, &shop.track(4)).await;
        }
    }
    shop.assert_stored().await;
    let [dying, other] = tabs;
    other.close().await;
    shop.proxy.close();
    evaluate(&dying, &shop.track(12)).await;
    dying.crash().await;
    shop.proxy.open();
    tab = shop.tab().await;
    shop.assert_stored().await;
    eventually("all are acknowledged", PATIENCE, || async {
        let left = queued(&tab).await;
        (left == 0).then_some(()).ok_or(left)
    })
    .await;
    assert_eq!(evaluate(&tab, "tidegate.dropped").await, 0);
    // What was acknowledged is on the log; the last identify may not be stored yet.
    wait_worked_off(&shop.world, &everything_on_the_log(&shop.world).await).await;
    let identified: i64 = shop
        .world
        .database
        .scalar(
            "select count(*) from events where event_type = 'identify'",
            &[],
        )
        .await
        .unwrap();
    assert_counts(
        &shop.world,
        shop.tracked + usize::try_from(identified).unwrap(),
    )
    .await;
    shop.system.assert_well();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_sent_is_told_and_never_thrown() {
    let _turn = beside_others().await;
    let mut shop = Shop::open().await;
    let tab = shop.tab().await;
    evaluate(&tab, "tidegate.flush()").await;
    let url = shop.proxy.url("");
    let own = format!(
        "var own = new Tidegate({{ url: '{url}', onDrop: (drop) => {{ drops.push(drop); throw 1; }} }}), loop = {{}};"
    );
    evaluate(&tab, &own).await;

    // One bad event takes no other with it, and is not sent again.
    let before = shop.requests().await;
    let script = "own.track('shop.viewed', { n: 0 }), own.track('a\\u0007b', { n: -1 }), own.track('shop.viewed', { n: 1 }), \
        own.track('shop.viewed', { n: 2 }, { timestamp: '2099-01-01T00:00:00Z' }), own.flush()";
    evaluate(&tab, script).await;
    evaluate(&tab, "own.flush()").await;
    assert_eq!(shop.requests().await - before, 2.0);
    let told = evaluate(
        &tab,
        "drops.map((d) => [d.reason, d.events[0].data.n, d.errors[0].path])",
    );
    assert_eq!(told.await, json!([["refused", -1, "event_type"]]));
    // A clock that is years wrong costs the event its time, not the event.
    shop.tracked = 3;
    shop.assert_stored().await;

    // What is no JSON, and what is too much.
    let script = "loop.loop = loop, own.track('shop.viewed', loop), own.track('shop.viewed', { n: 5n }), \
        own.track('shop.viewed', { text: 'x'.repeat(300_000) }), own.track(undefined, null), own.page(0), own.push(0), \
        drops.slice(1).map((d) => d.reason)";
    assert_eq!(
        evaluate(&tab, script).await,
        json!(["invalid", "invalid", "too_large"])
    );

    // What has to wait is bounded: the oldest give way, and are told.
    let script = "drops.length = 0; var far = new Tidegate({ url: 'http://127.0.0.1:1', storageBytes: 20_000, \
        onDrop: (drop) => drops.push(...drop.events) }); \
        for (let n = 0; n < 200; n++) far.track('shop.viewed', { n }); far.close(); \
        Object.entries(localStorage).filter(([key]) => key.includes('127.0.0.1:1 event:')) \
            .map(([key, value]) => [JSON.parse(value).data.n, 2 * (key.length + value.length)])";
    let kept = evaluate(&tab, script).await;
    let kept = kept.as_array().unwrap();
    let bytes: i64 = kept.iter().map(|one| one[1].as_i64().unwrap()).sum();
    assert!((10_000..=20_000).contains(&bytes), "{bytes}");
    let dropped = evaluate(&tab, "drops.map((event) => event.data.n)").await;
    let mut all: Vec<i64> = dropped
        .as_array()
        .unwrap()
        .iter()
        .map(|n| n.as_i64().unwrap())
        .collect();
    assert_eq!(all.len(), 200 - kept.len());
    assert!(all.is_sorted());
    let mut newest: Vec<i64> = kept.iter().map(|one| one[0].as_i64().unwrap()).collect();
    newest.sort_unstable();
    all.extend(newest);
    assert_eq!(all, (0..200).collect::<Vec<_>>());
    assert_eq!(evaluate(&tab, "far.dropped").await, json!(200 - kept.len()));
    shop.system.assert_well();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_hears_each_event_once_and_is_told_of_a_reset() {
    let _turn = beside_others().await;
    let mut shop = Shop::open().await;
    let tab = shop.tab().await;
    let mut feed = Feed::over_http(shop.system.ingest_url(""), 1, 0);
    assert_eq!(user(0), "user-0");
    evaluate(&tab, "window.one = listen(), true").await;
    eventually("the stream is open", PATIENCE, || async {
        let position = evaluate(&tab, "one.position").await;
        position.is_string().then_some(()).ok_or(position)
    })
    .await;
    let heard = async |last: u64| {
        eventually("the page has heard all", PATIENCE, || async {
            let seen = evaluate(&tab, "JSON.parse(sessionStorage.seen ?? '[]')").await;
            let seen: Vec<u64> = serde_json::from_value(seen).unwrap();
            assert!(
                (1..=last).collect::<Vec<_>>().starts_with(&seen),
                "{seen:?}"
            );
            (seen.len() as u64 == last).then_some(()).ok_or(seen)
        })
        .await;
    };
    for _ in 0..5 {
        feed.round(&shop.world).await;
    }
    heard(5).await;
    // The network goes, then the service, then the page itself.
    shop.proxy.close();
    feed.round(&shop.world).await;
    shop.proxy.open();
    heard(6).await;
    shop.system.query_mut().kill();
    feed.round(&shop.world).await;
    shop.system.query_mut().restart().await;
    heard(7).await;
    tab.goto("about:blank").await;
    feed.round(&shop.world).await;
    tab.goto(&shop.url).await;
    evaluate(&tab, "window.one = listen(), true").await;
    heard(8).await;
    feed.round(&shop.world).await;
    heard(9).await;

    // What cannot be resumed begins with a reset, and goes on.
    let script =
        "one.close(), sessionStorage.seen = '[]', window.one = listen({ after: 'nowhere' }), true";
    evaluate(&tab, script).await;
    let seen = async || evaluate(&tab, "JSON.parse(sessionStorage.seen)").await;
    eventually("the page is told", PATIENCE, || async {
        let seen = seen().await;
        (seen == json!(["malformed"])).then_some(()).ok_or(seen)
    })
    .await;
    feed.round(&shop.world).await;
    eventually("the page hears again", PATIENCE, || async {
        let seen = seen().await;
        (seen == json!(["malformed", 10])).then_some(()).ok_or(seen)
    })
    .await;
    shop.system.assert_well();
}
