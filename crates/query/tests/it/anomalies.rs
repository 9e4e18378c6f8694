//! Rules of anomalies, and the alerts.

use serde_json::{Value, json};

use crate::world::{Answer, World};

const RULES: &str = "/api/v1/anomalies/rules";

async fn ask(world: &World, method: &str, path: &str, body: &Value) -> Answer {
    let request = world.request(method, &format!("{RULES}{path}")).json(body);
    Answer::of(request.send().await.unwrap()).await
}

async fn names(world: &World) -> Vec<(String, bool)> {
    let rules = world.get(RULES).await.ok();
    let name = |rule: &Value| {
        let is_default = rule["is_default"].as_bool().unwrap();
        (rule["name"].as_str().unwrap().to_owned(), is_default)
    };
    rules["rules"]
        .as_array()
        .unwrap()
        .iter()
        .map(name)
        .collect()
}

#[tokio::test]
async fn rules_are_made_replaced_and_deleted_beside_the_defaults() {
    let world = World::start().await;
    let defaults =
        ["api-error-rate", "error-rate", "silence", "surge"].map(|name| (name.to_owned(), true));
    assert_eq!(names(&world).await, defaults);

    let rule =
        json!({"name": "checkout", "kind": "error_rate", "by": "type", "event_types": ["order.*"]});
    let made = ask(&world, "POST", "", &rule).await;
    assert_eq!(made.status, 201, "{}", made.body);
    assert_eq!(
        (&made.body["threshold"], &made.body["min_events"]),
        (&json!(0.05), &json!(100))
    );
    let detail = ask(&world, "POST", "", &rule).await;
    assert_eq!(
        detail.problem(409),
        "There is a rule named checkout already"
    );
    let changed = ask(
        &world,
        "PUT",
        "/checkout",
        &json!({"kind": "error_rate", "threshold": 0.5}),
    )
    .await;
    assert_eq!(changed.ok()["threshold"], 0.5);

    // In the place of a default, which comes back.
    let off = ask(
        &world,
        "PUT",
        "/surge",
        &json!({"kind": "surge", "enabled": false}),
    )
    .await;
    assert_eq!(off.status, 201);
    assert!(names(&world).await.contains(&("surge".to_owned(), false)));
    let read = world.get(&format!("{RULES}/surge")).await.ok();
    assert_eq!(read["enabled"], false);
    for name in ["surge", "checkout"] {
        ask(&world, "DELETE", &format!("/{name}"), &json!({}))
            .await
            .ok();
    }
    assert_eq!(names(&world).await, defaults);
    ask(&world, "DELETE", "/surge", &json!({}))
        .await
        .problem(404);
    world.get(&format!("{RULES}/none")).await.problem(404);
}

#[tokio::test]
async fn each_wrong_field_of_a_rule_and_of_a_trial_is_named() {
    let world = World::start().await;
    for (path, body, field) in [
        ("", json!({"kind": "surge"}), "name"),
        ("", json!({"name": "r"}), "kind"),
        (
            "",
            json!({"name": "r", "kind": "surge", "threshold": 0.5}),
            "threshold",
        ),
        ("", json!({"name": "r", "kind": "surge", "days": 3}), "days"),
        ("/trial", json!({"kind": "surge", "days": 36}), "days"),
        ("/trial", json!({"kind": "surge", "window": 3}), "window"),
    ] {
        let answer = ask(&world, "POST", path, &body).await;
        answer.problem(422);
        assert_eq!(answer.body["errors"][0]["path"], field, "{body}");
    }
    // The name of a rule is that of its path; a trial needs none, but no wrong one.
    for (method, path, name) in [
        ("PUT", "/checkout", json!("basket")),
        ("PUT", "/checkout", json!(7)),
        ("PUT", "/a%01b", json!("a\u{1}b")),
        ("PUT", "/a%00b", Value::Null),
        ("POST", "/trial", json!(7)),
        ("POST", "/trial", json!(" ")),
    ] {
        let rule = json!({"kind": "surge", "name": name});
        let answer = ask(&world, method, path, &rule).await;
        answer.problem(422);
        assert_eq!(answer.body["errors"][0]["path"], "name", "{path} {name}");
    }
    for path in ["/a%01b", "/a%00b"] {
        for method in ["GET", "DELETE"] {
            ask(&world, method, path, &Value::Null).await.problem(404);
        }
    }
    let same = json!({"kind": "surge", "name": "checkout"});
    assert_eq!(ask(&world, "PUT", "/checkout", &same).await.status, 201);
    let trial = json!({"kind": "silence", "name": null});
    let trial = ask(&world, "POST", "/trial", &trial).await.ok();
    assert_eq!(
        (&trial["opened"], &trial["counts_from"]),
        (&json!(0), &Value::Null)
    );
    let answer = world.get("/api/v1/anomalies?state=closed&kind=odd").await;
    answer.problem(400);
    assert_eq!(answer.body["errors"].as_array().unwrap().len(), 2);
    assert_eq!(
        world.get("/api/v1/anomalies").await.ok(),
        json!({"anomalies": []})
    );
}
