//! Clients that wait until their events are stored: all of them ask the database together.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use domain::{Event, stream};
use store::outcomes::{Asker, Outcome, Question};
use store::{Database, DatabaseConfig, Error};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::accept::Accepted;

/// How long after one question the next is asked: about the time in which a batch is stored.
const PAUSE: Duration = Duration::from_millis(5);
/// The same after a failure.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(200);
/// How long one answer may take.
const ANSWER: Duration = Duration::from_secs(5);
/// Most events that are waited for; beyond it the answer is at once what it is when time is up.
const MOST: usize = 50_000;

/// Those who wait, and the task that asks for them.
pub struct Waiters {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    more: Notify,
}

#[derive(Default)]
struct Waiting {
    /// The process ends: nobody waits any more.
    ended: bool,
    next: u64,
    events: HashMap<u64, Entry>,
}

struct Entry {
    ticket: Ticket,
    answer: oneshot::Sender<Outcome>,
}

/// What is known of an accepted event when its record has gone to the log.
#[derive(Debug)]
pub struct Ticket {
    question: Question,
    /// Tells this record from another one with the same event.
    payload: u64,
}

impl Ticket {
    /// The ticket of an event that is about to be published.
    #[must_use]
    pub fn of(accepted: &Accepted) -> Self {
        let event: &Event = &accepted.event;
        Self {
            question: Question {
                event_id: event.event_id,
                tenant_id: event.tenant_id.clone(),
                stream_id: stream::explicit_id(event),
                after: 0,
                content: event.content_hash(),
            },
            payload: hash(&accepted.canonical),
        }
    }
}

impl Waiters {
    /// Asks that database, on one connection, whenever a request waits. To be called within a runtime.
    ///
    /// # Errors
    /// The configuration of the database is wrong.
    pub fn new(database: &DatabaseConfig) -> Result<Self, Error> {
        let db = Database::new(&DatabaseConfig {
            pool_size: 1,
            ..database.clone()
        })?;
        let shared = Arc::<Shared>::default();
        Ok(Self {
            task: tokio::spawn(ask(db, Arc::clone(&shared))),
            shared,
        })
    }

    /// Waits until it is known what became of these events, or until then; `None` for those of which
    /// it is not.
    pub async fn wait(&self, tickets: Vec<Ticket>, until: Instant) -> Vec<Option<Outcome>> {
        let count = tickets.len();
        let mut answers = Vec::with_capacity(count);
        {
            let mut waiting = self.shared.lock();
            if waiting.ended || waiting.events.len() + count > MOST {
                return vec![None; count];
            }
            for ticket in tickets {
                let (answer, hear) = oneshot::channel();
                let number = waiting.next;
                waiting.next += 1;
                waiting.events.insert(number, Entry { ticket, answer });
                answers.push(hear);
            }
        }
        self.shared.more.notify_one();
        let mut outcomes = Vec::with_capacity(count);
        for hear in &mut answers {
            let heard = tokio::time::timeout_at(until, hear).await;
            outcomes.push(heard.ok().and_then(Result::ok));
        }
        outcomes
    }

    /// Lets all who wait go, and nobody wait any more.
    pub fn drain(&self) {
        let mut waiting = self.shared.lock();
        waiting.ended = true;
        waiting.events.clear();
    }
}

impl Drop for Waiters {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What those ask who still wait, and their numbers.
    fn questions(&self) -> (Vec<u64>, Vec<Question>) {
        let mut waiting = self.lock();
        waiting.events.retain(|_, entry| !entry.answer.is_closed());
        let events = waiting.events.iter();
        events
            .map(|(number, entry)| (*number, entry.ticket.question.clone()))
            .unzip()
    }

    /// Answers those who wait.
    fn answer(&self, asked: &[u64], found: Vec<(usize, Outcome)>) {
        let mut waiting = self.lock();
        for (n, outcome) in found {
            let Some(number) = asked.get(n) else { continue };
            let Some(entry) = waiting.events.get_mut(number) else {
                continue;
            };
            match &outcome {
                // Of an earlier attempt: not to be looked at again.
                Outcome::Refused {
                    dead_letter,
                    payload,
                    ..
                } if payload.as_deref().map(hash) != Some(entry.ticket.payload) => {
                    entry.ticket.question.after = *dead_letter;
                }
                _ => {
                    if let Some(entry) = waiting.events.remove(number) {
                        // Nobody listens: the time was up.
                        let _ = entry.answer.send(outcome);
                    }
                }
            }
        }
    }
}

async fn ask(db: Database, shared: Arc<Shared>) {
    let mut asker: Option<Asker> = None;
    loop {
        let (numbers, questions) = shared.questions();
        if questions.is_empty() {
            shared.more.notified().await;
            continue;
        }
        let answer = async {
            let asker = match asker.take() {
                Some(asker) => asker,
                None => Asker::connect(&db).await?,
            };
            let found = asker.ask(&questions).await?;
            Ok::<_, Error>((asker, found))
        };
        // What fails or is silent gets another connection.
        let pause = match tokio::time::timeout(ANSWER, answer).await {
            Ok(Ok((answered, found))) => {
                asker = Some(answered);
                shared.answer(&numbers, found);
                PAUSE
            }
            Ok(Err(error)) => {
                tracing::warn!(%error, "it cannot be asked what became of events");
                PAUSE_AFTER_FAILURE
            }
            Err(_) => PAUSE_AFTER_FAILURE,
        };
        tokio::time::sleep(pause).await;
    }
}

fn hash(payload: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    payload.hash(&mut hasher);
    hasher.finish()
}
