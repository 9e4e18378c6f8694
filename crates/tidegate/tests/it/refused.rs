//! What `tidegate dev` and `serve` refuse: one sentence, exit status 1, nothing damaged.

use std::net::TcpListener;

use serde_json::json;
use testkit::Parts;

use crate::command::{Directory, Ended, ended, post, run, stored, tidegate};

async fn dev(directory: &Directory, arguments: &[&str]) -> Ended {
    let path = directory.0.display().to_string();
    let mut all = vec!["dev", "--port", "0", "--data-dir", &path];
    all.extend(arguments);
    run(&all).await
}

/// One sentence on one line, and exit status 1.
fn assert_says(ended: &Ended, words: &[&str]) {
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_eq!(ended.err.trim().lines().count(), 1, "{ended:?}");
    for word in words {
        assert!(ended.err.contains(word), "no {word:?} in {ended:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_one_on_the_same_directory() {
    let directory = Directory::new();
    let first = directory.dev().start().await;
    let refused = dev(&directory, &[]).await;
    let pid = first.pid().to_string();
    assert_says(&refused, &["another tidegate", &pid, "--data-dir"]);
    let id = post(&first, &json!({"event_type": "a"})).await.unwrap();
    stored(&first, &id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_of_another_version() {
    let directory = Directory::new();
    let mut service = directory.dev().start().await;
    let id = post(&service, &json!({"event_type": "a"})).await.unwrap();
    stored(&service, &id).await;
    service.terminate().await;
    let version = directory.cluster().join("PG_VERSION");
    let own = std::fs::read_to_string(&version).unwrap();
    std::fs::write(&version, "99\n").unwrap();
    let refused = dev(&directory, &[]).await;
    assert_says(&refused, &["PostgreSQL 99", "--data-dir"]);
    assert_eq!(std::fs::read_to_string(&version).unwrap(), "99\n");
    std::fs::write(&version, own).unwrap();
    service.restart().await;
    stored(&service, &id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_holds_something_else() {
    let directory = Directory::new();
    let file = directory.path("postgres/important");
    std::fs::create_dir(directory.path("postgres")).unwrap();
    std::fs::write(&file, "mine").unwrap();
    let refused = dev(&directory, &[]).await;
    assert_says(
        &refused,
        &["not a data directory of PostgreSQL", "nothing was changed"],
    );
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "mine");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_port() {
    let directory = Directory::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let refused = dev(&directory, &["--port", &port]).await;
    // An option that stands twice is an error.
    assert_eq!(refused.code, Some(2), "{refused:?}");
    let path = directory.0.display().to_string();
    let refused = run(&["dev", "--port", &port, "--data-dir", &path]).await;
    assert_says(&refused, &["port", &port, "taken", "--port"]);
    assert!(!directory.cluster().exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn no_postgres_where_it_is_said_to_be() {
    let directory = Directory::new();
    let refused = dev(&directory, &["--pg-bin", "/nowhere"]).await;
    assert_says(&refused, &["TIDEGATE_PG_BIN", "/nowhere"]);
    assert!(!directory.cluster().exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_cannot_be() {
    let directory = Directory::new();
    std::fs::write(directory.path("file"), "").unwrap();
    let path = directory.path("file/below").display().to_string();
    let refused = run(&["dev", "--port", "0", "--data-dir", &path]).await;
    assert_says(&refused, &["cannot be made", &path]);
}

/// Root hands PostgreSQL to another user; everybody else runs it as themselves.
#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_the_user_of_postgres_cannot_enter() {
    let outside = Directory::new();
    let closed = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    std::fs::set_permissions(&outside.0, closed).unwrap();
    let directory = Directory(outside.path("below"));
    if !crate::dev::is_root() {
        let mut dev = directory.dev().start().await;
        let id = post(&dev, &json!({"event_type": "a"})).await.unwrap();
        stored(&dev, &id).await;
        assert!(dev.terminate().await.success());
        return;
    }
    let refused = dev(&directory, &[]).await;
    let path = directory.0.display().to_string();
    assert_says(
        &refused,
        &["cannot enter", &path, "--data-dir", "TIDEGATE_PG_USER"],
    );
    assert!(!directory.cluster().exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_settings_are_all_named() {
    let directory = Directory::new();
    let path = directory.0.display().to_string();
    let mut command = tidegate(&["dev", "--port", "0", "--data-dir", &path]);
    command.env("MAX_BATCH_EVENTS", "none").env("WRITERS", "0");
    let refused = ended(command).await;
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(refused.err.contains("MAX_BATCH_EVENTS"), "{refused:?}");
    assert!(!directory.cluster().exists(), "made for nothing");
    let mut command = tidegate(&["serve"]);
    command
        .env("MAX_BATCH_EVENTS", "none")
        .env("DATABASE_URL", "nonsense");
    let refused = ended(command).await;
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(refused.err.contains("MAX_BATCH_EVENTS"), "{refused:?}");
    assert!(refused.err.contains("DATABASE_URL"), "{refused:?}");
    assert!(refused.err.contains("such as postgresql://"), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn serve_on_a_taken_port_begins_nothing() {
    let database = Parts::shared().await.fresh_database().await;
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let mut command = tidegate(&["serve"]);
    command
        .env("DATABASE_URL", &database.url)
        .env("EVENT_SERVICE_HOST", "127.0.0.1")
        .env("TIDEGATE_PORT", &port);
    let refused = ended(command).await;
    assert_says(&refused, &[&port, "taken", "TIDEGATE_PORT"]);
    assert_eq!(refused.out, "");
    // The schema is not there.
    assert!(database.count("event.events").await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn serve_opens_no_door_that_nobody_said_is_meant() {
    let database = Parts::shared().await.fresh_database().await;
    let serve = async |settings: &[(&str, &str)]| {
        let mut command = tidegate(&["serve"]);
        command.env("DATABASE_URL", &database.url);
        command.env("TIDEGATE_PORT", "0");
        command.envs(settings.iter().copied());
        ended(command).await
    };
    let refused = serve(&[]).await;
    assert_says(&refused, &["0.0.0.0", "AUTH_MODE", "I_KNOW_THIS_IS_OPEN"]);
    let refused = serve(&[("AUTH_MODE", "off")]).await;
    assert_says(&refused, &["AUTH_MODE=off", "0.0.0.0"]);
    for (settings, word) in [
        (&[("AUTH_MODE", "jwt")][..], "JWT_JWKS_URL"),
        (&[("AUTH_MODE", "gateway")], "TRUSTED_PROXIES"),
        (&[("AUTH_MODE", "open")], "off, keys, gateway or jwt"),
        (
            &[("AUTH_MODE", "jwt"), ("JWT_SECRET", "hunter2")],
            "32 bytes",
        ),
    ] {
        let refused = serve(settings).await;
        assert_eq!(refused.code, Some(2), "{refused:?}");
        assert!(refused.err.contains(word), "no {word:?} in {refused:?}");
        assert!(!refused.err.contains("hunter2"), "{refused:?}");
    }
    let file = [("AUTH_MODE", "keys"), ("API_KEYS_FILE", "/nowhere/keys")];
    assert_says(&serve(&file).await, &["API_KEYS_FILE", "/nowhere/keys"]);
    assert!(
        database.count("event.events").await.is_err(),
        "nothing was begun"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_command_gets_help() {
    let refused = run(&["devv"]).await;
    assert_eq!(refused.code, Some(2));
    assert!(refused.err.contains("'dev'"), "{refused:?}");
    let help = run(&["--help"]).await;
    assert_eq!(help.code, Some(0));
    for verb in [
        "dev", "serve", "migrate", "send", "tail", "status", "config", "key",
    ] {
        assert!(help.out.contains(&format!("\n  {verb} ")), "{help:?}");
        let help = run(&[verb, "--help"]).await;
        assert_eq!(help.code, Some(0), "{verb}");
    }
}
