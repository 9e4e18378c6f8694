//! What the polling thread and the handles of a consumer share.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rdkafka::consumer::Consumer as _;
use uuid::Uuid;

use super::assignments::Assignments;
use super::rebalance::Client;
use crate::byte_budget::ByteBudget;

/// The state of one consumer.
pub(super) struct Shared {
    pub(super) assignments: Arc<Assignments>,
    pub(super) rooms: Vec<Arc<ByteBudget>>,
    /// How often a queue stayed full so long that its partitions were paused.
    pub(super) pauses: AtomicU64,
    client: Mutex<Option<Arc<Client>>>,
    problem: Mutex<Option<String>>,
    /// The ids of the topics that exist, as Kafka told them last; `None` where it has no ids.
    topic_ids: Mutex<HashMap<Arc<str>, Option<Uuid>>>,
    stop: AtomicBool,
    grace: Mutex<Duration>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(super) fn new(workers: usize, rooms: Vec<Arc<ByteBudget>>) -> Arc<Self> {
        Arc::new(Self {
            assignments: Arc::new(Assignments::new(workers)),
            rooms,
            pauses: AtomicU64::new(0),
            client: Mutex::new(None),
            problem: Mutex::new(None),
            topic_ids: Mutex::default(),
            stop: AtomicBool::new(false),
            grace: Mutex::new(Duration::ZERO),
        })
    }

    /// Tells the thread to end, within `grace`.
    pub(super) fn stop(&self, grace: Duration) {
        *lock(&self.grace) = grace;
        self.stop.store(true, Ordering::Release);
    }

    pub(super) fn stopping(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    pub(super) fn grace(&self) -> Duration {
        *lock(&self.grace)
    }

    pub(super) fn client(&self) -> Option<Arc<Client>> {
        lock(&self.client).clone()
    }

    pub(super) fn topic_ids(&self) -> HashMap<Arc<str>, Option<Uuid>> {
        lock(&self.topic_ids).clone()
    }

    /// Notes ids of topics; a topic that had another one.
    pub(super) fn note_topic_ids(&self, ids: Vec<(Arc<str>, Option<Uuid>)>) -> Option<Arc<str>> {
        let mut known = lock(&self.topic_ids);
        let mut remade = None;
        for (topic, id) in ids {
            let before = known.insert(Arc::clone(&topic), id).flatten();
            if before.is_some() && id.is_some() && before != id {
                remade = Some(topic);
            }
        }
        remade
    }

    pub(super) fn problem(&self) -> Option<String> {
        lock(&self.problem).clone()
    }

    pub(super) fn set_problem(&self, problem: Option<String>) {
        *lock(&self.problem) = problem;
    }

    /// A client has joined the group.
    pub(super) fn opened(&self, client: Arc<Client>) {
        *lock(&self.client) = Some(client);
        self.set_problem(None);
    }

    /// Ends the assignments and closes the client, which takes librdkafka a while: the problem
    /// shows before.
    pub(super) fn close(&self, problem: Option<String>) {
        self.assignments.revoke_all();
        self.assignments.connected.store(false, Ordering::Relaxed);
        self.set_problem(problem);
        let client = lock(&self.client).take();
        if let Some(client) = &client {
            client.context().closed.store(true, Ordering::Relaxed);
        }
        drop(client);
    }
}
