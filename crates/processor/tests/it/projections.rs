//! Reducers and upcasters that a composition brings along (S3-34).

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use anyhow::Result;
use config::Env;
use domain::fold::{Definition, Extensions, Reducer};
use domain::upcast::Upcasters;
use domain::{Event, TenantId};
use eventlog::postgres::{PostgresLog, PostgresLogConfig};
use eventlog::{Headers, Outgoing, Publisher as _};
use futures_util::future::BoxFuture;
use live::local::LocalChannels;
use live::{Channel, Channels as _, Delivery, Resume, Retention};
use processor::config::Config;
use processor::handler::{EventHandler, Outcome};
use processor::{Deps, Processor};
use serde_json::{Value, json};
use store::Database;
use store::projections::definitions::{self, Change, Changed};
use store::replays::{self, Request, Selection};
use testkit::{LIMIT, Parts, eventually};

/// Keeps what was paid, in the newest version of the data.
fn paid() -> Reducer {
    Arc::new(|state, event| {
        let cents = event.data.to_value()["cents"].as_u64();
        let cents = cents.ok_or_else(|| "no cents".to_owned())?;
        let mut state = state.clone();
        let before = state.get("cents").and_then(Value::as_u64).unwrap_or(0);
        state.insert("cents".to_owned(), (before + cents).into());
        Ok(state)
    })
}

/// Notes the data it gets.
#[derive(Default)]
struct Seen(Mutex<Vec<Value>>);

impl EventHandler for Seen {
    fn name(&self) -> &str {
        "seen"
    }

    fn event_types(&self) -> Vec<String> {
        vec!["paid".to_owned()]
    }

    fn handle<'a>(&'a self, event: &'a Event) -> BoxFuture<'a, Result<Outcome>> {
        self.0.lock().unwrap().push(event.data.to_value());
        Box::pin(async { Ok(Outcome::Success) })
    }
}

#[tokio::test]
async fn reducers_and_upcasters_of_the_composition_fold() {
    let database = Parts::shared().await.fresh_database().await;
    let env = Env::from_map(HashMap::from([
        ("DATABASE_URL".to_owned(), database.url.clone()),
        // Nothing may connect to it.
        ("REDIS_URL".to_owned(), "redis://127.0.0.1:1/0".to_owned()),
    ]));
    let mut config = Config::from_env(&env).unwrap();
    config.kafka = None;
    let db = Database::new(&config.database).unwrap();
    let mut upcasters = Upcasters::default();
    let in_cents = |mut data: Value| {
        let euros = data["euros"].take().as_u64().ok_or("no euros")?;
        data["cents"] = (euros * 100).into();
        Ok(data)
    };
    let register = upcasters.register("paid", "1.0.0", "2", Arc::new(in_cents));
    register.unwrap();
    let seen = Arc::new(Seen::default());
    let channels = Arc::new(LocalChannels::new(Retention::default()));
    let deps = Deps {
        channels: Some(Arc::clone(&channels) as _),
        local: true,
        handlers: vec![Arc::clone(&seen) as _],
        folding: Arc::new(Extensions {
            reducers: HashMap::from([("paid".to_owned(), paid())]),
            upcasters,
        }),
        ..Deps::default()
    };
    let registry = prometheus::Registry::new();
    let processor = Processor::new(config, &registry, deps).unwrap();
    let log = PostgresLog::new(&db, PostgresLogConfig::default(), &registry).unwrap();
    let publish = async |schema_version: &str, data: Value| {
        let payload = json!({"event_type": "paid", "user_id": "ann",
            "schema_version": schema_version, "data": data});
        let record = Outgoing {
            topic: "events.backend.service".into(),
            key: b"ann".to_vec(),
            headers: Headers::default(),
            payload: payload.to_string().into(),
        };
        eventually("published", LIMIT, || async {
            log.publish(std::slice::from_ref(&record))?.await
        })
        .await;
    };
    // One before the projection is there: it is folded when that is built.
    publish("1.0.0", json!({"euros": 3})).await;
    testkit::eventually_eq("stored events", 1, || database.count("events")).await;
    let handled = async || Ok(seen.0.lock().unwrap().clone());
    let in_cents = vec![json!({"euros": null, "cents": 300})];
    testkit::eventually_eq("handled events", in_cents, handled).await;
    let definition = Definition::parse(&json!({"name": "paid", "entity_type": "user",
        "fold": {"rule": "reducer", "name": "paid"}}));
    let definition = definition.unwrap();
    let change = Change::Create(&definition);
    let changed = definitions::change(&db, &TenantId::default(), change).await;
    assert!(matches!(changed, Ok(Changed::Building(_))), "{changed:?}");
    publish("2", json!({"cents": 50})).await;
    publish("2", json!({})).await;
    let states = async || {
        let sql = "select jsonb_build_object('state', p.state, 'version', p.version, 'error', error) \
            from event_projections p join projection_definitions d on d.id = definition \
            where d.state = 'live'";
        let rows = database.rows(sql, &[]).await?;
        Ok(rows.iter().map(|row| row.get(0)).collect::<Vec<Value>>())
    };
    let want = json!({"state": {"cents": 350}, "version": 2, "error": "reducer paid: no cents"});
    testkit::eventually_eq("states", vec![want], states).await;
    // A replay shows it in the newest version too; what cannot be brought there is left out.
    let channel = Channel::new(TenantId::default(), "ann");
    let mut listener = channels.subscribe(channel, Resume::Live, 1024 * 1024);
    let begun = listener.next().await;
    assert!(matches!(begun, Some(Delivery::Begun { .. })), "{begun:?}");
    let request = Request {
        tenant_id: TenantId::default(),
        selection: Selection::Type,
        event_type: Some("paid".to_owned()),
        target_service: None,
        projections: None,
        processors: None,
        live: true,
        rate: 1_000,
        asked: json!({"event_type": "paid", "live": true}),
    };
    let replay = replays::begin(&db, &request).await.unwrap().unwrap();
    let mut shown = vec![];
    while shown.len() < 3 {
        let told = tokio::time::timeout(LIMIT, listener.next()).await.unwrap();
        let Some(Delivery::Transient(message)) = told else {
            panic!("{told:?}");
        };
        let mut data: Value = serde_json::from_slice(&message.data).unwrap();
        assert_eq!(data["replay_id"], json!(replay.id));
        shown.push(data["payload"].take());
    }
    assert_eq!(shown[0], json!({"euros": null, "cents": 300}));
    // The stored event is as it came.
    let stored = "select data from events where schema_version = '1.0.0'";
    let stored: Value = database.scalar(stored, &[]).await.unwrap();
    assert_eq!(stored, json!({"euros": 3}));
    processor.stop().await;
}
