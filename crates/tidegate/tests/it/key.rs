//! `tidegate key`, and the key that the other commands send.

use serde_json::Value;
use testkit::{Parts, TestService};

use crate::command::{Ended, ended, tidegate};

#[tokio::test(flavor = "multi_thread")]
async fn the_first_key_is_made_on_the_database_and_sent_by_the_other_commands() {
    let database = Parts::shared().await.fresh_database().await;
    let server = TestService::builder("tidegate")
        .arg("serve")
        .database(&database)
        .env("AUTH_MODE", "keys")
        .start()
        .await;
    let key = async |arguments: &[&str]| -> Ended {
        let mut command = tidegate(&["key", "--json"]);
        command.args(arguments).env("DATABASE_URL", &database.url);
        ended(command).await
    };
    let json = |ended: &Ended| -> Value {
        assert_eq!(ended.code, Some(0), "{ended:?}");
        serde_json::from_str(&ended.out).unwrap()
    };
    let made = json(&key(&["create", "ops", "--scopes", "admin"]).await);
    let (text, id) = (made["key"].as_str().unwrap(), made["id"].as_str().unwrap());
    let counts = async |text: &str| -> Ended {
        let mut command = tidegate(&["dead-letters", "counts", "--json", "--url"]);
        command.arg(server.url("")).env("TIDEGATE_KEY", text);
        ended(command).await
    };
    testkit::eventually("the key is taken", testkit::LIMIT, || async {
        let counts = counts(text).await;
        (counts.code == Some(0)).then_some(()).ok_or(counts)
    })
    .await;
    let refused = counts("").await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(
        refused.err.contains("Credentials are needed"),
        "{refused:?}"
    );

    let turned = json(&key(&["rotate", id, "--overlap", "0"]).await);
    let list = key(&["list"]).await;
    assert_eq!(list.out.lines().count(), 2, "{list:?}");
    assert!(!list.out.contains(text), "{list:?}");
    let revoked = json(&key(&["revoke", turned["id"].as_str().unwrap()]).await);
    assert!(
        revoked["revoked_at"].is_string() && revoked["key"].is_null(),
        "{revoked}"
    );
    let unknown = "0198c5a2-6e0e-7c31-9d0a-4a1f6c1d2e3f";
    assert_eq!(key(&["revoke", unknown]).await.code, Some(1));
    for (used, state) in [
        (text, "replaced"),
        (turned["key"].as_str().unwrap(), "ended"),
    ] {
        testkit::eventually(state, testkit::LIMIT, || async {
            let counts = counts(used).await;
            (counts.code == Some(1)).then_some(()).ok_or(counts)
        })
        .await;
    }
    let loose = ended(tidegate(&["key", "generate", "--write"])).await;
    assert!(loose.out.starts_with("tg_write_"), "{loose:?}");
}
