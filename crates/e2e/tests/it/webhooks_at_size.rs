//! Webhooks where there is much of everything: events, endpoints, kills, bytes. `make soak` has ten
//! thousand events and a thousand endpoints.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::json;
use testkit::{Receiver, Reply, eventually};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::SHAPE;
use crate::direct::{Record, produce};
use crate::system::System;
use crate::webhooks::{Endpoint, ask, half_the_time};
use crate::world::{BACKEND, PATIENCE, Shape, World, alone, soak};

/// What is under way when a process dies is due once its lease has ended: now.
const LEASES_ENDED: &str =
    "update work set due_at = now() where due_at > now() + interval '4 seconds'";

type Ids = Arc<Mutex<BTreeSet<Uuid>>>;

/// Endpoints of every kind; none but the good one answers well.
struct Endpoints {
    good: Endpoint,
    /// When the good one had each event first.
    arrived: Arc<Mutex<BTreeMap<Uuid, OffsetDateTime>>>,
    bad: Vec<(&'static str, Endpoint)>,
    /// What any of them was sent.
    met: Ids,
}

impl Endpoints {
    async fn subscribe(system: &System, down: Duration) -> Self {
        let met = Ids::default();
        let noted = |met: &Ids| {
            let met = Arc::clone(met);
            move |id: &str| met.lock().unwrap().insert(id.parse().unwrap())
        };
        let orders = json!({"event_types": ["order.*"]});
        let arrived = Arc::<Mutex<BTreeMap<Uuid, OffsetDateTime>>>::default();
        let (note, first) = (noted(&met), Arc::clone(&arrived));
        let good = Endpoint::subscribe(system, "good", orders.clone(), move |_, id| {
            note(id);
            let mut first = first.lock().unwrap();
            let id = id.parse().unwrap();
            first.entry(id).or_insert_with(OffsetDateTime::now_utc);
            Reply::status(200)
        })
        .await;
        let note = noted(&met);
        let slow = Endpoint::subscribe(system, "slow", orders.clone(), move |_, id| {
            note(id);
            Reply::Status(204, vec![], Duration::from_millis(200))
        })
        .await;
        let note = noted(&met);
        let fails = half_the_time();
        let flaky = Endpoint::subscribe(system, "flaky", orders.clone(), move |n, id| {
            note(id);
            fails(n, id)
        })
        .await;
        let (note, since) = (noted(&met), Mutex::new(None));
        let down = Endpoint::subscribe(system, "down", orders.clone(), move |_, id| {
            note(id);
            let since = *since.lock().unwrap().get_or_insert_with(Instant::now);
            Reply::status(if since.elapsed() < down { 503 } else { 200 })
        })
        .await;
        let (note, asked) = (noted(&met), Ids::default());
        let busy = Endpoint::subscribe(system, "busy", orders, move |_, id| {
            note(id);
            if asked.lock().unwrap().insert(id.parse().unwrap()) {
                return Reply::Status(429, vec!["retry-after: 1".to_owned()], Duration::ZERO);
            }
            Reply::status(200)
        })
        .await;
        Self {
            good,
            arrived,
            bad: vec![
                ("slow", slow),
                ("flaky", flaky),
                ("down", down),
                ("busy", busy),
            ],
            met,
        }
    }

    fn good_has(&self) -> usize {
        self.good.done.lock().unwrap().len()
    }

    async fn good_gets(&self, count: usize) {
        eventually("the good one gets its events", PATIENCE, || async {
            let has = self.good_has();
            if has >= count { Ok(()) } else { Err(has) }
        })
        .await;
    }
}

/// An order, under an id that is given: each is stored once.
fn order(id: Uuid, n: usize) -> Record {
    let body = json!({
        "event_id": id, "event_type": "order.placed", "user_id": format!("u-{}", n % 50), "data": {"n": n},
    });
    let partition = i32::try_from(id.as_u128() % 6).unwrap();
    Record::new(partition, "k", body.to_string())
}

/// Milliseconds from the storing transaction to the good endpoint: the median, and the 99th of 100.
async fn until_received(
    world: &World,
    arrived: &BTreeMap<Uuid, OffsetDateTime>,
    of: &[Uuid],
) -> (i128, i128) {
    let rows = world
        .database
        .rows(
            "select event_id, created_at from events where event_id = any($1)",
            &[&of],
        )
        .await
        .unwrap();
    let mut took: Vec<i128> = rows
        .iter()
        .map(|row| {
            let (id, stored): (Uuid, OffsetDateTime) = (row.get(0), row.get(1));
            (arrived[&id] - stored).whole_milliseconds()
        })
        .collect();
    took.sort_unstable();
    (took[took.len() / 2], took[took.len() * 99 / 100])
}

#[tokio::test(flavor = "multi_thread")]
async fn each_endpoint_gets_each_event_while_the_processor_dies_again_and_again() {
    let kills = usize::try_from(soak(2, 10)).unwrap();
    let in_each = usize::try_from(soak(250, 900)).unwrap();
    let in_calm = usize::try_from(soak(250, 1_000)).unwrap();
    let down = Duration::from_secs(soak(4, 20));
    let _turn = alone().await;
    let world = World::shared().await;
    let mut system = world.system().with_receivers().start().await;
    let endpoints = Endpoints::subscribe(&system, down).await;

    let mut all = BTreeSet::new();
    for kill in 0..kills {
        let ids: Vec<Uuid> = (0..in_each).map(|_| Uuid::now_v7()).collect();
        let mut records: Vec<Record> = ids.iter().map(|id| order(*id, kill)).collect();
        // What is stored nowhere: no event, one that comes again, and one that says something else
        // under an id that is taken.
        records.push(Record::new(
            0,
            "k",
            r#"{"event_type": 7, "data": {}}"#.to_owned(),
        ));
        records.push(order(ids[0], kill));
        records.push(order(ids[1], 1_000_000));
        let before = endpoints.good_has();
        produce(&world, BACKEND, &records).await;
        endpoints.good_gets(before + in_each / 4).await;
        system.processor_mut().kill();
        system.processor_mut().restart().await;
        world.database.rows(LEASES_ENDED, &[]).await.unwrap();
        all.extend(ids);
    }
    endpoints.good_gets(all.len()).await;

    // Nobody dies: the good one has all of these while the slow one is at work.
    let calm: Vec<Uuid> = (0..in_calm).map(|_| Uuid::now_v7()).collect();
    all.extend(&calm);
    let records: Vec<Record> = calm.iter().map(|id| order(*id, kills)).collect();
    for some in records.chunks(50) {
        produce(&world, BACKEND, some).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    endpoints.good_gets(all.len()).await;
    let behind: Vec<(&str, usize)> = endpoints
        .bad
        .iter()
        .map(|(name, one)| (*name, all.len() - one.done.lock().unwrap().len()))
        .collect();
    println!("{} events, {kills} kills; behind: {behind:?}", all.len());
    assert!(behind[0].1 > 0, "the good one waited for the slow one");

    endpoints.good.assert_gets("good", &all).await;
    for (name, one) in &endpoints.bad {
        eventually(name, PATIENCE, || async {
            let has = one.done.lock().unwrap().len();
            if has == all.len() { Ok(()) } else { Err(has) }
        })
        .await;
        one.assert_gets(name, &all).await;
    }
    // Nothing that is not stored, and nothing but what is stored under that id.
    assert_eq!(*endpoints.met.lock().unwrap(), all);
    for request in endpoints.good.receiver.received() {
        let n = request.json()["data"]["n"].as_u64().unwrap();
        assert!(n <= kills as u64, "{n}");
    }
    let stored = world.database.count("event_ids").await.unwrap();
    assert_eq!(stored, i64::try_from(all.len()).unwrap());
    eventually("nothing is left to be done", PATIENCE, || async {
        match world.database.count("work").await {
            Ok(0) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    let arrived = endpoints.arrived.lock().unwrap().clone();
    let whole: Vec<Uuid> = all.iter().copied().collect();
    let (quiet, with_kills) = (
        until_received(&world, &arrived, &calm).await,
        until_received(&world, &arrived, &whole).await,
    );
    println!(
        "stored to received by the good one, ms, median and p99: {quiet:?}; over kills: {with_kills:?}"
    );
    system.assert_well();
}

/// Of what is sent, little is in memory at a time, however large it is and however many want it.
const BOUND: u64 = match SHAPE {
    Shape::Split => 320 << 20,
    Shape::AllInOne => (320 + 128) << 20,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_endpoints_get_large_events_beside_one_that_hangs() {
    const EVENTS: usize = 8;
    let endpoints = usize::try_from(soak(250, 1_000)).unwrap();
    let _turn = alone().await;
    let world = World::shared().await;
    let mut system = world.system().with_receivers().start().await;
    let got = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&got);
    let seen = Arc::<Mutex<BTreeSet<(String, String)>>>::default();
    let note = Arc::clone(&seen);
    // One server for all: the path tells them apart. Each takes its time, so that many are under way.
    let receiver = Receiver::start_forgetting(move |_, request| {
        if request.line.ends_with("/hangs") {
            return Reply::Silence;
        }
        count.fetch_add(1, Ordering::Relaxed);
        let id = request.header("webhook-id").to_owned();
        note.lock().unwrap().insert((request.line.clone(), id));
        Reply::Status(200, vec![], Duration::from_millis(300))
    })
    .await
    .unwrap();
    for n in 0..=endpoints {
        let (name, path) = match n {
            0 => ("hangs".to_owned(), "hangs".to_owned()),
            n => (format!("one-{n}"), n.to_string()),
        };
        let wanted = json!({
            "subscriber_name": name, "callback_url": format!("{}/{path}", receiver.url()),
            "retry_policy": {"max_retries": 3, "backoff_seconds": [60]},
        });
        let made = ask(&system, "POST", "", &wanted).await;
        assert_eq!(made.0, 201, "{}", made.1);
    }
    let filling = "of some size, ".repeat(240 * 1024 / 14);
    let records: Vec<Record> = (0..EVENTS)
        .map(|n| {
            let body = json!({"event_type": "a.large", "event_id": Uuid::now_v7(), "data": {"n": n, "text": filling}});
            Record::new(i32::try_from(n % 6).unwrap(), "k", body.to_string())
        })
        .collect();
    produce(&world, BACKEND, &records).await;
    eventually("all but one get all", PATIENCE, || async {
        let has = seen.lock().unwrap().len();
        if has == endpoints * EVENTS {
            Ok(())
        } else {
            Err(has)
        }
    })
    .await;
    assert_eq!(
        got.load(Ordering::Relaxed),
        endpoints * EVENTS,
        "each once: nobody failed"
    );
    // The one that hangs has its own still before it.
    let waits = world
        .database
        .count("work where attempt > 0")
        .await
        .unwrap();
    assert!(waits > 0, "{waits}");
    let peak = system.processor().memory().peak_rss;
    println!(
        "{endpoints} endpoints, {EVENTS} events of 240 KiB: peak {} MiB",
        peak >> 20
    );
    assert!(peak < BOUND, "{} MiB", peak >> 20);
    system.assert_well();
}
