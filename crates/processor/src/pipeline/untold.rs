//! Remembers, over a crash, that something is stored of which listeners may not have been told.
//!
//! Told is what came through the Postgres log from memory, after the commit. So the transaction
//! that stores leaves a note of its partitions, unless this process has left it already: under load it
//! costs nothing. Once all of a partition is told and it is quiet, the note is taken back; the same at
//! the end. Whoever finds one of a process that is gone tells listeners that something may be missing
//! (`reset`): before anything more of the same partition, and else within a second or so.
//!
//! A false alarm makes listeners load the history once more, a missed one costs them events. So
//! whatever goes wrong, the note stays.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use store::timeout::with_timeout;
use store::untold::{self, Note, Noted, Session};
use store::write::Writer;
use store::{Database, Error};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::bridge::DirectInput;

/// How long a partition must be quiet, and how often to look.
const QUIET: Duration = Duration::from_secs(1);

/// What this process has noted. One for all lines.
pub struct Untold {
    db: Database,
    feed: DirectInput,
    owner: Uuid,
    partitions: Mutex<HashMap<i16, Partition>>,
    made_up: tokio::sync::Mutex<MadeUp>,
}

#[derive(Default)]
struct Partition {
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

/// A batch on its way from being written to being told. One that never arrives keeps its partitions'
/// notes where they are.
pub struct Telling {
    untold: Arc<Untold>,
    partitions: BTreeSet<i16>,
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
            partitions: Mutex::default(),
            made_up: tokio::sync::Mutex::default(),
        }
    }

    fn partitions(&self) -> MutexGuard<'_, HashMap<i16, Partition>> {
        self.partitions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// A batch of these partitions begins.
    pub(super) fn begin(self: &Arc<Self>, partitions: BTreeSet<i16>) -> Telling {
        let mut all = self.partitions();
        for partition in &partitions {
            all.entry(*partition).or_default().batches += 1;
        }
        drop(all);
        Telling {
            untold: Arc::clone(self),
            partitions,
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
        self.partitions()
            .values_mut()
            .for_each(|partition| partition.noted = false);
    }

    /// The notes to be taken back: of partitions that are told and quiet for so long.
    fn quiet(&self, quiet: Duration) -> Vec<(i16, i64)> {
        let mut all = self.partitions();
        let idle = all.iter_mut().filter(|(_, partition)| {
            partition.batches == 0 && partition.told.is_none_or(|told| told.elapsed() >= quiet)
        });
        let taken = idle.filter_map(|(number, partition)| {
            // From here on a transaction leaves a new one, of a higher number.
            partition.noted = false;
            Some((*number, partition.last.take()?))
        });
        taken.collect()
    }

    /// Those could not be taken back.
    fn still_stand(&self, notes: &[(i16, i64)]) {
        let mut all = self.partitions();
        for (number, id) in notes {
            let partition = all.entry(*number).or_default();
            partition.last = partition.last.max(Some(*id));
        }
    }

    /// Tells listeners that what the dead noted there may be missing. False if it could not be told.
    async fn make_up(&self, abandoned: &[i64]) -> bool {
        // One at a time: who comes second has nothing left to tell.
        let mut made_up = self.made_up.lock().await;
        if abandoned.iter().all(|id| made_up.all.contains(id)) {
            return true;
        }
        // Once for all that are there now, rather than partition by partition.
        let others = with_timeout(async { untold::abandoned(&*self.db.client().await?).await });
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
                let session = with_timeout(Session::connect(db, owner)).await?;
                self.untold.doubt();
                none.insert(session)
            }
        })
    }

    async fn look(&mut self, quiet: Duration) -> Result<(), Error> {
        let untold = Arc::clone(&self.untold);
        let abandoned = with_timeout(self.connect().await?.abandoned()).await?;
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
            // Once more, after the look at the partitions: what is dropped is counted before its batch ends.
            let taken = match untold.feed.unreported_drops() {
                0 => with_timeout(session.take_back(&notes)).await,
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
            with_timeout(session.remove(&made_up.standing)).await?;
            made_up.standing.clear();
        }
        Ok(())
    }

    /// In good order: if all is told, nothing of ours has to stand, nor what transactions left that
    /// were given up and done all the same.
    async fn end(&mut self) -> Result<(), Error> {
        self.look(Duration::ZERO).await?;
        let all_told = self
            .untold
            .partitions()
            .values()
            .all(|partition| partition.batches == 0);
        if all_told && self.untold.feed.unreported_drops() == 0 {
            with_timeout(self.connect().await?.take_back_all()).await?;
        }
        Ok(())
    }
}

impl std::fmt::Debug for Telling {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(&self.partitions).finish()
    }
}

impl Telling {
    /// Which of these partitions have no note.
    pub(super) fn unnoted(&self, partitions: impl IntoIterator<Item = i16>) -> Vec<i16> {
        let all = self.untold.partitions();
        let noted = |partition: &i16| all.get(partition).is_some_and(|partition| partition.noted);
        let partitions: BTreeSet<i16> = partitions
            .into_iter()
            .filter(|partition| !noted(partition))
            .collect();
        partitions.into_iter().collect()
    }

    /// What the transaction notes.
    pub(super) fn note<'a>(&self, partitions: &'a [i16]) -> Note<'a> {
        Note {
            owner: self.untold.owner,
            partitions,
        }
    }

    /// The transaction is done.
    pub(super) fn noted(&mut self, noted: Noted) {
        let mut all = self.untold.partitions();
        for (number, id) in noted.own {
            let partition = all.entry(number).or_default();
            partition.noted = true;
            partition.last = partition.last.max(Some(id));
        }
        drop(all);
        self.abandoned.extend(noted.abandoned);
    }

    /// Before the batch is told: what others left untold in its partitions comes first. False if the
    /// batch must not be told after that.
    pub(super) async fn before(&self) -> bool {
        self.abandoned.is_empty() || self.untold.make_up(&self.abandoned).await
    }

    /// The batch is told, or counted as dropped.
    pub(super) fn told(self) {
        let mut all = self.untold.partitions();
        for number in &self.partitions {
            let partition = all.entry(*number).or_default();
            partition.batches = partition.batches.saturating_sub(1);
            partition.told = Some(Instant::now());
        }
    }
}
