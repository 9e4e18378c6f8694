//! Bytes on disk an event, beside the specification's table with its 18 indexes (S4-69 to S4-97).

use testkit::Database;

use crate::report::Report;

const SPECIFIED: &str = "
create schema specified;
create table specified.events (
    event_id varchar(255) primary key, event_type varchar(255) not null, event_source varchar(50) not null,
    event_category varchar(50) not null, user_id varchar(255), session_id varchar(255),
    organization_id varchar(255), device_id varchar(255), correlation_id varchar(255),
    data jsonb default '{}', metadata jsonb default '{}', context jsonb default '{}', properties jsonb default '{}',
    status varchar(20) not null default 'pending', processed_at timestamptz, processors text[], error_message text,
    retry_count integer default 0, timestamp timestamptz not null default now(),
    created_at timestamptz not null default now(), updated_at timestamptz not null default now(),
    version varchar(20) default '1.0.0', schema_version varchar(20) default '1.0.0');
create index on specified.events (user_id);
create index on specified.events (device_id);
create index on specified.events (organization_id);
create index on specified.events (session_id);
create index on specified.events (correlation_id);
create index on specified.events (event_type);
create index on specified.events (event_source);
create index on specified.events (event_category);
create index on specified.events (status);
create index on specified.events (timestamp desc);
create index on specified.events (created_at desc);
create index on specified.events using gin (data);
create index on specified.events using gin (metadata);
create index on specified.events (user_id, event_type);
create index on specified.events (user_id, timestamp desc);
create index on specified.events (event_type, status);
create index on specified.events (event_source, event_category);
";

/// Rows by rows, in the order in which they came.
const COPY: &str = "insert into specified.events
    select event_id::text, event_type, event_source, event_category, user_id, session_id, organization_id,
        device_id, correlation_id, data, metadata, context, properties, status, processed_at, processors,
        error_message, retry_count, timestamp, created_at, updated_at, version, schema_version
    from events order by timestamp";

/// Tables and their indexes by size, largest first.
const PARTS: &str = "
with parts as (select relid as oid from pg_partition_tree('events') where isleaf
    union all select 'event_ids'::regclass)
select relname::text, pg_table_size(oid) from pg_class join parts using (oid)
union all
select i.relname::text, pg_table_size(i.oid) from parts join pg_index x on x.indrelid = parts.oid
    join pg_class i on i.oid = x.indexrelid
order by 2 desc limit 12";

/// Compares what the events of that database take with what the same take in that table.
pub(super) async fn measure(
    database: &Database,
    events: u64,
    report: &mut Report,
) -> anyhow::Result<()> {
    let client = database.connect().await?;
    client.batch_execute(SPECIFIED).await?;
    client.batch_execute(COPY).await?;
    client.batch_execute("vacuum (analyze)").await?;
    let size = |table: &'static str| {
        let client = &client;
        async move {
            // A table without partitions is not in its own tree.
            let sql = "select coalesce(sum(pg_total_relation_size(relid)), \
                pg_total_relation_size($1::text::regclass))::int8 from pg_partition_tree($1::text::regclass)";
            let bytes: i64 = client.query_one(sql, &[&table]).await?.try_get(0)?;
            anyhow::Ok(bytes as f64 / events as f64)
        }
    };
    let ours = size("events").await? + size("event_ids").await?;
    let specified = size("specified.events").await?;
    for row in client.query(PARTS, &[]).await? {
        let (name, bytes): (String, i64) = (row.try_get(0)?, row.try_get(1)?);
        println!(
            "    {name}: {:.0} bytes an event",
            bytes as f64 / events as f64
        );
    }
    let what = "an event on disk: its row, its id, their indexes";
    let against = "the specification's table with its 18 indexes";
    report.add_cost(what, &[ours], against, &[specified], "bytes", Some(0.6));
    Ok(())
}
