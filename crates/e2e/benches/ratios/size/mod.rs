//! The write where the tables are full: into millions of rows and into none, ours and COPY, with the
//! settings that docs/operations.md advises. What an event costs each process and on disk, and what
//! reading costs beside few rows.

mod disk;
mod fill;
mod reads;

use testkit::{Database, Parts};
use time::{Duration, OffsetDateTime};

use crate::backlog::{Load, Stored, copy_into, store};
use crate::report::{Report, thousands};
use crate::sets::redis_bytes;
use crate::{Options, events};

/// Rows of the database that reading is compared with.
const FEW: u64 = 100_000;

/// Everything that is measured, a value a round.
#[derive(Default)]
struct Figures {
    copy_empty: Vec<f64>,
    copy_full: Vec<f64>,
    empty: Vec<f64>,
    full: Vec<f64>,
    all_roles: Vec<f64>,
}

/// See the module.
pub(crate) async fn measure(
    parts: &Parts,
    options: &Options,
    report: &mut Report,
) -> anyhow::Result<()> {
    let rows = options.millions * 1_000_000;
    println!("the write at {} rows", thousands(rows as f64));
    // Kept as long as its PostgreSQL: another measurement there need not fill it again.
    let (full, is_there) = parts
        .kept_database(&format!("size_{}m", options.millions))
        .await;
    if !is_there {
        fill::fill(&full, rows).await?;
    }
    let mut figures = Figures::default();
    let mut last = None;
    for round in 0..options.rounds {
        let empty = parts.fresh_database().await;
        let stored = run(parts, &empty, options, "store", Side::Ours).await?;
        figures.empty.push(stored.rate);
        last = Some(empty);
        let stored = run(parts, &full, options, "store", Side::Ours).await?;
        figures.full.push(stored.rate);
        let stored = run(parts, &full, options, "", Side::Copy).await?;
        figures.copy_full.push(stored.rate);
        let empty = parts.fresh_database().await;
        let stored = run(parts, &empty, options, "", Side::Copy).await?;
        figures.copy_empty.push(stored.rate);
        let empty = parts.fresh_database().await;
        let kept = redis_bytes(parts).await?;
        let stored = run(parts, &empty, options, "store,bridge", Side::Ours).await?;
        figures.all_roles.push(stored.rate);
        let each = (redis_bytes(parts).await? - kept) / options.events as f64;
        println!("    {each:.1} bytes more in Redis an event of users who do not listen");
        println!(
            "  round {round}: empty {} of COPY {} rows/s; full {} of COPY {}; all roles {}",
            thousands(figures.empty[round]),
            thousands(figures.copy_empty[round]),
            thousands(figures.full[round]),
            thousands(figures.copy_full[round]),
            thousands(figures.all_roles[round]),
        );
    }
    let at = format!("{} M rows", options.millions);
    let unit = "rows/s";
    let one = "one writer, empty tables";
    let copy = "COPY over 1 connection";
    let f = &figures;
    report.add(one, &f.empty, copy, &f.copy_empty, unit, Some(0.8));
    let one = format!("one writer at {at}");
    let copy = format!("{copy} into the same tables");
    report.add(&one, &f.full, copy, &f.copy_full, unit, Some(0.8));
    report.add(one, &f.full, "empty tables", &f.empty, unit, Some(0.85));
    let all = "store and bridge, nobody listens, until stored and live";
    report.add(all, &f.all_roles, "store alone", &f.empty, unit, Some(0.8));
    if let Some(stored) = last {
        disk::measure(&stored, options.events, report).await?;
    }
    let few = parts.fresh_database().await;
    fill::fill(&few, FEW).await?;
    reads::measure(parts, (&full, rows), (&few, FEW), report).await
}

#[derive(Clone, Copy)]
enum Side {
    Ours,
    Copy,
}

/// Stores as many events as are asked for, that come now.
async fn run(
    parts: &Parts,
    database: &Database,
    options: &Options,
    roles: &str,
    side: Side,
) -> anyhow::Result<Stored> {
    let seed = u64::from(uuid::Uuid::new_v4().as_fields().0);
    let first = OffsetDateTime::now_utc() - Duration::milliseconds(i64::try_from(options.events)?);
    let event = move |n: u64| {
        let at = first + Duration::milliseconds(i64::try_from(n).unwrap_or(0));
        events::arrived(n, seed, at, fill::users(options.millions * 1_000_000))
    };
    let load = Load {
        database,
        events: options.events,
        event: &event,
        writers: 1,
        roles,
        define: None,
    };
    let stored = match side {
        Side::Ours => store(parts, &load).await?,
        Side::Copy => copy_into(parts, &load).await?,
    };
    let used: Vec<String> = stored
        .cpu
        .iter()
        .map(|(name, each)| format!("{name} {each:.1}"))
        .collect();
    println!("    µs of CPU an event: {}", used.join(", "));
    Ok(stored)
}
