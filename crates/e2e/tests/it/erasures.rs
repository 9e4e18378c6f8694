//! A user is erased everywhere, while others go on, and does not come back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use testkit::{LIMIT, Receiver, Reply, eventually, eventually_eq};
use uuid::Uuid;

use crate::SHAPE;
use crate::direct::{Record, produce};
use crate::projections::{ask, define, get, send};
use crate::system::System;
use crate::world::{BACKEND, PATIENCE, Shape, World, beside_others, run, sum};

const PATH: &str = "/api/v1/admin/erasures";
/// Events of each user in the first part.
const EACH: usize = 20;

/// The n-th event of a user: with an aggregate of others, of the user itself, or without one.
fn event(user: &str, n: usize) -> Value {
    let mut event = json!({"event_id": Uuid::now_v7(), "event_type": format!("did.{}", n % 3),
        "user_id": user, "data": {"n": n, "name": user}});
    let aggregate = match n % 4 {
        0 => ("order", format!("{}", n % 2)),
        1 => ("user", user.to_owned()),
        _ => return event,
    };
    event["aggregate_type"] = aggregate.0.into();
    event["aggregate_id"] = aggregate.1.into();
    event
}

/// Where a text stands in the database: in any column that holds texts or bytes, of any table.
pub(crate) async fn found(world: &World, text: &str) -> BTreeMap<String, i64> {
    let client = world.database.connect().await.unwrap();
    let columns = "select c.relname::text, a.attname::text, a.atttypid = 'bytea'::regtype from pg_attribute a \
        join pg_class c on c.oid = a.attrelid where c.relnamespace = 'event'::regnamespace \
        and c.relkind in ('r', 'p') and a.attnum > 0 and not a.attisdropped and a.atttypid in ('text'::regtype, \
            'varchar'::regtype, 'json'::regtype, 'jsonb'::regtype, 'bytea'::regtype, 'text[]'::regtype, \
            'varchar[]'::regtype)";
    let columns = client.query(columns, &[]).await.unwrap();
    assert!(columns.len() > 60, "{}", columns.len());
    let mut found = BTreeMap::new();
    for row in columns {
        let (table, column, is_bytes): (String, String, bool) =
            (row.get(0), row.get(1), row.get(2));
        let bytes = if is_bytes {
            format!("\"{column}\"")
        } else {
            format!("convert_to(\"{column}\"::text, 'UTF8')")
        };
        let sql =
            format!("select count(*) from \"{table}\" where position($1::bytea in {bytes}) > 0");
        let count: i64 = client
            .query_one(&sql, &[&text.as_bytes()])
            .await
            .unwrap()
            .get(0);
        if count > 0 {
            found.insert(format!("{table}.{column}"), count);
        }
    }
    found
}

/// The keys in Redis that have a text in them.
fn keys(world: &World, text: &str) -> Vec<String> {
    let client = redis::Client::open(world.parts.redis_url.as_str()).unwrap();
    let mut connection = client.get_connection().unwrap();
    let mut scan = redis::cmd("SCAN");
    scan.cursor_arg(0)
        .arg("MATCH")
        .arg(format!("*{text}*"))
        .arg("COUNT")
        .arg(10_000);
    let keys = scan.iter::<String>(&mut connection).unwrap();
    keys.map(|key| key.unwrap()).collect()
}

async fn erase(system: &System, body: Value) -> Value {
    let (status, begun) = ask(Method::POST, &system.query_url(PATH), &body).await;
    assert_eq!(status, 202, "{begun}");
    receipt(system, begun["id"].as_str().unwrap(), "completed").await
}

/// Waits until an erasure is that far.
async fn receipt(system: &System, id: &str, status: &str) -> Value {
    eventually(status, PATIENCE, || async {
        let (_, now) = get(system, &format!("{PATH}/{id}")).await;
        if now["status"] == status {
            Ok(now)
        } else {
            Err(now)
        }
    })
    .await
}

async fn counted(world: &World) -> i64 {
    let sums = "select (select coalesce(sum(count), 0)::int8 from aggregated_events) * 1000000 \
        + (select coalesce(sum(count), 0)::int8 from aggregated_events_hourly)";
    let both: i64 = world.database.scalar(sums, &[]).await.unwrap();
    assert_eq!(both / 1_000_000, both % 1_000_000, "days and hours");
    both / 1_000_000
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_is_erased_everywhere_while_others_go_on_and_does_not_come_back() {
    let _turn = beside_others().await;
    let world = World::shared().await;
    let mut system = world
        .system()
        .env("WEBHOOK_ALLOWED_NETWORKS", "127.0.0.0/8")
        .env("SSE_HISTORY", "all")
        .start()
        .await;
    for kind in ["user", "order"] {
        let name = format!("of-{kind}");
        define(
            &system,
            json!({"name": name, "entity_type": kind, "fold": {"rule": "merge"}}),
        )
        .await;
    }
    // An endpoint that takes nothing and repeats what it was sent: its work and its words stay.
    let endpoint = Receiver::start(|_, request| {
        let text = request.json().to_string();
        let head = format!("HTTP/1.1 500 No\r\ncontent-length: {}\r\n\r\n", text.len());
        Reply::raw(head + &text)
    })
    .await
    .unwrap();
    let subscription = json!({"subscriber_name": "hook", "callback_url": endpoint.url(),
        "event_types": ["did.0"], "retry_policy": {"max_retries": 5, "backoff_seconds": [600]}});
    let url = system.query_url("/api/v1/events/subscriptions");
    assert_eq!(ask(Method::POST, &url, &subscription).await.0, 201);

    let name = |n: usize| format!("person-{n}-{}", Uuid::new_v4().simple());
    let victims: Vec<String> = (0..3).map(name).collect();
    let bystanders: Vec<String> = (3..6).map(name).collect();
    let all: Vec<Value> = (0..EACH)
        .flat_map(|n| {
            victims
                .iter()
                .chain(&bystanders)
                .map(move |user| event(user, n))
        })
        .collect();
    send(&system, &all).await;
    send(&system, &all[..12]).await;
    for user in victims.iter().chain(&bystanders) {
        let bad = [
            format!(r#"{{"event_type":7,"user_id":"{user}"}}"#),
            format!(r#"{{"event_type":"a","user_id":"{user}","#),
            format!(r#"{{"event_type":7,"data":["user:{user}"]}}"#),
        ];
        let records = bad.map(|payload| Record::new(0, &format!("user:{user}"), payload));
        produce(&world, BACKEND, &records).await;
    }
    let stored = i64::try_from(all.len()).unwrap();
    eventually_eq("stored events", stored, || {
        world.database.count("event_ids")
    })
    .await;
    eventually_eq("dead letters", 18, || world.database.count("dead_letters")).await;
    eventually("attempts of the webhook", LIMIT, || async {
        let sql = "select count(*) from webhook_attempts a join events e using (event_id) \
            where e.user_id = any($1) and position(e.user_id in a.response) > 0";
        let count: i64 = world.database.scalar(sql, &[&victims]).await.unwrap();
        (count > 0).then_some(()).ok_or(count)
    })
    .await;
    if SHAPE == Shape::Split {
        // Whatever is to be pushed is pushed.
        for user in victims.iter().chain(&bystanders) {
            eventually_eq("messages of a channel", EACH, || async {
                let url = world.parts.redis_url.as_str();
                let mut redis = redis::Client::open(url)?.get_connection()?;
                let key = world.topic(&format!("sse:user:{user}"));
                Ok(redis::cmd("XLEN").arg(key).query::<usize>(&mut redis)?)
            })
            .await;
            assert!(
                keys(&world, user).len() > EACH,
                "the channel and what it remembers"
            );
        }
    }
    assert!(found(&world, &victims[0]).await.len() > 10);

    // Others go on meanwhile.
    let over = Arc::new(AtomicBool::new(false));
    let load = tokio::spawn({
        let (over, user) = (Arc::clone(&over), bystanders[0].clone());
        let url = system.ingest_url("/api/events/batch");
        async move {
            let mut sent = 0;
            while !over.load(Ordering::Relaxed) {
                let batch: Vec<Value> = (0..10).map(|n| event(&user, n)).collect();
                let (status, body) = ask(Method::POST, &url, &json!(batch)).await;
                assert_eq!(status, 201, "{body}");
                sent += batch.len();
            }
            sent
        }
    });
    let url = system.query_url("");
    let shown = run(
        "tidegate",
        &["erase", "--user", &victims[0], "--url", &url],
        &[],
    );
    let text = String::from_utf8_lossy(&shown.stdout).into_owned();
    let says = format!("{EACH} events");
    assert!(shown.status.success() && text.contains(&says), "{shown:?}");
    let arguments = [
        "erase",
        "--user",
        &victims[0],
        "--yes",
        "--json",
        "--url",
        &url,
    ];
    let erased = run("tidegate", &arguments, &[]);
    let first: Value =
        serde_json::from_slice(&erased.stdout).unwrap_or_else(|_| panic!("{erased:?}"));
    assert_eq!(first["status"], "completed", "{first}");
    assert_eq!(first["user_id"], Value::Null);
    for (place, rows) in [("events", EACH), ("event_ids", EACH), ("dead_letters", 3)] {
        assert_eq!(first["erased"][place], rows, "{place}: {first}");
    }
    for place in ["work", "event_duplicates", "event_streams", "projections"] {
        assert!(
            first["erased"][place].as_u64() > Some(0),
            "{place}: {first}"
        );
    }
    if SHAPE == Shape::Split {
        assert_eq!(first["erased"]["live"], EACH, "{first}");
        let topics = first["remains"]["kafka"].as_array().unwrap();
        let of = |name: &str| topics.iter().find(|one| one["topic"] == world.topic(name));
        for name in [BACKEND, "event-stream"] {
            let gone_by = of(name).unwrap()["gone_by"].as_str().unwrap();
            assert!(
                gone_by > first["accepted_until"].as_str().unwrap(),
                "{first}"
            );
        }
    }
    let kept_sum = stored;
    let by_api = erase(&system, json!({"user_id": victims[1]})).await;
    let with_counts = erase(&system, json!({"user_id": victims[2], "counts": true})).await;
    assert_eq!(with_counts["erased"]["counts"], EACH, "{with_counts}");
    let attempts =
        [&first, &by_api, &with_counts].map(|one| one["erased"]["webhook_attempts"].as_u64());
    assert!(attempts.iter().flatten().sum::<u64>() > 0, "{attempts:?}");
    over.store(true, Ordering::Relaxed);
    let more = i64::try_from(load.await.unwrap()).unwrap();

    let each = i64::try_from(EACH).unwrap();
    let left = stored + more - 3 * each;
    eventually_eq("events left", left, || world.database.count("events")).await;
    assert_eq!(world.database.count("event_ids").await.unwrap(), left);
    assert_eq!(
        counted(&world).await,
        kept_sum + more - each,
        "one of three is not counted any more"
    );
    let check = async |when: &str| {
        for user in &victims {
            assert_eq!(found(&world, user).await, BTreeMap::new(), "{when}");
            if SHAPE == Shape::Split {
                assert_eq!(keys(&world, user), Vec::<String>::new(), "{when}");
            }
        }
        // What is no event is kept again when it is read again.
        let letters = "(select distinct topic, partition, \"offset\" from dead_letters) d";
        let mine = "events where user_id = any($1)";
        let sql = format!("select count(*) from {mine}");
        let mine: i64 = world.database.scalar(&sql, &[&bystanders]).await.unwrap();
        assert_eq!(mine, left, "{when}");
        assert_eq!(world.database.count(letters).await.unwrap(), 9, "{when}");
    };
    check("after the erasure").await;
    let states = "event_projections p join projection_definitions d on d.id = p.definition";
    let users = format!("{states} where d.entity_type = 'user'");
    assert_eq!(world.database.count(&users).await.unwrap(), 3);
    let (_, state) = get(&system, "/api/v1/events/projections/order/0").await;
    let name = state["state"]["name"].as_str().unwrap().to_owned();
    assert!(bystanders.contains(&name), "{state}");

    // A second run finds nothing.
    let second = erase(&system, json!({"user_id": victims[0]})).await;
    assert_eq!(second["erased"], json!({}), "{second}");
    let (_, listed) = get(&system, &format!("{PATH}?user_id={}", victims[0])).await;
    assert_eq!(listed["erasures"].as_array().unwrap().len(), 2, "{listed}");

    // What was accepted before comes once more: the whole of Kafka, or a record of the log in PostgreSQL.
    let old = all
        .iter()
        .find(|event| event["user_id"] == victims[0].as_str())
        .unwrap();
    let sent_again = match SHAPE {
        Shape::Split => {
            assert!(system.processor_mut().terminate().await.success());
            let back = "update log_positions set stored = 0 where topic <> 'postgres:event_log'";
            world.database.rows(back, &[]).await.unwrap();
            system.processor_mut().restart().await;
            // The events, two sent twice, and the records that are none.
            3 * EACH + 6 + 9
        }
        Shape::AllInOne => {
            let mut client = world.database.connect().await.unwrap();
            let tx = client.transaction().await.unwrap();
            let bad = format!(r#"{{"event_type":7,"user_id":"{}"}}"#, victims[1]);
            for payload in [old.to_string(), bad] {
                let sql = "select log_append(array[0::int2], array[$1::text], array[null::bytea], array[''::bytea], array[$2::bytea])";
                tx.execute(sql, &[&BACKEND, &payload.as_bytes()])
                    .await
                    .unwrap();
            }
            let before = "update event_log set created_at = now() - interval '1 hour' \
                where id > currval(pg_get_serial_sequence('event_log', 'id')) - 2";
            tx.execute(before, &[]).await.unwrap();
            tx.commit().await.unwrap();
            2
        }
    };
    eventually_eq("dropped when read again", sent_again as f64, || async {
        let url = system.processor_url("/metrics");
        anyhow::Ok(
            sum(
                &url,
                "tidegate_processor_records_total",
                &[("result", "erased")],
            )
            .await,
        )
    })
    .await;
    check("after the log was read again").await;
    let id = second["id"].as_str().unwrap();
    assert!(receipt(&system, id, "completed").await["dropped"].as_u64() > Some(0));
    // Who was erased may come back.
    let new = event(&victims[0], 2);
    send(&system, std::slice::from_ref(&new)).await;
    eventually_eq("a new event is welcome", left + 1, || {
        world.database.count("events")
    })
    .await;
    system.assert_well();
}

/// A month's requests at once, while others go on; each of those has a state of its own, live messages, and
/// a record that is no event.
#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_users_are_erased_under_load_and_nobody_else() {
    const VICTIMS: usize = 1_000;
    const BYSTANDERS: usize = 100;
    const EACH: usize = 4;
    let _turn = beside_others().await;
    let world = World::shared().await;
    let mut system = world.system().env("SSE_HISTORY", "all").start().await;
    for kind in ["user", "order"] {
        let name = format!("of-{kind}");
        let fold = json!({"name": name, "entity_type": kind, "fold": {"rule": "merge"}});
        define(&system, fold).await;
    }
    // One search for this finds whatever is left of any of them.
    let gone = format!("gone{}", Uuid::new_v4().simple());
    let kept = format!("kept{}", Uuid::new_v4().simple());
    let victims: Vec<String> = (0..VICTIMS).map(|n| format!("{gone}-{n}")).collect();
    let bystanders: Vec<String> = (0..BYSTANDERS).map(|n| format!("{kept}-{n}")).collect();
    let users = || victims.iter().chain(&bystanders);
    let all: Vec<Value> = (0..EACH)
        .flat_map(|n| {
            users()
                .enumerate()
                .map(move |(of, user)| small(user, of, n))
        })
        .collect();
    for part in all.chunks(500) {
        send(&system, part).await;
    }
    let letters: Vec<Record> = users()
        .map(|user| Record::new(0, user, format!(r#"{{"event_type":7,"user_id":"{user}"}}"#)))
        .collect();
    produce(&world, BACKEND, &letters).await;
    let stored = i64::try_from(all.len()).unwrap();
    let refused = i64::try_from(letters.len()).unwrap();
    eventually_eq("stored events", stored, || {
        world.database.count("event_ids")
    })
    .await;
    eventually_eq("dead letters", refused, || {
        world.database.count("dead_letters")
    })
    .await;
    assert!(found(&world, &gone).await.len() > 10);

    let over = Arc::new(AtomicBool::new(false));
    let http = crate::sender::client();
    let load = tokio::spawn({
        let (over, users, http) = (Arc::clone(&over), bystanders.clone(), http.clone());
        let url = system.ingest_url("/api/events/batch");
        async move {
            let mut sent = 0;
            while !over.load(Ordering::Relaxed) {
                let each = users.iter().enumerate();
                let round = sent / users.len();
                let batch: Vec<Value> = each.map(|(of, user)| small(user, of, round)).collect();
                let answer = http.post(&url).json(&batch).send().await.unwrap();
                assert_eq!(answer.status(), 201);
                sent += batch.len();
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            sent
        }
    });
    let url = system.query_url(PATH);
    for some in victims.chunks(8) {
        let asked = some.iter().map(|user| {
            let request = http.post(&url).json(&json!({"user_id": user}));
            async move { request.send().await.unwrap().status() }
        });
        for status in futures_util::future::join_all(asked).await {
            assert_eq!(status, 202);
        }
    }
    let count = i64::try_from(VICTIMS).unwrap();
    // How fast it goes is the machine's affair; what hangs completes none.
    let mut done = 0;
    while done < count {
        done = eventually("one more erasure is completed", PATIENCE, || async {
            let now = world.database.count("erasures where state = 'completed'");
            let now = now.await.unwrap();
            (now > done).then_some(now).ok_or(now)
        })
        .await;
    }
    over.store(true, Ordering::Relaxed);
    let more = i64::try_from(load.await.unwrap()).unwrap();

    let left = stored + more - i64::try_from(VICTIMS * EACH).unwrap();
    eventually_eq("events left", left, || world.database.count("events")).await;
    assert_eq!(world.database.count("event_ids").await.unwrap(), left);
    let theirs = "events where user_id = any($1)";
    let sql = format!("select count(*) from {theirs}");
    let theirs: i64 = world.database.scalar(&sql, &[&bystanders]).await.unwrap();
    assert_eq!(theirs, left, "nobody else lost any");
    assert_eq!(counted(&world).await, stored + more, "counts name nobody");
    assert_eq!(
        world.database.count("dead_letters").await.unwrap(),
        i64::try_from(BYSTANDERS).unwrap()
    );
    assert_eq!(found(&world, &gone).await, BTreeMap::new());
    let dump = dump(&world);
    assert!(!dump.contains(&gone), "the dump names one of them");
    assert!(dump.contains(&kept), "the dump has the others");
    let said = "select count(*)::int8 from erasures where places->>'events' = $1 and places->>'dead_letters' = '1'";
    let said: i64 = world
        .database
        .scalar(said, &[&EACH.to_string()])
        .await
        .unwrap();
    assert_eq!(said, count, "each receipt tells what there was");
    if SHAPE == Shape::Split {
        assert_eq!(keys(&world, &gone), Vec::<String>::new());
        assert!(keys(&world, &kept).len() >= BYSTANDERS);
        let untold = "erasures where not exists (select from jsonb_array_elements(remains->'kafka') t \
            where t->>'gone_by' is not null)";
        assert_eq!(
            world.database.count(untold).await.unwrap(),
            0,
            "what Kafka has, and until when"
        );
    }
    system.assert_well();
}

/// The n-th event of a user, some with an order that a few users share.
fn small(user: &str, of: usize, n: usize) -> Value {
    let mut event = event(user, n);
    if event["aggregate_type"] == "order" {
        event["aggregate_id"] = format!("{}", of % 100).into();
    }
    event
}

/// The database as `pg_dump` writes it.
fn dump(world: &World) -> String {
    let output = std::process::Command::new("pg_dump")
        .arg(&world.database.url)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_request_says_what_is_wrong() {
    let _turn = beside_others().await;
    let world = World::shared().await;
    let system = world.system().start().await;
    for (body, field) in [
        (json!({}), "user_id"),
        (json!({"user_id": ""}), "user_id"),
        (json!({"user_id": 7}), "user_id"),
        (json!({"user_id": "u", "counts": "maybe"}), "counts"),
        (json!({"user_id": "u", "tenant": "a b"}), "tenant"),
    ] {
        let (status, answer) = ask(Method::POST, &system.query_url(PATH), &body).await;
        assert!([400, 422].contains(&status.as_u16()), "{body}: {status}");
        assert!(answer.to_string().contains(field), "{body}: {answer}");
    }
    for path in ["x".to_owned(), Uuid::new_v4().to_string()] {
        assert_eq!(get(&system, &format!("{PATH}/{path}")).await.0, 404);
    }
    assert_eq!(world.database.count("erasures").await.unwrap(), 0);
}
