//! The test tools themselves, on real parts.

use testkit::{LIMIT, Part, Parts, TestService, eventually, eventually_eq};

#[tokio::test]
async fn a_fresh_database_is_empty_and_gone_afterwards() {
    let parts = Parts::shared().await;
    let database = parts.fresh_database().await;
    let client = database.connect().await.unwrap();
    client
        .batch_execute("create table numbers as select generate_series(1, 3) as n")
        .await
        .unwrap();
    drop(client);
    assert_eq!(database.count("numbers where n > 1").await.unwrap(), 2);
    assert_eq!(
        database
            .scalar::<i32>("select max(n) from numbers", &[])
            .await
            .unwrap(),
        3
    );
    assert!(database.count("nothing").await.is_err());
    let name = database.url.rsplit_once('/').unwrap().1.to_owned();
    drop(database);
    let other = parts.fresh_database().await;
    let left = "pg_database where datname = '".to_owned() + &name + "'";
    assert_eq!(other.count(&left).await.unwrap(), 0);
}

#[tokio::test]
async fn private_parts_are_killed_and_come_back_with_their_data() {
    let parts = Parts::private_of(&[Part::Postgres]).await;
    let database = parts.fresh_database().await;
    let client = database.connect().await.unwrap();
    client
        .batch_execute("create table kept as select 1 as n")
        .await
        .unwrap();
    parts.kill(Part::Postgres).await;
    assert!(database.count("kept").await.is_err());
    parts.start(Part::Postgres).await;
    eventually_eq("the table", 1, || database.count("kept")).await;
    parts.stop_postgres_immediately().await;
    assert!(database.connect().await.is_err());
    parts.start(Part::Postgres).await;
    assert_eq!(
        eventually("the table", LIMIT, || database.count("kept")).await,
        1
    );
}

#[test]
#[should_panic(expected = "shared parts belong to every test")]
fn shared_parts_cannot_be_killed() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async { Parts::shared().await.kill(Part::Kafka).await });
}

#[test]
#[should_panic(expected = "build it: cargo build -p no-such-service")]
fn a_service_that_was_not_built_says_so() {
    let _service = TestService::builder("no-such-service").spawn();
}
