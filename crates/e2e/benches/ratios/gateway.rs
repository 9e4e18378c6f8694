//! The gateway: single posts against the same server without the log and against the simplest
//! honest gateway; batches against librdkafka producing the same payloads flat out.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use testkit::{Parts, TestService};

use crate::report::{Report, thousands};
use crate::{Options, events};

const CONNECTIONS: &str = "64";
const PER_BATCH: usize = 50;

pub(crate) async fn single(
    parts: &Parts,
    options: &Options,
    report: &mut Report,
) -> anyhow::Result<()> {
    println!("single posts, {CONNECTIONS} connections");
    let (ours, topic) = ingest(parts).await?;
    let mut bare = Peer::start("bare", parts, &topic)?;
    let mut simple = Peer::start("simple", parts, &topic)?;
    let body = events::body(1, "", "");
    let script = script(&body)?;
    let (mut a, mut b, mut c) = (vec![], vec![], vec![]);
    for round in 0..options.rounds {
        a.push(wrk(&ours.url("/api/v1/events"), &script, options)?);
        b.push(wrk(&bare.url, &script, options)?);
        c.push(wrk(&simple.url, &script, options)?);
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
        Some(0.6),
    );
    report.add(
        "POST one event, acks=all",
        &a,
        "actix + one FutureProducer",
        &c,
        "requests/s",
        Some(1.0),
    );
    Ok(())
}

pub(crate) async fn batch(
    parts: &Parts,
    options: &Options,
    report: &mut Report,
) -> anyhow::Result<()> {
    println!("batches of {PER_BATCH}, {CONNECTIONS} connections");
    let (ours, topic) = ingest(parts).await?;
    let bodies: Vec<String> = (0..PER_BATCH as u64)
        .map(|n| events::body(n, "", ""))
        .collect();
    let script = script(&format!("[{}]", bodies.join(",")))?;
    let now = time::OffsetDateTime::now_utc();
    let payloads: Vec<_> = (0..PER_BATCH as u64)
        .map(|n| events::event(n, 1, now))
        .map(|event| (domain::stream::log_key(&event), event.to_canonical()))
        .collect();
    let (mut measured, mut limit) = (vec![], vec![]);
    for round in 0..options.rounds {
        let requests = wrk(&ours.url("/api/v1/events/batch"), &script, options)?;
        measured.push(requests * PER_BATCH as f64);
        limit.push(flat_out(parts, &topic, &payloads, options)?);
        println!(
            "  round {round}: ingest {} events/s, librdkafka {} events/s",
            thousands(measured[round]),
            thousands(limit[round])
        );
    }
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
async fn ingest(parts: &Parts) -> anyhow::Result<(TestService, String)> {
    let prefix = testkit::topic_prefix();
    let service = TestService::builder("ingest")
        .parts(parts)
        .env("KAFKA_TOPIC_PREFIX", &prefix)
        .env("LOG_LEVEL", "WARN")
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

fn script(body: &str) -> anyhow::Result<PathBuf> {
    let path = std::env::temp_dir().join(format!("tidegate-bench-{}.lua", std::process::id()));
    let quoted = format!("[==[{body}]==]");
    std::fs::write(
        &path,
        format!(
            "wrk.method = 'POST'\nwrk.headers['Content-Type'] = 'application/json'\nwrk.body = {quoted}\n"
        ),
    )?;
    Ok(path)
}

/// Requests per second; fails if any answer was not 2xx.
fn wrk(url: &str, script: &Path, options: &Options) -> anyhow::Result<f64> {
    let run = |seconds: u64| -> anyhow::Result<String> {
        let output = Command::new("wrk")
            .args(["-t2", "-c", CONNECTIONS, "-d", &format!("{seconds}s"), "-s"])
            .arg(script)
            .arg(url)
            .output()
            .context("wrk (Debian's package wrk) is needed")?;
        ensure!(
            output.status.success(),
            "wrk: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    run(1)?;
    let output = run(options.seconds)?;
    ensure!(
        !output.contains("Non-2xx"),
        "{url} refused requests:\n{output}"
    );
    output
        .lines()
        .find_map(|line| line.strip_prefix("Requests/sec:"))
        .and_then(|number| number.trim().parse().ok())
        .with_context(|| format!("no rate in wrk's output:\n{output}"))
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
