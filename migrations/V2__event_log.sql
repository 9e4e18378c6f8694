-- The event log on PostgreSQL (docs/decisions/0009): the gateway appends, the processor removes what
-- it has stored in the transaction that stores it.
--
-- A partition is what it is to Kafka: records of one key are in one partition, and within a partition
-- they become visible in the order of their ids.
create table event_log (
    partition  smallint     not null,
    id         bigint       generated always as identity,
    topic      text         collate "C" not null,
    key        bytea,
    headers    bytea        not null,
    payload    bytea,
    created_at timestamptz  not null default clock_timestamp(),
    primary key (partition, id)
) with (
    -- Its readers vacuum it themselves, often; this is for the case that none is running.
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000,
    autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 1000000,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 100000,
    toast.autovacuum_vacuum_scale_factor = 0, toast.autovacuum_vacuum_threshold = 20000
);
-- A row lives for milliseconds: compressing it costs more than it saves.
alter table event_log alter column payload set storage external;

-- Appends the records, in their order. The lock is held until the transaction has ended and its rows
-- are visible, so the order of ids is the order of commits, and a reader beyond an id misses
-- nothing. As one statement in autocommit it keeps nothing locked while a client is slow or gone.
create function log_append(partitions smallint[], topics text[], keys bytea[], headers bytea[], payloads bytea[])
returns void language plpgsql as $$
begin
    perform pg_advisory_xact_lock(hashtext('tidegate log ' || current_schema()), -1);
    insert into event_log (partition, topic, key, headers, payload)
        select * from unnest(partitions, topics, keys, headers, payloads);
    perform pg_notify('tidegate_log_' || current_schema(), '');
end $$;

-- Where its partitions stand, as those of other logs do.
insert into log_positions (topic, partition, stored)
    select 'postgres:event_log', partition, 0 from generate_series(0, 15) partition;
