//! Connections.

use std::fmt;
use std::time::Duration;

use deadpool_postgres::{Hook, HookError, Manager, ManagerConfig, Pool, RecyclingMethod, Runtime};
use openssl::ssl::{SslConnector, SslMethod, SslVerifyMode};
use postgres_openssl::MakeTlsConnector;
use tokio::task::JoinHandle;
use tokio_postgres::config::Host;
use tokio_postgres::error::SqlState;
use tokio_postgres::{AsyncMessage, SimpleQueryMessage};

use crate::error::Error;

/// Longest time from nothing to a connection that is ready.
const CONNECT: Duration = Duration::from_secs(10);

/// Where the database is and how to use it.
#[derive(Clone)]
pub struct DatabaseConfig {
    /// `postgresql://user:password@host:port/db?sslmode=require`; a `+driver` suffix of the scheme
    /// is dropped (S3-23). With `sslmode=require` the connection is encrypted; whose it is is
    /// checked only with `verify_tls`.
    pub url: String,
    /// Schema of all tables; letters, digits and underscores.
    pub schema: String,
    /// Most connections of the pool.
    pub pool_size: usize,
    /// Check the server's certificate against the system's authorities.
    pub verify_tls: bool,
    /// How it names itself in `pg_stat_activity`.
    pub application_name: String,
}

impl fmt::Debug for DatabaseConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DatabaseConfig")
            .field("schema", &self.schema)
            .field("pool_size", &self.pool_size)
            .finish_non_exhaustive()
    }
}

impl DatabaseConfig {
    /// Whether a database is named at all, rather than looked for where one usually is.
    #[must_use]
    pub fn is_named(env: &config::Env) -> bool {
        env.is_set("DATABASE_URL") || env.is_set("POSTGRES_HOST")
    }

    /// The same with one connection, for what must not queue behind anything.
    #[must_use]
    pub fn alone(&self) -> Self {
        Self {
            pool_size: 1,
            ..self.clone()
        }
    }

    /// Reads it; `application_name` is how the service names itself to the server.
    #[must_use]
    pub fn from_env(env: &config::Env, application_name: &str) -> Self {
        let url = env.get_secret(
            &["DATABASE_URL"],
            "PostgreSQL, postgresql://user:password@host:port/database; else the POSTGRES_ variables.",
        );
        let host: String = env.get(
            &["POSTGRES_HOST"],
            "127.0.0.1",
            "Server, without DATABASE_URL.",
        );
        let port = env.get_in(&["POSTGRES_PORT"], 5432_u16, 1..=u16::MAX, "Its port.");
        let user: String = env.get(&["POSTGRES_USER"], "postgres", "Its user.");
        let password = env.get_secret(&["POSTGRES_PASSWORD"], "The user's password.");
        let database: String = env.get(&["POSTGRES_DB"], "postgres", "Its database.");
        let config = Self {
            url: url.as_ref().map_or_else(
                || {
                    let quote = |text: &str| text.replace('\\', "\\\\").replace('\'', "\\'");
                    let password = password
                        .as_ref()
                        .map(|secret| format!(" password='{}'", quote(secret.expose())))
                        .unwrap_or_default();
                    format!(
                        "host='{}' port={port} user='{}' dbname='{}'{password}",
                        quote(&host),
                        quote(&user),
                        quote(&database),
                    )
                },
                |secret| secret.expose().to_owned(),
            ),
            schema: env.get(&["DB_SCHEMA"], "event", "Schema of all tables."),
            pool_size: env.get_in(
                &["DB_POOL_SIZE"],
                8_usize,
                1..=500,
                "Connections of the pool at most.",
            ),
            verify_tls: env.get_bool(
                &["DB_TLS_VERIFY"],
                false,
                "Check the server's certificate against the system's authorities.",
            ),
            application_name: application_name.to_owned(),
        };
        if !is_plain(&config.schema) {
            env.complain("DB_SCHEMA", &config.schema, "a name of a-z, 0-9 and _");
        } else if let Err(error) = Database::new(&config) {
            let why = match error {
                Error::Pool(why) => why,
                other => other.to_string(),
            };
            // Never the value: it may hold a password.
            env.complain(
                "DATABASE_URL",
                "…",
                &format!("a URL such as postgresql://user:password@host:5432/database ({why})"),
            );
        }
        config
    }
}

/// Whether a schema's name needs no quotes.
fn is_plain(schema: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    (1..=63).contains(&schema.len()) && schema.chars().all(plain)
}

/// A pool of connections to one database and schema.
#[derive(Clone)]
pub struct Database {
    pool: Pool,
    pg: tokio_postgres::Config,
    schema: String,
    tls: MakeTlsConnector,
}

/// A connection of its own, see [`Database::connect`].
pub type Connection = tokio_postgres::Client;
/// A connection of the pool.
pub type Client = deadpool_postgres::Object;

impl Database {
    /// Prepares the pool; connects only when asked for a client.
    ///
    /// # Errors
    /// The URL cannot be read or the schema's name is no plain identifier.
    pub fn new(config: &DatabaseConfig) -> Result<Self, Error> {
        if !is_plain(&config.schema) {
            return Err(Error::Pool(
                "DB_SCHEMA must be of a-z, 0-9 and _".to_owned(),
            ));
        }
        let mut pg: tokio_postgres::Config = without_driver(&config.url)
            .parse()
            // The parser's words, never the URL: it holds a password.
            .map_err(|error: tokio_postgres::Error| Error::Pool(error.to_string()))?;
        let nowhere = |host: &Host| matches!(host, Host::Tcp(name) if name.trim().is_empty());
        if pg.get_hosts().is_empty() || pg.get_hosts().iter().any(nowhere) {
            return Err(Error::Pool("it names no host".to_owned()));
        }
        pg.application_name(&config.application_name)
            .connect_timeout(Duration::from_secs(5))
            .keepalives_idle(Duration::from_secs(30))
            .tcp_user_timeout(Duration::from_secs(30));
        let mut connector = SslConnector::builder(SslMethod::tls_client())
            .map_err(|error| Error::Pool(error.to_string()))?;
        if !config.verify_tls {
            // What `sslmode=prefer` and `require` mean in libpq: encrypted, not authenticated.
            connector.set_verify(SslVerifyMode::NONE);
        }
        let tls = MakeTlsConnector::new(connector.build());
        let manager = Manager::from_config(
            pg.clone(),
            tls.clone(),
            ManagerConfig {
                recycling_method: RecyclingMethod::Fast,
            },
        );
        let schema = config.schema.clone();
        let pool = Pool::builder(manager)
            .max_size(config.pool_size)
            .post_create(Hook::async_fn(move |client, _| {
                let schema = schema.clone();
                Box::pin(async move {
                    let prepared = prepare(client, &schema).await;
                    prepared.map_err(|error| HookError::message(error.to_string()))
                })
            }))
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(Duration::from_secs(5)))
            .create_timeout(Some(Duration::from_secs(6)))
            .recycle_timeout(Some(Duration::from_secs(5)))
            .build()
            .map_err(|error| Error::Pool(error.to_string()))?;
        Ok(Self {
            pool,
            pg,
            schema: config.schema.clone(),
            tls,
        })
    }

    /// Where it is, for people; nothing of it is secret.
    #[must_use]
    pub fn address(&self) -> String {
        let ports = self.pg.get_ports();
        let hosts = self.pg.get_hosts().iter().enumerate().map(|(at, host)| {
            // One port may be that of all hosts.
            let port = ports.get(at).or(ports.first()).unwrap_or(&5432);
            match host {
                Host::Tcp(name) => format!("{name}:{port}"),
                #[cfg(unix)]
                Host::Unix(path) => format!("{}:{port}", path.display()),
            }
        });
        hosts.collect::<Vec<_>>().join(", ")
    }

    /// Where it is, and which database and schema of that server; nothing of it is secret.
    #[must_use]
    pub fn name(&self) -> String {
        let database = self.pg.get_dbname().unwrap_or_default();
        format!("{} {database} {}", self.address(), self.schema)
    }

    /// A connection of the pool.
    ///
    /// # Errors
    /// None could be had within five seconds.
    pub async fn client(&self) -> Result<Client, Error> {
        Ok(self.pool.get().await?)
    }

    /// A connection of its own, outside the pool, for a writer that keeps it.
    ///
    /// # Errors
    /// The server cannot be reached or refuses.
    pub async fn connect(&self) -> Result<tokio_postgres::Client, Error> {
        Ok(self.connect_watched(|_| ()).await?.0)
    }

    /// The same, with what the server says unasked (notifications) and the task that drives the
    /// connection, which ends with it.
    pub(crate) async fn connect_watched(
        &self,
        heard: impl Fn(&AsyncMessage) + Send + 'static,
    ) -> Result<(tokio_postgres::Client, JoinHandle<()>), Error> {
        let connecting = self.pg.connect(self.tls.clone());
        // The timeout of the settings ends with the TCP connection; a server that hangs says no more.
        let (client, mut connection) = tokio::time::timeout(CONNECT, connecting)
            .await
            .map_err(|_| Error::Pool("the server does not answer".to_owned()))??;
        let driven = tokio::spawn(async move {
            while let Some(message) = std::future::poll_fn(|cx| connection.poll_message(cx)).await {
                match message {
                    Ok(message) => heard(&message),
                    // The server is stopped in order, perhaps by us, and what misses it says so. With
                    // a statement under way the reason is that statement's error, and only the end
                    // arrives here.
                    Err(error)
                        if error.code() == Some(&SqlState::ADMIN_SHUTDOWN) || error.is_closed() =>
                    {
                        tracing::info!(error = %error, "the server ends the connection");
                        break;
                    }
                    Err(error) => {
                        tracing::warn!(error = %error, "database connection lost");
                        break;
                    }
                }
            }
        });
        if let Err(error) =
            crate::timeout::with_timeout_of(CONNECT, prepare(&client, &self.schema)).await
        {
            driven.abort();
            return Err(error);
        }
        Ok((client, driven))
    }

    /// The schema all tables are in.
    #[must_use]
    pub fn schema(&self) -> &str {
        &self.schema
    }

    /// Connections in use and open, for metrics: (in use, open, largest).
    #[must_use]
    pub fn usage(&self) -> (usize, usize, usize) {
        let status = self.pool.status();
        (
            status.size.saturating_sub(status.available),
            status.size,
            status.max_size,
        )
    }

    /// One round trip.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn ping(&self) -> Result<(), Error> {
        self.client().await?.simple_query("select 1").await?;
        Ok(())
    }
}

/// Sets what every statement relies on. After connecting, because a pooler such as PgBouncer refuses
/// these settings in the start-up message; it must keep a session to one server connection.
async fn prepare(client: &tokio_postgres::Client, schema: &str) -> Result<(), Error> {
    let answer = client
        .simple_query(&format!(
            "select set_config('search_path', '{schema}, public', false), \
             set_config('timezone', 'UTC', false), current_setting('server_encoding')"
        ))
        .await?;
    let encoding = answer.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(2),
        _ => None,
    });
    match encoding {
        Some("UTF8") => Ok(()),
        other => Err(Error::Pool(format!(
            "the database is encoded in {}, which cannot hold every event; make one with `create \
             database … encoding 'UTF8' template template0`",
            other.unwrap_or("an unknown way")
        ))),
    }
}

/// `postgresql+asyncpg://…` names a Python driver that is none of our business (S3-23).
fn without_driver(url: &str) -> String {
    match url.split_once("://") {
        Some((scheme, rest)) => {
            format!(
                "{}://{rest}",
                scheme.split_once('+').map_or(scheme, |(plain, _)| plain)
            )
        }
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::without_driver;

    #[test]
    fn the_driver_suffix_is_dropped() {
        assert_eq!(
            without_driver("postgresql+asyncpg://u:p@h/d"),
            "postgresql://u:p@h/d"
        );
        assert_eq!(without_driver("postgres://h/d+x"), "postgres://h/d+x");
    }
}
