//! Handlers of a program that embeds the processor, on PostgreSQL alone.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use config::Env;
use domain::Event;
use domain::retry::RetryPolicy;
use eventlog::postgres::{PostgresLog, PostgresLogConfig};
use eventlog::{BoxFuture, Headers, Outgoing, PublishError, Publisher as _};
use live::Retention;
use live::local::LocalChannels;
use processor::config::Config;
use processor::handler::{EventHandler, Options, Outcome};
use processor::{Deps, Processor};
use prometheus::{Encoder as _, Registry, TextEncoder};
use serde_json::json;
use store::Database;
use testkit::{LIMIT, Parts, eventually, eventually_eq};

/// What a handler does at its nth call for an event, the first of which is 1.
type Script = fn(n: usize) -> anyhow::Result<Outcome>;

struct Scripted {
    name: &'static str,
    event_type: &'static str,
    script: Script,
    /// Before the call ends.
    takes: Duration,
    calls: AtomicUsize,
}

impl EventHandler for Scripted {
    fn name(&self) -> &str {
        self.name
    }

    fn event_types(&self) -> Vec<String> {
        vec![self.event_type.to_owned()]
    }

    fn options(&self) -> Options {
        Options {
            timeout: Duration::from_millis(500),
            concurrency: 2,
            retry: RetryPolicy {
                max_retries: 2,
                backoff_seconds: vec![0],
            },
            ..Options::default()
        }
    }

    fn handle<'a>(&'a self, _: &'a Event) -> BoxFuture<'a, anyhow::Result<Outcome>> {
        Box::pin(async move {
            let n = self.calls.fetch_add(1, Ordering::Relaxed) + 1;
            tokio::time::sleep(self.takes).await;
            (self.script)(n)
        })
    }
}

fn scripted(name: &'static str, event_type: &'static str, script: Script) -> Arc<Scripted> {
    Arc::new(Scripted {
        name,
        event_type,
        script,
        takes: Duration::ZERO,
        calls: AtomicUsize::new(0),
    })
}

struct World {
    fresh: testkit::Database,
    log: PostgresLog,
    db: Database,
    registry: Registry,
}

impl World {
    async fn new() -> Self {
        let fresh = Parts::shared().await.fresh_database().await;
        let db = Database::new(&Self::config(&fresh).database).unwrap();
        let log = PostgresLog::new(&db, PostgresLogConfig::default(), &Registry::new()).unwrap();
        Self {
            fresh,
            log,
            db,
            registry: Registry::new(),
        }
    }

    fn config(fresh: &testkit::Database) -> Config {
        let env = Env::from_map(HashMap::from([
            ("DATABASE_URL".to_owned(), fresh.url.clone()),
            ("PROCESSING_INTERVAL".to_owned(), "1".to_owned()),
        ]));
        Config {
            kafka: None,
            ..Config::from_env(&env).unwrap()
        }
    }

    fn processor(&self, handlers: &[Arc<Scripted>]) -> Processor {
        let deps = Deps {
            channels: Some(Arc::new(LocalChannels::new(Retention::default())) as _),
            local: true,
            handlers: handlers.iter().map(|one| Arc::clone(one) as _).collect(),
            ..Deps::default()
        };
        Processor::new(Self::config(&self.fresh), &self.registry, deps).unwrap()
    }

    /// Puts events of these types on the log.
    async fn send(&self, types: &[&str]) {
        let record = |event_type: &&str| {
            let event = json!({"event_type": event_type, "data": {"n": 1}});
            Outgoing {
                topic: "events.backend.service".into(),
                key: b"k".to_vec(),
                headers: Headers::default(),
                payload: event.to_string().into(),
            }
        };
        let records: Vec<_> = types.iter().map(record).collect();
        eventually("published", LIMIT, || async {
            self.log.publish(&records)?.await?;
            Ok::<_, PublishError>(())
        })
        .await;
    }

    /// Status, retry count and error of the event of that type, once it is not pending.
    async fn outcome(&self, event_type: &str) -> (String, i32, Option<String>) {
        eventually(event_type, LIMIT, || async {
            let client = self.fresh.connect().await.map_err(|e| e.to_string())?;
            let sql = "select status, retry_count, error_message from event.events where event_type = $1 \
                and status <> 'pending'";
            let row = client.query_opt(sql, &[&event_type]).await;
            let row = row.map_err(|e| e.to_string())?.ok_or("pending")?;
            Ok::<_, String>((row.get(0), row.get(1), row.get(2)))
        })
        .await
    }

    /// Status, attempts and message of a handler's only result.
    async fn result(&self, handler: &str) -> (String, i32, Option<String>) {
        let client = self.fresh.connect().await.unwrap();
        let sql = "select status, attempts, message from event.processing_results where processor_name = $1";
        let row = client.query_one(sql, &[&handler]).await.unwrap();
        (row.get(0), row.get(1), row.get(2))
    }

    fn metrics(&self) -> String {
        let mut text = vec![];
        TextEncoder::new()
            .encode(&self.registry.gather(), &mut text)
            .unwrap();
        String::from_utf8(text).unwrap()
    }
}

fn ok(_: usize) -> anyhow::Result<Outcome> {
    Ok(Outcome::Success)
}

fn thrice(n: usize) -> anyhow::Result<Outcome> {
    match n {
        1 => anyhow::bail!("not yet"),
        2 => Ok(Outcome::Retry("still not".to_owned())),
        _ => Ok(Outcome::Success),
    }
}

fn done(retries: i32) -> (String, i32, Option<String>) {
    ("processed".to_owned(), retries, None)
}

#[tokio::test]
async fn each_outcome_is_recorded_and_none_holds_up_another() {
    let world = World::new().await;
    let skips: Script = |_| Ok(Outcome::Skipped);
    let fails: Script = |_| anyhow::bail!("never \0 works");
    let gives_up: Script = |_| Ok(Outcome::Failed("not for me".to_owned()));
    let panics: Script = |n| {
        if n == 1 {
            panic!("oh {n}")
        } else {
            Ok(Outcome::Success)
        }
    };
    let hangs = Arc::new(Scripted {
        name: "hangs",
        event_type: "hang.*",
        script: ok,
        takes: Duration::from_secs(3_600),
        calls: AtomicUsize::new(0),
    });
    let handlers = [
        scripted("thrice", "a.thrice", thrice),
        scripted("fails", "a.fails", fails),
        scripted("gives_up", "a.gives_up", gives_up),
        scripted("panics", "a.panics", panics),
        scripted("skips", "a.*", skips),
        hangs,
    ];
    let processor = world.processor(&handlers);
    world.send(&["hang.1", "hang.2", "hang.3", "hang.4"]).await;
    world
        .send(&[
            "a.thrice",
            "a.fails",
            "a.gives_up",
            "a.panics",
            "a.fine",
            "b.nobody",
        ])
        .await;

    assert_eq!(world.outcome("a.thrice").await, done(2));
    assert_eq!(handlers[0].calls.load(Ordering::Relaxed), 3);
    assert_eq!(
        world.result("thrice").await,
        ("success".to_owned(), 3, None)
    );
    let failed = |retries, why: &str| ("failed".to_owned(), retries, Some(why.to_owned()));
    let never = "never \u{fffd} works";
    assert_eq!(
        world.outcome("a.fails").await,
        failed(2, &format!("fails: {never}"))
    );
    assert_eq!(handlers[1].calls.load(Ordering::Relaxed), 3);
    assert_eq!(world.result("fails").await, failed(3, never));
    assert_eq!(
        world.outcome("a.gives_up").await,
        failed(0, "gives_up: not for me")
    );
    assert_eq!(handlers[2].calls.load(Ordering::Relaxed), 1);
    assert_eq!(world.outcome("a.panics").await, done(1));
    assert_eq!(world.outcome("a.fine").await, done(0));
    assert_eq!(world.outcome("b.nobody").await, done(0));
    // Cut off three times each.
    let cut = "hangs: took longer than 0.5 s and was cut off";
    assert_eq!(world.outcome("hang.4").await, failed(2, cut));
    eventually_eq("work", 0, || world.fresh.count("work")).await;
    let letters = "dead_letters where reason = 'handler_failed' and state = 'open'";
    assert_eq!(world.fresh.count(letters).await.unwrap(), 6);
    // All that `skips` was asked about.
    let skipped = "processing_results where processor_name = 'skips' and status = 'skipped'";
    assert_eq!(world.fresh.count(skipped).await.unwrap(), 5);
    let metrics = world.metrics();
    for line in [
        "tidegate_processor_runs_total{processor=\"panics\",result=\"retry\"} 1",
        "tidegate_processor_runs_total{processor=\"hangs\",result=\"failed\"} 4",
    ] {
        assert!(metrics.contains(line), "{metrics}");
    }
    let errors =
        "event_processors where processor_name = 'fails' and error_count = 3 and from_code";
    assert_eq!(world.fresh.count(errors).await.unwrap(), 1);
    processor.stop().await;
}

#[tokio::test]
async fn what_a_killed_process_left_is_done_once_more_and_has_one_result() {
    let world = World::new().await;
    // It is in the middle of its call when its process ends.
    let begun = Arc::new(Scripted {
        name: "handler",
        event_type: "a",
        script: ok,
        takes: Duration::from_secs(3_600),
        calls: AtomicUsize::new(0),
    });
    let killed = world.processor(std::slice::from_ref(&begun));
    world.send(&["a"]).await;
    eventually("called", LIMIT, || async {
        match begun.calls.load(Ordering::Relaxed) {
            0 => Err("not yet"),
            _ => Ok(()),
        }
    })
    .await;
    killed.stop_within(Duration::ZERO).await;
    assert_eq!(
        world.fresh.count("work where attempt = 1").await.unwrap(),
        1
    );
    // Its lease ends.
    let client = world.fresh.connect().await.unwrap();
    client
        .execute("update event.work set due_at = now()", &[])
        .await
        .unwrap();

    let world = World {
        registry: Registry::new(),
        ..world
    };
    let again = scripted("handler", "a", ok);
    let processor = world.processor(std::slice::from_ref(&again));
    assert_eq!(world.outcome("a").await, done(1));
    assert_eq!(again.calls.load(Ordering::Relaxed), 1);
    assert_eq!(
        world.result("handler").await,
        ("success".to_owned(), 2, None)
    );
    processor.stop().await;
}

#[tokio::test]
async fn an_attempt_that_lost_its_lease_counts_for_nothing() {
    let world = World::new().await;
    let slow = Arc::new(Scripted {
        name: "slow",
        event_type: "a",
        script: ok,
        takes: Duration::from_millis(400),
        calls: AtomicUsize::new(0),
    });
    let processor = world.processor(std::slice::from_ref(&slow));
    world.send(&["a"]).await;
    // Another process takes it over in the middle of the call.
    let client = world.fresh.connect().await.unwrap();
    eventually("begun", LIMIT, || async {
        let sql = "update event.work set attempt = 2, due_at = now() + interval '1 hour' where attempt = 1";
        match client.execute(sql, &[]).await {
            Ok(1) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    let lost = "tidegate_processor_runs_lost_total 1";
    eventually("lost", LIMIT, || async {
        world
            .metrics()
            .contains(lost)
            .then_some(())
            .ok_or("not yet")
    })
    .await;
    assert_eq!(world.fresh.count("processing_results").await.unwrap(), 0);
    assert_eq!(
        world
            .fresh
            .count("events where status = 'pending'")
            .await
            .unwrap(),
        1
    );
    processor.stop().await;
}

#[tokio::test]
async fn a_rule_counts_for_every_event_stored_after_it() {
    let world = World::new().await;
    let processor = world.processor(&[]);
    world.send(&["a"]).await;
    assert_eq!(world.outcome("a").await, done(0));
    // As the API does it; this process has read the rules before.
    let mut client = world.db.client().await.unwrap();
    let tx = client.transaction().await.unwrap();
    store::rules::change(&tx).await.unwrap();
    let sql = "insert into event_processors (tenant_id, processor_name, processor_type, filters) \
        values ('default', 'logs', 'log', '{\"event_types\": [\"b\"]}'), \
            ('another', 'not mine', 'log', '{}')";
    tx.execute(sql, &[]).await.unwrap();
    tx.commit().await.unwrap();
    world.send(&["b"]).await;
    assert_eq!(world.outcome("b").await, done(0));
    assert_eq!(world.result("logs").await, ("success".to_owned(), 1, None));
    assert_eq!(world.fresh.count("processing_results").await.unwrap(), 1);
    processor.stop().await;
}

#[tokio::test]
async fn handlers_of_one_name_or_of_no_pattern_are_refused() {
    let world = World::new().await;
    let start = |handlers: Vec<Arc<Scripted>>| {
        let deps = Deps {
            channels: Some(Arc::new(LocalChannels::new(Retention::default())) as _),
            handlers: handlers.into_iter().map(|one| one as _).collect(),
            ..Deps::default()
        };
        let started = Processor::new(World::config(&world.fresh), &Registry::new(), deps);
        started.err().map(|error| error.to_string())
    };
    let one = || scripted("one", "a", ok);
    let same = start(vec![one(), one()]);
    assert_eq!(same.as_deref(), Some("two handlers have the name one"));
    let pattern = start(vec![scripted("one", "", ok)]).unwrap();
    assert!(
        pattern.starts_with("the handler one: event_types[0]:"),
        "{pattern}"
    );
    assert!(start(vec![scripted(" ", "a", ok)]).is_some());
}
