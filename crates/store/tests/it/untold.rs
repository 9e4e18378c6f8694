//! Notes of what is not told yet: who sets them, who takes them back, whose are left behind.

use store::Database;
use store::events::FrozenRows;
use store::untold::{self, Note, Noted, Session};
use store::write::{Batch, Writer};
use testkit::{LIMIT, eventually};
use uuid::Uuid;

use crate::database::with_database;

async fn note(writer: &mut Writer, owner: Uuid, partitions: &[i16]) -> Noted {
    let batch = Batch {
        rows: &FrozenRows::default(),
        events: &[],
        dead_letters: &[],
        advances: &[],
        remove: &[],
        note_announcements: false,
        untold: Some(Note { owner, partitions }),
    };
    writer.write(&batch).await.unwrap().noted
}

async fn notes(db: &Database) -> Vec<(i16, Uuid)> {
    let client = db.client().await.unwrap();
    let sql = "select partition, owner from untold order by id";
    let rows = client.query(sql, &[]).await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

#[tokio::test]
async fn a_note_is_left_behind_once_nothing_is_left_of_its_process() {
    with_database(|db| async move {
        let [one, other] = [Uuid::from_u128(1), Uuid::from_u128(2)];
        let lives = Session::connect(&db, one).await.unwrap();
        let mut writer = Writer::connect(&db).await.unwrap();
        writer.notes_for(one).await.unwrap();
        let set = note(&mut writer, one, &[3, 4]).await;
        assert_eq!(set.own.len(), 2);
        assert_eq!(note(&mut writer, one, &[]).await, Noted::default());

        // The next owner of its partitions leaves it alone as long as it lives.
        let heir = Session::connect(&db, other).await.unwrap();
        let mut writes = Writer::connect(&db).await.unwrap();
        writes.notes_for(other).await.unwrap();
        assert!(note(&mut writes, other, &[3]).await.abandoned.is_empty());
        assert!(heir.abandoned().await.unwrap().is_empty());

        drop(lives);
        let of_lane = |partition| set.own.iter().find(|(l, _)| *l == partition).unwrap().1;
        eventually("it is missed in its partition", LIMIT, || async {
            let mut writer = Writer::connect(&db).await.unwrap();
            match note(&mut writer, other, &[3]).await.abandoned {
                left if left == [of_lane(3)] => Ok(()),
                left => Err(left),
            }
        })
        .await;
        // Its last transaction may still be on its way, in the other partition.
        assert!(heir.abandoned().await.unwrap().is_empty());
        drop(writer);
        let mut left = eventually("all it left", LIMIT, || async {
            let left = heir.abandoned().await.unwrap();
            if left.is_empty() { Err(left) } else { Ok(left) }
        })
        .await;
        left.sort_unstable();
        let mut expected: Vec<i64> = set.own.iter().map(|(_, id)| *id).collect();
        expected.sort_unstable();
        assert_eq!(left, expected);
        heir.remove(&left).await.unwrap();
        assert!(notes(&db).await.iter().all(|(_, owner)| *owner == other));
    })
    .await;
}

#[tokio::test]
async fn what_is_noted_while_notes_are_taken_back_stays() {
    with_database(|db| async move {
        let [one, other] = [Uuid::from_u128(1), Uuid::from_u128(2)];
        let session = Session::connect(&db, one).await.unwrap();
        let mut writer = Writer::connect(&db).await.unwrap();
        let first = note(&mut writer, one, &[7, 8]).await;
        note(&mut writer, other, &[7]).await;
        // Between the decision to take it back and doing so.
        note(&mut writer, one, &[7]).await;
        session.take_back(&first.own).await.unwrap();
        assert_eq!(notes(&db).await, [(7, other), (7, one)]);
        session.take_back_all().await.unwrap();
        assert_eq!(notes(&db).await, [(7, other)]);
        drop((session, writer));
        let client = db.client().await.unwrap();
        eventually("nobody lives", LIMIT, || async {
            match untold::abandoned(&client).await.unwrap().len() {
                1 => Ok(()),
                other => Err(other),
            }
        })
        .await;
    })
    .await;
}
