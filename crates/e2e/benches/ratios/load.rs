//! Single posts of 100 bytes as fast as answers come: to the split shape with all its roles, to its
//! gateway alone, and to the one process.

use std::path::Path;

use testkit::Parts;

use crate::Options;
use crate::report::{Report, thousands};
use crate::sets::{self, Split};
use crate::wrk::{script, wrk};

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
    for (connections, before) in CONNECTIONS.into_iter().zip(ONE_PROCESS) {
        println!(
            "single posts of {} bytes, {connections} connections",
            BODY.len()
        );
        let (mut one, mut split, mut alone) = (vec![], vec![], vec![]);
        for round in 0..options.rounds {
            one.push(one_process(parts, &script, connections, options.seconds).await?);
            let (all, gateway) = three_services(&script, connections, options.seconds).await?;
            split.push(all);
            alone.push(gateway);
            println!(
                "  round {round}: all-in-one {} requests/s, split {}, its gateway alone {}",
                thousands(one[round]),
                thousands(split[round]),
                thousands(alone[round]),
            );
        }
        let what = |shape: &str| format!("{shape}, POST one event, {connections} connections");
        let unit = "requests/s";
        let goal = (connections == 64).then_some(0.5);
        report.add(
            what("split"),
            &split,
            "its gateway alone",
            &alone,
            unit,
            goal,
        );
        report.add(
            what("all-in-one"),
            &one,
            "what it was",
            &[before],
            unit,
            Some(2.0),
        );
    }
    Ok(())
}

/// Requests a second of `tidegate serve` on PostgreSQL alone.
async fn one_process(
    parts: &Parts,
    script: &Path,
    connections: usize,
    seconds: u64,
) -> anyhow::Result<f64> {
    let (_database, tidegate) = sets::one_process(parts).await;
    wrk(
        &tidegate.url("/api/v1/events"),
        script,
        connections,
        seconds,
    )
}

/// Requests a second of the split shape with all roles, and of its gateway once the others stopped.
async fn three_services(
    script: &Path,
    connections: usize,
    seconds: u64,
) -> anyhow::Result<(f64, f64)> {
    let set = Split::start().await;
    let url = set.ingest.url("/api/v1/events");
    let before = set.processes()?;
    let all = wrk(&url, script, connections, seconds)?;
    let shares: Vec<String> = before
        .iter()
        .zip(set.processes()?)
        .map(|((name, from), (_, to))| {
            // With the second that warmed up.
            let cores = (to - *from).as_secs_f64() / (seconds + 1) as f64;
            format!("{name} {:.0} %", cores * 100.0)
        })
        .collect();
    println!("  of a core: {}", shares.join(", "));
    drop((set.processor, set.query));
    let alone = wrk(&url, script, connections, seconds)?;
    Ok((all, alone))
}
