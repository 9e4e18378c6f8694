//! The one equation: what was sent = what is stored = what is counted, each exactly once.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use serde_json::Value;
use testkit::{LIMIT, Message, eventually, eventually_eq};
use uuid::Uuid;

use crate::SHAPE;
use crate::load::Maker;
use crate::world::{ANNOUNCEMENTS, PATIENCE, Shape, TOPICS, World};

/// What has to be in the database.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// The events with a known id, each with its number (`data.n`).
    pub(crate) named: HashMap<Uuid, u64>,
    /// Numbers of events whose ids the processor makes.
    pub(crate) anonymous: HashSet<u64>,
    /// Payloads that belong into the dead letters wherever they stand on the log.
    pub(crate) malformed: HashSet<String>,
}

impl From<Maker> for Ledger {
    fn from(maker: Maker) -> Self {
        Self {
            named: maker.named,
            anonymous: maker.anonymous,
            malformed: maker.malformed,
        }
    }
}

/// A record's place: topic, partition, offset.
pub(crate) type Place = (String, i32, i64);

impl Ledger {
    /// Waits until everything on the log is worked off and announced, then checks the books.
    /// Returns how many records were dead letters.
    pub(crate) async fn assert_balanced(&self, world: &World) -> usize {
        let log = everything_on_the_log(world).await;
        wait_worked_off(world, &log).await;
        self.assert_stored(world).await;
        assert_counts(world, self.named.len() + self.anonymous.len()).await;
        let dead = self.assert_dead_letters(world, &log).await;
        // Announcements are records on Kafka.
        if SHAPE == Shape::Split {
            assert_announced(world).await;
        }
        dead
    }

    async fn assert_stored(&self, world: &World) {
        let rows = world
            .database
            .rows("select event_id, (data->>'n')::bigint from events", &[])
            .await
            .unwrap();
        let mut named = HashSet::new();
        let mut anonymous = HashSet::new();
        for row in rows {
            let (id, n): (Uuid, i64) = (row.get(0), row.get(1));
            let n = u64::try_from(n).unwrap();
            match self.named.get(&id) {
                Some(expected) => {
                    assert_eq!(n, *expected, "{id} has another event's data");
                    assert!(named.insert(id), "{id} is stored twice");
                }
                None => {
                    assert!(self.anonymous.contains(&n), "{id} ({n}) was never sent");
                    assert!(anonymous.insert(n), "number {n} is stored twice");
                }
            }
        }
        let lost: Vec<_> = self
            .named
            .iter()
            .filter(|(id, _)| !named.contains(id))
            .collect();
        assert!(
            lost.is_empty(),
            "{} lost, among them {:?}",
            lost.len(),
            &lost[..lost.len().min(5)]
        );
        assert_eq!(anonymous, self.anonymous, "events without an id");
    }

    /// The dead letters are exactly the malformed records of the log, byte by byte, and those whose id
    /// is stored with other content. Returns how many are malformed.
    async fn assert_dead_letters(&self, world: &World, log: &BTreeMap<Place, Message>) -> usize {
        let expected: BTreeMap<Place, (Option<String>, Option<String>)> = log
            .iter()
            .filter(|(_, record)| {
                record
                    .payload
                    .as_ref()
                    .is_some_and(|payload| self.malformed.contains(payload))
            })
            .map(|(place, record)| (place.clone(), (record.key.clone(), record.payload.clone())))
            .collect();
        let rows = world
            .database
            .rows(
                r#"select topic, partition, "offset", key, payload, reason, detail from dead_letters"#,
                &[],
            )
            .await
            .unwrap();
        let (mut found, mut conflicts) = (BTreeMap::new(), BTreeMap::new());
        for row in rows {
            let place: Place = (row.get(0), row.get(1), row.get(2));
            let text = |column: usize| {
                let bytes: Option<Vec<u8>> = row.get(column);
                bytes.map(|bytes| String::from_utf8(bytes).unwrap())
            };
            let (reason, detail): (String, String) = (row.get(5), row.get(6));
            assert!(!reason.is_empty() && !detail.is_empty(), "{place:?}");
            let (key, payload) = (text(3), text(4));
            if reason == "id_conflict" {
                let before = conflicts.insert((place.clone(), payload), key);
                assert_eq!(before, None, "{place:?} is a conflict twice");
            } else {
                let before = found.insert(place.clone(), (key, payload));
                assert_eq!(before, None, "{place:?} is a dead letter twice");
            }
        }
        assert_eq!(found, expected);
        self.assert_conflicts(world, log, conflicts).await;
        found.len()
    }

    /// Conflicts are exactly the repetitions with another slot than the one that is stored. Those past
    /// the known log, whose places may be the same, are looked at one by one.
    async fn assert_conflicts(
        &self,
        world: &World,
        log: &BTreeMap<Place, Message>,
        mut found: BTreeMap<(Place, Option<String>), Option<String>>,
    ) {
        let rows = world
            .database
            .rows(
                "select (data->>'n')::bigint, (data->>'slot')::bigint from events",
                &[],
            )
            .await
            .unwrap();
        let stored: HashMap<i64, Option<i64>> =
            rows.iter().map(|row| (row.get(0), row.get(1))).collect();
        let differs = |payload: &str| {
            let (n, slot) = number_and_slot(payload)?;
            Some(stored.get(&n).copied()? != Some(slot))
        };
        for (place, record) in log {
            let payload = record.payload.as_deref().unwrap_or_default();
            let letter = found.remove(&(place.clone(), record.payload.clone()));
            if self.malformed.contains(payload) || differs(payload) != Some(true) {
                assert_eq!(letter, None, "{place:?} is no conflict");
            } else {
                assert_eq!(letter, Some(record.key.clone()), "{place:?} is a conflict");
            }
        }
        for (place, payload) in found.into_keys() {
            let payload = payload.unwrap_or_default();
            assert_eq!(differs(&payload), Some(true), "{place:?}: {payload}");
        }
    }
}

/// What a load's event carries through all envelopes.
fn number_and_slot(payload: &str) -> Option<(i64, i64)> {
    let value: Value = serde_json::from_str(payload).ok()?;
    let data = ["data", "payload", "event_data"]
        .iter()
        .find_map(|member| value[*member].as_object())?;
    Some((data.get("n")?.as_i64()?, data.get("slot")?.as_i64()?))
}

/// All records of the topics that the processor consumes; of the log in PostgreSQL, which keeps
/// nothing, what the test itself put there.
pub(crate) async fn everything_on_the_log(world: &World) -> BTreeMap<Place, Message> {
    if SHAPE == Shape::AllInOne {
        return world.appended.lock().unwrap().clone();
    }
    let mut log = BTreeMap::new();
    for name in TOPICS {
        // A broker that has just started may not answer for every topic yet.
        let topic = world.topic(name);
        let consumed = eventually("the records", LIMIT, || world.kcat.consume(&topic));
        for record in consumed.await {
            let place = (record.topic.clone(), record.partition, record.offset);
            log.insert(place, record);
        }
    }
    log
}

/// Waits until the stored offsets stand behind the last of these records, and the log in
/// PostgreSQL is empty.
pub(crate) async fn wait_worked_off<V>(world: &World, log: &BTreeMap<Place, V>) {
    eventually("the log in PostgreSQL is worked off", PATIENCE, || async {
        match world.database.count("event_log").await {
            Ok(0) => Ok(()),
            other => Err(format!("{other:?} records to go")),
        }
    })
    .await;
    if SHAPE == Shape::AllInOne {
        return;
    }
    let mut ends: BTreeMap<(String, i32), i64> = BTreeMap::new();
    for (topic, partition, offset) in log.keys() {
        let end = ends.entry((topic.clone(), *partition)).or_default();
        *end = (*end).max(offset + 1);
    }
    eventually("the log is worked off", PATIENCE, || async {
        let rows = world
            .database
            .rows("select topic, partition, stored from log_positions", &[])
            .await
            .map_err(|error| format!("{error:#}"))?;
        let reached: BTreeMap<(String, i32), i64> = rows
            .iter()
            .map(|row| ((row.get(0), row.get(1)), row.get(2)))
            .collect();
        let missing: i64 = ends
            .iter()
            .map(|(partition, end)| end - reached.get(partition).copied().unwrap_or(0).min(*end))
            .sum();
        if missing == 0 {
            Ok(())
        } else {
            Err(format!("{missing} records to go"))
        }
    })
    .await;
}

/// Stored = ids = the sum of the days = the sum of the hours, and each count is that of its rows.
pub(crate) async fn assert_counts(world: &World, stored: usize) {
    let row = &world
        .database
        .rows(
            "select (select count(*) from events), (select count(*) from event_ids), \
             (select coalesce(sum(count), 0)::bigint from aggregated_events), \
             (select coalesce(sum(count), 0)::bigint from aggregated_events_hourly), \
             (select count(*) from events e join event_ids i using (event_id, tenant_id, timestamp))",
            &[],
        )
        .await
        .unwrap()[0];
    let counts: Vec<i64> = (0..5).map(|column| row.get(column)).collect();
    let stored = i64::try_from(stored).unwrap();
    assert_eq!(
        counts, [stored; 5],
        "events, ids, days, hours, events with their ids"
    );
    let wrong_days: i64 = world
        .database
        .scalar(
            "select count(*) from aggregated_events a full join \
             (select tenant_id, event_type, (timestamp at time zone 'UTC')::date as date, \
              count(*) as n from events group by 1, 2, 3) e using (tenant_id, event_type, date) \
             where a.count is distinct from e.n",
            &[],
        )
        .await
        .unwrap();
    let wrong_hours: i64 = world
        .database
        .scalar(
            "select count(*) from aggregated_events_hourly a full join \
             (select tenant_id, date_trunc('hour', timestamp, 'UTC') as hour, event_type, \
              event_source, event_category, count(*) as n from events group by 1, 2, 3, 4, 5) e \
             using (tenant_id, hour, event_type, event_source, event_category) \
             where a.count is distinct from e.n",
            &[],
        )
        .await
        .unwrap();
    assert_eq!(
        (wrong_days, wrong_hours),
        (0, 0),
        "counts that differ from their rows"
    );
}

/// Users are counted behind the store, by whoever stores: in the end each event once.
pub(crate) async fn assert_users_counted(world: &World) {
    let differing = "select count(*) from (select tenant_id as tenant, \
            (timestamp at time zone 'UTC')::date as day, count(distinct user_id) as users, count(*) as events, \
            count(user_id) as of_users from events group by 1, 2) e \
        full join event_days d using (tenant, day) \
        left join (select tenant, day, sum(events) as of_users from user_days group by 1, 2) u using (tenant, day) \
        where (d.users, d.events, coalesce(u.of_users, 0)) is distinct from (e.users, e.events, e.of_users)";
    eventually_eq("days whose users are counted otherwise", 0_i64, || {
        world.database.scalar(differing, &[])
    })
    .await;
}

/// `event.stored` was announced for every stored event, and for nothing else.
async fn assert_announced(world: &World) {
    let stored: BTreeSet<Uuid> = world
        .database
        .rows("select event_id from event_ids", &[])
        .await
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    eventually("every event is announced", PATIENCE, || async {
        let announced: BTreeSet<Uuid> = announcements(world)
            .await
            .iter()
            .map(|value| value["event_id"].as_str().unwrap().parse().unwrap())
            .collect();
        let strangers = announced.difference(&stored).count();
        assert_eq!(strangers, 0, "announced, but not stored");
        let silent = stored.difference(&announced).count();
        if silent == 0 {
            Ok(())
        } else {
            Err(format!("{silent} not announced"))
        }
    })
    .await;
}

/// Everything announced so far, partition by partition.
pub(crate) async fn announcements(world: &World) -> Vec<Value> {
    let topic = world.topic(ANNOUNCEMENTS);
    let records = eventually("the records", LIMIT, || world.kcat.consume(&topic)).await;
    records
        .iter()
        .map(|record| {
            let subject = ("subject".to_owned(), "event.stored".to_owned());
            assert!(record.headers.contains(&subject), "{record:?}");
            serde_json::from_str(record.payload.as_deref().unwrap()).unwrap()
        })
        .collect()
}
