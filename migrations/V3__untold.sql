-- Lanes of the Postgres log whose stored events listeners may not have been told of yet: noted in the
-- transaction that stores, once until it is taken back; taken back when all is told and nothing more
-- comes. A note whose process is gone means that something may be missing.
create table untold (
    id    bigint      generated always as identity primary key,
    partition  smallint    not null,
    -- The process; it holds a lock of that name as long as it lives.
    owner uuid        not null,
    since timestamptz not null default clock_timestamp()
) with (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000
);
