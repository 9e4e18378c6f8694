//! Claiming what is to be done.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;
use store::work::{self, CLAIM, PLAN, Slot};
use uuid::Uuid;

use crate::database::with_database;

/// 100,000 that wait: of a rule with as many as that, and of one with a few.
const WAITING: &str = "insert into work (event_id, tenant_id, rule_id, kind, event_timestamp, due_at) \
    select gen_random_uuid(), 'default', case when n % 1000 = 0 then '00000000-0000-0000-0000-000000000002' \
    else '00000000-0000-0000-0000-000000000001' end::uuid, 1, now(), now() - n * interval '1 millisecond' \
    from generate_series(1, 100000) n";

const LEASE: Duration = Duration::from_secs(60);

fn slot(rule: u128, free: usize) -> Slot {
    Slot {
        rule_id: Uuid::from_u128(rule),
        free,
        lease: LEASE,
    }
}

#[tokio::test]
async fn claiming_reads_no_more_than_it_takes_however_much_waits() {
    with_database(|db| async move {
        let mut client = db.client().await.unwrap();
        client.batch_execute(WAITING).await.unwrap();
        client.batch_execute("analyze work").await.unwrap();
        let tx = client.transaction().await.unwrap();
        tx.batch_execute(PLAN).await.unwrap();
        let rules = vec![Uuid::from_u128(2), Uuid::from_u128(1)];
        let (free, leases) = (vec![8_i64, 8], vec![60.0, 60.0]);
        let explain = format!("explain (analyze, format json) {CLAIM}");
        let row = tx
            .query_one(&explain, &[&rules, &free, &leases, &256_i64])
            .await
            .unwrap();
        let plan: Value = row.get(0);
        let text = plan.to_string();
        assert!(text.contains("\"work_due_idx\""), "{plan:#}");
        assert!(!text.contains("\"Seq Scan\""), "{plan:#}");
        assert_eq!(most_rows(&plan[0]["Plan"]), 16.0, "{plan:#}");
    })
    .await;
}

/// The most rows that one node of the plan gave.
fn most_rows(node: &Value) -> f64 {
    let number = |name: &str| node[name].as_f64().unwrap_or(0.0);
    let own = number("Actual Rows") * number("Actual Loops");
    let children = node["Plans"].as_array().into_iter().flatten();
    children.map(most_rows).fold(own, f64::max)
}

#[tokio::test]
async fn what_is_claimed_is_claimed_once_and_is_due_again_after_its_lease() {
    with_database(|db| async move {
        let client = db.client().await.unwrap();
        client.batch_execute(WAITING).await.unwrap();
        // Side by side; a rule of which little waits gets its share.
        let slots = [slot(2, 60), slot(1, 40), slot(3, 5)];
        let claims =
            futures_util::future::join_all((0..3).map(|_| work::claim(&db, &slots, 256))).await;
        let claimed: Vec<_> = claims.into_iter().flat_map(Result::unwrap).collect();
        let of = |rule: u128| {
            claimed
                .iter()
                .filter(|one| one.rule_id == Uuid::from_u128(rule))
                .count()
        };
        assert_eq!((of(2), of(1), of(3)), (100, 120, 0));
        let ids: BTreeSet<Uuid> = claimed.iter().map(|one| one.event_id).collect();
        assert_eq!(ids.len(), claimed.len());
        assert!(claimed.iter().all(|one| one.attempt == 1));
        assert_eq!(work::claim(&db, &[slot(2, 9)], 256).await.unwrap(), []);
        let expired = "update work set due_at = now() where rule_id = $1";
        client
            .execute(expired, &[&Uuid::from_u128(2)])
            .await
            .unwrap();
        let again = work::claim(&db, &[slot(2, 9)], 256).await.unwrap();
        assert_eq!(again.len(), 9);
        assert!(again.iter().all(|one| one.attempt == 2));
        // The first attempt says something, too late; the second one's word counts.
        let first: Vec<_> = claimed
            .iter()
            .filter(|one| one.event_id == again[0].event_id)
            .collect();
        work::forget(&db, &first).await.unwrap();
        let left = async || {
            let sql = "select count(*) from work where event_id = $1";
            client
                .query_one(sql, &[&again[0].event_id])
                .await
                .unwrap()
                .get::<_, i64>(0)
        };
        assert_eq!(left().await, 1);
        work::forget(&db, &[&again[0]]).await.unwrap();
        assert_eq!(left().await, 0);
    })
    .await;
}
