//! `tidegate status` and `tidegate migrate`.

use serde_json::{Value, json};
use testkit::Parts;

use crate::command::{Directory, ended, post, run, tidegate, total};

#[tokio::test(flavor = "multi_thread")]
async fn a_running_instance_is_described() {
    let directory = Directory::new();
    let dev = directory.dev().start().await;
    post(&dev, &json!({"event_type": "a"})).await.unwrap();
    total(&dev, 1).await;
    let url = dev.url("");
    let shown = run(&["status", "--url", &url]).await;
    assert_eq!(shown.code, Some(0), "{shown:?}");
    for word in ["ready", "postgres", "stored", "accepted", "1 today"] {
        assert!(shown.out.contains(word), "no {word} in {}", shown.out);
    }
    let shown = run(&["status", "--url", &url, "--json"]).await;
    let all: Value = serde_json::from_str(&shown.out).unwrap();
    assert_eq!(all["ready"]["status"], "ready");
    assert_eq!(all["counts"]["total_events"], 1);
    assert_eq!(all["figures"]["accepted"], 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_absent_instance_is_reported() {
    let shown = run(&["status", "--url", "127.0.0.1:9"]).await;
    assert_eq!(shown.code, Some(1));
    assert!(shown.err.contains("nothing answers"), "{shown:?}");
    let shown = run(&["status", "--url", "127.0.0.1:9", "--json"]).await;
    assert_eq!(shown.code, Some(1));
    let error: Value = serde_json::from_str(&shown.out).unwrap();
    assert_eq!(error["error"], "Connection refused (os error 111)");
}

#[tokio::test(flavor = "multi_thread")]
async fn migrate_brings_the_schema_up_to_date_once() {
    let database = Parts::shared().await.fresh_database().await;
    let migrate = || {
        let mut command = tidegate(&["migrate"]);
        command.env("DATABASE_URL", &database.url);
        ended(command)
    };
    let first = migrate().await;
    assert_eq!(first.code, Some(0), "{first:?}");
    assert!(first.out.contains("applied V1"), "{first:?}");
    assert_eq!(migrate().await.out, "the schema is up to date\n");
    let version = database.count("event_log").await;
    assert_eq!(version.unwrap(), 0);
    let mut command = tidegate(&["migrate"]);
    command.env("DATABASE_URL", "postgresql://nobody@127.0.0.1:9/none");
    let refused = ended(command).await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    for words in ["DATABASE_URL", "127.0.0.1:9"] {
        assert!(refused.err.contains(words), "{refused:?}");
    }
    assert_eq!(refused.err.matches("refused").count(), 1, "{refused:?}");
    // Without a URL, and with one that is not valid.
    let nameless = ended(tidegate(&["migrate"])).await;
    assert_eq!(nameless.code, Some(2), "{nameless:?}");
    assert!(
        nameless.err.contains("DATABASE_URL is not set"),
        "{nameless:?}"
    );
    let mut command = tidegate(&["migrate"]);
    command.env("DATABASE_URL", "nonsense");
    let nonsense = ended(command).await;
    assert_eq!(nonsense.code, Some(2), "{nonsense:?}");
    for words in ["DATABASE_URL", "such as postgresql://"] {
        assert!(nonsense.err.contains(words), "{nonsense:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reference_names_the_settings_of_all_services() {
    let reference = run(&["config"]).await;
    assert_eq!(reference.code, Some(0), "{reference:?}");
    for name in [
        "TIDEGATE_PORT",
        "MAX_BODY_BYTES",
        "WRITERS",
        "QUERY_TIMEOUT_SECONDS",
        "SPILL",
    ] {
        let cell = format!("`{name}`");
        assert_eq!(reference.out.matches(&cell).count(), 1, "{name}");
    }
}
