//! The members of a body that is kept as it is: a rule, of which every unknown member is named.

use domain::FieldError;
use domain::field::Code;
use serde_json::{Map, Value};
use service::Problem;

use crate::parameters::Parameters;

/// The members of a body; an empty one has none.
///
/// # Errors
/// 400 for what is no JSON, 422 for what is no object or cannot be kept.
pub(super) fn members(body: &[u8]) -> Result<Map<String, Value>, Problem> {
    Parameters::from_json(body)?;
    if body.is_empty() {
        return Ok(Map::new());
    }
    serde_json::from_slice(body).map_err(|error| Problem::bad_request(error.to_string()))
}

/// Refuses members of other names than these.
pub(super) fn unknown(members: &Map<String, Value>, known: &[&str], errors: &mut Vec<FieldError>) {
    for name in members
        .keys()
        .filter(|name| !known.contains(&name.as_str()))
    {
        errors.push(FieldError::new(name, Code::IllegalValue, "is not known"));
    }
}

/// `enabled`, true by default.
pub(super) fn enabled(members: &Map<String, Value>, errors: &mut Vec<FieldError>) -> bool {
    match members.get("enabled") {
        None | Some(Value::Null) => true,
        Some(value) => value.as_bool().unwrap_or_else(|| {
            let message = "must be true or false";
            errors.push(FieldError::new("enabled", Code::WrongType, message));
            true
        }),
    }
}
