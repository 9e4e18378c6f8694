//! A program that embeds Tidegate on PostgreSQL alone, with a handler and a middleware of its own.
//!
//! `DATABASE_URL=postgresql://… cargo run -p tidegate --example embedded`, then
//!
//! ```sh
//! curl localhost:8230/api/v1/events/create -d '{"event_type": "user.registered", "user_id": "u-1"}'
//! ```
//!
//! The middleware says in which region the event was taken, and the handler sends a greeting, which
//! fails at its first attempt and succeeds at the second. `curl localhost:8208/api/v1/events/ID/receipt`
//! shows both.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use config::Env;
use domain::retry::RetryPolicy;
use domain::{Event, FieldError, Json};
use eventlog::BoxFuture;
use eventlog::postgres::PostgresLog;
use ingest::middleware::{Chain, Middleware};
use ingest::{Gateway, Logs};
use live::local::LocalChannels;
use processor::handler::{EventHandler, Options, Outcome};
use processor::{Deps, Processor};
use prometheus::Registry;
use query::Query;
use serde_json::{Value, json};
use service::auth::Authenticator;
use service::health::Health;
use store::Database;

/// What the handler works with: your mailer, your pool, your client.
#[derive(Default)]
struct Mailer {
    refused_once: Mutex<HashSet<String>>,
}

impl Mailer {
    async fn greet(&self, user: &str) -> anyhow::Result<()> {
        let mut refused = self
            .refused_once
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        anyhow::ensure!(!refused.insert(user.to_owned()), "the mail server is busy");
        println!("welcome, {user}");
        Ok(())
    }
}

/// Greets whoever registers.
struct Welcome {
    mailer: Arc<Mailer>,
}

impl EventHandler for Welcome {
    fn name(&self) -> &str {
        "welcome"
    }

    fn event_types(&self) -> Vec<String> {
        vec!["user.registered".to_owned()]
    }

    fn options(&self) -> Options {
        Options {
            retry: RetryPolicy {
                max_retries: 5,
                backoff_seconds: vec![1],
            },
            ..Options::default()
        }
    }

    fn handle<'a>(&'a self, event: &'a Event) -> BoxFuture<'a, anyhow::Result<Outcome>> {
        Box::pin(async move {
            let Some(user) = &event.user_id else {
                return Ok(Outcome::Skipped);
            };
            self.mailer.greet(user).await?;
            Ok(Outcome::Success)
        })
    }
}

/// Says where events were taken.
struct Region(&'static str);

impl Middleware for Region {
    fn before_publish(&self, mut event: Event) -> Result<Event, FieldError> {
        if event.event_type.starts_with("secret.") {
            let message = "events of these types stay at home";
            return Err(FieldError::new(
                "event_type",
                domain::Code::IllegalValue,
                message,
            ));
        }
        let mut context: Value = serde_json::from_str(event.context.as_str()).unwrap_or_default();
        if let Some(context) = context.as_object_mut() {
            context.insert("region".to_owned(), self.0.into());
        }
        event.context = Json::from_stored(context.to_string());
        Ok(event)
    }

    fn after_publish(&self, _: &[Event], mut answer: Value) -> Value {
        if let Some(answer) = answer.as_object_mut() {
            answer.insert("taken_in".to_owned(), json!(self.0));
        }
        answer
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let env = Env::from_process();
    let ingest = ingest::Config::from_env(&env)?;
    let mut processor = processor::config::Config::from_env(&env)?;
    let query = query::config::Config::from_env(&env)?;
    let (takes, answers) = (ingest.http.clone(), query.http.clone());
    let grace = takes.grace;
    // The log is PostgreSQL, and live messages stay in this process.
    processor.kafka = None;
    let db = Database::new(&processor.database)?;
    let channels = Arc::new(LocalChannels::new(query.redis.retention));
    let registries = [(); 3].map(|()| Registry::new());
    let [for_ingest, for_processor, for_query] = &registries;

    let log = PostgresLog::new(&db, ingest.postgres_log(), for_ingest)?;
    let chain = Chain::new(vec![Arc::new(Region("eu"))]);
    let gateway =
        Gateway::new(ingest, for_ingest, Logs::postgres(Arc::new(log)))?.with_middleware(chain);
    let deps = Deps {
        channels: Some(Arc::clone(&channels) as _),
        local: true,
        handlers: vec![Arc::new(Welcome {
            mailer: Arc::new(Mailer::default()),
        })],
        ..Deps::default()
    };
    let processor = Processor::new(processor, for_processor, deps)?;
    let query = Query::new(&query, for_query, channels)?;

    let auth = Authenticator::start(&takes.auth, &takes.host, for_ingest)?;
    let keys = db.clone();
    auth.follow_database(move || store::api_keys::known(keys.clone()));
    let (name, health) = (
        "embedded",
        processor.health(gateway.health(Health::new("embedded"))),
    );
    let takes = service::http::bind(&takes, &auth, for_ingest, &health, gateway.configure())?;
    let health = query.health(Health::new(name));
    let answers = service::http::bind(&answers, &auth, for_query, &health, query.configure())?;
    println!("takes events on http://{}", takes.address);
    println!("answers on http://{}", answers.address);
    let servers = [tokio::spawn(takes.server), tokio::spawn(answers.server)];

    service::shutdown::requested().await?;
    query.drain().await;
    gateway.drain();
    takes.handle.stop(true).await;
    answers.handle.stop(true).await;
    gateway.stop(grace).await;
    processor.stop().await;
    query.stop().await;
    for server in servers {
        server.await??;
    }
    Ok(())
}
