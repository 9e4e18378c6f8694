//! The gateway: single posts against the same server without the log and against the simplest
//! honest gateway; batches against the same, and against librdkafka producing the same payloads flat out.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::ensure;
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use testkit::{Parts, TestService};

use crate::report::{Report, thousands};
use crate::wrk::{script, script_with, warm_up, wrk};
use crate::{Options, events};

const CONNECTIONS: usize = 64;
const PER_BATCH: usize = 50;

pub(crate) async fn single(
    parts: &Parts,
    options: &Options,
    report: &mut Report,
) -> anyhow::Result<()> {
    println!("single posts, {CONNECTIONS} connections");
    let (ours, topic) = ingest(parts, &[]).await?;
    let mut bare = Peer::start("bare", parts, &topic)?;
    let mut simple = Peer::start("simple", parts, &topic)?;
    let body = events::body(1, "", "");
    let script = script(&body)?;
    warm_up(&ours.url("/api/v1/events"), &script)?;
    let (mut a, mut b, mut c) = (vec![], vec![], vec![]);
    for round in 0..options.rounds {
        a.push(wrk(
            &ours.url("/api/v1/events"),
            &script,
            CONNECTIONS,
            options.seconds,
        )?);
        b.push(wrk(&bare.url, &script, CONNECTIONS, options.seconds)?);
        c.push(wrk(&simple.url, &script, CONNECTIONS, options.seconds)?);
        println!(
            "  round {round}: ingest {}/s, without log {}/s, simplest gateway {}/s",
            thousands(a[round]),
            thousands(b[round]),
            thousands(c[round])
        );
    }
    bare.stop();
    simple.stop();
    report.add(
        "POST one event, acks=all",
        &a,
        "the same handler without the log",
        &b,
        "requests/s",
        Some(0.55),
    );
    report.add(
        "POST one event, acks=all",
        &a,
        "actix + one FutureProducer",
        &c,
        "requests/s",
        Some(1.3),
    );
    Ok(())
}

/// Single posts with a key that is asked for and checked, and with no question asked.
pub(crate) async fn auth(
    parts: &Parts,
    options: &Options,
    report: &mut Report,
) -> anyhow::Result<()> {
    println!("single posts with a key, {CONNECTIONS} connections");
    let key = format!("tg_secret_{}", "k".repeat(43));
    let file = std::env::temp_dir().join(format!("tidegate-bench-{}.keys", std::process::id()));
    std::fs::write(&file, format!("{key} default write\n"))?;
    let body = events::body(1, "", "");
    let scripts = [script(&body)?, script_with(&body, &key)?];
    let keys = file.display().to_string();
    let envs = [
        vec![],
        vec![("AUTH_MODE", "keys"), ("API_KEYS_FILE", keys.as_str())],
    ];
    let mut rates: [Vec<f64>; 2] = Default::default();
    let mut services = vec![];
    for env in &envs {
        services.push(ingest(parts, env).await?.0);
    }
    for (service, script) in services.iter().zip(&scripts) {
        warm_up(&service.url("/api/v1/events"), script)?;
    }
    for _ in 0..options.rounds {
        for ((service, script), rates) in services.iter().zip(&scripts).zip(&mut rates) {
            let url = service.url("/api/v1/events");
            rates.push(wrk(&url, script, CONNECTIONS, options.seconds)?);
        }
    }
    std::fs::remove_file(&file)?;
    let [without, with] = &rates;
    report.add(
        "POST one event with a key",
        with,
        "without authentication",
        without,
        "requests/s",
        Some(0.95),
    );
    Ok(())
}

pub(crate) async fn batch(
    parts: &Parts,
    options: &Options,
    report: &mut Report,
) -> anyhow::Result<()> {
    println!("batches of {PER_BATCH}, {CONNECTIONS} connections");
    let (ours, topic) = ingest(parts, &[]).await?;
    let bodies: Vec<String> = (0..PER_BATCH as u64)
        .map(|n| events::body(n, "", ""))
        .collect();
    let script = script(&format!("[{}]", bodies.join(",")))?;
    let now = time::OffsetDateTime::now_utc();
    let payloads: Vec<_> = (0..PER_BATCH as u64)
        .map(|n| events::event(n, 1, now))
        .map(|event| (domain::stream::log_key(&event), event.to_canonical()))
        .collect();
    let mut simple = Peer::start("simple", parts, &topic)?;
    let peer = format!("{}batch", simple.url);
    warm_up(&ours.url("/api/v1/events/batch"), &script)?;
    let (mut measured, mut honest, mut limit) = (vec![], vec![], vec![]);
    for round in 0..options.rounds {
        let events = |url: &str| -> anyhow::Result<f64> {
            Ok(wrk(url, &script, CONNECTIONS, options.seconds)? * PER_BATCH as f64)
        };
        measured.push(events(&ours.url("/api/v1/events/batch"))?);
        honest.push(events(&peer)?);
        limit.push(flat_out(parts, &topic, &payloads, options)?);
        println!(
            "  round {round}: ingest {} events/s, simplest gateway {} events/s, librdkafka {} events/s",
            thousands(measured[round]),
            thousands(honest[round]),
            thousands(limit[round])
        );
    }
    simple.stop();
    report.add(
        format!("POST {PER_BATCH} events, acks=all"),
        &measured,
        "actix + one FutureProducer",
        &honest,
        "events/s",
        Some(1.0),
    );
    report.add(
        format!("POST {PER_BATCH} events, acks=all"),
        &measured,
        "librdkafka producing the same payloads",
        &limit,
        "events/s",
        Some(0.5),
    );
    Ok(())
}

/// A gateway of ours with topics of its own, and the name of its backend topic.
async fn ingest(parts: &Parts, env: &[(&str, &str)]) -> anyhow::Result<(TestService, String)> {
    let prefix = testkit::topic_prefix();
    let service = TestService::builder("ingest")
        .parts(parts)
        .env("KAFKA_TOPIC_PREFIX", &prefix)
        .env("LOG_LEVEL", "WARN");
    let service = env
        .iter()
        .fold(service, |service, (name, value)| service.env(name, value))
        .start()
        .await;
    Ok((service, format!("{prefix}{}", domain::subject::BACKEND)))
}

/// A peer of this program's own, as a process of its own.
struct Peer {
    child: Child,
    url: String,
}

impl Peer {
    fn start(kind: &str, parts: &Parts, topic: &str) -> anyhow::Result<Self> {
        let port = std::net::TcpListener::bind("127.0.0.1:0")?
            .local_addr()?
            .port();
        let child = Command::new(std::env::current_exe()?)
            .args(["peer", kind, &port.to_string(), &parts.kafka_brokers, topic])
            .stdin(Stdio::null())
            .spawn()?;
        let deadline = Instant::now() + Duration::from_secs(10);
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            ensure!(Instant::now() < deadline, "the peer {kind} does not listen");
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(Self {
            child,
            url: format!("http://127.0.0.1:{port}/"),
        })
    }

    fn stop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Events per second of librdkafka alone, acks=all and idempotent like ours.
fn flat_out(
    parts: &Parts,
    topic: &str,
    payloads: &[(String, Vec<u8>)],
    options: &Options,
) -> anyhow::Result<f64> {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", &parts.kafka_brokers)
        .set("acks", "all")
        .set("enable.idempotence", "true")
        .set("compression.type", "lz4")
        .set("linger.ms", "5")
        .create()?;
    let started = Instant::now();
    let mut sent = 0_u64;
    while started.elapsed().as_secs() < options.seconds {
        for (key, payload) in payloads {
            while producer
                .send(BaseRecord::to(topic).key(key).payload(payload))
                .is_err()
            {
                producer.poll(Duration::from_millis(1));
            }
            sent += 1;
        }
        producer.poll(Duration::ZERO);
    }
    producer.flush(Duration::from_secs(60))?;
    Ok(sent as f64 / started.elapsed().as_secs_f64())
}
