//! Two tenants, who know nothing of each other.

use serde_json::{Value, json};
use testkit::{LIMIT, SseStream, eventually, eventually_eq};

use crate::SHAPE;
use crate::attack::{Guarded, key};
use crate::direct::{Record, produce};
use crate::world::{BACKEND, DOMAIN, Shape, World, beside_others, run};

const ID: &str = "0198c5a2-6e0e-7c31-9d0a-4a1f6c1d2e3f";
const BY_LOG: &str = "0198c5a2-6e0e-7c31-9d0a-4a1f6c1d2e40";

async fn answer(guarded: &Guarded, key: &str, path: &str) -> Value {
    let answer = guarded.get(path, key).send().await.unwrap();
    answer.json().await.unwrap_or_default()
}

#[tokio::test]
async fn two_tenants_send_the_same_and_each_has_its_own() {
    let _turn = beside_others().await;
    let guarded = Guarded::start(World::shared().await).await;
    let tenants = [("acme", key("secret", "a")), ("other", key("secret", "x"))];
    let mut streams = vec![];
    for (_, key) in &tenants {
        // As a browser: a ticket, then a stream without any header.
        let url = guarded.query().url("/api/v1/sse/tickets");
        let request = reqwest::Client::new().post(url).bearer_auth(key);
        let ticket = request
            .json(&json!({"user_id": "u-1"}))
            .send()
            .await
            .unwrap();
        let ticket: Value = ticket.json().await.unwrap();
        let url = guarded.query().url(ticket["url"].as_str().unwrap());
        let mut stream = SseStream::open(&url, None).await.unwrap();
        stream.wait_cursor().await.unwrap();
        let others = url.replace("/u-1?", "/u-2?").replace("u%2D1?", "u-2?");
        assert!(
            SseStream::open(&others, None).await.is_err(),
            "a ticket for one user"
        );
        streams.push(stream);
    }
    // The same id, user, stream and version for both, at the same moment.
    let send = async |name: &str, key: &str| {
        let event = json!({"event_id": ID, "event_type": "order.placed", "user_id": "u-1",
            "aggregate_type": "order", "aggregate_id": "7", "expected_version": 0,
            "data": {"of": name}});
        guarded.send(key, &event).await.status()
    };
    let [(acme, a), (other, x)] = &tenants;
    let sent = tokio::join!(send(acme, a), send(other, x));
    assert_eq!((sent.0.as_u16(), sent.1.as_u16()), (201, 201));

    for ((name, key), stream) in tenants.iter().zip(&mut streams) {
        has_its_own(&guarded, key, stream, (ID, name, 1)).await;
        let counts = answer(&guarded, key, "/api/v1/events/stats").await;
        assert_eq!(counts["total_events"], 1, "{counts}");
        let letters = answer(&guarded, key, "/api/v1/events/dead-letters").await;
        assert!(!letters.to_string().contains(ID), "{letters}");
    }
    // The same once more from those who write to the log, which only Kafka has for others.
    if SHAPE == Shape::Split {
        let records = tenants.each_ref().map(|(name, _)| {
            let event = json!({"event_id": BY_LOG, "event_type": "order.paid", "user_id": "u-1",
                "aggregate_type": "order", "aggregate_id": "7", "data": {"of": name}});
            let mut record = Record::new(0, "order:7", event.to_string());
            record.headers.push(("tenant", name.as_bytes().to_vec()));
            record
        });
        produce(&guarded.world, BACKEND, &records).await;
        for ((name, key), stream) in tenants.iter().zip(&mut streams) {
            has_its_own(&guarded, key, stream, (BY_LOG, name, 2)).await;
            // Statistics are kept for a second.
            eventually_eq("both are counted", json!(2), || async {
                Ok(answer(&guarded, key, "/api/v1/events/stats").await["total_events"].clone())
            })
            .await;
        }
    }
    // Nor does the default tenant have any of it.
    let operator = key("secret", "o");
    let page = answer(&guarded, &operator, "/api/v1/events/history?count=true").await;
    assert_eq!(page["total"], 0, "{page}");
    let page = answer(&guarded, &operator, "/api/v1/events/search?q=user:u-1").await;
    assert_eq!(page["events"], json!([]), "{page}");
}

/// A tenant reads, hears and finds its newest event, that many in all, and nothing of the other.
async fn has_its_own(
    guarded: &Guarded,
    key: &str,
    stream: &mut SseStream,
    (id, name, count): (&str, &str, usize),
) {
    let own = json!({"of": name});
    eventually_eq(&format!("{name} has {id}"), own.clone(), || async {
        Ok(answer(guarded, key, &format!("/api/v1/events/{id}")).await["data"].clone())
    })
    .await;
    let page = answer(guarded, key, "/api/v1/events/stream/order:7").await;
    assert_eq!(
        (&page["version"], page["events"].as_array().unwrap().len()),
        (&json!(count), count)
    );
    let page = answer(guarded, key, "/api/v1/events/user/u-1?format=full").await;
    assert_eq!(
        (&page["total"], &page["events"][0]["data"]),
        (&json!(count), &own),
        "{page}"
    );
    let found = eventually("all of the tenant's events are found", LIMIT, || async {
        let page = answer(guarded, key, "/api/v1/events/search?q=user:u-1").await;
        match page["events"].as_array() {
            Some(events) if events.len() >= count => Ok(events.clone()),
            _ => Err(page),
        }
    })
    .await;
    assert_eq!(found.len(), count, "{found:?}");
    for event in &found {
        assert_eq!(event["data"], own, "{found:?}");
    }
    let heard = stream.next().await.unwrap().unwrap();
    assert!(heard.data.contains(&own["of"].to_string()), "{heard:?}");
}

/// A Grafana of the tenant's own, on tables and views alike; its own role is the owner's here, set aside.
#[tokio::test]
async fn a_database_role_reads_its_tenant_alone() {
    let _turn = beside_others().await;
    let guarded = Guarded::start(World::shared().await).await;
    for (letter, user) in [("a", "of-acme"), ("x", "of-other")] {
        let event = json!({"event_type": "a.b", "user_id": user, "aggregate_type": "order", "aggregate_id": user});
        assert_eq!(
            guarded.send(&key("secret", letter), &event).await.status(),
            201
        );
    }
    let database = &guarded.world.database;
    eventually_eq("stored events", 2, || database.count("event_ids")).await;
    let role = format!("reader_{}", uuid::Uuid::now_v7().simple());
    let environment = [("DATABASE_URL", database.url.as_str())];
    let tenant = |arguments: &[&str]| {
        let all: Vec<&str> = ["tenant"].iter().chain(arguments).copied().collect();
        run("tidegate", &all, &environment)
    };
    let unknown = tenant(&["grant", &role, "--tenant", "acme"]);
    assert!(
        String::from_utf8_lossy(&unknown.stderr).contains("create role"),
        "{unknown:?}"
    );
    let client = database.connect().await.unwrap();
    client
        .batch_execute(&format!("create role {role}"))
        .await
        .unwrap();
    let granted = tenant(&["grant", &role, "--tenant", "acme"]);
    assert!(granted.status.success(), "{granted:?}");
    client
        .batch_execute(&format!("set role {role}"))
        .await
        .unwrap();
    let seen = async |sql: &str| -> Vec<String> {
        let rows = client.query(sql, &[]).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    };
    for table in [
        "events",
        "event_ids",
        "event_streams",
        "aggregated_events",
        "aggregated_events_hourly",
        "grafana_tenants",
        "grafana_hourly",
        "grafana_daily",
    ] {
        let sql = format!("select distinct tenant_id::text from {table}");
        assert_eq!(seen(&sql).await, ["acme"], "{table}");
    }
    assert_eq!(
        seen("select user_id::text from tracked_events").await,
        ["of-acme"]
    );
    for (what, sql) in [
        ("the secrets of keys", "select hash from api_keys"),
        ("who reads what", "select * from tenant_readers"),
        ("a partition", "select * from events_default"),
        ("a change", "delete from events"),
    ] {
        assert!(client.query(sql, &[]).await.is_err(), "{what}");
    }
    client.batch_execute("reset role").await.unwrap();
    // Nor does a member of the role see more.
    let member = format!("create role {role}_member in role {role}; set role {role}_member");
    client.batch_execute(&member).await.unwrap();
    for table in ["events", "grafana_tenants"] {
        let sql = format!("select distinct tenant_id::text from {table}");
        assert_eq!(seen(&sql).await, ["acme"], "{table}");
    }
    client
        .batch_execute(&format!("reset role; drop role {role}_member"))
        .await
        .unwrap();
    // The services go on, as does what they write.
    let event = json!({"event_type": "a.b", "user_id": "of-acme"});
    assert_eq!(
        guarded.send(&key("secret", "a"), &event).await.status(),
        201
    );
    eventually_eq("stored events", 3, || database.count("event_ids")).await;
    let shown = tenant(&["show", "acme", "--json"]);
    let shown: Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!(
        (&shown["events"], &shown["readers"]),
        (&json!(2), &json!([role])),
        "{shown}"
    );
    let listed = tenant(&["list", "--json"]);
    assert_eq!(
        String::from_utf8_lossy(&listed.stdout).lines().count(),
        2,
        "{listed:?}"
    );
    assert!(tenant(&["revoke", &role]).status.success());
    client
        .batch_execute(&format!("set role {role}"))
        .await
        .unwrap();
    for table in ["events", "grafana_daily"] {
        assert!(
            client
                .query(&format!("select * from {table}"), &[])
                .await
                .is_err(),
            "{table}"
        );
    }
    let drop = format!("reset role; drop owned by {role}; drop role {role}");
    client.batch_execute(&drop).await.unwrap();
}

/// Limits of one tenant hold in gateway and query, end as they were set, and concern no other.
#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_has_the_limits_that_it_is_given() {
    let _turn = beside_others().await;
    let guarded = Guarded::start(World::shared().await).await;
    let (acme, other, operator) = (key("secret", "a"), key("secret", "x"), key("secret", "o"));
    let set = async |key: &str, limits: Value| {
        let url = guarded.query().url("/api/v1/admin/tenants/acme/limits");
        let request = reqwest::Client::new().put(url).bearer_auth(key);
        let answer = request.json(&limits).send().await.unwrap();
        (
            answer.status().as_u16(),
            answer.json::<Value>().await.unwrap(),
        )
    };
    let own = "/api/v1/admin/tenants/acme/limits";
    let none = json!({"events_per_second": null, "bytes_per_day": null, "types_per_day": null, "connections": null});
    assert_eq!(answer(&guarded, &acme, own).await, none);
    let empty = reqwest::Client::new().put(guarded.query().url(own));
    let empty = empty.bearer_auth(&operator).send().await.unwrap();
    assert_eq!(empty.status(), 400, "no body is no wish");
    let foreign = guarded.get(own, &other).send().await.unwrap();
    assert_eq!(foreign.status(), 403);
    assert_eq!(set(&acme, json!({})).await.0, 403, "nobody limits itself");
    for (path, wrong) in [
        ("types", json!({"types": 1})),
        ("connections", json!({"connections": -1})),
        ("bytes_per_day", json!({"bytes_per_day": "many"})),
    ] {
        let (status, problem) = set(&operator, wrong).await;
        assert_eq!((status, &problem["errors"][0]["path"]), (422, &json!(path)));
    }

    let send = async |key: &str, event_type: &str| {
        let event = json!({"event_type": event_type, "user_id": "u-1"});
        let answer = guarded.send(key, &event).await;
        let after = answer.headers().get("retry-after").is_some();
        (answer.status().as_u16(), after)
    };
    assert_eq!(send(&acme, "first").await.0, 201);
    let wanted = json!({"types_per_day": 1, "connections": 1});
    assert_eq!(set(&operator, wanted).await.0, 200);
    // Which type is the one depends on when the gateway hears of it.
    let (goes_on, refused) = eventually("types are limited", LIMIT, || async {
        let answers = (send(&acme, "first").await, send(&acme, "second").await);
        match answers {
            ((201, false), (429, true)) => Ok(("first", "second")),
            ((429, true), (201, false)) => Ok(("second", "first")),
            other => Err(other),
        }
    })
    .await;
    assert_eq!(send(&acme, goes_on).await.0, 201, "it goes on");
    assert_eq!(send(&other, refused).await.0, 201);
    let listen = async |key: &str, user: &str| {
        let path = format!("/api/v1/sse/users/{user}");
        guarded.get(&path, key).send().await.unwrap()
    };
    let first = listen(&acme, "u-1").await;
    assert_eq!(first.status(), 200);
    eventually_eq("streams are limited", 429, || async {
        Ok(listen(&acme, "u-2").await.status().as_u16())
    })
    .await;
    assert_eq!(listen(&other, "u-2").await.status(), 200);

    let environment = [
        ("DATABASE_URL", guarded.world.database.url.as_str()),
        ("DB_SCHEMA", "event"),
    ];
    let tenant =
        |arguments: &[&str]| run("tidegate", &[&["tenant"], arguments].concat(), &environment);
    let said = tenant(&["limits", "acme", "--types", "default", "--connections", "2"]);
    assert!(said.status.success(), "{said:?}");
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(
        said.contains("types_per_day default, connections 2"),
        "{said}"
    );
    eventually_eq("types are not limited", 201, || async {
        Ok(send(&acme, refused).await.0)
    })
    .await;
    let shown = tenant(&["show", "acme", "--json"]);
    let shown: Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!(shown["limits"]["connections"], 2, "{shown}");
    assert_eq!(shown["limits"]["types_per_day"], Value::Null, "{shown}");
    let refused = tenant(&["limits", "acme", "--types", "-1"]);
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
}

#[tokio::test]
async fn a_record_speaks_for_a_tenant_only_where_it_may() {
    let _turn = beside_others().await;
    if SHAPE == Shape::AllInOne {
        return;
    }
    let guarded = Guarded::start(World::shared().await).await;
    let record = |name: &str, tenant: Option<&str>, body: Option<&str>| {
        let mut event = json!({"event_type": "a.b", "user_id": "u-1", "data": {"n": name}});
        if let Some(tenant) = body {
            event["tenant_id"] = tenant.into();
        }
        let mut record = Record::new(0, "k", event.to_string());
        record
            .headers
            .extend(tenant.map(|tenant| ("tenant", tenant.as_bytes().to_vec())));
        record
    };
    let believed = [
        record("header", Some("acme"), None),
        record("torn", Some("acme"), Some("other")),
    ];
    produce(&guarded.world, BACKEND, &believed).await;
    let elsewhere = [
        record("plain", None, None),
        record("header", Some("acme"), None),
        record("body", None, Some("acme")),
    ];
    produce(&guarded.world, DOMAIN, &elsewhere).await;

    let names = async |key: &str| {
        let page = answer(&guarded, key, "/api/v1/events/history").await;
        let events = page["events"].as_array().cloned().unwrap_or_default();
        let name = |event: &Value| event["data"]["n"].as_str().unwrap_or_default().to_owned();
        events.iter().map(name).collect::<Vec<_>>()
    };
    let (acme, other, operator) = (key("secret", "a"), key("secret", "x"), key("secret", "o"));
    eventually_eq(
        "acme has what it may be sent",
        vec!["header".to_owned()],
        || async { Ok(names(&acme).await) },
    )
    .await;
    eventually_eq(
        "the default tenant has its own",
        vec!["plain".to_owned()],
        || async { Ok(names(&operator).await) },
    )
    .await;
    let refused = async |key: &str| {
        let page = answer(&guarded, key, "/api/v1/events/dead-letters").await;
        let letters = page["dead_letters"].as_array().cloned().unwrap_or_default();
        letters
            .iter()
            .filter(|letter| letter["reason"] == "tenant")
            .count()
    };
    eventually_eq("the others are dead letters", (2, 1), || async {
        Ok((refused(&operator).await, refused(&acme).await))
    })
    .await;
    assert!(names(&other).await.is_empty());
}
