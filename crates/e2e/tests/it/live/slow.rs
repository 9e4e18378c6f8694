//! A thousand clients that hardly read: they cost little, hurt nobody and are closed.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use testkit::{SseStream, eventually};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::feed::{Feed, user};
use super::listener::{Listener, Seen};
use crate::system::System;
use crate::world::{PATIENCE, World, alone, sum};

const SLOW: usize = 1_000;
const OTHERS: usize = 20;
/// Thirty-three events of 16 KiB a second: half a megabyte.
const PAUSE: Duration = Duration::from_millis(30);
const BYTES: usize = 16 * 1024;
/// What may wait for one of them: some 190 events.
const QUEUE: u64 = 3 << 20;
/// How often both are measured at most; the first does not count, and of the others the least
/// disturbed one of each kind does: a busy machine only ever adds, and then it takes more of them.
const ROUNDS: usize = 12;
const LEAST: usize = 4;
const BEFORE: u64 = 190;
/// Events until nothing more fits into the kernels between us and them: these are written, as to any
/// other thousand clients, and not what is measured here.
const FILL: u64 = 20;
/// Events after which a thousand connections are forgotten, by the service and by the kernel.
const REST: u64 = 20;
/// What a thousand of them may cost together: what the server has ready to write for each, some
/// 100 KiB. A queue of its own for each would be 3 GiB.
const BOUND: u64 = 256 << 20;
/// Below this the machine is measured, not the service.
const NOISE: Duration = Duration::from_millis(20);

/// When each event was sent, and when each listener had it.
struct Clock {
    feed: Feed,
    sent: HashMap<u64, Instant>,
    arrivals: mpsc::UnboundedReceiver<(u64, Instant)>,
}

impl Clock {
    async fn send(&mut self, world: &World) {
        let next = tokio::time::Instant::now() + PAUSE;
        self.sent.insert(self.feed.last + 1, Instant::now());
        self.feed.round(world).await;
        tokio::time::sleep_until(next).await;
    }

    async fn send_many(&mut self, world: &World, count: u64) {
        for _ in 0..count {
            self.send(world).await;
        }
    }

    /// The slowest hundredth of all deliveries since event `first` took longer.
    async fn p99_since(&mut self, first: u64) -> Duration {
        let expected = usize::try_from(self.feed.last + 1 - first).unwrap() * OTHERS;
        let mut took = Vec::with_capacity(expected);
        while took.len() < expected {
            let arrival = tokio::time::timeout(PATIENCE, self.arrivals.recv()).await;
            let (n, at) = arrival.expect("the others get everything").unwrap();
            if n >= first {
                took.push(at - self.sent[&n]);
            }
        }
        took.sort_unstable();
        took[took.len() * 99 / 100]
    }
}

async fn wait_closed(metrics: String, expected: f64) {
    let name = "tidegate_sse_closed_total";
    eventually("the slow ones are closed", PATIENCE, || async {
        let closed = sum(&metrics, name, &[("reason", "slow")]).await;
        if closed == expected {
            Ok(())
        } else {
            Err(closed)
        }
    })
    .await;
}

async fn connections(system: &System) -> f64 {
    sum(
        &system.query_url("/metrics"),
        "tidegate_sse_connections",
        &[],
    )
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_slow_clients_are_closed_and_hurt_nobody() {
    let _turn = alone().await;
    let world = World::shared().await;
    let system = world
        .system()
        .env("SSE_MAX_CONNECTIONS_PER_USER", 2 * SLOW)
        .env("SSE_QUEUE_BYTES", QUEUE)
        .start()
        .await;
    let base = system.query_url("");
    let (arrived, arrivals) = mpsc::unbounded_channel();
    let mut others = JoinSet::new();
    for _ in 0..OTHERS {
        let mut listener = Listener::begin(&base, &user(0)).await;
        let arrived = arrived.clone();
        others.spawn(async move {
            while let Seen::Event(n) = listener.next().await {
                let _ = arrived.send((*n, Instant::now()));
            }
            panic!("{:?}", listener.seen.last());
        });
    }
    let feed = Feed::over_http(system.ingest_url(""), 1, BYTES);
    let mut clock = Clock {
        feed,
        sent: HashMap::new(),
        arrivals,
    };
    let rss = system.query().memory().rss;
    let (mut undisturbed, mut beside) = (Vec::new(), Vec::new());
    let mut unharmed = false;
    for round in 1..=ROUNDS {
        clock.send_many(&world, REST).await;
        let first = clock.feed.last + 1;
        clock.send_many(&world, BEFORE).await;
        let before = clock.p99_since(first).await;

        let slow = slow_readers(&base).await;
        clock.send_many(&world, FILL).await;
        let first = clock.feed.last + 1;
        let closing = tokio::spawn(wait_closed(
            system.query_url("/metrics"),
            (round * SLOW) as f64,
        ));
        while !closing.is_finished() {
            clock.send(&world).await;
        }
        closing.await.unwrap();
        let with = clock.p99_since(first).await;
        // They still read, a byte a second, of what their kernels hold.
        eventually("only the others are left", PATIENCE, || async {
            let left = connections(&system).await;
            if left == OTHERS as f64 {
                Ok(())
            } else {
                Err(left)
            }
        })
        .await;
        drop(slow);
        println!("the others' p99: {before:?}, beside {SLOW} slow ones {with:?}");
        if round > 1 {
            undisturbed.push(before.max(NOISE));
            beside.push(with);
            unharmed = beside.iter().min() <= undisturbed.iter().min().map(|p99| *p99 * 2).as_ref();
        }
        if unharmed && round >= LEAST {
            break;
        }
    }
    let grown = system.query().memory().peak_rss.saturating_sub(rss);
    println!("query grew by {} MiB at most", grown >> 20);
    assert!(unharmed, "{undisturbed:?}, beside slow ones {beside:?}");
    assert!(grown < BOUND, "{} MiB", grown >> 20);
    assert!(others.try_join_next().is_none(), "one of the others ended");
}

/// They read a byte a second until they are dropped.
async fn slow_readers(base: &str) -> JoinSet<()> {
    let mut readers = JoinSet::new();
    let url = format!("{base}/api/v1/sse/users/{}", user(0));
    let mut opening = JoinSet::new();
    for _ in 0..SLOW {
        let url = url.clone();
        opening.spawn(async move { SseStream::open_slow(&url).await.unwrap() });
    }
    for mut stream in opening.join_all().await {
        readers.spawn(async move {
            while stream.read_byte().await {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
    }
    readers
}
