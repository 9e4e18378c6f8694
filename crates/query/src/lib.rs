//! The query service: answers questions about what is stored, and changes nothing.
//!
//! Invariants, stated as absences: no answer without a bound in rows, bytes and time; no SQL (it
//! lives in `store`); no write but the schema's migration at start.

pub mod config;
pub mod cursor;
pub mod http;
pub mod metrics;
pub mod openapi;
pub mod parameters;
pub mod state;

use anyhow::Context as _;
use config::Config;
use metrics::Metrics;
use state::State;

/// Runs the service until SIGTERM or SIGINT, then lets the open requests end. PostgreSQL being down
/// is no error: it is waited for, and until then the answers are 503.
///
/// # Errors
/// The address cannot be bound, or the database's configuration is wrong.
pub async fn run(config: Config) -> anyhow::Result<()> {
    for name in &config.ignored {
        tracing::warn!(variable = name, "ignored: there is no NATS connector yet");
    }
    let registry = service::metrics::registry()?;
    let state = State::new(&config, Metrics::register(&registry)?)?;
    let health = state.health(&config.http.service_name);
    let bound = {
        let state = state.clone();
        service::http::bind(&config.http, &registry, &health, move |app| {
            http::routes(app, &state);
        })?
    };
    tracing::info!(address = %bound.address, "query listens");
    let watcher = tokio::spawn(state.watch(config.migrate_on_start));
    let server = tokio::spawn(bound.server);

    let signal = service::shutdown::requested().await?;
    tracing::info!(signal, "draining");
    bound.handle.stop(true).await;
    server.await.context("the HTTP server's task")??;
    watcher.abort();
    tracing::info!("stopped");
    Ok(())
}
