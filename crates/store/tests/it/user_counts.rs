//! Users are counted behind the store: each event once, whoever counts, and no more than there are.

use domain::TenantId;
use store::Database;
use store::user_counts::{self, UserCounts};
use time::macros::{date, datetime};

use crate::database::with_database;

/// A part of time that everything in these tests lies in.
const ALL: time::Duration = time::Duration::weeks(5_000);

/// Events: number n of the user `u-(n % users)`, on 2026-03-01 and the days after, stored half a second after
/// they were accepted.
const STORE: &str = "insert into events (event_id, event_type, event_source, event_category, user_id, status, \
        timestamp, received_at, created_at) \
    select gen_random_uuid(), 'a', 'backend', 'user_action', case when n % 10 < 9 then 'u-' || n % $3 end, \
        'processed', at, at, at + interval '0.5 s' \
    from generate_series($1::int8, $2::int8 - 1) n, \
        lateral (select timestamptz '2026-03-01 00:00+00' + n * interval '20 s' as at) t";

async fn store(db: &Database, from: i64, until: i64, users: i64) {
    let client = db.client().await.unwrap();
    client
        .execute(STORE, &[&from, &until, &users])
        .await
        .unwrap();
}

async fn counted(db: &Database) -> UserCounts {
    let client = db.client().await.unwrap();
    let (from, to) = (date!(2026 - 03 - 01), Some(date!(2026 - 03 - 31)));
    let tenant = TenantId::default();
    let read = user_counts::read(&client, &tenant, from, to).await;
    read.unwrap()
}

/// The same from the rows.
const ROWS: &str = "select (timestamp at time zone 'utc')::date as day, user_id, count(*) as events from events \
    where user_id is not null group by 1, 2";

async fn number(db: &Database, sql: &str) -> i64 {
    let client = db.client().await.unwrap();
    client.query_one(sql, &[]).await.unwrap().get(0)
}

async fn assert_exact(db: &Database) {
    let differing = format!(
        "select count(*) from (({ROWS} except select day, user_id, events from user_days) \
         union all (select day, user_id, events from user_days except {ROWS})) d"
    );
    assert_eq!(number(db, &differing).await, 0);
    let users = format!(
        "select count(*) from event_days full join (select day, count(*) as users from ({ROWS}) r group by 1) u \
         using (day) where event_days.users is distinct from u.users"
    );
    assert_eq!(number(db, &users).await, 0);
    // The busiest hundred of each day; of equals whoever was there first.
    let busiest = format!(
        "select count(*) from (select day, events, row_number() over (partition by day order by events desc) as place \
             from ({ROWS}) r) r \
         full join (select b.day, r.events, row_number() over (partition by b.day order by b.events desc) as place \
             from busiest_users b left join ({ROWS}) r using (day, user_id, events)) b using (day, place) \
         where place <= 100 and b.events is distinct from r.events or place > 100 and b.events is not null"
    );
    assert_eq!(number(db, &busiest).await, 0);
}

#[tokio::test]
async fn each_event_is_counted_once_whoever_counts() {
    with_database(|db| async move {
        // Three days of 4,320 events, of 200 users: 180 have some, a few more than others have.
        store(&db, 0, 12_960, 200).await;
        let counting = (0..4).map(|_| {
            let db = db.clone();
            tokio::spawn(async move {
                let mut client = db.connect().await.unwrap();
                loop {
                    let most = time::Duration::hours(5);
                    match user_counts::step(&mut client, most).await.unwrap() {
                        Some(step) if step.is_all => return,
                        Some(step) => assert!(step.events <= 900, "{step:?}"),
                        None => tokio::task::yield_now().await,
                    }
                    // To get there from 2026-03 by steps of hours would take a while.
                    let now = "update user_counting set counted_until = now() - interval '1 day' \
                        where counted_until between '2026-03-05' and now() - interval '2 days'";
                    client.execute(now, &[]).await.unwrap();
                }
            })
        });
        for one in counting.collect::<Vec<_>>() {
            one.await.unwrap();
        }
        assert_exact(&db).await;
        let counts = counted(&db).await;
        let days = [
            date!(2026 - 03 - 03),
            date!(2026 - 03 - 02),
            date!(2026 - 03 - 01),
        ];
        assert_eq!(counts.users, days.map(|day| (day, 180)));
        assert_eq!((counts.events, counts.seconds), (12_960, 6_480.0));
        assert!(counts.until.unwrap() > datetime!(2026-03-04 00:00 UTC));
        // 4,320 = 21 × 200 + 120: the first users of a day have one more.
        assert_eq!(counts.top[0], ("u-0".to_owned(), 65));
        assert_eq!(counts.top.len(), 10);
    })
    .await;
}

#[tokio::test]
async fn whoever_rises_late_is_among_the_busiest_and_whoever_is_erased_is_not() {
    with_database(|db| async move {
        store(&db, 0, 4_320, 400).await;
        let mut client = db.connect().await.unwrap();
        user_counts::step(&mut client, ALL).await.unwrap().unwrap();
        assert_exact(&db).await;
        // An event of then that comes now, a hundred times.
        let late = "insert into events (event_id, event_type, event_source, event_category, user_id, status, \
                timestamp, received_at, created_at) \
            select gen_random_uuid(), 'a', 'backend', 'user_action', 'u-398', 'processed', '2026-03-01 12:00+00', \
                '2026-03-01 12:00+00', now() from generate_series(1, 100)";
        client.execute(late, &[]).await.unwrap();
        let counts = loop {
            user_counts::step(&mut client, ALL).await.unwrap().unwrap();
            let counts = counted(&db).await;
            if counts.events == 4_420 {
                break counts;
            }
        };
        assert_exact(&db).await;
        assert_eq!(counts.users, [(date!(2026 - 03 - 01), 360)]);
        assert_eq!(counts.top[0], ("u-398".to_owned(), 110));

        for (user, counts, left) in [("u-398", true, 359), ("u-1", false, 359), ("nobody", true, 359)] {
            let tx = client.transaction().await.unwrap();
            let days = user_counts::erase(&tx, "default", user, counts).await.unwrap();
            tx.commit().await.unwrap();
            assert_eq!(days, u64::from(user != "nobody"), "{user}");
            let after = counted(&db).await;
            assert_eq!(after.users, [(date!(2026 - 03 - 01), left)], "{user}");
            assert!(after.top.iter().all(|(name, _)| name != user), "{user}");
            let kept = format!("select count(*) from user_days where user_id = '{user}'");
            assert_eq!(number(&db, &kept).await, 0, "{user}");
        }
        // What is removed by its age takes its users along; how many there were stays.
        user_counts::retire(&client, date!(2026 - 03 - 02)).await.unwrap();
        let after = counted(&db).await;
        assert_eq!((after.users.len(), after.top.len()), (1, 0));
        assert_eq!(number(&db, "select count(*) from user_days").await, 0);
    })
    .await;
}
