//! Why a request was not let in, and what it is answered.

use actix_web::http::StatusCode;

use crate::problem::Problem;

/// Why a request was not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// No credentials where some are needed (401).
    Missing,
    /// Credentials that are no good, by a bounded word for the metrics (401).
    Invalid(&'static str),
    /// The keys are not known yet, by a bounded word (503).
    Unknown(&'static str),
    /// Good credentials, and not for this (403).
    Forbidden,
}

impl Refusal {
    /// Bounded word for the metrics.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Invalid(reason) | Self::Unknown(reason) => reason,
            Self::Forbidden => "forbidden",
        }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Missing => Self::unauthorized("Credentials are needed: an API key or a token"),
            Refusal::Invalid("expired") => Self::unauthorized("The credentials have expired"),
            // Not why: that would help to guess.
            Refusal::Invalid(_) => Self::unauthorized("The credentials are not valid"),
            Refusal::Unknown(_) => Self::unavailable(
                "The keys that credentials are checked by are not known yet",
                2,
            ),
            Refusal::Forbidden => Self::forbidden(),
        }
    }
}

impl Problem {
    /// 401, with what is wanted.
    fn unauthorized(detail: &str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, detail)
    }

    /// 403, which does not tell whether what was asked for exists.
    #[must_use]
    pub fn forbidden() -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "These credentials do not permit this",
        )
    }
}
