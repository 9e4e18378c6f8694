//! How events are named and built is reported, and never enforced.

use serde_json::{Value, json};
use testkit::{LIMIT, eventually, eventually_eq};
use uuid::Uuid;

use crate::sender::client;
use crate::world::{World, beside_others};

/// The findings of a part about one type, or one source.
fn about<'a>(report: &'a Value, part: &str, member: &str, name: &str) -> Vec<&'a Value> {
    let findings = report[part].as_array().unwrap().iter();
    findings.filter(|one| one[member] == name).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn names_typos_shapes_ids_clocks_and_repeats_are_reported() {
    let _turn = beside_others().await;
    let world = World::shared().await;
    let system = world.system().start().await;
    let now = time::OffsetDateTime::now_utc();
    let at = |minutes: i64| {
        let at = now - time::Duration::minutes(minutes);
        at.format(&time::format_description::well_known::Rfc3339)
            .unwrap()
    };
    let event = |name: &str, data: Value| json!({"event_type": name, "user_id": "u-1", "data": data, "timestamp": at(0)});
    // Among the first of its type, which are looked at.
    let mut events = vec![event("order.placed", json!({"total": "12"}))];
    for n in 0..60 {
        let data = json!({"total": 12, "items": [n], "by": {"name": "x"}});
        events.push(event("order.placed", data));
    }
    events.push(event("order.plcaed", json!({})));
    events.push(event("click", json!({})));
    events.push(event("RegisterUser", json!({})));
    let mut late = event("button_click", json!({}));
    late["timestamp"] = at(30).into();
    late["event_source"] = "iot_device".into();
    events.push(late);
    events.push(json!({"event_type": "button_click", "data": {}}));
    let sent = events.len();
    let again = json!({"event_id": Uuid::now_v7(), "event_type": "order.paid", "user_id": "u-1",
        "timestamp": at(0), "event_source": "external_api", "data": {}});
    let send = async |events: &[Value]| {
        let url = system.ingest_url("/api/v1/events/batch");
        let answer = client().post(url).json(&events).send().await.unwrap();
        assert!(answer.status().is_success(), "{:?}", answer.text().await);
    };
    // Records that wait for a topic's metadata may change places: it is the first once it is stored.
    let (first, others) = events.split_at(1);
    send(first).await;
    eventually_eq("stored", 1, || world.database.count("events")).await;
    send(others).await;
    for _ in 0..3 {
        send(std::slice::from_ref(&again)).await;
    }

    let url = system.query_url("/api/v1/reports/instrumentation?days=1");
    let report = eventually("all is reported", LIMIT, || async {
        let report: Value = client().get(&url).send().await?.json().await?;
        let sources = report["sources"].as_array().map_or(&[][..], Vec::as_slice);
        let seen: i64 = sources
            .iter()
            .filter_map(|one| one["events"].as_i64())
            .sum();
        anyhow::ensure!(seen == i64::try_from(sent).unwrap() + 3, "{report}");
        Ok(report)
    })
    .await;

    let problems = |name: &str| about(&report, "names", "event_type", name)[0]["problems"].clone();
    assert_eq!(problems("click"), json!(["too_generic"]));
    assert_eq!(
        problems("RegisterUser"),
        json!(["not_snake_case", "not_past_tense"])
    );
    assert!(about(&report, "names", "event_type", "order.placed").is_empty());
    assert_eq!(
        report["typos"],
        json!([{"event_type": "order.plcaed", "likely": "order.placed", "events": 1}])
    );
    let mixed = about(&report, "mixed_types", "path", "total");
    assert_eq!(
        mixed[0]["json_types"],
        json!(["number", "string"]),
        "{report:#}"
    );
    assert_eq!(report["mixed_types"].as_array().unwrap().len(), 1);
    assert_eq!(report["changed"], json!([]), "nothing is known for a day");
    let missing = &report["missing_ids"];
    assert_eq!(missing.as_array().unwrap().len(), 1, "{missing}");
    assert_eq!(
        (&missing[0]["event_type"], &missing[0]["without_ids"]),
        (&json!("button_click"), &json!(1))
    );
    let source = |name: &str| about(&report, "sources", "event_source", name)[0].clone();
    let late = source("iot_device");
    assert_eq!((&late["late"], &late["early"]), (&json!(1), &json!(0)));
    assert!(late["worst_seconds"].as_i64().unwrap() >= 30 * 60);
    let repeated = source("external_api");
    assert_eq!(
        (&repeated["events"], &repeated["duplicates"]),
        (&json!(3), &json!(2)),
        "{repeated}"
    );

    // A member that came later than the others of its type.
    let database = world.database.connect().await.unwrap();
    let earlier =
        "update event_shapes set first_seen = now() - interval '9 days' where path <> 'by'";
    database.batch_execute(earlier).await.unwrap();
    let report: Value = client()
        .get(&url)
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    let changed = report["changed"].as_array().unwrap();
    assert_eq!(changed.len(), 1, "{changed:?}");
    assert_eq!(
        (&changed[0]["path"], &changed[0]["event_type"]),
        (&json!("by"), &json!("order.placed"))
    );
}
