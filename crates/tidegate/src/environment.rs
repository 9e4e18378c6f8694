//! The settings of a command that works on the database.

use config::Env;
use service::consul::{self, Part};

/// The environment, with the database from Consul where it names none and Consul is to be asked.
///
/// # Errors
/// Consul does not tell.
pub(crate) async fn read() -> anyhow::Result<Env> {
    let env = consul::environment("tidegate", &[Part::Postgres]).await;
    env.map_err(anyhow::Error::msg)
}
