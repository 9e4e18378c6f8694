//! From the bytes of a body to events, or to what is wrong with them. Pure: the clock, the ids and
//! the client's address come in through [`Intake`].

use std::collections::HashMap;

use domain::envelope::{self, Origin};
use domain::field::Code;
use domain::json::{self, Members};
use domain::personal::PersonalData;
use domain::{
    Context, DecodeError, Event, EventCategory, EventSource, FieldError, Json, Limits, TenantId, id,
};
use serde::de::IgnoredAny;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::client_info::{self, ClientInfo};

/// What is known of a request beside its body.
#[derive(Debug, Clone, Copy)]
pub struct Intake<'a> {
    /// Whose events these are.
    pub tenant: &'a TenantId,
    /// When the request came.
    pub received_at: OffsetDateTime,
    /// What one event may be.
    pub limits: Limits,
    /// What is done with personal data.
    pub personal: &'a PersonalData,
    /// How many events a batch may hold.
    pub max_batch_events: usize,
    /// Present on the frontend routes: who sent it (S0-35).
    pub client: Option<&'a ClientInfo>,
    /// The declared media type.
    pub content_type: Option<&'a str>,
    /// The route's label and the `Idempotency-Key`: from these and their content events without an
    /// id of their own get theirs (C28).
    pub idempotency: Option<(&'static str, &'a str)>,
    /// Makes an id for an event that has none.
    pub fresh_id: fn() -> Uuid,
    /// The route for the other shape of body, to be named in a hint.
    pub sibling: &'static str,
}

/// An event and its canonical form, both within the limits.
#[derive(Debug)]
pub struct Accepted {
    /// The event.
    pub event: Event,
    /// What goes on the log.
    pub canonical: Vec<u8>,
}

/// An element of a batch that was left out.
#[derive(Debug)]
pub struct Rejected {
    /// Its index in the batch.
    pub index: usize,
    /// What is wrong, with paths that begin with the index; never empty.
    pub errors: Vec<FieldError>,
    /// Bounded word for the metrics.
    pub reason: &'static str,
}

/// A batch that was read: every element is in one of the two lists, in the order of the request.
#[derive(Debug, Default)]
pub struct Batch {
    /// The good ones; never empty.
    pub accepted: Vec<Accepted>,
    /// The bad ones; empty unless they may be left out.
    pub rejected: Vec<Rejected>,
}

/// Why a body was refused whole.
#[derive(Debug, PartialEq, Eq)]
pub enum Refused {
    /// Not UTF-8 or not JSON (400).
    Syntax(String),
    /// Too many bytes or too many events (413).
    TooLarge(String),
    /// Fields of a single event, or of the body around a batch (400 or 422, C25).
    Fields(Vec<FieldError>),
    /// Elements of a batch (422, C29), with the number of events in it.
    Elements {
        /// What is wrong, with paths that begin with the index.
        errors: Vec<FieldError>,
        /// Bounded word for the metrics: that of the first bad element.
        reason: &'static str,
        /// How many events the batch had.
        events: usize,
    },
}

impl Refused {
    /// Bounded word for the metrics.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Syntax(_) => "invalid_json",
            Self::TooLarge(_) => "too_large",
            Self::Fields(errors) => errors.first().map_or("invalid", |e| e.code.as_str()),
            Self::Elements { reason, .. } => reason,
        }
    }

    /// How many events were refused; a body that could not be read counts as one.
    #[must_use]
    pub fn events(&self) -> usize {
        match self {
            Self::Elements { events, .. } => *events,
            _ => 1,
        }
    }

    pub(crate) fn field(path: &str, code: Code, message: impl Into<String>) -> Self {
        Self::Fields(vec![FieldError::new(path, code, message)])
    }
}

impl From<DecodeError> for Refused {
    fn from(error: DecodeError) -> Self {
        match error {
            DecodeError::TooLarge { .. } => Self::TooLarge(error.to_string()),
            DecodeError::Syntax(message) => Self::Syntax(message),
            DecodeError::Fields(errors) => Self::Fields(errors),
        }
    }
}

/// Reads one event.
///
/// # Errors
/// See [`Refused`]; an array gets a hint to the batch route.
pub fn one(body: &[u8], intake: &Intake<'_>) -> Result<Accepted, Refused> {
    let text = text(body)?;
    let info = intake.client.map(ClientInfo::to_json);
    match element(text, intake, info.as_ref(), &mut HashMap::new()) {
        Ok(accepted) => Ok(accepted),
        // Checked only after the failure, so that a good event does not pay for it.
        Err(_) if text.trim_start().starts_with('[') => Err(syntax_or(
            text,
            "",
            format!("must be one event; send an array to {}", intake.sibling),
        )),
        Err(error) => Err(error.into()),
    }
}

/// Reads a batch: a bare array (S0-27). Unless `partial`, one bad element refuses all (C29).
///
/// # Errors
/// See [`Refused`]; with `partial` only if no element is good.
pub fn many(body: &[u8], intake: &Intake<'_>, partial: bool) -> Result<Batch, Refused> {
    let text = text(body)?;
    if !text.trim_start().starts_with('[') {
        return Err(syntax_or(
            text,
            "",
            format!(
                "must be an array of events; send one event to {}",
                intake.sibling
            ),
        ));
    }
    array(text, "", intake, None, partial)
}

/// Reads the batch form of the frontend (S0-22): `{events: [...], client_info: {...}}`.
///
/// # Errors
/// As [`many`].
pub fn frontend_many(body: &[u8], intake: &Intake<'_>, partial: bool) -> Result<Batch, Refused> {
    let text = text(body)?;
    let Some(members) = Members::split(text) else {
        return Err(syntax_or(
            text,
            "",
            format!(
                "must be {{\"events\": [...], \"client_info\": {{...}}}}; send one event to {}",
                intake.sibling
            ),
        ));
    };
    let Some(events) = members.get("events") else {
        return Err(Refused::field("events", Code::Missing, "is required"));
    };
    let server = intake.client.cloned().unwrap_or_default();
    let info = match members.get("client_info") {
        None => server.to_json(),
        Some(raw) => client_info::merged(&server, raw.get(), intake.limits.max_json_depth)
            .map_err(|error| Refused::Fields(vec![error.under("client_info")]))?,
    };
    if !events.get().starts_with('[') {
        return Err(Refused::field(
            "events",
            Code::WrongType,
            "must be an array of events",
        ));
    }
    array(events.get(), "events", intake, Some(&info), partial)
}

/// The text of a body.
pub(crate) fn text(body: &[u8]) -> Result<&str, Refused> {
    // A byte order mark is no part of the text (RFC 8259, section 8.1).
    let body = body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body);
    std::str::from_utf8(body)
        .map_err(|error| Refused::Syntax(format!("invalid UTF-8 at byte {}", error.valid_up_to())))
}

/// A syntax error if the text is no JSON; otherwise the hint about its shape.
pub(crate) fn syntax_or(text: &str, path: &str, hint: String) -> Refused {
    match well_formed(text) {
        Ok(()) => Refused::field(path, Code::WrongType, hint),
        Err(error) => error,
    }
}

/// A syntax error if the text is no JSON.
fn well_formed(text: &str) -> Result<(), Refused> {
    let read: Result<IgnoredAny, _> = serde_json::from_str(text);
    read.map(drop)
        .map_err(|error| Refused::Syntax(format!("invalid JSON: {error}")))
}

/// Reads an array of events; unless `partial`, one bad element refuses all (C29).
pub(crate) fn array(
    text: &str,
    path: &str,
    intake: &Intake<'_>,
    info: Option<&Json>,
    partial: bool,
) -> Result<Batch, Refused> {
    let elements = split(text, path, intake)?;
    let read = elements_of(&elements, path, intake, info, partial);
    // Whether a bad one is a bad event or no JSON is asked after the failure, too.
    if !matches!(&read, Ok(batch) if batch.rejected.is_empty()) {
        well_formed(text)?;
    }
    read
}

/// The elements of an array as texts, at most as many as a batch may hold; they may be no JSON.
pub(crate) fn split<'a>(
    text: &'a str,
    path: &str,
    intake: &Intake<'_>,
) -> Result<Vec<&'a str>, Refused> {
    let limit = intake.max_batch_events;
    let (elements, count) = json::elements(text, limit).unwrap_or_default();
    if elements.is_empty() || count > limit {
        well_formed(text)?;
    }
    if count > limit {
        return Err(Refused::TooLarge(format!(
            "the batch has {count} events, more than the limit of {limit}"
        )));
    }
    if elements.is_empty() {
        return Err(Refused::field(
            path,
            Code::OutOfRange,
            "must hold at least one event",
        ));
    }
    Ok(elements)
}

/// Reads each of them; unless `partial`, one bad element refuses all (C29).
pub(crate) fn elements_of(
    elements: &[impl AsRef<str>],
    path: &str,
    intake: &Intake<'_>,
    info: Option<&Json>,
    partial: bool,
) -> Result<Batch, Refused> {
    let mut batch = Batch {
        accepted: Vec::with_capacity(elements.len()),
        rejected: Vec::new(),
    };
    let mut too_large = 0;
    let mut equals = HashMap::new();
    for (index, text) in elements.iter().enumerate() {
        match element(text.as_ref(), intake, info, &mut equals) {
            Ok(accepted) => batch.accepted.push(accepted),
            Err(error) => {
                too_large += usize::from(matches!(error, DecodeError::TooLarge { .. }));
                batch
                    .rejected
                    .push(rejected(error, index, &format!("{path}[{index}]")));
            }
        }
    }
    if batch.rejected.is_empty() || (partial && !batch.accepted.is_empty()) {
        return Ok(batch);
    }
    let reason = batch.rejected.first().map_or("invalid", |bad| bad.reason);
    let count = batch.rejected.len();
    let errors: Vec<_> = batch
        .rejected
        .into_iter()
        .flat_map(|bad| bad.errors)
        .collect();
    if too_large == count {
        let detail: Vec<_> = errors.iter().take(3).map(ToString::to_string).collect();
        return Err(Refused::TooLarge(detail.join("; ")));
    }
    Err(Refused::Elements {
        errors,
        reason,
        events: elements.len(),
    })
}

fn rejected(error: DecodeError, index: usize, prefix: &str) -> Rejected {
    let reason = error.reason();
    let errors = match error {
        DecodeError::Fields(errors) => errors,
        // The array was read as JSON before: this is what only the domain's scan refuses.
        DecodeError::Syntax(message) => vec![FieldError::new("", Code::BadFormat, message)],
        DecodeError::TooLarge { .. } => {
            vec![FieldError::new("", Code::OutOfRange, error.to_string())]
        }
    };
    Rejected {
        index,
        errors: errors.into_iter().map(|e| e.under(prefix)).collect(),
        reason,
    }
}

/// Reads one event. `equals` counts the events of the request by their content.
fn element(
    text: &str,
    intake: &Intake<'_>,
    info: Option<&Json>,
    equals: &mut HashMap<i64, u32>,
) -> Result<Accepted, DecodeError> {
    let (origin, default_source) = match intake.client {
        Some(_) => (Origin::Frontend, EventSource::Frontend),
        None => (Origin::Http, EventSource::Backend),
    };
    let mut event = envelope::decode_text(
        text,
        &Context {
            origin,
            tenant: intake.tenant,
            received_at: intake.received_at,
            now: intake.received_at,
            // Known from an event with an id of its own, which never is nil.
            fresh_id: Uuid::nil(),
            default_source,
            default_category: EventCategory::UserAction,
            content_type: intake.content_type,
            limits: intake.limits,
        },
    )?;
    if event.event_id.is_nil() {
        event.event_id = match intake.idempotency {
            Some(request) => {
                let content = event.content_hash();
                let nth = equals.entry(content).or_default();
                *nth += 1;
                id::from_idempotency_key(intake.tenant, request, content, *nth)
            }
            None => (intake.fresh_id)(),
        };
    }
    if let Some(info) = info.filter(|info| !info.is_empty()) {
        event.context = event.context.with("client_info", info);
    }
    intake.personal.apply(&mut event);
    let canonical = event.to_canonical();
    // The processor applies the same limit to the records of the log.
    let (bytes, limit) = (canonical.len(), intake.limits.max_event_bytes);
    if bytes > limit {
        return Err(DecodeError::TooLarge { bytes, limit });
    }
    Ok(Accepted { event, canonical })
}

#[cfg(test)]
mod tests;
