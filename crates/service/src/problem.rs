//! The mapping from errors to HTTP: `application/problem+json` (RFC 9457) with the `detail` of
//! the specification (S4-130).

use std::fmt;

use actix_web::http::StatusCode;
use actix_web::http::header::{ALLOW, RETRY_AFTER};
use actix_web::{HttpRequest, HttpResponse, ResponseError};
use domain::field::Code;
use domain::{DecodeError, FieldError};
use serde::Serialize;
use utoipa::ToSchema;

/// An error answer.
#[derive(Debug, Clone)]
pub struct Problem {
    status: StatusCode,
    detail: String,
    errors: Vec<FieldProblem>,
    retry_after: Option<u32>,
    allow: Option<String>,
    current_version: Option<i64>,
}

/// One refused field in an answer.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct FieldProblem {
    /// The path of the field, in a batch with the index; empty for the whole body.
    #[schema(example = "[3].user_id")]
    pub path: String,
    /// A stable code.
    #[schema(example = "wrong_type")]
    pub code: &'static str,
    /// The reason in words.
    pub message: String,
}

impl From<FieldError> for FieldProblem {
    fn from(error: FieldError) -> Self {
        Self {
            path: error.path,
            code: error.code.as_str(),
            message: error.message,
        }
    }
}

/// The body of an error answer (RFC 9457).
#[derive(Debug, Serialize, ToSchema)]
pub struct ProblemBody<'a> {
    /// `about:blank`
    pub r#type: &'static str,
    /// The status in words.
    pub title: &'a str,
    /// The status.
    pub status: u16,
    /// What went wrong.
    pub detail: &'a str,
    /// The refused fields, if it is about fields.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub errors: &'a [FieldProblem],
    /// The version of the stream that was expected to have another.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub current_version: Option<i64>,
}

impl Problem {
    /// A problem with this status and detail.
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self {
            status,
            detail: detail.into(),
            errors: vec![],
            retry_after: None,
            allow: None,
            current_version: None,
        }
    }

    /// Events that the log has and that were not stored: 409 if one conflicts with what is stored (its
    /// stream is at `current_version`), else 422.
    #[must_use]
    pub fn not_stored(
        conflicts: bool,
        errors: Vec<FieldProblem>,
        current_version: Option<i64>,
    ) -> Self {
        let status = if conflicts {
            StatusCode::CONFLICT
        } else {
            StatusCode::UNPROCESSABLE_ENTITY
        };
        let detail = errors.first().map_or("", |error| &error.message).to_owned();
        Self {
            errors,
            current_version,
            ..Self::new(status, detail)
        }
    }

    /// 400: not readable, or a value outside its set (C25).
    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    /// 404.
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, detail)
    }

    /// 408: the body came too slowly.
    pub fn timeout(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, detail)
    }

    /// 413.
    pub fn too_large(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
    }

    /// 415.
    pub fn unsupported_media_type(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail)
    }

    /// 422 about one field.
    pub fn unprocessable(path: &str, code: Code, message: impl Into<String>) -> Self {
        Self::fields(vec![FieldError::new(path, code, message)])
    }

    /// 400 if one of the fields has a value outside its set, else 422 (C25). The detail names the
    /// first ones.
    #[must_use]
    pub fn fields(errors: Vec<FieldError>) -> Self {
        let illegal = errors.iter().any(|error| error.code == Code::IllegalValue);
        let status = if illegal {
            StatusCode::BAD_REQUEST
        } else {
            StatusCode::UNPROCESSABLE_ENTITY
        };
        let shown: Vec<String> = errors.iter().take(3).map(ToString::to_string).collect();
        let more = match errors.len().saturating_sub(3) {
            0 => String::new(),
            more => format!("; and {more} more"),
        };
        Self {
            errors: errors.into_iter().map(Into::into).collect(),
            ..Self::new(status, format!("{}{more}", shown.join("; ")))
        }
    }

    /// 422 about these fields, whatever is wrong with them.
    #[must_use]
    pub fn unprocessables(errors: Vec<FieldError>) -> Self {
        Self::fields(errors).with_status(StatusCode::UNPROCESSABLE_ENTITY)
    }

    /// 429 with Retry-After: more than the client may have at once.
    pub fn too_many(detail: impl Into<String>, retry_after_seconds: u32) -> Self {
        Self {
            retry_after: Some(retry_after_seconds),
            ..Self::new(StatusCode::TOO_MANY_REQUESTS, detail)
        }
    }

    /// 503 with Retry-After: a dependency is down (C23).
    pub fn unavailable(detail: impl Into<String>, retry_after_seconds: u32) -> Self {
        Self {
            retry_after: Some(retry_after_seconds),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, detail)
        }
    }

    /// 500: logs the error, and answers without it (C27).
    pub fn internal(error: &dyn fmt::Display) -> Self {
        let id = uuid::Uuid::now_v7();
        tracing::error!(error_id = %id, "Unhandled exception: {error}");
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("Internal server error: see the log for {id}"),
        )
    }

    /// 405 with the methods that are allowed.
    #[must_use]
    pub fn method_not_allowed(allow: &str) -> Self {
        Self {
            allow: Some(allow.to_owned()),
            ..Self::new(
                StatusCode::METHOD_NOT_ALLOWED,
                format!("Method not allowed; use {allow}"),
            )
        }
    }

    /// The same problem with another status.
    #[must_use]
    pub fn with_status(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }

    /// The status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The detail.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// The response.
    #[must_use]
    pub fn respond(&self) -> HttpResponse {
        let mut answer = HttpResponse::build(self.status);
        if let Some(seconds) = self.retry_after {
            answer.insert_header((RETRY_AFTER, seconds.to_string()));
        }
        if let Some(allow) = &self.allow {
            answer.insert_header((ALLOW, allow.as_str()));
        }
        let body = ProblemBody {
            r#type: "about:blank",
            title: self.status.canonical_reason().unwrap_or("Error"),
            status: self.status.as_u16(),
            detail: &self.detail,
            errors: &self.errors,
            current_version: self.current_version,
        };
        answer
            .content_type("application/problem+json")
            .body(serde_json::to_vec(&body).unwrap_or_default())
    }
}

impl From<DecodeError> for Problem {
    fn from(error: DecodeError) -> Self {
        match error {
            DecodeError::Syntax(message) => Self::bad_request(message),
            DecodeError::TooLarge { .. } => Self::too_large(error.to_string()),
            DecodeError::Fields(errors) => Self::fields(errors),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.status, self.detail)
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        self.status
    }

    fn error_response(&self) -> HttpResponse {
        self.respond()
    }
}

/// The default service: 404 as JSON.
pub async fn not_found(request: HttpRequest) -> HttpResponse {
    Problem::not_found(format!(
        "No such route: {} {}",
        request.method(),
        request.path()
    ))
    .respond()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_illegal_value_makes_the_status_400() {
        let wrong = FieldError::new("a", Code::WrongType, "must be a string");
        let illegal = FieldError::new("b", Code::IllegalValue, "must be x");
        assert_eq!(Problem::fields(vec![wrong.clone()]).status().as_u16(), 422);
        let both = Problem::fields(vec![wrong, illegal]);
        assert_eq!(both.status().as_u16(), 400);
        assert_eq!(both.detail(), "a: must be a string; b: must be x");
    }

    #[test]
    fn an_internal_error_is_not_in_the_answer() {
        let problem = Problem::internal(&"password=s3cret");
        assert!(!problem.detail().contains("s3cret"));
        assert!(problem.detail().starts_with("Internal server error: "));
    }
}
