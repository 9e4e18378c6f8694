//! Consul's catalogue: who serves stands in it, and what the environment does not name is found in it.

use serde_json::Value;
use testkit::{Consul, LIMIT, eventually, eventually_eq};

use crate::SHAPE;
use crate::sender::client;
use crate::system::{System, SystemBuilder};
use crate::world::{Shape, World, beside_others, probe, run};

const TOKEN: &str = "not-a-secret";

/// The names in the catalogue, those of ingest, processor and query.
const NAMES: &[&str] = match SHAPE {
    Shape::Split => &[
        "event_service_ingest",
        "event_service_processor",
        "event_service_query",
    ],
    Shape::AllInOne => &["event_service"],
};

fn with_consul<'a>(system: SystemBuilder<'a>, consul: &Consul) -> SystemBuilder<'a> {
    system
        .env("CONSUL_ENABLED", "true")
        .env("CONSUL_HOST", "127.0.0.1")
        .env("CONSUL_PORT", consul.port())
        .env("CONSUL_TOKEN", TOKEN)
        .env("CONSUL_REFRESH_SECONDS", 1)
}

/// The one entry of this name whose check passes.
async fn entry(consul: &Consul, name: &str) -> Value {
    eventually(name, LIMIT, || async {
        match &consul.passing(name)[..] {
            [one] => Ok(one.clone()),
            others => Err(format!("{others:?}; refused: {:?}", consul.refused())),
        }
    })
    .await
}

fn services(system: &System) -> impl Iterator<Item = (&'static str, &testkit::TestService)> {
    let all = [system.ingest(), system.processor(), system.query()];
    NAMES.iter().copied().zip(all)
}

#[tokio::test(flavor = "multi_thread")]
async fn who_serves_stands_in_the_catalogue() {
    let _turn = beside_others().await;
    let world = World::shared().await;
    let mut consul = Consul::start(TOKEN).await;
    let mut system = with_consul(world.system(), &consul).start().await;

    let mut capabilities = Vec::new();
    for (name, service) in services(&system) {
        let entry = entry(&consul, name).await;
        let tags = [
            "v1",
            "user-microservice",
            "event-management",
            "event-sourcing",
        ];
        assert_eq!(entry["Tags"], serde_json::json!(tags), "{entry}");
        assert_eq!(entry["Address"], "127.0.0.1");
        assert_eq!(entry["Port"], service.port());
        assert_eq!(entry["Check"]["HTTP"], service.url("/health"));
        assert_eq!(entry["Check"]["Interval"], "30s");
        let meta = &entry["Meta"];
        assert_eq!(meta["version"], "1.0.0");
        assert_eq!(meta["base_path"], "/api/v1/events");
        capabilities.extend(
            meta["capabilities"]
                .as_str()
                .unwrap()
                .split(',')
                .map(str::to_owned),
        );

        // The list is what the router has.
        let served = client()
            .get(service.url("/api/v1/admin/routes"))
            .send()
            .await;
        let served: Vec<Value> = served.unwrap().json().await.unwrap();
        let word = |route: &Value, name: &str| route[name].as_str().unwrap().to_owned();
        let served: Vec<String> = served
            .iter()
            .map(|route| format!("{} {}", word(route, "method"), word(route, "path")))
            .collect();
        let lists = (1..).map_while(|n| meta[format!("routes_{n}")].as_str());
        let told: Vec<&str> = lists.flat_map(|list| list.split(',')).collect();
        assert_eq!(told, served);
        assert_eq!(meta["route_count"], told.len().to_string());
    }
    capabilities.retain(|word| !word.is_empty());
    capabilities.sort();
    let all = [
        "event_creation",
        "event_processors",
        "event_query",
        "event_replay",
        "event_streaming",
        "event_subscriptions",
        "frontend_collection",
        "rudderstack_integration",
    ];
    assert_eq!(capabilities, all);

    // An agent that was started anew has it again; while there is none, everything goes on.
    consul.forget();
    for name in NAMES {
        entry(&consul, name).await;
    }
    consul.stop().await;
    for (_, service) in services(&system) {
        let check = async || {
            let (status, body) = probe(service, "/ready").await?;
            anyhow::Ok((status, body["checks"]["consul"]["ok"].clone()))
        };
        eventually_eq("ready without Consul", (200, Value::from(false)), check).await;
    }
    consul.forget();
    consul.resume().await;
    for name in NAMES {
        entry(&consul, name).await;
    }

    // Nobody new comes when it ends, and until then it answers.
    assert!(system.ingest_mut().terminate().await.success());
    if SHAPE == Shape::Split {
        assert!(system.processor_mut().terminate().await.success());
        assert!(system.query_mut().terminate().await.success());
    }
    let left = consul.left();
    assert_eq!(left.len(), NAMES.len(), "{left:?}");
    assert!(left.iter().all(|(_, answers)| *answers), "{left:?}");
    assert_eq!(consul.refused(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_environment_does_not_name_is_found() {
    let _turn = beside_others().await;
    let world = World::shared().await;
    let consul = Consul::start(TOKEN).await;
    let database: reqwest::Url = world.database.url.parse().unwrap();
    let place = |url: &reqwest::Url| (url.host_str().unwrap().to_owned(), url.port().unwrap());
    let (host, port) = place(&database);
    // The one that is no primary is not taken.
    consul.put("pg-1", "postgres", &["replica"], &host, 1);
    consul.put("pg-2", "postgres", &["primary"], &host, port);
    let mut system = with_consul(world.system(), &consul)
        .env("DATABASE_URL", "")
        .env("CONSUL_POSTGRES_SERVICE", "primary.postgres")
        .env("POSTGRES_USER", database.username())
        .env("POSTGRES_PASSWORD", database.password().unwrap())
        .env("POSTGRES_DB", database.path().trim_start_matches('/'));
    if SHAPE == Shape::Split {
        let brokers = world.parts.kafka_brokers.split(',').enumerate();
        for (n, broker) in brokers {
            let (host, port) = broker.split_once(':').unwrap();
            consul.put(&format!("k-{n}"), "kafka", &[], host, port.parse().unwrap());
        }
        let redis = world.parts.redis_url.parse().unwrap();
        let (host, port) = place(&redis);
        consul.put("redis", "redis", &[], &host, port);
        system = system.env("KAFKA_BROKERS", "").env("REDIS_URL", "");
    }
    let system = system.start().await;
    let answer = client()
        .post(system.ingest_url("/api/v1/events/create?wait=stored"))
        .json(&testkit::event::backend("found").json())
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 201, "{:?}", answer.text().await);
    eventually_eq("stored", 1, || world.database.count("events")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_found_ends_the_start_with_its_name() {
    let consul = Consul::start(TOKEN).await;
    let port = consul.port().to_string();
    let (program, arguments) = match SHAPE {
        Shape::Split => ("query", &[][..]),
        Shape::AllInOne => ("tidegate", &["serve"][..]),
    };
    let settings = [
        ("CONSUL_ENABLED", "true"),
        ("CONSUL_HOST", "127.0.0.1"),
        ("CONSUL_PORT", port.as_str()),
        ("CONSUL_WAIT_SECONDS", "0"),
    ];
    for (token, says) in [(TOKEN, "no instance of it"), ("wrong", "403")] {
        let environment = [&settings[..], &[("CONSUL_TOKEN", token)]].concat();
        let ended = tokio::task::spawn_blocking({
            let environment: Vec<(String, String)> = environment
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect();
            move || {
                let environment: Vec<(&str, &str)> = environment
                    .iter()
                    .map(|(name, value)| (name.as_str(), value.as_str()))
                    .collect();
                run(program, arguments, &environment)
            }
        });
        let ended = ended.await.unwrap();
        let told = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert_eq!(ended.status.code(), Some(1), "{told}");
        for words in ["DATABASE_URL or POSTGRES_HOST", "\"postgres\"", says] {
            assert!(told.contains(words), "{words}: {told}");
        }
        assert!(!told.contains(token), "{told}");
    }
}
