-- Events, one row each, partitioned by the time they happened. Columns: S4-69 to S4-74 and the
-- tenant_id, aggregate and received_at beside them. event_id is a uuid (C10).
create table events (
    event_id         uuid         not null,
    tenant_id        varchar(64)  collate "C" not null default 'default',
    event_type       varchar(255) collate "C" not null,
    event_source     varchar(50)  collate "C" not null,
    event_category   varchar(50)  collate "C" not null,
    client_event_id  varchar(255),
    user_id          varchar(255) collate "C",
    session_id       varchar(255) collate "C",
    organization_id  varchar(255) collate "C",
    device_id        varchar(255) collate "C",
    correlation_id   varchar(255) collate "C",
    aggregate_type   varchar(255) collate "C",
    aggregate_id     varchar(255) collate "C",
    expected_version bigint,
    data             jsonb        not null default '{}',
    metadata         jsonb        not null default '{}',
    context          jsonb        not null default '{}',
    properties       jsonb        not null default '{}',
    status           varchar(20)  collate "C" not null default 'pending',
    processed_at     timestamptz,
    processors       text[],
    error_message    text,
    retry_count      integer      not null default 0,
    timestamp        timestamptz  not null,
    received_at      timestamptz  not null,
    created_at       timestamptz  not null default now(),
    updated_at       timestamptz  not null default now(),
    version          varchar(20)  not null default '1.0.0',
    schema_version   varchar(20)  not null default '1.0.0'
) partition by range (timestamp);

-- Ranges of time follow each other without a gap: one for everything before this month, then up to
-- tomorrow, then a day each until it shows how much comes in. The processor makes what follows, ahead
-- of time; what no range covers yet goes to the default one, so nothing is refused for its time.
create table events_default partition of events default;
do $$
declare
    month timestamptz := date_trunc('month', now() at time zone 'utc') at time zone 'utc';
    day   timestamptz := date_trunc('day', now() at time zone 'utc') at time zone 'utc';
begin
    execute format('create table events_past partition of events for values from (minvalue) to (%L)', month);
    execute format('create table %I partition of events for values from (%L) to (%L)',
        to_char(month at time zone 'utc', '"events_"YYYY_MM'), month, day + interval '1 day');
    for n in 1..2 loop
        execute format('create table %I partition of events for values from (%L) to (%L)',
            to_char((day + n * interval '1 day') at time zone 'utc', '"events_"YYYY_MM_DD'),
            day + n * interval '1 day', day + (n + 1) * interval '1 day');
    end loop;
end $$;

-- Since when events are kept: those before were removed by retention. One row at most.
create table retention (
    one       boolean     primary key default true check (one),
    kept_from timestamptz not null
);

-- A stored event is not changed, by nobody; what becomes of it (status and the like) is.
create function events_are_immutable() returns trigger language plpgsql as $$
begin
    raise exception 'a stored event cannot be changed' using errcode = 'restrict_violation';
end $$;
create trigger events_immutable before update of event_id, tenant_id, event_type, event_source,
    event_category, client_event_id, user_id, session_id, organization_id, device_id, correlation_id,
    aggregate_type, aggregate_id, expected_version, data, metadata, context, properties, timestamp,
    received_at, created_at, version, schema_version
    on events for each row execute function events_are_immutable();

-- The indexes. Together with event_ids they serve all purposes of the specification's table of 18
-- (S4-80 to S4-97); crates/store/tests proves each by EXPLAIN. docs/decisions/0003 says why these, 0033 why
-- times ascend in them: events come in that order, so a page is full before the next one is begun. Read
-- from its end, an index gives the newest first.
create unique index events_time_idx     on events (tenant_id, timestamp, event_id);
create index events_type_idx            on events (tenant_id, event_type, timestamp);
create index events_source_category_idx on events (tenant_id, event_source, event_category, timestamp);
create index events_user_idx            on events (user_id, timestamp) where user_id is not null;
create index events_session_idx         on events (session_id, timestamp) where session_id is not null;
create index events_organization_idx    on events (organization_id, timestamp) where organization_id is not null;
create index events_device_idx          on events (device_id, timestamp) where device_id is not null;
create index events_correlation_idx     on events (correlation_id, timestamp) where correlation_id is not null;
create index events_aggregate_idx       on events (aggregate_id, aggregate_type, timestamp) where aggregate_id is not null;
create index events_aggregate_type_idx  on events (tenant_id, aggregate_type, timestamp) where aggregate_type is not null;
create index events_unprocessed_idx     on events (tenant_id, status, timestamp) where status <> 'processed';
create index events_created_idx         on events using brin (created_at) with (pages_per_range = 32, autosummarize = on);
create index events_json_idx            on events using gin (data jsonb_path_ops, metadata jsonb_path_ops);

-- What makes an event unique: its id within its tenant, whatever its timestamp. A unique index on a
-- partitioned table must contain the partition key, so (event_id, timestamp) alone would let the
-- same id pass with another timestamp. Every writer claims its ids here first (docs/decisions/0002).
create table event_ids (
    event_id       uuid        not null,
    tenant_id      varchar(64) collate "C" not null,
    timestamp      timestamptz not null,
    -- Of what the client said: the same id with another one is a conflict (docs/decisions/0011).
    content_hash   bigint,
    -- The record it was stored from, for its receipt: the partition (log_partitions) and the offset.
    log_offset     bigint,
    log_partition  integer,
    -- Whether a gateway took it, not a producer of the log.
    by_gateway     boolean,
    -- The stream of an event with an explicit aggregate, and its number there.
    stream_id      text        collate "C",
    stream_version bigint,
    primary key (event_id, tenant_id)
);
create unique index event_ids_stream_idx on event_ids (tenant_id, stream_id, stream_version)
    where stream_version is not null;

-- The partitions that events came from, each under a short number. A topic of Kafka has no colon in its
-- name, the log on PostgreSQL has.
create table log_partitions (
    id        integer      generated always as identity primary key,
    topic     varchar(249) collate "C" not null,
    partition integer      not null,
    unique (topic, partition)
);

-- What repeated an event and was dropped: how often, and the first places.
create table event_duplicates (
    event_id  uuid        not null,
    tenant_id varchar(64) collate "C" not null,
    dropped   integer     not null,
    places    jsonb       not null,
    primary key (event_id, tenant_id),
    foreign key (event_id, tenant_id) references event_ids on delete cascade
);

-- The streams of explicit aggregates (S4-75), each with the number of its last event. A row outlives
-- its events, so that retention never gives a number twice; erasing a user takes the user's own stream. The events are in `events`
-- (C37); the streams of users are numbered when they are read.
create table event_streams (
    tenant_id   varchar(64)  collate "C" not null,
    stream_id   text         collate "C" not null,
    version     bigint       not null,
    created_at  timestamptz  not null default now(),
    updated_at  timestamptz  not null default now(),
    entity_type text generated always as (split_part(stream_id, ':', 1)) stored,
    entity_id   text generated always as (substr(stream_id, strpos(stream_id, ':') + 1)) stored,
    primary key (tenant_id, stream_id)
) with (fillfactor = 70);

-- Counts (S1-32 to S1-36), written in the transaction that stores the events.
create table aggregated_events (
    id         bigint generated always as identity primary key,
    tenant_id  varchar(64)  collate "C" not null default 'default',
    event_type varchar(255) collate "C" not null,
    date       date         not null,
    count      bigint       not null,
    unique (tenant_id, event_type, date)
) with (fillfactor = 70);
create index aggregated_events_date_idx on aggregated_events (tenant_id, date);

create table aggregated_events_hourly (
    id             bigint generated always as identity primary key,
    tenant_id      varchar(64)  collate "C" not null default 'default',
    hour           timestamptz  not null,
    event_type     varchar(255) collate "C" not null,
    event_source   varchar(50)  collate "C" not null,
    event_category varchar(50)  collate "C" not null,
    count          bigint       not null,
    unique (tenant_id, hour, event_type, event_source, event_category)
) with (fillfactor = 70);

-- How far each partition of a log is stored: the fence of the exactly-once write (C40).
create table log_positions (
    topic      varchar(249) collate "C" not null,
    partition  integer      not null,
    -- The offset that is stored next.
    stored     bigint       not null,
    -- Of Kafka only: the topic's id, which one that is made again under the same name does not have.
    topic_id   uuid,
    -- Of the log on PostgreSQL only: the offset up to which listeners have what is stored, and the
    -- consumer that owns the partition.
    live       bigint,
    owner      uuid,
    updated_at timestamptz  not null default now(),
    primary key (topic, partition)
) with (fillfactor = 50);

-- Messages that a storing transaction leaves to be sent, to each sink the oldest first.
create table outbox (
    -- 1: Kafka; 2: NATS.
    sink       smallint     not null default 1,
    id         bigint       generated always as identity,
    tenant_id  varchar(64)  collate "C" not null,
    subject    text         collate "C" not null,
    key        bytea        not null,
    payload    bytea        not null,
    created_at timestamptz  not null default now(),
    primary key (sink, id)
) with (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000,
    toast.autovacuum_vacuum_scale_factor = 0, toast.autovacuum_vacuum_threshold = 20000
);
-- A row lives for milliseconds: compressing it costs more than it saves.
alter table outbox alter column payload set storage external;

-- Records that could not be decoded or stored, with where they stood and their bytes.
create table dead_letters (
    id         bigint generated always as identity primary key,
    tenant_id  varchar(64)  collate "C" not null default 'default',
    topic      varchar(249) collate "C" not null,
    partition  integer      not null,
    "offset"   bigint       not null,
    key        bytea,
    -- Pairs of name and value, in their order.
    headers    jsonb        not null default '[]',
    payload    bytea,
    reason     varchar(50)  collate "C" not null,
    detail     text         not null,
    -- The event in it, where it could be read.
    event_id   uuid,
    -- When the record was written, and whether its place is one of the log on PostgreSQL.
    timestamp_ms  bigint,
    from_postgres boolean   not null default false,
    -- open; redriven: its record is under way once more; discarded: set aside, for the reason in note.
    state      varchar(10)  collate "C" not null default 'open',
    note       text,
    attempts   integer      not null default 0,
    -- What was done with it, an object each, the oldest first.
    history    jsonb        not null default '[]',
    created_at timestamptz  not null default now(),
    changed_at timestamptz  not null default now()
);
create index dead_letters_event_idx on dead_letters (event_id) where event_id is not null;
create index dead_letters_tenant_idx on dead_letters (tenant_id, id desc);
create index dead_letters_position_idx on dead_letters (topic, partition, "offset");

-- Who reads which tenant: database roles that are not the services' own, as `tidegate tenant grant` makes
-- them. A role that stands here, or is a member of one, sees the rows of its tenants; for all others, and for
-- the owner of the tables, grants alone decide.
create table tenant_readers (
    role   name        not null,
    tenant varchar(64) collate "C" not null,
    primary key (role, tenant)
);
create function tenants_of(reader name) returns text[] language sql stable security definer
    set search_path from current
    as $$
        select array_agg(tenant::text) from tenant_readers t join pg_roles r on r.rolname = t.role
        where pg_has_role(reader, r.oid, 'usage') and not pg_has_role(reader,
            (select relowner from pg_class where oid = 'tenant_readers'::regclass), 'usage')
    $$;
-- Policies are in force once a role is granted a tenant. They do not concern the owner of the tables.
do $$
declare
    name text;
begin
    foreach name in array array['events', 'event_ids', 'event_streams', 'aggregated_events',
            'aggregated_events_hourly', 'dead_letters'] loop
        execute format('create policy own_tenants on %I using ((select tenants_of(current_user)) is null '
            'or tenant_id = any ((select tenants_of(current_user))::text[]))', name);
    end loop;
end $$;

-- The table under the name and columns of the event tracking system (S1-26 to S1-31, C09).
create view tracked_events as
select event_id as id, event_type, user_id, timestamp, metadata from events
where (select tenants_of(current_user)) is null
    or tenant_id = any ((select tenants_of(current_user))::text[]);

-- What Grafana's panels read (S1-22 to S1-24, CARD-09): short queries stay short, and stay as they are
-- when a table changes. No payloads: deploy/grafana/role.sql lets a role read these and nothing else.
create view grafana_tenants as
select distinct tenant_id from aggregated_events
where (select tenants_of(current_user)) is null
    or tenant_id = any ((select tenants_of(current_user))::text[]);

create view grafana_hourly as
select hour as time, tenant_id, event_type, event_source, event_category, count from aggregated_events_hourly
where (select tenants_of(current_user)) is null
    or tenant_id = any ((select tenants_of(current_user))::text[]);

create view grafana_daily as
select date::timestamp at time zone 'utc' as time, tenant_id, event_type, count from aggregated_events
where (select tenants_of(current_user)) is null
    or tenant_id = any ((select tenants_of(current_user))::text[]);

create view grafana_dead_letters as
select created_at as time, tenant_id, reason, topic, partition, "offset", detail from dead_letters
where (select tenants_of(current_user)) is null
    or tenant_id = any ((select tenants_of(current_user))::text[]);

create view grafana_positions as
select topic, partition, stored, live, updated_at from log_positions;

create view grafana_outbox as
select count(*) as messages, coalesce(extract(epoch from now() - min(created_at)), 0) as seconds from outbox;

create view grafana_partitions as
select child.relname::text as partition, pg_get_expr(child.relpartbound, child.oid) as range,
       greatest(child.reltuples, 0)::bigint as rows_estimate, pg_total_relation_size(child.oid) as bytes
from pg_inherits join pg_class child on child.oid = inhrelid
where inhparent = 'events'::regclass;

-- Processors (S4-77): what is done with stored events. Those that come with the code of a processor
-- (`from_code`) belong to all tenants; the others are registered through the API.
create table event_processors (
    processor_id      uuid         primary key default gen_random_uuid(),
    tenant_id         varchar(64)  collate "C",
    processor_name    varchar(255) collate "C" not null,
    processor_type    varchar(100) collate "C" not null,
    enabled           boolean      not null default true,
    priority          integer      not null default 0,
    filters           jsonb        not null default '{}',
    config            jsonb        not null default '{}',
    from_code         boolean      not null default false,
    -- Deleted: matches no event any more, and is gone once none of its work is left.
    deleted_at        timestamptz,
    error_count       bigint       not null default 0,
    last_error        text,
    last_processed_at timestamptz,
    created_at        timestamptz  not null default now(),
    updated_at        timestamptz  not null default now()
) with (fillfactor = 50);
create unique index event_processors_name_idx on event_processors (coalesce(tenant_id, ''), processor_name)
    where deleted_at is null;

-- The version of all rules: what is to be done with which events. Whoever changes one sets it anew; a
-- storing transaction reads it, and matches its events again if it is another (docs/decisions/0021).
create table rules_version (
    one     boolean primary key default true check (one),
    version uuid    not null default gen_random_uuid()
);
insert into rules_version default values;

-- What is to be done with an event because of a rule: made in the transaction that stores the event,
-- deleted in the one that records that it is done.
create table work (
    event_id        uuid        not null,
    tenant_id       varchar(64) collate "C" not null,
    rule_id         uuid        not null,
    -- 1: a processor, and the event is pending until it is done; 2: a webhook.
    kind            smallint    not null,
    event_timestamp timestamptz not null,
    -- How often it was begun. It names the attempt: what an earlier one says later does not count.
    attempt         integer     not null default 0,
    -- When it is to be done; while it is under way, when it is taken for lost.
    due_at          timestamptz not null default now(),
    last_error      text,
    created_at      timestamptz not null default now(),
    -- Of a rule that is ordered by stream: the event's stream; nothing of it is begun before what has a
    -- smaller number is done.
    stream          text        collate "C",
    number          bigint      generated always as identity,
    primary key (event_id, tenant_id, rule_id)
) with (
    fillfactor = 70, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 20000
);
create index work_due_idx on work (rule_id, due_at);
create index work_stream_idx on work (rule_id, stream, number) where stream is not null;

-- What became of it (S4-79): one row for each event and processor, `retry` until there is an outcome.
create table processing_results (
    result_id      bigint       generated always as identity primary key,
    event_id       uuid         not null,
    tenant_id      varchar(64)  collate "C" not null,
    processor_name varchar(255) collate "C" not null,
    status         varchar(20)  collate "C" not null,
    message        text,
    attempts       integer      not null,
    processed_at   timestamptz  not null default now(),
    duration_ms    integer,
    unique (event_id, tenant_id, processor_name)
);
create policy own_tenants on processing_results using ((select tenants_of(current_user)) is null
    or tenant_id = any ((select tenants_of(current_user))::text[]));

-- Projections (S4-05, S4-76, docs/decisions/0019).

-- What is folded, and how. Of each name one version is live; another may be built beside it, and takes
-- its place whole.
create table projection_definitions (
    id             bigint       generated always as identity primary key,
    tenant_id      varchar(64)  collate "C" not null,
    name           varchar(255) collate "C" not null,
    version        integer      not null,
    entity_type    varchar(255) collate "C" not null,
    -- The one entity it is about; null is each of the type.
    entity_id      text         collate "C",
    event_types    text[]       not null,
    fold           jsonb        not null,
    -- building, live, or retired: its states are being removed.
    state          varchar(10)  collate "C" not null default 'building',
    -- How far the history is read: the last entity, how many there were, of how many, with how many events.
    cursor         text,
    entities       bigint       not null default 0,
    entities_total bigint,
    events         bigint       not null default 0,
    problem        text,
    -- The processor that builds it, as long as it says so.
    leased_by      uuid,
    leased_until   timestamptz,
    created_at     timestamptz  not null default now(),
    built_at       timestamptz,
    unique (tenant_id, name, version)
);
create unique index projection_definitions_live_idx on projection_definitions (tenant_id, name) where state = 'live';
create unique index projection_definitions_building_idx on projection_definitions (tenant_id, name) where state = 'building';

-- The states, a row each of an entity. Those of a version that is not live are no answer yet.
create table event_projections (
    projection_id      varchar(255) collate "C" primary key default gen_random_uuid()::text,
    projection_name    varchar(255) collate "C" not null,
    entity_id          text         collate "C" not null,
    entity_type        varchar(255) collate "C" not null,
    state              jsonb        not null default '{}',
    -- The number of events in it, and the last of them in the order of the stream.
    version            bigint       not null default 0,
    last_event_id      varchar(255),
    last_event_time    timestamptz,
    created_at         timestamptz  not null default now(),
    updated_at         timestamptz  not null default now(),
    tenant_id          varchar(64)  collate "C" not null,
    definition         bigint       not null,
    definition_version integer      not null,
    -- The last event that could not be folded, and why.
    error              text,
    error_event_id     uuid,
    -- An event came after others that it happened before: the state is to be folded anew.
    late               boolean      not null default false,
    unique (definition, entity_id)
) with (fillfactor = 70);
create index event_projections_late_idx on event_projections (definition) where late;
create policy own_tenants on event_projections using ((select tenants_of(current_user)) is null
    or tenant_id = any ((select tenants_of(current_user))::text[]));

-- API keys (docs/security.md): of the key itself only the hash.
create table api_keys (
    id         uuid         primary key,
    tenant_id  varchar(64)  collate "C" not null default 'default',
    hash       bytea        not null unique check (octet_length(hash) = 32),
    -- How it begins, to tell keys apart.
    hint       text         not null,
    name       text         not null,
    scopes     text[]       not null,
    created_at timestamptz  not null default now(),
    expires_at timestamptz,
    revoked_at timestamptz
);
create index api_keys_tenant_idx on api_keys (tenant_id, created_at);

-- Limits of single tenants (docs/decisions/0038). Null is what the service's setting says, 0 is no limit.
create table tenant_limits (
    tenant            varchar(64) collate "C" primary key,
    events_per_second bigint      check (events_per_second >= 0),
    bytes_per_day     bigint      check (bytes_per_day >= 0),
    types_per_day     bigint      check (types_per_day >= 0),
    connections       bigint      check (connections >= 0),
    changed_at        timestamptz not null default now()
);

-- Replays (S4-32 to S4-38, docs/decisions/0020): stored events that are run again.
create table replays (
    id             uuid        primary key default gen_random_uuid(),
    tenant_id      varchar(64) collate "C" not null,
    -- The request as it came.
    selection      jsonb       not null,
    target_service varchar(100),
    projections    text[],
    -- Processors that get the events once more, by their names.
    processors     text[],
    -- They go to the users who listen, and nowhere else.
    live           boolean     not null default false,
    -- Events a second at most.
    rate           integer     not null,
    -- running, paused, cancelled, completed or failed.
    state          varchar(10) collate "C" not null default 'running',
    -- How many there are, how many were replayed, and how many could not be.
    events         bigint      not null default 0,
    replayed       bigint      not null default 0,
    failed         bigint      not null default 0,
    problem        text,
    -- The processor that runs it, as long as it says so.
    leased_by      uuid,
    leased_until   timestamptz,
    created_at     timestamptz not null default now(),
    started_at     timestamptz,
    ended_at       timestamptz
);
create index replays_tenant_idx on replays (tenant_id, created_at desc);
create index replays_running_idx on replays (created_at) where state = 'running';

-- The events of a replay in its order, until it has ended.
create table replay_events (
    replay    uuid        not null references replays on delete cascade,
    n         bigint      not null,
    event_id  uuid        not null,
    timestamp timestamptz not null,
    primary key (replay, n)
);

-- Subscriptions (S4-78): who is sent which events. Changed by the query API, followed by the processor.
create table event_subscriptions (
    subscription_id    uuid         primary key,
    tenant_id          varchar(64)  collate "C" not null default 'default',
    subscriber_name    varchar(255) collate "C" not null,
    subscriber_type    varchar(100) collate "C" not null,
    event_types        text[]       not null default '{}',
    event_sources      text[]       not null default '{}',
    event_categories   text[]       not null default '{}',
    users              text[]       not null default '{}',
    filter             jsonb,
    callback_url       text         not null,
    -- Messages are signed with it, so it cannot be kept as a hash; no role but the services' own reads it.
    webhook_secret     text         not null,
    -- The one before, which holds too until then.
    previous_secret    text,
    previous_secret_until timestamptz,
    retry_policy       jsonb        not null default '{}',
    -- json or cloudevents.
    format             varchar(20)  collate "C" not null default 'json',
    enabled            boolean      not null default true,
    -- none, or stream: events of a stream one after the other.
    ordering           varchar(20)  collate "C" not null default 'none',
    -- request, gone (the endpoint answered 410) or failing (for days).
    disabled_reason    varchar(20)  collate "C",
    -- Since when no delivery succeeded.
    failing_since      timestamptz,
    created_at         timestamptz  not null default now(),
    updated_at         timestamptz  not null default now(),
    unique (tenant_id, subscriber_name)
);

-- The attempts to deliver to subscriptions, kept for WEBHOOK_LOG_DAYS.
create table webhook_attempts (
    id              bigint       generated always as identity primary key,
    subscription_id uuid         not null,
    tenant_id       varchar(64)  collate "C" not null,
    event_id        uuid         not null,
    event_timestamp timestamptz  not null,
    event_type      varchar(255) collate "C" not null,
    attempt         integer      not null,
    -- delivered, retry (at next_attempt_at) or failed.
    outcome         varchar(10)  collate "C" not null,
    status          integer,
    duration_ms     integer      not null,
    error           text,
    -- The beginning of what the endpoint answered.
    response        text,
    next_attempt_at timestamptz,
    at              timestamptz  not null default now()
);
create index webhook_attempts_subscription_idx on webhook_attempts (subscription_id, id desc);
create index webhook_attempts_event_idx on webhook_attempts (event_id, id desc);
create index webhook_attempts_at_idx on webhook_attempts using brin (at) with (pages_per_range = 32, autosummarize = on);

-- Erasures of users (docs/decisions/0026).
create table erasures (
    id           uuid         primary key default gen_random_uuid(),
    tenant       varchar(64)  collate "C" not null,
    -- HMAC-SHA256 of the tenant and the user under erasure_key, by which what is read again is known.
    user_hash    bytea        not null check (octet_length(user_hash) = 32),
    -- The user, until it is done.
    user_id      varchar(255) collate "C",
    -- Whether the counts go too.
    counts       boolean      not null,
    -- running or completed.
    state        varchar(10)  collate "C" not null default 'running',
    -- What was accepted until then is erased.
    erased_at    timestamptz  not null default clock_timestamp(),
    -- Rows erased, by place, and what remains elsewhere, until when.
    places       jsonb        not null default '{}',
    remains      jsonb        not null default '{}',
    -- Records dropped since when they were read again.
    dropped      bigint       not null default 0,
    problem      text,
    -- The processor that runs it, as long as it says so.
    leased_by    uuid,
    leased_until timestamptz,
    ended_at     timestamptz
);
create index erasures_tenant_idx on erasures (tenant, erased_at desc);
create index erasures_user_idx on erasures (tenant, user_hash, erased_at desc);
create index erasures_running_idx on erasures (erased_at) where state = 'running';

create table erasure_key (
    one boolean primary key default true check (one),
    key bytea   not null default decode(replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', ''), 'hex')
);
insert into erasure_key default values;

-- Anomalies (S1-12, S1-41, docs/decisions/0028).

-- Counts by the minute, beside those by the day and hour; kept for ANOMALY_HISTORY_DAYS.
create table event_minutes (
    tenant       varchar(64)  collate "C" not null,
    minute       timestamptz  not null,
    event_type   varchar(255) collate "C" not null,
    event_source varchar(50)  collate "C" not null,
    -- The API that the events name; empty for none.
    api          varchar(255) collate "C" not null,
    count        bigint       not null,
    primary key (tenant, minute, event_type, event_source, api)
) with (fillfactor = 70);
create index event_minutes_minute_idx on event_minutes using brin (minute) with (pages_per_range = 32, autosummarize = on);

create table anomaly_rules (
    tenant     varchar(64)  collate "C" not null,
    name       varchar(100) collate "C" not null,
    rule       jsonb        not null,
    created_at timestamptz  not null default now(),
    updated_at timestamptz  not null default now(),
    primary key (tenant, name)
);

create table anomaly_alerts (
    alert_id       uuid         primary key,
    tenant         varchar(64)  collate "C" not null,
    rule           varchar(100) collate "C" not null,
    kind           varchar(20)  collate "C" not null,
    -- The source, API, family of types or type.
    subject        varchar(255) collate "C" not null,
    -- open or resolved.
    state          varchar(10)  collate "C" not null,
    opened_at      timestamptz  not null,
    resolved_at    timestamptz,
    value          float8       not null,
    usual          float8       not null,
    worst          float8       not null,
    events         bigint       not null,
    window_minutes integer      not null,
    message        text         not null,
    -- What listeners were notified of last, and when; since when all is well.
    notified       float8       not null,
    notified_at    timestamptz  not null,
    well_since     timestamptz,
    updated_at     timestamptz  not null default now()
) with (fillfactor = 70);
create unique index anomaly_alerts_open_idx on anomaly_alerts (tenant, rule, subject) where state = 'open';
create index anomaly_alerts_tenant_idx on anomaly_alerts (tenant, opened_at desc, alert_id desc);

-- How far it is judged, and by which processor, as long as it says so.
create table anomaly_clock (
    one          boolean primary key default true check (one),
    judged_until timestamptz,
    leased_by    uuid,
    leased_until timestamptz
);
insert into anomaly_clock default values;

create view grafana_anomalies as
select opened_at as time, resolved_at as timeend, tenant as tenant_id, rule, kind, subject, state, value, usual,
       worst, message as text
from anomaly_alerts;

-- Audits (docs/decisions/0028): everything worked out anew from the rows.
create table audits (
    id           uuid        primary key,
    -- running, completed or failed.
    state        varchar(10) collate "C" not null default 'running',
    repairs      boolean     not null,
    -- Made by the clock, not by a request.
    nightly      boolean     not null,
    -- The days that are looked at; null is open.
    from_day     date,
    until_day    date,
    -- What is being looked at, and how much was.
    phase        text        not null default 'waiting',
    checked      bigint      not null default 0,
    findings     bigint      not null default 0,
    repaired     bigint      not null default 0,
    problem      text,
    leased_by    uuid,
    leased_until timestamptz,
    created_at   timestamptz not null default now(),
    ended_at     timestamptz
);
create index audits_created_idx on audits (created_at desc);

create table audit_findings (
    audit    uuid        not null references audits on delete cascade,
    n        bigint      generated always as identity,
    -- Whose; null where it is of all.
    tenant   varchar(64) collate "C",
    kind     varchar(20) collate "C" not null,
    subject  text        not null,
    expected text        not null,
    found    text        not null,
    -- The rows that show it, some of them.
    events   uuid[]      not null,
    repaired boolean     not null,
    primary key (audit, n)
);

-- How events are built, as a sample of what comes shows (docs/api-query.md, Instrumentation). Kept for
-- 90 days.
create table event_shapes (
    tenant         varchar(64)  collate "C" not null,
    event_type     varchar(255) collate "C" not null,
    schema_version varchar(20)  collate "C" not null,
    -- A member of the data, and its type.
    path           varchar(255) collate "C" not null,
    json_type      varchar(10)  collate "C" not null,
    -- Events of the sample that have it.
    events         bigint       not null,
    first_seen     timestamptz  not null default now(),
    last_seen      timestamptz  not null default now(),
    primary key (tenant, event_type, schema_version, path, json_type)
) with (fillfactor = 70);

create table event_quality (
    tenant        varchar(64)  collate "C" not null,
    day           date         not null,
    event_type    varchar(255) collate "C" not null,
    event_source  varchar(50)  collate "C" not null,
    events        bigint       not null,
    -- Came again, and were dropped.
    duplicates    bigint       not null,
    -- Name no user, session, device or aggregate.
    without_ids   bigint       not null,
    -- By their own time, long before they came, or after.
    late          bigint       not null,
    early         bigint       not null,
    worst_seconds bigint       not null,
    primary key (tenant, day, event_type, event_source)
) with (fillfactor = 70);

-- Search (docs/decisions/0027).

-- What is searched on PostgreSQL: a row an event, written behind the store. It is found by words with their
-- places, `path:word` at the same places, and `field=value`; numbers and times stand by path in `numbers`.
create table event_search (
    tenant       varchar(64)  collate "C" not null,
    timestamp    timestamptz  not null,
    event_id     uuid         not null,
    event_type   varchar(255) collate "C" not null,
    event_source varchar(50)  collate "C" not null,
    user_id      varchar(255) collate "C",
    document     tsvector     not null,
    numbers      jsonb        not null,
    generation   bigint       not null,
    primary key (tenant, timestamp, event_id)
);
create index event_search_user_idx on event_search (tenant, user_id, timestamp) where user_id is not null;
create index event_search_document_idx on event_search using gin (document);

-- How far the index of each engine is: it has the events stored before `at`, and of those stored at that very
-- time the ones up to `id`. What was stored before is put in (once more) from `again_at` to `again_until`.
create table search_progress (
    engine       varchar(20) collate "C" primary key,
    at           timestamptz not null,
    id           uuid        not null default '00000000-0000-0000-0000-000000000000',
    again_at     timestamptz,
    again_id     uuid        not null default '00000000-0000-0000-0000-000000000000',
    again_from   timestamptz,
    again_until  timestamptz,
    -- One more with each reindexing; what is of an older one at its end is removed.
    generation   bigint      not null default 1,
    indexed      bigint      not null default 0,
    refused      bigint      not null default 0,
    -- Since when events are kept, as far as the engine knows.
    kept_from    timestamptz,
    problem      text,
    leased_by    uuid,
    leased_until timestamptz,
    updated_at   timestamptz not null default now()
);

-- Events that are still to be removed from an engine beside PostgreSQL.
create table search_removals (
    tenant   varchar(64) collate "C" not null,
    event_id uuid        not null,
    primary key (tenant, event_id)
);

-- Users (docs/decisions/0040): counted behind the store, each event once.

-- How many events each user had on a day of theirs, UTC. Goes with the events, and with the user.
create table user_days (
    tenant  varchar(64)  collate "C" not null,
    day     date         not null,
    user_id varchar(255) collate "C" not null,
    events  bigint       not null,
    primary key (tenant, day, user_id)
) with (fillfactor = 70);

-- The hundred with the most of each day.
create table busiest_users (
    tenant  varchar(64)  collate "C" not null,
    day     date         not null,
    user_id varchar(255) collate "C" not null,
    events  bigint       not null,
    primary key (tenant, day, user_id)
) with (fillfactor = 70);

-- How many users a day had, and how many seconds its events took from accepted to stored, together. Stays.
create table event_days (
    tenant  varchar(64) collate "C" not null,
    day     date        not null,
    events  bigint      not null,
    users   bigint      not null,
    seconds float8      not null,
    primary key (tenant, day)
) with (fillfactor = 70);

-- What was stored before this is counted there; null until it is begun.
create table user_counting (
    one           boolean primary key default true check (one),
    counted_until timestamptz
);
insert into user_counting default values;

-- What each processor says of Kafka: how many records of its partitions are not stored yet. Whoever said nothing
-- for a minute says nothing.
create table kafka_lags (
    processor  uuid        primary key,
    records    bigint      not null,
    updated_at timestamptz not null default now()
) with (fillfactor = 50);
