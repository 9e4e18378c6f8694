//! Remembers, over a crash, that something is stored of which listeners may not have been told.
//!
//! Told is what came through the Postgres log from memory, after the commit. So the transaction
//! that stores leaves a note of its lanes, unless this process has left it already: under load it
//! costs nothing. Once all of a lane is told and it is quiet, the note is taken back; the same at
//! the end. Whoever finds one of a process that is gone tells listeners that something may be missing
//! (`reset`): before anything more of the same lane, and else within a second or so.
//!
//! A false alarm makes listeners load the history once more, a missed one costs them events. So
//! whatever goes wrong, the note stays.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use store::patience::in_time;
use store::untold::{self, Note, Noted, Session};
use store::write::Writer;
use store::{Database, Error};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::bridge::DirectInput;

/// How long a lane must be quiet, and how often to look.
const QUIET: Duration = Duration::from_secs(1);

/// What this process has noted. One for all lines.
pub struct Untold {
    db: Database,
    feed: DirectInput,
    owner: Uuid,
    lanes: Mutex<HashMap<i16, Lane>>,
    made_up: tokio::sync::Mutex<MadeUp>,
}

#[derive(Default)]
struct Lane {
    /// Batches that are being written or told.
    batches: usize,
    /// The note stands: a transaction need not leave another.
    noted: bool,
    /// The highest number of our notes that may stand.
    last: Option<i64>,
    /// When the last batch was told.
    told: Option<Instant>,
}

/// Notes of the dead.
#[derive(Default)]
struct MadeUp {
    /// Listeners are told of these, or the gate remembers to.
    all: HashSet<i64>,
    /// Those that are still to be removed.
    standing: Vec<i64>,
}

/// A batch on its way from being written to being told. One that never arrives keeps its lanes'
/// notes where they are.
pub struct Telling {
    untold: Arc<Untold>,
    lanes: BTreeSet<i16>,
    abandoned: Vec<i64>,
}

impl Untold {
    /// For what that feed tells.
    #[must_use]
    pub fn new(db: Database, feed: DirectInput) -> Self {
        Self {
            db,
            feed,
            owner: Uuid::new_v4(),
            lanes: Mutex::default(),
            made_up: tokio::sync::Mutex::default(),
        }
    }

    fn lanes(&self) -> MutexGuard<'_, HashMap<i16, Lane>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A batch of these lanes begins.
    pub(super) fn begin(self: &Arc<Self>, lanes: BTreeSet<i16>) -> Telling {
        let mut all = self.lanes();
        for lane in &lanes {
            all.entry(*lane).or_default().batches += 1;
        }
        drop(all);
        Telling {
            untold: Arc::clone(self),
            lanes,
            abandoned: vec![],
        }
    }

    /// A new connection that writes. While the old one was lost, others may have taken us for dead.
    pub(super) async fn connected(&self, writer: &Writer) -> Result<(), Error> {
        writer.notes_for(self.owner).await?;
        self.doubt();
        Ok(())
    }

    /// Perhaps the notes do not stand any more.
    fn doubt(&self) {
        self.lanes()
            .values_mut()
            .for_each(|lane| lane.noted = false);
    }

    /// The notes to be taken back: of lanes that are told and quiet for so long.
    fn quiet(&self, quiet: Duration) -> Vec<(i16, i64)> {
        let mut all = self.lanes();
        let idle = all.iter_mut().filter(|(_, lane)| {
            lane.batches == 0 && lane.told.is_none_or(|told| told.elapsed() >= quiet)
        });
        let taken = idle.filter_map(|(number, lane)| {
            // From here on a transaction leaves a new one, of a higher number.
            lane.noted = false;
            Some((*number, lane.last.take()?))
        });
        taken.collect()
    }

    /// Those could not be taken back.
    fn still_stand(&self, notes: &[(i16, i64)]) {
        let mut all = self.lanes();
        for (number, id) in notes {
            let lane = all.entry(*number).or_default();
            lane.last = lane.last.max(Some(*id));
        }
    }

    /// Tells listeners that what the dead noted there may be missing. False if it could not be told.
    async fn make_up(&self, abandoned: &[i64]) -> bool {
        // One at a time: who comes second has nothing left to tell.
        let mut made_up = self.made_up.lock().await;
        if abandoned.iter().all(|id| made_up.all.contains(id)) {
            return true;
        }
        // Once for all that are there now, rather than lane by lane.
        let others = in_time(async { untold::abandoned(&*self.db.client().await?).await });
        let others = others.await.unwrap_or_default();
        if !self.feed.mark_gap().await {
            return false;
        }
        tracing::warn!(
            "a process ended before listeners were told of all it stored; they are told to reset"
        );
        for id in others.iter().chain(abandoned) {
            if made_up.all.insert(*id) {
                made_up.standing.push(*id);
            }
        }
        true
    }

    /// Looks after the notes until nobody is left who tells.
    pub(super) async fn keep(self: Arc<Self>, mut tellers: mpsc::Receiver<()>) {
        let mut keeper = Keeper {
            untold: self,
            session: None,
            making_up: None,
        };
        let mut complained = false;
        loop {
            match keeper.look(QUIET).await {
                Ok(()) => complained = false,
                Err(error) => {
                    keeper.session = None;
                    if !std::mem::replace(&mut complained, true) {
                        tracing::warn!(error = %error, "notes of what is not told yet must wait");
                    }
                }
            }
            if tokio::time::timeout(QUIET, tellers.recv()).await.is_ok() {
                break;
            }
        }
        if let Some(task) = keeper.making_up.take() {
            // What it has not told, the next process will.
            task.abort();
        }
        if let Err(error) = keeper.end().await {
            tracing::warn!(error = %error, "what may not be told stays noted; listeners will reset");
        }
    }
}

/// Says that we live, takes our notes back, and looks for those of the dead.
struct Keeper {
    untold: Arc<Untold>,
    session: Option<Session>,
    /// Waits for Redis, which we must not.
    making_up: Option<JoinHandle<bool>>,
}

impl Keeper {
    async fn connect(&mut self) -> Result<&Session, Error> {
        if self.session.as_ref().is_some_and(Session::is_closed) {
            self.session = None;
        }
        Ok(match &mut self.session {
            Some(session) => session,
            none => {
                let (db, owner) = (&self.untold.db, self.untold.owner);
                let session = in_time(Session::connect(db, owner)).await?;
                self.untold.doubt();
                none.insert(session)
            }
        })
    }

    async fn look(&mut self, quiet: Duration) -> Result<(), Error> {
        let untold = Arc::clone(&self.untold);
        let abandoned = in_time(self.connect().await?.abandoned()).await?;
        let busy = self.making_up.as_ref().is_some_and(|t| !t.is_finished());
        if !abandoned.is_empty() && !busy {
            let untold = Arc::clone(&untold);
            let task = async move { untold.make_up(&abandoned).await };
            self.making_up = Some(tokio::spawn(task));
        }
        if untold.feed.unreported_drops() > 0 {
            return Ok(());
        }
        let session = self.connect().await?;
        let notes = untold.quiet(quiet);
        if !notes.is_empty() {
            // Once more, after the look at the lanes: what is dropped is counted before its batch ends.
            let taken = match untold.feed.unreported_drops() {
                0 => in_time(session.take_back(&notes)).await,
                _ => Err(Error::Pool(
                    "listeners are not told of a gap yet".to_owned(),
                )),
            };
            if let Err(error) = taken {
                untold.still_stand(&notes);
                return Err(error);
            }
        }
        // Held while listeners are being told: another time then.
        if let Ok(mut made_up) = untold.made_up.try_lock()
            && !made_up.standing.is_empty()
            && untold.feed.unreported_drops() == 0
        {
            in_time(session.remove(&made_up.standing)).await?;
            made_up.standing.clear();
        }
        Ok(())
    }

    /// In good order: if all is told, nothing of ours has to stand, nor what transactions left that
    /// were given up and done all the same.
    async fn end(&mut self) -> Result<(), Error> {
        self.look(Duration::ZERO).await?;
        let all_told = self.untold.lanes().values().all(|lane| lane.batches == 0);
        if all_told && self.untold.feed.unreported_drops() == 0 {
            in_time(self.connect().await?.take_back_all()).await?;
        }
        Ok(())
    }
}

impl std::fmt::Debug for Telling {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(&self.lanes).finish()
    }
}

impl Telling {
    /// Which of these lanes have no note.
    pub(super) fn unnoted(&self, lanes: impl IntoIterator<Item = i16>) -> Vec<i16> {
        let all = self.untold.lanes();
        let noted = |lane: &i16| all.get(lane).is_some_and(|lane| lane.noted);
        let lanes: BTreeSet<i16> = lanes.into_iter().filter(|lane| !noted(lane)).collect();
        lanes.into_iter().collect()
    }

    /// What the transaction notes.
    pub(super) fn note<'a>(&self, lanes: &'a [i16]) -> Note<'a> {
        Note {
            owner: self.untold.owner,
            lanes,
        }
    }

    /// The transaction is done.
    pub(super) fn noted(&mut self, noted: Noted) {
        let mut all = self.untold.lanes();
        for (number, id) in noted.own {
            let lane = all.entry(number).or_default();
            lane.noted = true;
            lane.last = lane.last.max(Some(id));
        }
        drop(all);
        self.abandoned.extend(noted.abandoned);
    }

    /// Before the batch is told: what others left untold in its lanes comes first. False if the
    /// batch must not be told after that.
    pub(super) async fn before(&self) -> bool {
        self.abandoned.is_empty() || self.untold.make_up(&self.abandoned).await
    }

    /// The batch is told, or counted as dropped.
    pub(super) fn told(self) {
        let mut all = self.untold.lanes();
        for number in &self.lanes {
            let lane = all.entry(*number).or_default();
            lane.batches = lane.batches.saturating_sub(1);
            lane.told = Some(Instant::now());
        }
    }
}
