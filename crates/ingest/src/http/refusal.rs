//! Why a request was not taken, and what it is answered.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use eventlog::PublishError;
use service::Problem;
use service::problem::FieldProblem;

use crate::accept::Refused;
use crate::body::BodyError;
use crate::tenant_rate::Exceeded;

/// The text of S0-61 (C23).
const NOT_AVAILABLE: &str = "Event stream not available";

/// Why a request was not taken.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The log cannot be reached or is full (503); the word is for the metrics.
    Unavailable(&'static str),
    /// A media type that is not taken here (415).
    MediaType(String),
    /// Not 1 to 255 visible ASCII characters (400).
    IdempotencyKey,
    /// The body could not be read.
    Body(BodyError),
    /// The body was read, its content refused.
    Content(Refused),
    /// A signature that is missing or wrong (401).
    Signature,
    /// A user sends events of another (403).
    OtherUser,
    /// The tenant sends more than it may (429).
    TenantRate(Exceeded),
    /// The log does not take records of that size (413).
    RecordTooLarge,
    /// Nothing tells whether events are stored (501).
    NoDatabase,
    /// The log has the events, and some were not stored: they are dead letters.
    NotStored {
        /// Whether they conflict with what is stored (409), or cannot be stored (422).
        conflicts: bool,
        /// Which, and why; never empty.
        errors: Vec<FieldProblem>,
        /// Where the first stream in conflict stands now.
        version: Option<i64>,
    },
}

impl From<BodyError> for Refusal {
    fn from(error: BodyError) -> Self {
        Self::Body(error)
    }
}

impl From<Refused> for Refusal {
    fn from(error: Refused) -> Self {
        Self::Content(error)
    }
}

impl From<PublishError> for Refusal {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::TooLarge => Self::RecordTooLarge,
            PublishError::Full => Self::Unavailable("queue_full"),
            PublishError::Unavailable => Self::Unavailable("unavailable"),
            PublishError::Failed(reason) => {
                tracing::warn!(reason, "the event log refused records");
                Self::Unavailable("refused_by_log")
            }
        }
    }
}

impl Refusal {
    /// Bounded word for the metrics.
    #[must_use]
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Unavailable(reason) => reason,
            Self::MediaType(_) => "unsupported_media_type",
            Self::IdempotencyKey => "idempotency_key",
            Self::Body(error) => error.reason(),
            Self::Content(error) => error.reason(),
            Self::Signature => "signature",
            Self::OtherUser => "other_user",
            Self::TenantRate(Exceeded::Events(_)) => "tenant_rate",
            Self::TenantRate(Exceeded::Bytes(_)) => "tenant_bytes",
            Self::TenantRate(Exceeded::Types(_)) => "tenant_types",
            Self::RecordTooLarge => "too_large",
            Self::NoDatabase => "no_database",
            Self::NotStored { errors, .. } => errors.first().map_or("not_stored", |e| e.code),
        }
    }

    /// How many events were refused, as far as they were counted.
    #[must_use]
    pub(crate) fn events(&self) -> usize {
        match self {
            Self::Content(error) => error.events(),
            Self::NotStored { errors, .. } => errors.len(),
            _ => 1,
        }
    }

    /// The answer.
    #[must_use]
    pub(crate) fn respond(self, retry_after: u32) -> HttpResponse {
        let problem = match self {
            Self::Unavailable(_) => Problem::unavailable(NOT_AVAILABLE, retry_after),
            Self::MediaType(given) => Problem::unsupported_media_type(format!(
                "Content-Type {given:?} is not supported; use application/json"
            )),
            Self::IdempotencyKey => {
                Problem::bad_request("Idempotency-Key must be 1 to 255 visible ASCII characters")
            }
            Self::Signature => Problem::new(StatusCode::UNAUTHORIZED, "Invalid signature"),
            Self::OtherUser => Problem::forbidden(),
            Self::TenantRate(Exceeded::Events(seconds)) => Problem::too_many(
                "The tenant sends more events than it may in a second",
                seconds,
            ),
            Self::TenantRate(Exceeded::Bytes(seconds)) => Problem::too_many(
                "The tenant has sent as many bytes as it may on one day",
                seconds,
            ),
            Self::TenantRate(Exceeded::Types(seconds)) => Problem::too_many(
                "The tenant has sent as many types of events as it may on one day",
                seconds,
            ),
            Self::RecordTooLarge => Problem::too_large("an event is too large for the event log"),
            Self::NoDatabase => Problem::new(
                StatusCode::NOT_IMPLEMENTED,
                "this gateway cannot tell when events are stored: set DATABASE_URL, or ask for them \
                 by their ids",
            ),
            Self::NotStored {
                conflicts,
                errors,
                version,
            } => Problem::not_stored(conflicts, errors, version),
            Self::Body(error) => body(&error, retry_after),
            Self::Content(Refused::Syntax(detail)) => Problem::bad_request(detail),
            Self::Content(Refused::TooLarge(detail)) => Problem::too_large(detail),
            Self::Content(Refused::Fields(errors)) => Problem::fields(errors),
            // Whatever is wrong with the elements of a batch (C29).
            Self::Content(Refused::Elements { errors, .. }) => {
                Problem::fields(errors).with_status(StatusCode::UNPROCESSABLE_ENTITY)
            }
        };
        problem.respond()
    }
}

fn body(error: &BodyError, retry_after: u32) -> Problem {
    let detail = error.to_string();
    match error {
        BodyError::TooLarge { .. } => Problem::too_large(detail),
        BodyError::UnknownEncoding(_) => Problem::unsupported_media_type(detail),
        BodyError::Corrupt(_) | BodyError::Broken(_) => Problem::bad_request(detail),
        BodyError::TooSlow(_) => Problem::timeout(detail),
        BodyError::Overloaded(_) => Problem::unavailable(detail, retry_after),
    }
}
