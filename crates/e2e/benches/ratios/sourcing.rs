//! What streams, projections and handlers cost the storing where a tenth of the events concern them, beside
//! the same backlog without.

use domain::Event;
use serde_json::json;
use testkit::Parts;
use time::OffsetDateTime;

use crate::backlog::{Definition, Load, store};
use crate::report::{Report, thousands};
use crate::{Options, events};

/// The type of the events that are concerned.
const TENTH: &str = "bench.tenth";
/// Streams that these are in.
const STREAMS: u64 = 2_000;
/// At least so much of the rate has to be left.
const GOAL: f64 = 0.85;

/// See the module.
pub(crate) async fn measure(
    parts: &Parts,
    options: &Options,
    report: &mut Report,
) -> anyhow::Result<()> {
    println!(
        "backlog of {} events, a tenth of them in streams, projections, handlers",
        thousands(options.events as f64)
    );
    let projection = json!({"name": "bench", "entity_type": "order", "event_types": [TENTH],
        "fold": {"rule": "sum", "field": "price"}});
    let handler = json!({"processor_name": "bench", "processor_type": "log",
        "filters": {"event_types": [TENTH]}});
    let sides: [(&str, bool, Option<Definition>); 4] = [
        ("nothing", false, None),
        ("streams", true, None),
        (
            "streams and a projection",
            true,
            Some(("/api/v1/events/projections", projection)),
        ),
        (
            "a handler",
            false,
            Some(("/api/v1/events/processors", handler)),
        ),
    ];
    let mut rates: [Vec<f64>; 4] = Default::default();
    for round in 0..options.rounds {
        for ((name, in_streams, define), rates) in sides.iter().zip(&mut rates) {
            let now = OffsetDateTime::now_utc();
            let database = parts.fresh_database().await;
            let load = Load {
                database: &database,
                events: options.events,
                event: &|n| event(n, now, *in_streams),
                writers: 1,
                roles: "store",
                define: define.as_ref(),
            };
            rates.push(store(parts, &load).await?.rate);
            println!("  round {round}: {name} {} rows/s", thousands(rates[round]));
        }
    }
    let [nothing, others @ ..] = &rates;
    for ((name, ..), with) in sides[1..].iter().zip(others) {
        let what = format!("storing, a tenth of the events in {name}");
        report.add(what, with, "none of that", nothing, "rows/s", Some(GOAL));
    }
    Ok(())
}

fn event(n: u64, now: OffsetDateTime, in_streams: bool) -> Event {
    let mut event = events::event(n, 1, now);
    if n.is_multiple_of(10) {
        event.event_type = TENTH.to_owned();
        if in_streams {
            event.aggregate_type = Some("order".to_owned());
            event.aggregate_id = Some((n / 10 % STREAMS).to_string());
        }
    }
    event
}
