//! What is unusual is told, once, whoever dies meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};
use testkit::{Receiver, Reply, TestService, eventually, eventually_eq};

use crate::SHAPE;
use crate::documented::assert_as_documented;
use crate::sender::client;
use crate::world::{PATIENCE, Shape, World, beside_others};

/// Six weeks in which nothing happens, and an hour and a half with a surge and errors from 45 to 25
/// minutes ago, and a silence since 20 minutes ago.
const PAST: &str = "
    insert into aggregated_events (tenant_id, event_type, date, count)
        select 'default', event_type, current_date - day, 14400
        from generate_series(1, 42) day, unnest(array['order.placed', 'page.viewed']) event_type;
    insert into aggregated_events_hourly (tenant_id, hour, event_type, event_source, event_category, count)
        select 'default', date_trunc('hour', now()) - hour * interval '1 hour', event_type, 'backend', 'order', 600
        from generate_series(1, 42 * 24) hour, unnest(array['order.placed', 'page.viewed']) event_type;
    insert into event_minutes (tenant, minute, event_type, event_source, api, count)
        select 'default', date_trunc('minute', now()) - ago * interval '1 minute', event_type, event_source, '', count
        from generate_series(-60, 90) ago, lateral (values
            ('order.placed', 'backend', case when ago between 26 and 45 then 100 else 10 end),
            ('page.viewed', 'backend', case when ago > 20 then 10 else 0 end),
            ('sync.done', 'external_api', 50),
            ('sync.failed', 'external_api', case when ago between 26 and 45 then 10 else 0 end))
            as counts (event_type, event_source, count)
        where count > 0;";

/// Kind and subject of an alert, and what is told of it.
const WANTED: [(&str, &str, &[&str]); 3] = [
    (
        "error_rate",
        "external_api",
        &["opened", "updated", "resolved"],
    ),
    ("silence", "page.viewed", &["opened"]),
    ("surge", "order.placed", &["opened", "updated", "resolved"]),
];
const TOLD: i64 = 7;

/// A processor that looks for anomalies, beside the one of the system.
fn watcher(world: &World) -> TestService {
    // Whichever processor has the work delivers it.
    let processor = world.processor().env("ANOMALY_INTERVAL", 1);
    let processor = processor.env("WEBHOOK_ALLOWED_NETWORKS", "127.0.0.0/8");
    processor.env("WEBHOOK_TIMEOUT_SECONDS", 2).spawn()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_anomaly_is_told_once_although_processors_are_killed() {
    let _turn = beside_others().await;
    let world = World::shared().await;
    let system = world
        .system()
        .env("WEBHOOK_ALLOWED_NETWORKS", "127.0.0.0/8")
        .env("WEBHOOK_TIMEOUT_SECONDS", 2)
        .env("PROCESSING_INTERVAL", 1)
        .start()
        .await;
    let receiver = Receiver::start(|_, _| Reply::status(200)).await.unwrap();
    let subscription = json!({"subscriber_name": "on-call", "callback_url": receiver.url(),
        "event_types": ["anomaly.alert.*"]});
    let url = system.query_url("/api/v1/events/subscriptions");
    let made = client().post(url).json(&subscription).send().await.unwrap();
    assert_eq!(made.status(), 201);
    let database = world.database.connect().await.unwrap();
    database.batch_execute(PAST).await.unwrap();

    // One dies as soon as it has begun, and those that are left share it.
    let mut dies = watcher(&world);
    eventually_eq("somebody watches", 1, || {
        world
            .database
            .count("anomaly_clock where leased_by is not null")
    })
    .await;
    dies.kill();
    let _others = [watcher(&world), watcher(&world)];
    eventually_eq("events that tell of alerts", TOLD, || {
        world
            .database
            .count("events where event_type like 'anomaly.alert.%'")
    })
    .await;

    let sql = "select event_type, data->>'kind', data->>'subject', data->>'alert_id' from events \
        where event_type like 'anomaly.alert.%' order by timestamp, received_at";
    let mut stored: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
    let mut ids = BTreeSet::new();
    for row in database.query(sql, &[]).await.unwrap() {
        let state = row.get::<_, &str>(0).rsplit('.').next().unwrap().to_owned();
        stored
            .entry((row.get(1), row.get(2)))
            .or_default()
            .push(state);
        ids.insert((row.get::<_, String>(3), row.get::<_, String>(0)));
    }
    let wanted = WANTED.map(|(kind, subject, states)| {
        let states = states.iter().map(ToString::to_string).collect::<Vec<_>>();
        ((kind.to_owned(), subject.to_owned()), states)
    });
    assert_eq!(stored, BTreeMap::from(wanted));
    assert_eq!(
        ids.len(),
        stored.values().map(Vec::len).sum::<usize>(),
        "each its own"
    );

    let url = system.query_url("/api/v1/anomalies?state=open");
    let open: Value = client()
        .get(url)
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    let open = open["anomalies"].as_array().unwrap();
    assert_eq!(open.len(), 1, "{open:?}");
    assert_eq!(
        (&open[0]["subject"], &open[0]["rule"]),
        (&json!("page.viewed"), &json!("silence"))
    );
    assert_tried(&system.query_url("/api/v1/anomalies/rules/trial"), &world).await;

    // What the one that was killed had begun is begun again.
    eventually("deliveries", PATIENCE, || async {
        let mut told = BTreeSet::new();
        for request in receiver.received() {
            let body = request.json();
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            told.insert((text(&body["data"]["alert_id"]), text(&body["event_type"])));
        }
        if told == ids { Ok(()) } else { Err(told) }
    })
    .await;
    if SHAPE == Shape::Split {
        assert_on_the_topic(&world, &ids).await;
    }
}

/// The rule tried on the history finds what it found live.
async fn assert_tried(url: &str, world: &World) {
    let body = json!({"kind": "surge", "days": 1});
    let tried = client().post(url).json(&body).send().await.unwrap();
    assert_eq!(tried.status(), 200);
    let tried: Value = tried.json().await.unwrap();
    let found = tried["alerts"].as_array().unwrap().iter();
    let found: Vec<_> = found
        .filter(|alert| alert["subject"] == "order.placed")
        .collect();
    let live: String = world
        .database
        .scalar(
            "select to_char(opened_at at time zone 'utc', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') \
             from anomaly_alerts where kind = 'surge'",
            &[],
        )
        .await
        .unwrap();
    assert_eq!(found.len(), 1, "{tried}");
    assert_eq!(
        (&found[0]["opened_at"], &found[0]["state"]),
        (&json!(live), &json!("resolved"))
    );
}

/// Every change is on `events.alerts`, as documented; a repeat would have the same alert and subject.
async fn assert_on_the_topic(world: &World, ids: &BTreeSet<(String, String)>) {
    eventually_eq("the outbox is empty", 0, || world.database.count("outbox")).await;
    let messages = eventually("messages on events.alerts", PATIENCE, || async {
        let messages = world.kcat.consume(&world.topic("events.alerts")).await?;
        anyhow::ensure!(messages.len() >= ids.len(), "{} messages", messages.len());
        Ok(messages)
    })
    .await;
    let mut told = BTreeSet::new();
    for message in messages {
        let subject = message.headers.iter().find(|(name, _)| name == "subject");
        let subject = subject.unwrap().1.clone();
        let payload: Value = serde_json::from_str(&message.payload.unwrap()).unwrap();
        assert_as_documented(&subject, &payload);
        told.insert((payload["alert_id"].as_str().unwrap().to_owned(), subject));
    }
    assert_eq!(told, *ids);
}

/// Minutes of the counts are those of the events, by type, source and API.
#[tokio::test(flavor = "multi_thread")]
async fn events_are_counted_by_the_minute_and_api() {
    let _turn = beside_others().await;
    let world = World::shared().await;
    let system = world.system().start().await;
    let now = time::OffsetDateTime::now_utc() - Duration::from_secs(3_600);
    let at = now.replace_second(59).unwrap().unix_timestamp();
    let event = |seconds: i64, data: Value| {
        let at = time::OffsetDateTime::from_unix_timestamp(at + seconds).unwrap();
        let at = at
            .format(&time::format_description::well_known::Rfc3339)
            .unwrap();
        json!({"event_type": "api_call", "event_source": "backend", "timestamp": at, "data": data})
    };
    let days = 40 * 86_400;
    let events = [
        event(0, json!({"endpoint": "/orders/17?x=1"})),
        event(0, json!({"endpoint": "https://a.example/orders/18"})),
        event(1, json!({"endpoint": "/orders/19"})),
        event(1, json!({"other": 1})),
        // Long ago: it is stored, and counted by the day and hour.
        event(-days, json!({})),
    ];
    let url = system.ingest_url("/api/v1/events/batch");
    let answer = client().post(url).json(&events).send().await.unwrap();
    assert!(answer.status().is_success(), "{:?}", answer.text().await);
    eventually_eq("stored", 5, || world.database.count("events")).await;
    let sql = "select (extract(epoch from minute)::int8 - $1) / 60, api, count from event_minutes \
        where tenant = 'default' and event_type = 'api_call' and event_source = 'backend' order by 1, 2";
    let rows = world.database.rows(sql, &[&(at - 59)]).await.unwrap();
    let counts: Vec<(i64, String, i64)> = rows
        .iter()
        .map(|row| (row.get(0), row.get(1), row.get(2)))
        .collect();
    let count = |minute, api: &str, count| (minute, api.to_owned(), count);
    let want = [
        count(0, "/orders/:id", 2),
        count(1, "", 1),
        count(1, "/orders/:id", 1),
    ];
    assert_eq!(counts, want);
    let daily: i64 = world
        .database
        .scalar("select sum(count)::int8 from aggregated_events", &[])
        .await
        .unwrap();
    assert_eq!(daily, 5);
}
