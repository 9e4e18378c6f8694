//! A client that does not take its answer.

use serde_json::{Value, json};
use testkit::{LIMIT, eventually, slow_connection};
use tokio::io::AsyncWriteExt as _;

use crate::gateway::Gateway;

/// The sum of the samples of a metric with that label.
async fn sum(gateway: &Gateway, name: &str, label: &str) -> f64 {
    let page = gateway.get("/metrics").await.text;
    let lines = page
        .lines()
        .filter(|line| line.starts_with(name) && line.contains(label));
    lines
        .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
        .sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_counts_as_in_flight_until_its_client_takes_it_or_is_closed() {
    let gateway = Gateway::with(|builder| builder.env("CLIENT_STALL_SECONDS", 3)).await;
    let filling = "x".repeat(200 * 1024);
    let event = |n: usize| json!({"event_type": "large", "data": {"n": n, "filling": filling}});
    let body = (0..20).map(event).collect::<Value>().to_string();
    let mut client = slow_connection(&gateway.service.url("/")).await.unwrap();
    let head = format!(
        "POST /api/v1/events/batch HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    );
    client.write_all(head.as_bytes()).await.unwrap();
    client.write_all(body.as_bytes()).await.unwrap();
    let inflight = async || sum(&gateway, "tidegate_ingest_inflight_bytes", "").await;
    eventually("accepted, and the answer waits", LIMIT, || async {
        let accepted = sum(&gateway, "tidegate_ingest_events_total", "accepted").await;
        let waiting = inflight().await;
        if accepted >= 20.0 && waiting >= 4_000_000.0 {
            Ok(())
        } else {
            Err((accepted, waiting))
        }
    })
    .await;
    eventually("the client is closed", LIMIT, || async {
        match inflight().await {
            0.0 => Ok(()),
            bytes => Err(bytes),
        }
    })
    .await;
    drop(client);
}
