//! What the handlers work with, and what the probes know.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use actix_web::HttpResponse;
use actix_web::http::header::CACHE_CONTROL;
use domain::field::Code;
use eventlog::{ByteBudget, BytePermit};
use live::Channels;
use serde::Serialize;
use service::Problem;
use service::answer::Answer;
use service::health::{Check, Health};
use store::event_reads::{self, Filter, Total};
use store::outbox::Sinks;
use store::pool::Client;
use store::reader::{ReadError, Reader};
use store::{Database, Error, Kind, migrate};
use time::OffsetDateTime;

use crate::cache::{Cache, Key};
use crate::config::{CacheConfig, Config, SseConfig};
use crate::http::sse::limits::Listeners;
use crate::metrics::Metrics;

/// Shared by all workers.
#[derive(Clone)]
pub struct State {
    reader: Reader,
    pool: Database,
    /// A connection apart from the reads, so that probes do not queue behind them.
    watch: Database,
    /// Its metrics.
    pub metrics: Metrics,
    count_timeout: Duration,
    /// Bytes of events one answer may hold.
    pub max_response_bytes: usize,
    /// Bytes of answers in flight.
    pub answers: Arc<ByteBudget>,
    /// What events are searched with; `None` if search is off.
    pub search: Option<Arc<dyn search::Engine>>,
    cache: Cache,
    /// For how long answers are kept.
    pub kept: CacheConfig,
    /// Live events.
    pub channels: Arc<dyn Channels>,
    /// Who listens to them.
    pub listeners: Arc<Listeners>,
    /// The limits of a stream.
    pub sse: SseConfig,
    /// Origins whose pages may listen; `None` is any.
    pub cors_origins: Option<Vec<String>>,
    /// The topics that the processor reads, without the deployment's prefix.
    pub read_topics: Vec<String>,
    /// Sends to the endpoints of subscriptions.
    pub webhooks: webhook::Client,
    /// Who sends what is left in the outbox.
    pub announces: Sinks,
    database: Arc<AtomicBool>,
    schema: Arc<AtomicBool>,
}

impl State {
    /// Prepares the pools; connects to nothing yet.
    ///
    /// # Errors
    /// The configuration of the database is wrong.
    pub fn new(
        config: &Config,
        metrics: Metrics,
        channels: Arc<dyn Channels>,
    ) -> Result<Self, Error> {
        let pool = Database::new(&config.database)?;
        let in_redis = config.cache.in_redis.then_some(&config.redis);
        let named = format!("{} {}", pool.name(), config.redis.prefix);
        Ok(Self {
            reader: Reader::new(pool.clone(), config.query_timeout),
            pool,
            watch: Database::new(&config.database.alone())?,
            count_timeout: config.count_timeout,
            max_response_bytes: config.max_response_bytes,
            answers: ByteBudget::new(
                config
                    .max_inflight_bytes
                    .max(config.max_response_bytes.saturating_mul(2)),
            ),
            search: config
                .search
                .engine()
                .map_err(|error| Error::Pool(error.to_string()))?,
            cache: Cache::new(
                in_redis,
                &named,
                config.cache.max_bytes,
                metrics.cache.clone(),
            ),
            kept: config.cache.clone(),
            channels,
            listeners: Listeners::new(
                config.sse.max_connections,
                config.sse.max_connections_per_user,
                config.sse.max_connections_per_tenant,
                metrics.sse.clone(),
            ),
            sse: config.sse.clone(),
            cors_origins: config.cors_origins.clone(),
            metrics,
            read_topics: config.read_topics.clone(),
            webhooks: webhook::Client::new(&config.webhooks)
                .map_err(|error| Error::Pool(error.to_string()))?,
            announces: config.announces,
            database: Arc::default(),
            schema: Arc::default(),
        })
    }

    /// Reads from the database; `what` is the metric's label.
    ///
    /// # Errors
    /// 503 while the database does not answer or took too long, 422 for a value it cannot compare.
    pub async fn read<T>(
        &self,
        what: &'static str,
        work: impl AsyncFn(&Client) -> Result<T, Error>,
    ) -> Result<T, Problem> {
        self.observe(what, self.reader.read(work)).await
    }

    /// The same for what nobody waits for: it has as long as the counting of a listing.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub async fn brief<T>(
        &self,
        what: &'static str,
        work: impl AsyncFn(&Client) -> Result<T, Error>,
    ) -> Result<T, Problem> {
        let reading = self.reader.read_within(self.count_timeout, work);
        self.observe(what, reading).await
    }

    /// Whether the database answered lately.
    #[must_use]
    pub fn has_database(&self) -> bool {
        self.database.load(Ordering::Relaxed)
    }

    /// Changes something in the database; `what` is the metric's label.
    ///
    /// # Errors
    /// 503 while the database does not answer, 422 for a value it cannot hold.
    pub async fn change<T>(
        &self,
        what: &'static str,
        work: impl AsyncFnOnce(&Database) -> Result<T, Error>,
    ) -> Result<T, Problem> {
        let changing = async { Ok(work(&self.pool).await?) };
        self.observe(what, changing).await
    }

    /// How many events there are under the filter, as far as it shows in time: no answer waits for it.
    pub async fn total(&self, filter: &Filter) -> Total {
        let deadline = Instant::now() + self.count_timeout;
        let counting = self.reader.read_within(self.count_timeout, async |client| {
            let edges = self.edges(client).await?;
            event_reads::total(client, &edges, filter, deadline).await
        });
        self.observe("count", counting).await.unwrap_or(Total {
            count: None,
            is_estimate: true,
        })
    }

    /// Where partitions of `events` meet.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn edges(&self, client: &Client) -> Result<Arc<[OffsetDateTime]>, Error> {
        self.reader.edges(client).await
    }

    async fn observe<T>(
        &self,
        what: &'static str,
        reading: impl Future<Output = Result<T, ReadError>>,
    ) -> Result<T, Problem> {
        let started = Instant::now();
        let answer = reading.await;
        self.metrics
            .reads
            .seconds
            .with_label_values(&[what])
            .observe(started.elapsed().as_secs_f64());
        answer.map_err(|error| {
            let (reason, problem) = refuse(&error);
            self.metrics
                .reads
                .failures
                .with_label_values(&[reason])
                .inc();
            tracing::warn!(read = what, reason, error = %error, "read failed");
            problem
        })
    }

    /// Answers with JSON of the moment, not to be kept. The budget covers it until the client has it;
    /// `held` covers what it is made of.
    ///
    /// # Errors
    /// 503 if too many bytes wait for clients.
    pub fn answer(
        &self,
        mut held: BytePermit,
        body: &impl Serialize,
    ) -> Result<HttpResponse, Problem> {
        let body = serde_json::to_vec(body).map_err(|error| Problem::internal(&error))?;
        held.resize(body.len()).map_err(|_| self.overloaded())?;
        Ok(Self::json(body, held))
    }

    /// Answers with what `load` makes, or has made for others a moment ago.
    ///
    /// # Errors
    /// Those of the load; 503 if too many bytes wait for clients.
    pub async fn answer_kept<T: Serialize>(
        &self,
        key: Key,
        load: impl AsyncFn() -> Result<T, Problem>,
    ) -> Result<HttpResponse, Problem> {
        let load = async || {
            let body = load().await?;
            serde_json::to_vec(&body).map_err(|error| Problem::internal(&error))
        };
        let body = self.cache.get(key, load).await?;
        let held = self.hold(body.len())?;
        Ok(Self::json(body, held))
    }

    fn json(body: impl Into<bytes::Bytes>, held: BytePermit) -> HttpResponse {
        HttpResponse::Ok()
            .insert_header((CACHE_CONTROL, "no-store"))
            .content_type("application/json")
            .body(Answer::new(body, held))
    }

    /// Holds so many bytes of the budget for answers.
    ///
    /// # Errors
    /// 503 if too many bytes wait for clients.
    pub fn hold(&self, bytes: usize) -> Result<BytePermit, Problem> {
        self.answers.acquire(bytes).map_err(|_| self.overloaded())
    }

    fn overloaded(&self) -> Problem {
        let failures = &self.metrics.reads.failures;
        failures.with_label_values(&["overloaded"]).inc();
        Problem::unavailable("Too many answers wait for their clients", 2)
    }

    /// Adds the checks of /ready.
    #[must_use]
    pub fn health(&self, health: Health) -> Health {
        let (database, schema) = (Arc::clone(&self.database), Arc::clone(&self.schema));
        let channels = Arc::clone(&self.channels);
        health
            // The history can be read without them, and streams that are open wait: the service is
            // ready all the same.
            .check("live", move || {
                if channels.connected() {
                    return Check::ok("connected");
                }
                let why = channels.problem();
                let why = why.map_or(String::new(), |why| format!(" ({why})"));
                Check::ok(format!("down{why}: live streams wait; check REDIS_URL"))
            })
            .check("postgres", move || {
                if database.load(Ordering::Relaxed) {
                    Check::ok("answers")
                } else {
                    Check::failed("does not answer; check DATABASE_URL")
                }
            })
            .check("schema", move || {
                if schema.load(Ordering::Relaxed) {
                    Check::ok(format!("at version {}", migrate::latest()))
                } else {
                    Check::failed("not yet brought up to date")
                }
            })
    }

    /// Brings the schema up to date if `migrates`, and watches the database once a second.
    pub async fn watch(self, migrates: bool) {
        tokio::join!(migrate::ready(&self.watch, migrates), self.check());
    }

    async fn check(&self) {
        let mut every = tokio::time::interval(Duration::from_secs(1));
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            every.tick().await;
            let limit = Duration::from_secs(5);
            let applied = tokio::time::timeout(limit, migrate::applied(&self.watch)).await;
            let (up, current) = match applied {
                Ok(Ok(version)) => (true, version >= migrate::latest()),
                _ => (false, self.schema.load(Ordering::Relaxed)),
            };
            self.database.store(up, Ordering::Relaxed);
            self.schema.store(current, Ordering::Relaxed);
            self.metrics.reads.database_connected.set(i64::from(up));
            let live = i64::from(self.channels.connected());
            self.metrics.reads.live_connected.set(live);
            let answers = i64::try_from(self.answers.used()).unwrap_or(i64::MAX);
            self.metrics.reads.inflight_bytes.set(answers);
            let (used, open, max) = self.pool.usage();
            for (name, count) in [("in_use", used), ("open", open), ("max", max)] {
                self.metrics
                    .reads
                    .pool
                    .with_label_values(&[name])
                    .set(i64::try_from(count).unwrap_or(i64::MAX));
            }
        }
    }
}

/// The metric's label and the answer.
fn refuse(error: &ReadError) -> (&'static str, Problem) {
    match error {
        ReadError::TooSlow(limit) => (
            "too_slow",
            Problem::unavailable(
                format!(
                    "The query took longer than {} seconds; narrow it, for instance by time",
                    limit.as_secs()
                ),
                5,
            ),
        ),
        ReadError::Store(error) if error.kind() == Kind::Data => (
            "data",
            Problem::unprocessable(
                "",
                Code::BadFormat,
                "a value that the database cannot compare",
            ),
        ),
        ReadError::Store(_) => (
            "unavailable",
            Problem::unavailable("Event store not available", 2),
        ),
    }
}
