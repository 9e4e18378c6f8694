//! What was answered with 201 can be read afterwards. How soon is measured by `make bench`.

use serde_json::Value;
use testkit::{LIMIT, event, eventually};

use crate::world::{World, beside_others};

const EVENTS: usize = 50;

#[tokio::test(flavor = "multi_thread")]
async fn an_event_can_be_read_after_its_answer() {
    let _turn = beside_others().await;
    let world = World::shared().await;
    let system = world.system().start().await;
    let http = crate::sender::client();
    for _ in 0..EVENTS {
        let answer = http
            .post(system.ingest_url("/api/v1/events/create"))
            .json(&event::backend("readable").json())
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 201);
        let created: Value = answer.json().await.unwrap();
        let id = created["event_id"].as_str().unwrap();
        let url = system.query_url(&format!("/api/v1/events/{id}"));
        let read = eventually("the event is readable", LIMIT, || async {
            let answer = http.get(&url).send().await.unwrap();
            match answer.status().as_u16() {
                200 => Ok(answer.json::<Value>().await.unwrap()),
                404 => Err(404),
                other => panic!("{other}"),
            }
        })
        .await;
        assert_eq!(read["event_id"], created["event_id"]);
        assert_eq!(read["data"], created["data"]);
    }
    // How long each took from its receipt to its storing is on the page of metrics.
    let url = system.processor_url("/metrics");
    let page = http.get(&url).send().await.unwrap().text().await.unwrap();
    let value = |name: &str| -> f64 {
        let lines = page.lines().filter(|line| line.starts_with(name));
        lines
            .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
            .sum()
    };
    let histogram = "tidegate_processor_store_latency_seconds";
    assert!(value(&format!("{histogram}_count")) >= 50.0, "{page}");
    assert!(value(&format!("{histogram}_sum")) > 0.0, "{page}");
}
