//! The step `duplicates`: what was dropped because its event is stored, noted beside the event with
//! where it stood. One row an event, whatever repeats it.

use tokio_postgres::{Statement, Transaction};

use super::pending::Pending;
use crate::error::Error;

/// The first ten are kept with their places, all are counted.
pub(super) const NOTE: &str = "insert into event_duplicates as d (event_id, tenant_id, dropped, places) \
    select event_id, tenant_id, count(*), jsonb_agg(jsonb_build_object('topic', topic, \
        'partition', partition, 'offset', \"offset\", \
        'at', to_char(now() at time zone 'utc', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')) order by n) \
        filter (where n <= 10) \
    from (select *, row_number() over (partition by event_id, tenant_id order by topic, partition, \
        \"offset\") n from unnest($1::uuid[], $2::text[], $3::text[], $4::int4[], $5::int8[]) \
        u(event_id, tenant_id, topic, partition, \"offset\")) numbered \
    group by 1, 2 order by 1, 2 \
    on conflict (event_id, tenant_id) do update set dropped = d.dropped + excluded.dropped, \
        places = case when jsonb_array_length(d.places) < 10 then d.places || excluded.places \
            else d.places end";

/// Notes the events that were dropped.
pub(super) async fn note(
    tx: &Transaction<'_>,
    statement: &Statement,
    dropped: &[Pending<'_>],
) -> Result<(), Error> {
    if dropped.is_empty() {
        return Ok(());
    }
    let ids: Vec<_> = dropped.iter().map(|one| one.event.event_id).collect();
    let tenants: Vec<&str> = dropped
        .iter()
        .map(|one| one.event.tenant_id.as_str())
        .collect();
    let topics: Vec<&str> = dropped.iter().map(|one| one.place.topic).collect();
    let partitions: Vec<i32> = dropped.iter().map(|one| one.place.partition).collect();
    let offsets: Vec<i64> = dropped.iter().map(|one| one.place.offset).collect();
    tx.execute(statement, &[&ids, &tenants, &topics, &partitions, &offsets])
        .await?;
    Ok(())
}
