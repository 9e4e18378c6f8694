//! Connections that are open and of no use.

use super::*;

/// A table is altered under the prepared statements, then the server refuses to write for a while, as
/// a primary does that has become a standby.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_keeps_failing_is_replaced() {
    let world = World::new(&Parts::shared().await).await;
    let drain = world.drain(None);
    let send = async |from: u128| {
        let events: Vec<_> = (from..from + 50).map(|n| world.event(n, "a.b")).collect();
        // Twice, so that ids are looked up too.
        world.publish(&events).await;
        world.publish(&events).await;
        world.wait_until_empty().await;
        eventually_eq("events", i64::try_from(from + 49).unwrap(), || {
            world.fresh.count("events")
        })
        .await;
    };
    send(1).await;
    let client = world.fresh.connect().await.unwrap();
    client
        .batch_execute(
            "drop policy own_tenants on event_ids; \
             alter table event_ids alter column tenant_id type varchar(65)",
        )
        .await
        .unwrap();
    send(51).await;

    let name: String = world
        .fresh
        .scalar("select current_database()::text", &[])
        .await
        .unwrap();
    let events: Vec<_> = (101..151).map(|n| world.event(n, "a.b")).collect();
    // A session keeps what it was begun with, also when the server is the primary again.
    let set = |on: &str| format!("alter database {name} set default_transaction_read_only = {on}");
    client.batch_execute(&set("on")).await.unwrap();
    let end = "select pg_terminate_backend(pid) from pg_stat_activity \
        where datname = current_database() and query ilike 'commit%' and pid <> pg_backend_pid()";
    assert!(
        !client.query(end, &[]).await.unwrap().is_empty(),
        "a writer"
    );
    let refused = async || -> i64 {
        let sql = "select xact_rollback from pg_stat_database where datname = current_database()";
        world.fresh.scalar(sql, &[]).await.unwrap()
    };
    let before = refused().await;
    world.publish(&events).await;
    eventually("transactions that are refused", LIMIT, || async {
        let now = refused().await;
        (now >= before + 2).then_some(()).ok_or(now)
    })
    .await;
    assert_eq!(world.count("events").await, 100);
    client.batch_execute(&set("off")).await.unwrap();
    world.wait_until_empty().await;
    eventually_eq("events", 150, || world.fresh.count("events")).await;
    World::stop(drain).await;
}
