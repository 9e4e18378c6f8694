//! The check of the books notices every kind of error it is there for.

use std::sync::Arc;

use crate::equation::produce;
use crate::ledger::Ledger;
use crate::load::Maker;
use crate::world::{World, beside_others};

/// What would be wrong with the books: how to do it, and how to undo it.
const SABOTAGE: [(&str, &str, &str); 7] = [
    (
        "a day counted too much",
        "update aggregated_events set count = count + 1 where id = (select min(id) from aggregated_events)",
        "update aggregated_events set count = count - 1 where id = (select min(id) from aggregated_events)",
    ),
    (
        "hours that add up, but wrongly",
        "update aggregated_events_hourly set hour = hour - interval '7 days'",
        "update aggregated_events_hourly set hour = hour + interval '7 days'",
    ),
    (
        "an event stored twice",
        "insert into events select (e).* from (select e from events e limit 1) one",
        "",
    ),
    (
        "another event's data",
        // Past the trigger that keeps stored events as they are.
        "set session_replication_role = replica; \
         update events set data = jsonb_set(data, '{n}', to_jsonb((data->>'n')::bigint + 1))",
        "update events set data = jsonb_set(data, '{n}', to_jsonb((data->>'n')::bigint - 1)); \
         reset session_replication_role",
    ),
    (
        "an event lost",
        "create table kept as select * from events limit 1; \
         delete from events where event_id in (select event_id from kept)",
        "insert into events select * from kept; drop table kept",
    ),
    (
        "a dead letter's bytes changed",
        "update dead_letters set payload = payload || ' '::bytea",
        "update dead_letters set payload = substr(payload, 1, length(payload) - 1)",
    ),
    (
        "a dead letter twice",
        r#"insert into dead_letters (topic, partition, "offset", payload, reason, detail)
           select topic, partition, "offset", payload, reason, detail from dead_letters limit 1"#,
        "delete from dead_letters where id = (select max(id) from dead_letters)",
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn books_that_do_not_balance_are_noticed() {
    let _turn = beside_others().await;
    let world = Arc::new(World::shared().await);
    let _processor = world.start_processor().await;
    let mut maker = Maker::new();
    produce(&world, &maker.load(0, 200, true).lines).await;
    let ledger = Arc::new(Ledger::from(maker));
    assert_eq!(ledger.assert_balanced(&world).await, 2);

    let database = world.database.connect().await.unwrap();
    for (what, how, undo) in SABOTAGE {
        // The unique index is in the way of this one: that is what it is for.
        if undo.is_empty() {
            assert!(database.batch_execute(how).await.is_err(), "{what}");
            continue;
        }
        database.batch_execute(how).await.unwrap();
        let (world, ledger) = (Arc::clone(&world), Arc::clone(&ledger));
        let checked = tokio::spawn(async move { ledger.assert_balanced(&world).await }).await;
        assert!(checked.is_err(), "not noticed: {what}");
        database.batch_execute(undo).await.unwrap();
    }
    ledger.assert_balanced(&world).await;
}
