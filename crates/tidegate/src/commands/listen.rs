//! `tidegate listen`: brings events to a port of this machine, as a webhook would.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use domain::cloudevent::Format;
use domain::envelope::Origin;
use domain::{Event, EventCategory, EventSource, Limits, Selector, TenantId};
use serde_json::{Map, Value};
use tokio::sync::mpsc;
use uuid::Uuid;
use webhook::{Client, Endpoint, Message, Networks, Secret, WebhookConfig};

use super::tail;
use super::webhook::Selection;
use crate::client::Instance;
use crate::output;
use crate::style::{BOLD, CYAN, DIM, GREEN, RED};

/// Events that wait for the endpoint.
const WAITING: usize = 1_000;
/// How long the endpoint may take.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The members of an event that are its content, not what became of it.
const MEMBERS: [&str; 22] = [
    "event_id",
    "client_event_id",
    "tenant_id",
    "event_type",
    "event_source",
    "event_category",
    "user_id",
    "session_id",
    "organization_id",
    "device_id",
    "correlation_id",
    "aggregate_type",
    "aggregate_id",
    "expected_version",
    "data",
    "metadata",
    "context",
    "properties",
    "timestamp",
    "received_at",
    "version",
    "schema_version",
];

/// Bring events to a port of this machine, signed as webhooks are, without a public address
///
/// It follows the stored events, half a second late, and posts each to the address, once, as a webhook
/// would: the same body, headers and signature. Nothing is registered; it ends with Ctrl-C.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tidegate listen --forward-to http://localhost:3000/hook
  tidegate listen --forward-to http://localhost:3000/hook --type 'order.*'
  tidegate listen --forward-to localhost:3000/hook --secret whsec_…")]
pub(crate) struct Options {
    /// The address
    #[arg(long, value_name = "URL")]
    forward_to: String,
    #[command(flatten)]
    selection: Selection,
    /// The secret to sign with: whsec_ and base64 [default: a new one, shown]
    #[arg(long, env = "TIDEGATE_WEBHOOK_SECRET", hide_env_values = true)]
    secret: Option<String>,
    #[command(flatten)]
    instance: Instance,
}

/// Forwards events until it is interrupted.
///
/// # Errors
/// An address, the secret or the selection is wrong, or the service refuses the request.
pub(crate) async fn run(options: Options) -> anyhow::Result<ExitCode> {
    let forward = Forward::new(&options)?;
    let (events, mut waiting) = mpsc::channel(WAITING);
    let forwarding = async {
        while let Some(event) = waiting.recv().await {
            forward.event(event).await;
        }
    };
    tokio::select! {
        outcome = tail::forward(options.instance, events) => outcome.map(|()| ExitCode::SUCCESS),
        () = forwarding => Ok(ExitCode::SUCCESS),
        _ = tokio::signal::ctrl_c() => Ok(ExitCode::SUCCESS),
    }
}

struct Forward {
    client: Client,
    url: String,
    secret: Secret,
    selector: Selector,
}

impl Forward {
    fn new(options: &Options) -> anyhow::Result<Self> {
        // The operator says where to: every address is allowed.
        let all = ["0.0.0.0/0", "::/0"].iter().map(|net| net.parse());
        let networks = Networks::new(all.collect::<Result<_, _>>()?);
        let url = match options.forward_to.contains("://") {
            true => options.forward_to.clone(),
            false => format!("http://{}", options.forward_to),
        };
        if let Err(why) = Endpoint::parse(&url, &networks) {
            bail!("--forward-to {url:?}: {why}");
        }
        let selector =
            Selector::read(&Value::Object(options.selection.members())).map_err(|errors| {
                let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
                anyhow::anyhow!(errors.join("; "))
            })?;
        let secret = match &options.secret {
            Some(text) => Secret::parse(text).map_err(|why| anyhow::anyhow!("--secret: {why}"))?,
            None => {
                let secret = Secret::random().context("no random bytes")?;
                output::notice(format_args!(
                    "signed with {BOLD}{}{BOLD:#}",
                    secret.expose()
                ));
                secret
            }
        };
        let config = WebhookConfig {
            networks,
            connect_timeout: TIMEOUT,
            timeout: TIMEOUT,
        };
        let client = Client::new(&config)?;
        Ok(Self {
            client,
            url,
            secret,
            selector,
        })
    }

    /// Sends an event, as the API shows it, if it is selected.
    async fn event(&self, shown: Value) {
        let Some(event) = event(&shown) else {
            output::notice(format_args!(
                "an event that this version cannot read: {}",
                shown["event_id"]
            ));
            return;
        };
        if !self.selector.matches(&event) {
            return;
        }
        let id = event.event_id.to_string();
        let now = time::OffsetDateTime::now_utc().unix_timestamp();
        let secrets = std::slice::from_ref(&self.secret);
        let format = Format::default();
        let (kind, body) = (format.media_type(), format.write(&event).into());
        let message = Message::signed(&id, now, kind, body, secrets);
        let answer = self.client.send(&self.url, message).await;
        let outcome = match answer.delivered() {
            true => format!("{GREEN}{}{GREEN:#}", answer.status.unwrap_or_default()),
            false => format!("{RED}{}{RED:#}", answer.why()),
        };
        let (kind, took) = (&event.event_type, answer.took.as_millis());
        output::line(format_args!(
            "{DIM}{id}{DIM:#}  {CYAN}{kind}{CYAN:#}  {outcome}  {took} ms"
        ));
    }
}

/// The event that the API shows.
fn event(shown: &Value) -> Option<Event> {
    let members = MEMBERS.iter().filter_map(|name| {
        let value = shown.get(*name).filter(|value| !value.is_null())?;
        Some(((*name).to_owned(), value.clone()))
    });
    let members: Map<String, Value> = members.collect();
    let tenant = TenantId::parse(shown["tenant_id"].as_str()?)?;
    let now = domain::timestamp::parse(shown["received_at"].as_str()?)?;
    let cx = domain::Context {
        origin: Origin::Log,
        tenant: &tenant,
        received_at: now,
        now,
        fresh_id: Uuid::nil(),
        default_source: EventSource::Backend,
        default_category: EventCategory::UserAction,
        content_type: None,
        limits: Limits {
            max_event_bytes: usize::MAX,
            ..Limits::default()
        },
    };
    domain::decode(Value::Object(members).to_string().as_bytes(), &cx).ok()
}
