//! What a thousand clients that hardly read cost the others in time.

use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::Value;
use testkit::{Parts, SseStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::Options;
use crate::latency::percentiles;
use crate::live::{Live, event};
use crate::report::{Report, thousands};

const SLOW: usize = 1_000;
const OTHERS: usize = 20;
const USER: &str = "crowd";
/// Thirty-three events of 16 KiB a second: the queue of a slow client is full after two seconds.
const PACE: Duration = Duration::from_millis(30);
const BYTES: usize = 16 * 1024;

/// The others' p99 from the request to the listener, without and with the slow ones.
pub(crate) async fn measure(
    parts: &Parts,
    options: &Options,
    report: &mut Report,
) -> anyhow::Result<()> {
    println!("{OTHERS} listeners beside {SLOW} slow ones");
    let live = Live::start(parts).await;
    let (arrived, arrivals) = mpsc::unbounded_channel();
    let mut listeners = JoinSet::new();
    for _ in 0..OTHERS {
        let mut stream = SseStream::open(&live.stream(USER), None).await?;
        stream.wait_cursor().await?;
        let arrived = arrived.clone();
        listeners.spawn(async move {
            while let Ok(Some(event)) = stream.next().await {
                let at = Instant::now();
                let data: Value = serde_json::from_str(&event.data).unwrap_or_default();
                let _ = arrived.send((data["payload"]["n"].as_u64(), at));
            }
        });
    }
    let mut load = Load {
        http: reqwest::Client::new(),
        url: live.ingest.url("/api/v1/events"),
        note: "x".repeat(BYTES),
        sent: vec![],
        arrivals,
    };
    let count = options.seconds * 1_000 / u64::try_from(PACE.as_millis())?;
    let (mut alone, mut beside) = (vec![], vec![]);
    for round in 0..=options.rounds {
        let without = load.p99(count).await?;
        let slow = slow_readers(&live.stream(USER)).await?;
        let with = load.p99(count).await?;
        drop(slow);
        // The first round warms up.
        if round > 0 {
            println!(
                "  round {round}: p99 {} µs, beside slow ones {} µs",
                thousands(without),
                thousands(with)
            );
            alone.push(without);
            beside.push(with);
        }
    }
    let what = "POST → SSE, p99, beside 1,000 slow clients";
    report.add_cost(what, &beside, "without them", &alone, "µs", Some(2.0));
    Ok(())
}

struct Load {
    http: reqwest::Client,
    url: String,
    note: String,
    /// When each event was sent, by its number.
    sent: Vec<Instant>,
    arrivals: mpsc::UnboundedReceiver<(Option<u64>, Instant)>,
}

impl Load {
    /// Sends so many events and waits until all listeners have them; microseconds.
    async fn p99(&mut self, count: u64) -> anyhow::Result<f64> {
        let mut pace = tokio::time::interval(PACE);
        for _ in 0..count {
            pace.tick().await;
            let body = event(USER, self.sent.len() as u64, &self.note);
            self.sent.push(Instant::now());
            let answer = self.http.post(&self.url).json(&body).send().await?;
            answer.error_for_status()?;
        }
        let expected = usize::try_from(count)? * OTHERS;
        let mut took = Vec::with_capacity(expected);
        while took.len() < expected {
            let arrival = tokio::time::timeout(Duration::from_secs(60), self.arrivals.recv()).await;
            let (n, at) = arrival
                .context("an event did not arrive")?
                .context("closed")?;
            let sent = self.sent.get(usize::try_from(n.context("no number")?)?);
            took.push(at - *sent.context("a number that was not sent")?);
        }
        Ok(percentiles(took).1)
    }
}

/// They read a byte a second until they are dropped.
async fn slow_readers(url: &str) -> anyhow::Result<JoinSet<()>> {
    let mut readers = JoinSet::new();
    for _ in 0..SLOW {
        let mut stream = SseStream::open_slow(url).await?;
        readers.spawn(async move {
            while stream.read_byte().await {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
    }
    Ok(readers)
}
