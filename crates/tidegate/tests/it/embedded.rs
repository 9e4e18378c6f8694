//! The example program that embeds all services, with a handler and a middleware of its own.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use testkit::{LIMIT, Parts, eventually};

/// Ends with the test.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn a_program_brings_its_own_handler_and_middleware() {
    let database = Parts::shared().await.fresh_database().await;
    let directory = std::env::var_os("TIDEGATE_BIN_DIR").map_or_else(
        || {
            // target/debug/deps/it-0123 -> target/debug
            let own = std::env::current_exe().unwrap();
            own.ancestors().nth(2).unwrap().to_owned()
        },
        Into::into,
    );
    let mut program = Program(
        Command::new(directory.join("examples/embedded"))
            .env("DATABASE_URL", &database.url)
            .env("EVENT_SERVICE_HOST", "127.0.0.1")
            .env("INGEST_PORT", "0")
            .env("QUERY_PORT", "0")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    let mut output = BufReader::new(program.0.stdout.take().unwrap()).lines();
    let mut address = |what: &str| {
        let line = output.next().unwrap().unwrap();
        line.strip_prefix(what)
            .unwrap_or_else(|| panic!("{line}"))
            .to_owned()
    };
    let (takes, answers) = (address("takes events on "), address("answers on "));
    let client = reqwest::Client::new();
    let ask = async |request: reqwest::RequestBuilder| -> anyhow::Result<(u16, Value)> {
        let answer = request.send().await?;
        Ok((answer.status().as_u16(), answer.json().await?))
    };
    let create = format!("{takes}/api/v1/events/create");
    let event = json!({"event_type": "user.registered", "user_id": "ann"});
    let (_, answer) = eventually("taken", LIMIT, || async {
        match ask(client.post(&create).json(&event)).await {
            Ok((201, answer)) => Ok((201, answer)),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    // The middleware changed the event before, and the answer after.
    assert_eq!(answer["taken_in"], "eu", "{answer}");
    assert_eq!(answer["context"]["region"], "eu");
    let secret =
        json!([{"event_type": "user.registered", "user_id": "bob"}, {"event_type": "secret.x"}]);
    let batch = format!("{takes}/api/v1/events/batch");
    let (status, refused) = ask(client.post(&batch).json(&secret)).await.unwrap();
    assert_eq!(
        (status, &refused["errors"][0]["path"]),
        (422, &json!("[1].event_type")),
        "{refused}"
    );
    let partial = client.post(format!("{batch}?partial=true")).json(&secret);
    let (status, taken) = ask(partial).await.unwrap();
    assert_eq!(
        (status, &taken["rejected"], &taken["taken_in"]),
        (201, &json!(1), &json!("eu"))
    );

    // The handler failed once, then succeeded.
    let receipt = format!(
        "{answers}/api/v1/events/{}/receipt",
        answer["event_id"].as_str().unwrap()
    );
    let receipt = eventually("handled", LIMIT, || async {
        match ask(client.get(&receipt)).await {
            Ok((200, receipt)) if receipt["status"] == "processed" => Ok(receipt),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    let run = &receipt["processors"][0];
    assert_eq!(
        (&run["processor_name"], &run["status"], &run["attempts"]),
        (&json!("welcome"), &json!("success"), &json!(2)),
        "{receipt}"
    );
    let (_, stored) = ask(client.get(format!(
        "{answers}/api/v1/events/{}",
        answer["event_id"].as_str().unwrap()
    )))
    .await
    .unwrap();
    assert_eq!(
        (&stored["context"]["region"], &stored["retry_count"]),
        (&json!("eu"), &json!(1))
    );
    let listed = ask(client.get(format!("{answers}/api/v1/events/processors")))
        .await
        .unwrap()
        .1;
    assert_eq!(listed["processors"][0]["from_code"], true, "{listed}");
    assert!(listed["processors"][0]["error_count"].as_i64().unwrap() > 0);
}
