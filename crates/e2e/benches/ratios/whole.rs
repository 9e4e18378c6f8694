//! The whole split shape at a fixed rate of single posts: what an event costs each process, and how
//! long its answer, its reading back and its live message take; the last beside nchan on the same
//! Redis, with the same client.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::Value;
use testkit::SseStream;
use tokio::task::JoinSet;

use crate::Options;
use crate::latency::percentiles;
use crate::nchan::Nchan;
use crate::report::{Report, median, thousands};
use crate::sets::{Split, redis_bytes};

/// Posts a second, whatever the answers take.
const RATES: [u64; 4] = [500, 1_000, 2_000, 5_000];
/// Posts a second before anything is measured, and for how many seconds.
const WARM_UP: (u64, u64) = (2_000, 30);
/// How often an event that is not there yet is asked for again: what asking costs counts as theirs.
const READ_EVERY: Duration = Duration::from_millis(20);
/// Users that listen; every event is for one of them.
const LISTENERS: u64 = 1_000;
/// The rate that has goals.
const GOAL_RATE: u64 = 1_000;
const GOAL_CPU: f64 = 400.0;
const GOAL_ANSWER: f64 = 6_000.0;
const GOAL_READABLE: f64 = 200_000.0;
const GOAL_LIVE: f64 = 10_000.0;
/// The rates at which nchan is measured too, and how much longer than its p99 ours may take.
const BESIDE_NCHAN: [(u64, f64); 2] = [(1_000, 4.0), (2_000, 6.0)];

/// Microseconds, of one round.
#[derive(Default)]
struct Figures {
    cpu: f64,
    answer: (f64, f64),
    readable: (f64, f64),
    live: (f64, f64),
}

/// See the module.
pub(crate) async fn measure(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    println!("the whole at a fixed rate, {LISTENERS} listening users");
    let whole = Whole::start().await?;
    let nchan = Nchan::start(&whole.set.parts.redis_url).await?;
    let peer = match &nchan {
        Some(nchan) => Some(Audience::open(|n| nchan.url(&format!("/sub/user_{n}")), false).await?),
        None => None,
    };
    if peer.is_none() {
        println!("  nchan (Debian's libnginx-mod-nchan) is not installed");
    }
    // The group has come together, connections and caches are warm, and the broker has compiled what is
    // run often: until then that takes as much of its time as the events.
    let (rate, seconds) = WARM_UP;
    whole.round(rate, seconds).await?;
    whole.idle().await?;
    for rate in RATES {
        let mut rounds = vec![];
        for _ in 0..options.rounds {
            rounds.push(whole.round(rate, options.seconds).await?);
        }
        let of = |figure: fn(&Figures) -> f64| rounds.iter().map(figure).collect::<Vec<_>>();
        println!(
            "  {rate}/s: answer p50 {} p99 {}, readable p50 {} p99 {}, live p50 {} p99 {} µs",
            thousands(median(&of(|f| f.answer.0))),
            thousands(median(&of(|f| f.answer.1))),
            thousands(median(&of(|f| f.readable.0))),
            thousands(median(&of(|f| f.readable.1))),
            thousands(median(&of(|f| f.live.0))),
            thousands(median(&of(|f| f.live.1))),
        );
        let goal = (rate == GOAL_RATE).then_some(1.0);
        let against = format!("the goal at {GOAL_RATE}/s");
        let what = |figure: &str| format!("whole, {rate} posts/s: {figure}");
        let mut add = |figure: &str, values: Vec<f64>, limit: f64| {
            report.add_cost(what(figure), &values, &against, &[limit], "µs", goal);
        };
        add("CPU an event, all processes", of(|f| f.cpu), GOAL_CPU);
        add("answer, p99", of(|f| f.answer.1), GOAL_ANSWER);
        add("readable, p99", of(|f| f.readable.1), GOAL_READABLE);
        add("live, p99", of(|f| f.live.1), GOAL_LIVE);
        let ratio = BESIDE_NCHAN.into_iter().find(|(at, _)| *at == rate);
        if let (Some(nchan), Some(peer), Some((_, ratio))) = (&nchan, &peer, ratio) {
            let mut theirs = vec![];
            for _ in 0..options.rounds {
                theirs.push(at_nchan(nchan, peer, &whole.http, rate, options.seconds).await?);
            }
            let (p50, p99): (Vec<_>, Vec<_>) = theirs.into_iter().unzip();
            println!(
                "  {rate}/s: nchan, live p50 {} p99 {} µs",
                thousands(median(&p50)),
                thousands(median(&p99)),
            );
            let live = of(|f| f.live.1);
            report.add_cost(what("live, p99"), &live, "nchan", &p99, "µs", Some(ratio));
        }
    }
    Ok(())
}

/// The running set, and who listens.
struct Whole {
    set: Split,
    http: reqwest::Client,
    audience: Audience,
}

impl Whole {
    async fn start() -> anyhow::Result<Self> {
        let set = Split::start().await;
        let url = |user| set.query.url(&format!("/api/v1/sse/users/user-{user}"));
        let audience = Audience::open(url, true).await?;
        Ok(Self {
            set,
            http: reqwest::Client::new(),
            audience,
        })
    }

    /// What nothing costs: a fixed rate's cost has a share of it.
    async fn idle(&self) -> anyhow::Result<()> {
        const SECONDS: u64 = 10;
        let before = self.set.processes()?;
        tokio::time::sleep(Duration::from_secs(SECONDS)).await;
        println!("  idle, of a core: {}", self.set.shares(&before, SECONDS)?);
        Ok(())
    }

    async fn round(&self, rate: u64, seconds: u64) -> anyhow::Result<Figures> {
        let count = rate * seconds;
        let url = self.set.ingest.url("/api/v1/events/create");
        let kept = redis_bytes(&self.set.parts).await?;
        let before = self.set.processes()?;
        let reads = tokio::spawn(read_back(
            self.http.clone(),
            url.clone(),
            self.set.query.url("/api/v1/events"),
            Duration::from_secs(seconds),
        ));
        let post = |n| {
            let body = format!(
                r#"{{"event_type":"bench.whole","user_id":"user-{}","data":{{"n":{n},"page":"/home"}}}}"#,
                n % LISTENERS
            );
            let post = self.http.post(&url);
            post.header("content-type", "application/json").body(body)
        };
        let (answers, live) = self.audience.while_posting(rate, count, post).await?;
        let readable = reads.await??;
        let after = self.set.processes()?;
        let mut figures = Figures {
            answer: percentiles(answers),
            readable: percentiles(readable),
            live: percentiles(live),
            ..Figures::default()
        };
        let mut line = String::new();
        for ((name, from), (_, to)) in before.iter().zip(&after) {
            let each = (*to - *from).as_secs_f64() * 1e6 / count as f64;
            figures.cpu += each;
            line.push_str(&format!(", {name} {each:.0}"));
        }
        let more = redis_bytes(&self.set.parts).await? - kept;
        println!(
            "  {rate}/s: {:.0} µs of CPU an event{line}; {:.0} bytes more in Redis an event",
            figures.cpu,
            more / count as f64,
        );
        Ok(figures)
    }
}

/// How long nchan's messages take, p50 and p99 in microseconds; each as long as ours.
async fn at_nchan(
    nchan: &Nchan,
    audience: &Audience,
    http: &reqwest::Client,
    rate: u64,
    seconds: u64,
) -> anyhow::Result<(f64, f64)> {
    let post = |n| {
        let user = n % LISTENERS;
        let body = format!(
            r#"{{"event_id":"019aa6f4-5e1f-7b13-9ac5-1d6a3c2b4e5f","event_type":"bench.whole","user_id":"user-{user}","timestamp":"2026-11-21T10:15:57.123456Z","payload":{{"n":{n},"page":"/home"}}}}"#,
        );
        http.post(nchan.url(&format!("/pub/user_{user}")))
            .body(body)
    };
    let (_, live) = audience.while_posting(rate, rate * seconds, post).await?;
    Ok(percentiles(live))
}

/// One listener for each user, and when each message came.
struct Audience {
    arrivals: Arc<Mutex<HashMap<u64, Instant>>>,
    _listeners: JoinSet<()>,
}

impl Audience {
    /// Opens the streams of those URLs; `begins` with an id.
    async fn open(url: impl Fn(u64) -> String, begins: bool) -> anyhow::Result<Self> {
        let arrivals = Arc::new(Mutex::new(HashMap::new()));
        let mut listeners = JoinSet::new();
        for user in 0..LISTENERS {
            let mut stream = SseStream::open(&url(user), None).await?;
            if begins {
                stream.wait_cursor().await?;
            }
            let arrivals = Arc::clone(&arrivals);
            listeners.spawn(async move {
                while let Ok(Some(event)) = stream.next().await {
                    let at = Instant::now();
                    let data: Value = serde_json::from_str(&event.data).unwrap_or_default();
                    if let Some(n) = data["payload"]["n"].as_u64() {
                        lock(&arrivals).entry(n).or_insert(at);
                    }
                }
            });
        }
        Ok(Self {
            arrivals,
            _listeners: listeners,
        })
    }

    /// Posts so many numbered messages at that rate, whatever the answers take. How long each answer
    /// took, and each message to its listener, from when it was due.
    async fn while_posting(
        &self,
        rate: u64,
        count: u64,
        post: impl Fn(u64) -> reqwest::RequestBuilder,
    ) -> anyhow::Result<(Vec<Duration>, Vec<Duration>)> {
        lock(&self.arrivals).clear();
        let mut pace = tokio::time::interval(Duration::from_secs(1) / u32::try_from(rate)?);
        let (mut sent, mut posts) = (Vec::new(), JoinSet::new());
        for n in 0..count {
            pace.tick().await;
            let due = Instant::now();
            sent.push(due);
            let post = post(n);
            posts.spawn(async move {
                let answer = post.send().await?.error_for_status()?;
                answer.bytes().await.map(|_| due.elapsed())
            });
        }
        let answers = posts.join_all().await.into_iter();
        let answers = answers.collect::<Result<Vec<_>, _>>()?;
        Ok((answers, self.arrived(&sent).await?))
    }

    /// How long each message took to its listener.
    async fn arrived(&self, sent: &[Instant]) -> anyhow::Result<Vec<Duration>> {
        let deadline = Instant::now() + Duration::from_secs(60);
        while lock(&self.arrivals).len() < sent.len() {
            ensure!(Instant::now() < deadline, "messages did not arrive live");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let arrivals = lock(&self.arrivals);
        (0_u64..)
            .zip(sent)
            .map(|(n, at)| {
                let arrived = arrivals.get(&n).context("a message did not arrive")?;
                Ok(arrived.saturating_duration_since(*at))
            })
            .collect()
    }
}

fn lock(arrivals: &Mutex<HashMap<u64, Instant>>) -> MutexGuard<'_, HashMap<u64, Instant>> {
    arrivals.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One event after the other beside the load, from its answer until GET finds it.
async fn read_back(
    http: reqwest::Client,
    post: String,
    get: String,
    time: Duration,
) -> anyhow::Result<Vec<Duration>> {
    let (until, mut took) = (Instant::now() + time, vec![]);
    while Instant::now() < until {
        let body = r#"{"event_type":"bench.read_back"}"#;
        let request = http
            .post(&post)
            .header("content-type", "application/json")
            .body(body);
        let created: Value = request.send().await?.error_for_status()?.json().await?;
        let answered = Instant::now();
        let url = format!("{get}/{}", created["event_id"].as_str().context("no id")?);
        while http.get(&url).send().await?.status() != 200 {
            ensure!(answered.elapsed() < Duration::from_secs(60), "{url}");
            tokio::time::sleep(READ_EVERY).await;
        }
        took.push(answered.elapsed());
    }
    Ok(took)
}
