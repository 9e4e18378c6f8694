//! What is happening, as it happens: one stream for a console.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use actix_web::http::Method;
use actix_web::{HttpRequest, HttpResponse, rt, web};
use bytes::Bytes;
use domain::access::Scope;
use live::{Channel, Resume};
use serde::Serialize;
use service::auth::{Authenticator, Principal};
use service::health::Health;
use service::{Problem, clock};
use store::figures;
use tokio::sync::mpsc::{self, Sender};
use tokio::time::{Instant, sleep};

use super::moment::{Moment, Rates};
use super::pieces::Pieces;
use super::tail::Tail;
use crate::http::request::tenant;
use crate::http::sse;
use crate::parameters::Parameters;
use crate::state::State;

/// Where it is served: beside the live streams, as proxies treat all below alike.
pub const PATH: &str = "/api/v1/sse/console";

/// Between two moments.
const PACE: Duration = Duration::from_secs(1);

/// A look at the database is followed by so many times its own duration of rest, so that consoles on a
/// slow database do not slow it more.
const REST: u32 = 9;

/// The seconds that are shown when a console begins.
const HISTORY_SECONDS: f64 = 300.0;

/// What happens, as server-sent events: `hello` (who is asking), `history` (events stored a second,
/// before), then each second `moment` (figures, and the state of the parts), and with `tail=true` each
/// stored event that fits (`stored`), at most 50 a second (`sample` says when there were more).
///
/// # Errors
/// 422 for wrong parameters, 429 when too many listen.
#[utoipa::path(get, path = "/api/v1/sse/console", tag = "live",
    params(("tail" = Option<bool>, Query, description = "true: stored events too; default false"),
        ("types" = Option<String>, Query, description = "of these types; patterns separated by commas"),
        ("user_id" = Option<String>, Query, description = "of this user"),
        ("source" = Option<String>, Query, description = "of this source"),
        ("text" = Option<String>, Query, description = "with this text in type, data, ids; whatever its case")),
    responses((status = 200, content_type = "text/event-stream", body = Moment,
            description = "A stream that does not end, of Moment and StoredShort"),
        (status = 422, description = "A wrong parameter"),
        (status = 429, description = "Too many connections")))]
pub async fn stream(
    request: HttpRequest,
    state: web::Data<State>,
    health: web::Data<Health>,
) -> Result<HttpResponse, Problem> {
    let mut parameters = Parameters::from_query(request.query_string())?;
    let tail = Tail::read(&mut parameters, tenant(&request));
    parameters.finish()?;
    let mut answer = sse::answer();
    if request.method() == Method::HEAD {
        return Ok(answer.finish());
    }
    let who = Principal::of(&request);
    // No user has that name, so consoles are limited apart from the users' own streams.
    let channel = Channel::new(who.tenant.clone(), "");
    let own = Authenticator::limits_of(&request).connections;
    let Some(permit) = state.listeners.admit(&channel, Resume::Live, own)? else {
        return Ok(answer.body(sse::stream::retry()));
    };
    let mut permit = permit.within(who.life.as_ref());
    let (sender, receiver) = mpsc::channel(1);
    let console = Console {
        state: state.get_ref().clone(),
        health: health.get_ref().clone(),
        who,
        tail,
        sender: sender.clone(),
    };
    rt::spawn(async move {
        tokio::select! {
            _ = console.run() => {}
            () = poll_fn(|cx| permit.poll_ending(cx)) => {}
            () = sender.closed() => {}
        }
    });
    Ok(answer.body(Pieces(receiver)))
}

/// Who is asking: `event: hello`.
#[derive(Serialize)]
struct Hello<'a> {
    tenant: &'a str,
    user_id: Option<&'a str>,
    scopes: Vec<&'static str>,
    is_operator: bool,
}

/// The client is gone.
struct Gone;

struct Console {
    state: State,
    health: Health,
    who: Arc<Principal>,
    tail: Option<Tail>,
    sender: Sender<Bytes>,
}

impl Console {
    /// Tells what happens until the client is gone.
    async fn run(mut self) -> Result<(), Gone> {
        let scopes = [Scope::Write, Scope::Read, Scope::Replay, Scope::Admin];
        let may = |scope: &Scope| self.who.scopes.permits(*scope);
        let hello = Hello {
            tenant: self.who.tenant.as_str(),
            user_id: self.who.user.as_deref(),
            scopes: scopes.into_iter().filter(may).map(Scope::as_str).collect(),
            is_operator: self.who.is_operator(),
        };
        self.send(message("hello", &hello)).await?;
        let history = self.state.brief("history", async |client| {
            figures::history(client, &self.who.tenant, HISTORY_SECONDS).await
        });
        // Where it cannot be had in time, the curve begins now.
        if let Ok(history) = history.await {
            self.send(message("history", &history)).await?;
        }
        let mut rates = Rates::default();
        loop {
            let began = Instant::now();
            let mut text = self.moment(&mut rates).await;
            text.push_str(&self.stored().await);
            self.send(text).await?;
            sleep(PACE.max(began.elapsed() * REST)).await;
        }
    }

    async fn moment(&self, rates: &mut Rates) -> String {
        let read = self.state.read("figures", async |client| {
            figures::read(client, &self.who.tenant).await
        });
        let figures = if self.state.has_database() {
            read.await.ok()
        } else {
            None
        };
        let moment = Moment {
            at: clock::now(),
            checks: self.health.report().1,
            figures: figures.map(|figures| rates.figures(figures)),
            live: self.who.is_operator().then(|| rates.live(&self.state)),
        };
        message("moment", &moment)
    }

    /// The stored events that were not told yet.
    async fn stored(&mut self) -> String {
        let Some(tail) = self.tail.as_mut().filter(|_| self.state.has_database()) else {
            return String::new();
        };
        let Ok(look) = tail.look(&self.state).await else {
            return String::new();
        };
        let mut text: String = look
            .events
            .iter()
            .map(|event| message("stored", event))
            .collect();
        if look.is_sample {
            text.push_str(&message("sample", &look.events.len()));
        }
        text
    }

    async fn send(&self, text: String) -> Result<(), Gone> {
        let sent = self.sender.send(Bytes::from(text)).await;
        sent.map_err(|_| Gone)
    }
}

/// One message. JSON has no line breaks of its own.
fn message(name: &str, data: &impl Serialize) -> String {
    let data = serde_json::to_string(data).unwrap_or_default();
    format!("event: {name}\ndata: {data}\n\n")
}
