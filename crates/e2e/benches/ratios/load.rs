//! Single posts of 100 bytes as fast as answers come: to the split shape with all its roles, to its
//! gateway alone, and to the one process.

use std::path::Path;

use testkit::Parts;

use crate::Options;
use crate::report::{Report, thousands};
use crate::sets::{self, Split};
use crate::wrk::{script, warm_up, wrk};

/// How many clients post side by side.
const CONNECTIONS: [usize; 2] = [4, 64];
/// The rate of the one process when these measurements began, on two cores.
const ONE_PROCESS: [f64; 2] = [2_270.0, 12_730.0];
const BODY: &str =
    r#"{"event_type":"bench.load","user_id":"user-1","data":{"page":"/home","n":12345,"ok":true}}"#;

/// See the module.
pub(crate) async fn measure(
    parts: &Parts,
    options: &Options,
    report: &mut Report,
) -> anyhow::Result<()> {
    let script = script(BODY)?;
    println!("single posts of {} bytes", BODY.len());
    let (mut one, mut split, mut alone) = (vec![], vec![], vec![]);
    for round in 0..options.rounds {
        one.push(one_process(parts, &script, options.seconds).await?);
        let (all, gateway) = three_services(&script, options.seconds).await?;
        split.push(all);
        alone.push(gateway);
        for (at, connections) in CONNECTIONS.iter().enumerate() {
            println!(
                "  round {round}, {connections} connections: all-in-one {} requests/s, split {}, its gateway alone {}",
                thousands(one[round][at]),
                thousands(split[round][at]),
                thousands(alone[round][at]),
            );
        }
    }
    for (at, connections) in CONNECTIONS.iter().enumerate() {
        let of = |rates: &[Rates]| rates.iter().map(|round| round[at]).collect::<Vec<_>>();
        let what = |shape: &str| format!("{shape}, POST one event, {connections} connections");
        let unit = "requests/s";
        let goal = (*connections == 64).then_some(0.5);
        let alone = of(&alone);
        report.add(
            what("split"),
            &of(&split),
            "its gateway alone",
            &alone,
            unit,
            goal,
        );
        let before = [ONE_PROCESS[at]];
        report.add(
            what("all-in-one"),
            &of(&one),
            "what it was",
            &before,
            unit,
            Some(2.0),
        );
    }
    Ok(())
}

/// Requests a second at each number of connections.
type Rates = [f64; CONNECTIONS.len()];

/// Those of one service.
fn rates(url: &str, script: &Path, seconds: u64) -> anyhow::Result<Rates> {
    let mut rates = Rates::default();
    for (rate, connections) in rates.iter_mut().zip(CONNECTIONS) {
        *rate = wrk(url, script, connections, seconds)?;
    }
    Ok(rates)
}

/// Of `tidegate serve` on PostgreSQL alone.
async fn one_process(parts: &Parts, script: &Path, seconds: u64) -> anyhow::Result<Rates> {
    let (_database, tidegate) = sets::one_process(parts).await;
    rates(&tidegate.url("/api/v1/events"), script, seconds)
}

/// Of the split shape with all roles, and of its gateway once the others stopped.
async fn three_services(script: &Path, seconds: u64) -> anyhow::Result<(Rates, Rates)> {
    let set = Split::start().await;
    let url = set.ingest.url("/api/v1/events");
    warm_up(&url, script)?;
    let mut all = Rates::default();
    for (rate, connections) in all.iter_mut().zip(CONNECTIONS) {
        let before = set.processes()?;
        *rate = wrk(&url, script, connections, seconds)?;
        // With the second that wrk warms up.
        println!("  of a core: {}", set.shares(&before, seconds + 1)?);
    }
    drop((set.processor, set.query));
    Ok((all, rates(&url, script, seconds)?))
}
