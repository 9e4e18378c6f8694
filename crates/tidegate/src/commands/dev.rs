//! `tidegate dev`: everything in one process, on a PostgreSQL of its own.

use std::collections::HashMap;
use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::{ExitCode, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::bail;
use clap::Args;
use config::{ConfigError, Env};
use store::{Database, migrate};
use tokio::task::JoinHandle;

use crate::all_in_one::{Config, Server, can_listen};
use crate::client;
use crate::output;
use crate::postgres::{Cluster, PrivateCluster, write_secret};
use crate::style::{BOLD, CYAN, DIM, GREEN};

/// How long the services may take to be ready once their database answers.
const READY: Duration = Duration::from_secs(60);

/// How long after a broken connection the end of the server may be noticed.
const NOTICED: Duration = Duration::from_secs(2);

/// The exit status after Ctrl-C during the start: 128 + SIGINT, as in the shell.
const INTERRUPTED: u8 = 130;

/// The variables of `serve` that `dev` ignores.
const IGNORED: [&str; 7] = [
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
/// It takes the newest PostgreSQL on this machine (15 or newer), else fetches one (once, 15 MB, kept
/// beside the default data directory). It makes a private cluster in the data directory the first time,
/// starts it, and runs all services on one port until Ctrl-C. The data is there again the next time;
/// every event that was acknowledged is on the disk.
///
/// As root it runs PostgreSQL as an unprivileged user: TIDEGATE_PG_USER, else postgres, else nobody.
/// That user must be able to enter the data directory. KAFKA_BROKERS and REDIS_URL are ignored; all
/// other settings of `serve` apply.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tidegate dev
  tidegate dev --ephemeral --port 9000
  LOG_LEVEL=info tidegate dev --data-dir ./events")]
pub(crate) struct Options {
    /// The port to listen on; 0 takes a free one
    #[arg(
        long,
        env = "TIDEGATE_PORT",
        default_value_t = 8208,
        value_name = "PORT"
    )]
    port: u16,
    /// The address to listen on; 0.0.0.0 admits other machines, and wants AUTH_MODE or I_KNOW_THIS_IS_OPEN=true
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
    /// Keep nothing: a directory for this run, deleted at its end, without fsync
    #[arg(long, conflicts_with = "data_dir")]
    ephemeral: bool,
    /// The directory of PostgreSQL's programs (initdb, postgres) [default: the newest found]
    #[arg(long, env = "TIDEGATE_PG_BIN", value_name = "DIR")]
    pg_bin: Option<PathBuf>,
}

/// Runs until it is interrupted.
///
/// # Errors
/// One sentence with the cause; nothing is damaged.
pub(crate) async fn run(options: Options) -> anyhow::Result<ExitCode> {
    let began = Instant::now();
    // From the first moment on, so that a signal never ends the process without a cleanup.
    let mut signal = tokio::spawn(service::shutdown::requested());
    init_logs();
    // Before anything is made.
    if let Err(error) = config(&options, options.port, "host=127.0.0.1".to_owned()) {
        output::notice(format_args!("tidegate: {error}"));
        return Ok(ExitCode::from(2));
    }
    can_listen(&options.host, options.port, "--port")?;
    let (data_dir, pg_bin) = (options.data_dir.as_deref(), options.pg_bin.clone());
    let private = PrivateCluster::open(data_dir, options.ephemeral, pg_bin)?;
    // That of a killed run is out of date.
    let _ = std::fs::remove_file(private.directory.environment());
    let mut cluster = tokio::select! {
        started = private.start() => started?,
        signal = &mut signal => {
            private.stopped().await;
            signal??;
            drop(private);
            output::line_if_read("stopped");
            return Ok(ExitCode::from(INTERRUPTED));
        }
    };
    let outcome = serve(&options, &private, &mut cluster, began, signal).await;
    let _ = std::fs::remove_file(private.directory.environment());
    let stopped = cluster.stop().await;
    outcome.and(stopped)?;
    output::line_if_read("stopped");
    Ok(ExitCode::SUCCESS)
}

/// Starts a cluster again that ended by itself; false if the signal came first.
async fn start_again(
    private: &PrivateCluster,
    cluster: &mut Cluster,
    ended: std::io::Result<ExitStatus>,
    signal: &mut Signal,
) -> anyhow::Result<bool> {
    tracing::warn!(status = %ended?, "PostgreSQL ended by itself, starting it again");
    tokio::select! {
        started = private.start() => {
            *cluster = started?;
            Ok(true)
        }
        signal = signal => {
            tracing::info!(signal = signal??, "draining");
            private.stopped().await;
            Ok(false)
        }
    }
}

/// The first SIGTERM or SIGINT.
type Signal = JoinHandle<std::io::Result<&'static str>>;

/// Runs the services on the cluster and stops them at the signal. A cluster that ends by itself is
/// started again, and the services too if it has another port then.
async fn serve(
    options: &Options,
    private: &PrivateCluster,
    cluster: &mut Cluster,
    began: Instant,
    mut signal: Signal,
) -> anyhow::Result<()> {
    // The services keep their port when they are started again.
    let mut port = options.port;
    let mut is_welcomed = false;
    loop {
        let config = config(options, port, cluster.services_url())?;
        let at = cluster.port();
        let database = Database::new(config.database())?;
        tokio::select! {
            biased;
            ended = cluster.ended() => {
                if !start_again(private, cluster, ended, &mut signal).await? {
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
                    // The server may have ended during the migration, whose error is noticed first.
                    let ended = tokio::time::timeout(NOTICED, cluster.ended()).await;
                    let why = "the schema could not be brought up to date";
                    let ended = ended.map_err(|_| anyhow::Error::new(error).context(why))?;
                    if !start_again(private, cluster, ended, &mut signal).await? {
                        return Ok(());
                    }
                    continue;
                }
            }
        }
        let mut server = Server::start(config)?;
        port = server.address.port();
        let base = base_url(options, port);
        // Before it is ready, so that a script finds the file.
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
                    if !start_again(private, cluster, ended, &mut signal).await? {
                        server.stop().await;
                        return Ok(());
                    }
                    write_environment(private, cluster, &base)?;
                    ready.set(until_ready(&base));
                }
                answer = &mut ready, if !is_ready => {
                    answer?;
                    is_ready = true;
                    if !std::mem::replace(&mut is_welcomed, true) {
                        welcome(&base, private, cluster, began.elapsed());
                    }
                }
            }
        }
        tracing::warn!(
            port = cluster.port(),
            "PostgreSQL has another port, starting the services again"
        );
        server.stop().await;
    }
}

/// The settings of `serve`, on the private cluster.
fn config(options: &Options, port: u16, database: String) -> Result<Config, ConfigError> {
    let mut environment: HashMap<String, String> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, _)| !IGNORED.contains(&name.as_str()))
        .collect();
    for (name, value) in [
        ("DATABASE_URL", database),
        ("EVENT_SERVICE_HOST", options.host.clone()),
        ("TIDEGATE_PORT", port.to_string()),
    ] {
        environment.insert(name.to_owned(), value);
    }
    // What is tried here listens here.
    environment
        .entry("WEBHOOK_ALLOWED_NETWORKS".to_owned())
        .or_insert_with(|| "127.0.0.0/8,::1".to_owned());
    Config::from_env(&Env::from_map(environment))
}

/// Turns logging on, for people: not JSON, and from WARN on unless LOG_LEVEL or RUST_LOG ask for more.
fn init_logs() {
    let _ = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        // The error after the last attempt is enough.
        .with_env_filter(service::telemetry::filter("warn,reqwest_retry=error"))
        .try_init();
}

/// The address of the services from this machine.
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
    bail!("the services are not ready after {READY:?}: {last}")
}

/// Writes the addresses for scripts: `. DIR/environment`.
fn write_environment(
    private: &PrivateCluster,
    cluster: &Cluster,
    base: &str,
) -> anyhow::Result<()> {
    let mut text = String::new();
    for name in ["BASE_URL", "INGEST_URL", "PROCESSOR_URL", "QUERY_URL"] {
        text.push_str(&format!("{name}={base}\n"));
    }
    text.push_str(&format!("DATABASE_URL={}\n", cluster.url()));
    write_secret(&private.directory.environment(), &text)
}

fn welcome(base: &str, private: &PrivateCluster, cluster: &Cluster, took: Duration) {
    let data = if private.directory.is_ephemeral() {
        "kept nowhere (--ephemeral)".to_owned()
    } else {
        private.directory.path().display().to_string()
    };
    let (url, version) = (cluster.url(), cluster.version());
    let seconds = took.as_secs_f64();
    output::line_if_read(format_args!(
        "\
{GREEN}Tidegate is ready{GREEN:#} at {BOLD}{base}{BOLD:#} {DIM}(after {seconds:.1} s){DIM:#}

  look      {BOLD}{base}/console/{BOLD:#}
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
