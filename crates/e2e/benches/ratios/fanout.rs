//! One channel to a thousand listeners, beside nchan where that is installed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::ensure;
use serde_json::{Value, json};
use testkit::Parts;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::Options;
use crate::live::{Live, event, open_many};
use crate::nchan::Nchan;
use crate::report::{Report, thousands};

const AUDIENCE: usize = 1_000;
/// Messages under way: so many that they are delivered together, but too few for anyone's queue to
/// overflow; and so few that each is nearly alone.
const WINDOWS: [u64; 2] = [500, 10];
/// Stands once in every message of the fan-out, and nowhere else.
const MARK: u8 = b'~';

/// A thousand readers that count marks, and what they have all got.
struct Audience {
    counts: Arc<Vec<AtomicU64>>,
    readers: JoinSet<()>,
}

impl Audience {
    fn of(streams: Vec<TcpStream>) -> Self {
        let counts: Arc<Vec<AtomicU64>> =
            Arc::new(streams.iter().map(|_| AtomicU64::new(0)).collect());
        let mut readers = JoinSet::new();
        for (n, mut stream) in streams.into_iter().enumerate() {
            let counts = Arc::clone(&counts);
            readers.spawn(async move {
                let mut buffer = vec![0; 16 * 1_024];
                while let Ok(read) = stream.read(&mut buffer).await {
                    if read == 0 {
                        break;
                    }
                    let marks = buffer[..read].iter().filter(|byte| **byte == MARK).count();
                    counts[n].fetch_add(marks as u64, Ordering::Relaxed);
                }
            });
        }
        Self { counts, readers }
    }

    /// What the one who got least has got.
    fn least(&self) -> u64 {
        let counts = self
            .counts
            .iter()
            .map(|count| count.load(Ordering::Relaxed));
        counts.min().unwrap_or(0)
    }

    fn sum(&self) -> u64 {
        self.counts
            .iter()
            .map(|count| count.load(Ordering::Relaxed))
            .sum()
    }

    /// Deliveries a second, over so many seconds.
    async fn rate(
        &mut self,
        seconds: u64,
        sent: Arc<AtomicU64>,
        stop: Arc<AtomicBool>,
    ) -> anyhow::Result<f64> {
        // The first second does not count.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let (before, started) = (self.sum(), Instant::now());
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        let rate = (self.sum() - before) as f64 / started.elapsed().as_secs_f64();
        stop.store(true, Ordering::Relaxed);
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.least() < sent.load(Ordering::Relaxed) {
            ensure!(Instant::now() < deadline, "messages are missing");
            ensure!(
                self.readers.try_join_next().is_none(),
                "a listener was closed"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(rate)
    }

    /// Room in the window, as seen from outside.
    fn window(&self, window: u64) -> impl Fn(u64) -> bool + Send + 'static {
        let counts = Arc::clone(&self.counts);
        move |sent| {
            let least = counts
                .iter()
                .map(|count| count.load(Ordering::Relaxed))
                .min();
            sent < least.unwrap_or(0) + window
        }
    }
}

/// One channel to a thousand listeners: deliveries a second, listeners included.
pub(crate) async fn measure(
    parts: &Parts,
    options: &Options,
    report: &mut Report,
) -> anyhow::Result<()> {
    let live = Live::start(parts).await;
    let nchan = Nchan::start(&parts.redis_url).await?;
    if nchan.is_none() {
        println!("nchan (Debian's libnginx-mod-nchan) is not installed");
    }
    for window in WINDOWS {
        let what = format!("1 channel → {AUDIENCE} listeners, {window} messages under way");
        println!("{what}");
        let (mut ours, mut theirs) = (vec![], vec![]);
        for round in 0..options.rounds {
            let crowd = Crowd {
                name: format!("crowd{round}of{window}"),
                window,
                seconds: options.seconds,
            };
            ours.push(crowd.at_query(&live).await?);
            print!("  round {round}: {} deliveries/s", thousands(ours[round]));
            if let Some(nchan) = &nchan {
                theirs.push(crowd.at_nchan(nchan).await?);
                print!(", nchan {}", thousands(theirs[round]));
            }
            println!();
        }
        if nchan.is_some() {
            report.add(
                what,
                &ours,
                "nchan on Redis",
                &theirs,
                "deliveries/s",
                Some(1.0),
            );
        } else {
            report.add(
                what,
                &ours,
                "itself (no nchan)",
                &ours,
                "deliveries/s",
                None,
            );
        }
    }
    Ok(())
}

/// One measurement of the fan-out.
struct Crowd {
    name: String,
    window: u64,
    seconds: u64,
}

impl Crowd {
    async fn at_query(&self, live: &Live) -> anyhow::Result<f64> {
        let path = format!("/api/v1/sse/users/{}", self.name);
        let streams = open_many(live.query.port(), AUDIENCE, |_| path.clone()).await?;
        let url = live.ingest.url("/api/v1/events/batch");
        let per_post = self.window.min(50);
        let name = self.name.clone();
        let post = move |http: &reqwest::Client, first: u64| {
            let batch: Value = (first..first + per_post)
                .map(|n| message(&name, n))
                .collect();
            vec![http.post(&url).json(&batch)]
        };
        self.rate(streams, per_post, post).await
    }

    async fn at_nchan(&self, nchan: &Nchan) -> anyhow::Result<f64> {
        let path = format!("/sub/{}", self.name);
        let streams = open_many(nchan.port(), AUDIENCE, |_| path.clone()).await?;
        let url = nchan.url(&format!("/pub/{}", self.name));
        let name = self.name.clone();
        // What our listeners get as data; it takes one message a request, so ten requests at once.
        let post = move |http: &reqwest::Client, first: u64| {
            let one = |n| {
                let data = json!({
                    "event_id": uuid::Uuid::now_v7(), "event_type": "bench.live",
                    "user_id": name, "timestamp": "2026-11-21T10:15:57.123456Z",
                    "payload": message("", n)["data"],
                });
                http.post(&url).body(data.to_string())
            };
            (first..first + 10).map(one).collect()
        };
        self.rate(streams, 10, post).await
    }

    /// Keeps the window full, `step` messages at a time.
    async fn rate(
        &self,
        streams: Vec<TcpStream>,
        step: u64,
        post: impl Fn(&reqwest::Client, u64) -> Vec<reqwest::RequestBuilder> + Send + 'static,
    ) -> anyhow::Result<f64> {
        let mut audience = Audience::of(streams);
        let room = audience.window(self.window);
        let (sent, stop): (Arc<AtomicU64>, Arc<AtomicBool>) = (Arc::default(), Arc::default());
        let posting = tokio::spawn({
            let (sent, stop) = (Arc::clone(&sent), Arc::clone(&stop));
            async move {
                let http = reqwest::Client::new();
                while !stop.load(Ordering::Relaxed) {
                    let before = sent.load(Ordering::Relaxed);
                    if !room(before) {
                        tokio::time::sleep(Duration::from_millis(1)).await;
                        continue;
                    }
                    let mut posts = JoinSet::new();
                    for request in post(&http, before) {
                        posts.spawn(request.send());
                    }
                    for answer in posts.join_all().await {
                        answer?.error_for_status()?;
                    }
                    sent.fetch_add(step, Ordering::Relaxed);
                }
                anyhow::Ok(())
            }
        });
        let rate = audience.rate(self.seconds, Arc::clone(&sent), stop).await;
        posting.await??;
        rate
    }
}

fn message(user: &str, n: u64) -> Value {
    event(user, n, "a sentence of some length, as people write them ~")
}
