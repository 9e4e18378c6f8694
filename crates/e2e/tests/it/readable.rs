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
}
