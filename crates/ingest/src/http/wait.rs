//! Waiting until events are stored: `Prefer: wait=SECONDS` or `?wait=stored` on the routes of backends.

use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::http::StatusCode;
use actix_web::http::header::HeaderName;
use domain::field::Code;
use service::problem::FieldProblem;
use store::outcomes::Outcome;
use store::write::{ID_CONFLICT, VERSION_CONFLICT};

use super::refusal::Refusal;
use super::route::Route;
use crate::accept::{Refused, Rejected};

/// The header with what a client would rather have (RFC 7240).
pub(crate) const PREFER: HeaderName = HeaderName::from_static("prefer");

/// How long `?wait=stored` waits where `Prefer` says nothing.
const USUAL: Duration = Duration::from_secs(10);
/// The longest wait, whatever was asked for.
const LONGEST: Duration = Duration::from_secs(60);

/// How long the request wants to wait until its events are stored, if at all.
pub(super) fn asked(http: &HttpRequest, route: Route) -> Result<Option<Duration>, Refusal> {
    let refuse = |code, message: &str| Err(Refusal::Content(Refused::field("wait", code, message)));
    let stored = match parameter(http.query_string()) {
        None => false,
        Some("stored") => true,
        Some(_) => return refuse(Code::IllegalValue, "must be \"stored\""),
    };
    let mut seconds = None;
    for value in http.headers().get_all(PREFER) {
        match preference(value.to_str().unwrap_or_default()) {
            None => {}
            Some(Ok(number)) => seconds = Some(number),
            Some(Err(())) => {
                return refuse(Code::BadFormat, "Prefer: wait= needs a number of seconds");
            }
        }
    }
    if route.is_frontend() {
        // Pages do not wait for the database; a preference may be passed over, a parameter not.
        return if stored {
            refuse(Code::IllegalValue, "is for the routes of backends")
        } else {
            Ok(None)
        };
    }
    let preferred = seconds.map(|seconds| Duration::from_secs(seconds).min(LONGEST));
    Ok(preferred.or(stored.then_some(USUAL)))
}

fn parameter(query: &str) -> Option<&str> {
    let mut pairs = query.split('&');
    pairs.find_map(|pair| {
        pair.strip_prefix("wait=")
            .or((pair == "wait").then_some(""))
    })
}

/// The seconds of the preference `wait`; an error if they are no number.
fn preference(value: &str) -> Option<Result<u64, ()>> {
    value.split(',').find_map(|preference| {
        let named = preference.split(';').next()?;
        let (name, seconds) = named.split_once('=').unwrap_or((named, ""));
        let seconds = seconds.trim().trim_matches('"');
        name.trim()
            .eq_ignore_ascii_case("wait")
            .then(|| seconds.parse().map_err(|_| ()))
    })
}

/// The status when that became of the events: 201 if all are stored, 202 if it is not known of all.
/// For a batch come the elements that were left out of it.
///
/// # Errors
/// 409 if one of them conflicts with what is stored, 422 if one could not be stored.
pub(super) fn status(
    left_out: Option<&[Rejected]>,
    outcomes: &[Option<Outcome>],
) -> Result<StatusCode, Refusal> {
    let mut errors = vec![];
    let mut version = None;
    let mut conflicts = false;
    let is_in = |index: &usize| {
        let left_out = left_out.unwrap_or_default();
        left_out.iter().all(|bad| bad.index != *index)
    };
    for (index, outcome) in (0..).filter(is_in).zip(outcomes) {
        let Some(Outcome::Refused {
            reason,
            detail,
            current_version,
            ..
        }) = outcome
        else {
            continue;
        };
        let (field, code) = match reason.as_str() {
            VERSION_CONFLICT => ("expected_version", VERSION_CONFLICT),
            ID_CONFLICT => ("event_id", ID_CONFLICT),
            _ => ("", "not_storable"),
        };
        conflicts |= !field.is_empty();
        if code == VERSION_CONFLICT {
            version = version.or(*current_version);
        }
        let path = match (left_out.is_some(), field) {
            (false, field) => field.to_owned(),
            (true, "") => format!("[{index}]"),
            (true, field) => format!("[{index}].{field}"),
        };
        errors.push(FieldProblem {
            path,
            code,
            message: detail.clone(),
        });
    }
    if errors.is_empty() {
        return Ok(if outcomes.iter().all(Option::is_some) {
            StatusCode::CREATED
        } else {
            StatusCode::ACCEPTED
        });
    }
    Err(Refusal::NotStored {
        conflicts,
        errors,
        version,
    })
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn the_wait_is_read_from_the_query_or_from_what_is_preferred() {
        let seconds = |uri: &str, prefer: &str, route| {
            let request = TestRequest::with_uri(uri).insert_header((PREFER, prefer));
            let wait = asked(&request.to_http_request(), route);
            wait.map(|wait| wait.map(|wait| wait.as_secs()))
                .map_err(|refusal| refusal.reason())
        };
        for (uri, prefer, want) in [
            ("/", "", Ok(None)),
            ("/?wait=stored", "", Ok(Some(10))),
            ("/?a=b&wait=stored", "wait=3", Ok(Some(3))),
            ("/", "respond-async, Wait=\"5\"; x=y", Ok(Some(5))),
            ("/", "wait=100000", Ok(Some(60))),
            ("/", "wait=soon", Err("bad_format")),
            ("/", "return=minimal", Ok(None)),
            ("/?wait=acked", "", Err("illegal_value")),
            ("/?wait", "", Err("illegal_value")),
        ] {
            assert_eq!(seconds(uri, prefer, Route::Create), want, "{uri} {prefer}");
        }
        assert_eq!(seconds("/", "wait=3", Route::Frontend), Ok(None));
        let refused = seconds("/?wait=stored", "", Route::Frontend);
        assert_eq!(refused, Err("illegal_value"));
    }
}
