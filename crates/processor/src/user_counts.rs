//! Counts users behind the storing, at its own pace (docs/decisions/0040).

use std::time::{Duration, Instant};

use store::behind::stored;
use store::user_counts::step;
use store::{Database, Error, migrate};

use crate::rest::LONG;

/// How often it is looked for something to count. A user with several events meanwhile is one row written.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// The same where nothing seems to have been stored.
const LOOK_ANYWAY: Duration = Duration::from_secs(10);
/// The pause after a failure.
const RETRY: Duration = Duration::from_secs(2);
/// A part of time that is counted at once, at first; it grows while there is little in it.
const WINDOW: Duration = Duration::from_secs(10);
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(366 * 86_400);
/// Events of a part of time that are enough.
const ENOUGH: i64 = 20_000;

/// Counts until dropped. Of several processors one does at a time.
pub(crate) async fn count(db: Database) {
    migrate::ready(&db, false).await;
    loop {
        if let Err(error) = counting(&db).await {
            tracing::warn!(%error, "users are not counted now, it will be tried again");
        }
        tokio::time::sleep(RETRY).await;
    }
}

async fn counting(db: &Database) -> Result<(), Error> {
    let mut client = db.connect().await?;
    let mut window = WINDOW;
    // How much was stored when all of that was counted.
    let mut settled = None;
    let mut looked = Instant::now();
    loop {
        let (stored, at) = stored(&client).await?;
        if settled == Some(stored) && looked.elapsed() < LOOK_ANYWAY {
            tokio::time::sleep(LOOK_EVERY).await;
            continue;
        }
        looked = Instant::now();
        let most = window.try_into().unwrap_or(time::Duration::MAX);
        let Some(counted) = step(&mut client, most).await? else {
            tokio::time::sleep(LOOK_EVERY).await;
            continue;
        };
        window = match counted.events {
            0..ENOUGH => (window * 2).min(LONGEST),
            _ => (window / 2).max(SHORTEST),
        };
        settled = (counted.until >= at).then_some(stored);
        // Storing goes first, always.
        let rest = looked.elapsed().mul_f64(LONG);
        tokio::time::sleep(if counted.is_all {
            rest.max(LOOK_EVERY)
        } else {
            rest
        })
        .await;
    }
}
