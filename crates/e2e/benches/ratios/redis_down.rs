//! Storing while Redis hangs, against storing with Redis: the bridge must cost the store nothing.

use testkit::{Part, Parts};

use crate::Options;
use crate::backlog::backlog;
use crate::report::{Report, thousands};

const ROLES: &str = "store,bridge";

pub(crate) async fn measure(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    println!(
        "backlog of {} events, with Redis and while it hangs",
        thousands(options.events as f64)
    );
    let parts = Parts::private_of(&[Part::Redis]).await.or_shared().await;
    let (mut with, mut without) = (vec![], vec![]);
    for round in 0..options.rounds {
        with.push(backlog(&parts, options, 1, ROLES).await?);
        let paused = parts.pause(Part::Redis).await;
        without.push(backlog(&parts, options, 1, ROLES).await?);
        drop(paused);
        println!(
            "  round {round}: {} rows/s, while Redis hangs {} rows/s",
            thousands(with[round]),
            thousands(without[round])
        );
    }
    let what = "Kafka backlog → Postgres, all roles, while Redis hangs";
    report.add(what, &without, "with Redis", &with, "rows/s", Some(0.95));
    Ok(())
}
