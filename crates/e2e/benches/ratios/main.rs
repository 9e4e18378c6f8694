//! `make bench`: each figure beside its limit, measured in the same run on the same machine.
//!
//! `cargo bench -p e2e -- [MEASUREMENT]… [--rounds N] [--events N] [--seconds N] [--millions N]`

mod backlog;
mod beside;
mod connections;
mod events;
mod fanout;
mod gateway;
mod latency;
mod live;
mod load;
mod nchan;
mod peers;
mod readable;
mod redis_down;
mod report;
mod sets;
mod shapes;
mod size;
mod slow;
mod sourcing;
mod whole;
mod wrk;

use anyhow::bail;
use report::Report;
use testkit::Parts;

const MEASUREMENTS: [&str; 18] = [
    "gateway",
    "batch",
    "auth",
    "backlog",
    "size",
    "sourcing",
    "redis_down",
    "shapes",
    "readable",
    "latency",
    "connections",
    "fanout",
    "slow",
    "whole",
    "load",
    "search",
    "audit",
    "cache",
];

/// What the command line asks for.
#[derive(Debug, Clone)]
struct Options {
    /// Which measurements; none = all.
    only: Vec<String>,
    /// Rounds of which the median is taken.
    rounds: usize,
    /// Events of a backlog.
    events: u64,
    /// Seconds of a load.
    seconds: u64,
    /// Millions of rows in the tables that are full.
    millions: u64,
}

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| a != "--bench")
        .collect();
    // The peers run as processes of their own, as what they are compared with does.
    if let Some("peer") = arguments.first().map(String::as_str) {
        return peers::run(&arguments[1..]);
    }
    let options = options(&arguments)?;
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(measure(options))
}

async fn measure(options: Options) -> anyhow::Result<()> {
    let parts = Parts::shared().await;
    let mut report = Report::default();
    let wanted =
        |name: &str| options.only.is_empty() || options.only.iter().any(|only| only == name);
    if wanted("gateway") {
        gateway::single(&parts, &options, &mut report).await?;
    }
    if wanted("batch") {
        gateway::batch(&parts, &options, &mut report).await?;
    }
    if wanted("auth") {
        gateway::auth(&parts, &options, &mut report).await?;
    }
    if wanted("backlog") {
        backlog::measure(&parts, &options, &mut report).await?;
    }
    if wanted("sourcing") {
        sourcing::measure(&parts, &options, &mut report).await?;
    }
    if wanted("size") {
        size::measure(&parts, &options, &mut report).await?;
    }
    if wanted("redis_down") {
        redis_down::measure(&options, &mut report).await?;
    }
    if wanted("shapes") {
        shapes::measure(&parts, &options, &mut report).await?;
    }
    if wanted("readable") {
        readable::measure(&parts, &options, &mut report).await?;
    }
    if wanted("latency") {
        latency::measure(&parts, &options, &mut report).await?;
    }
    if wanted("connections") {
        connections::measure(&parts, &mut report).await?;
    }
    if wanted("fanout") {
        fanout::measure(&parts, &options, &mut report).await?;
    }
    if wanted("slow") {
        slow::measure(&parts, &options, &mut report).await?;
    }
    if wanted("whole") {
        whole::measure(&options, &mut report).await?;
    }
    if wanted("load") {
        load::measure(&parts, &options, &mut report).await?;
    }
    if wanted("search") {
        beside::search(&parts, &options, &mut report).await?;
    }
    if wanted("audit") {
        beside::audit(&parts, &options, &mut report).await?;
    }
    if wanted("cache") {
        beside::cache(&parts, &options, &mut report).await?;
    }
    report.print();
    Ok(())
}

fn options(arguments: &[String]) -> anyhow::Result<Options> {
    let mut options = Options {
        only: vec![],
        rounds: 3,
        events: 400_000,
        seconds: 5,
        millions: 5,
    };
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let mut number = || -> anyhow::Result<u64> {
            let value = arguments.next().map(|value| value.parse());
            match value {
                Some(Ok(number)) if number > 0 => Ok(number),
                _ => bail!("{argument} takes a number of at least 1"),
            }
        };
        match argument.as_str() {
            "--rounds" => options.rounds = usize::try_from(number()?)?,
            "--events" => options.events = number()?,
            "--seconds" => options.seconds = number()?,
            "--millions" => options.millions = number()?,
            name if MEASUREMENTS.contains(&name) => options.only.push(argument.clone()),
            other => bail!(
                "{other}: give any of {}, --rounds N, --events N, --seconds N, \
                 --millions N",
                MEASUREMENTS.join(", ")
            ),
        }
    }
    Ok(options)
}
