//! The members of a body that is kept as it is: a rule, of which every unknown member is named.

use domain::FieldError;
use domain::field::Code;
use serde_json::{Map, Value};
use service::Problem;

use crate::parameters::Parameters;

/// Numbers beyond it, written out by PostgreSQL, may be more than a double can hold again.
const MAX_NUMBER: f64 = 1e300;

/// The members of a body; an empty one has none.
///
/// # Errors
/// 400 for what is no JSON, 422 for what is no object or cannot be kept and read again.
pub(super) fn members(body: &[u8]) -> Result<Map<String, Value>, Problem> {
    Parameters::from_json(body)?;
    if body.is_empty() {
        return Ok(Map::new());
    }
    let members: Map<String, Value> =
        serde_json::from_slice(body).map_err(|error| Problem::bad_request(error.to_string()))?;
    match members
        .iter()
        .find_map(|(name, value)| too_large(name, value))
    {
        Some(path) => {
            let message = format!("has a number beyond {MAX_NUMBER:e}");
            Err(Problem::unprocessable(&path, Code::OutOfRange, message))
        }
        None => Ok(members),
    }
}

/// The path of a number that is too large.
fn too_large(path: &str, value: &Value) -> Option<String> {
    match value {
        Value::Number(number) => {
            let large = number
                .as_f64()
                .is_none_or(|number| number.abs() > MAX_NUMBER);
            large.then(|| path.to_owned())
        }
        Value::Array(items) => {
            let mut items = items.iter().enumerate();
            items.find_map(|(n, item)| too_large(&format!("{path}[{n}]"), item))
        }
        Value::Object(members) => {
            let mut members = members.iter();
            members.find_map(|(name, member)| too_large(&format!("{path}.{name}"), member))
        }
        _ => None,
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_cannot_be_read_again_are_refused_with_their_path() {
        for (body, path) in [
            (r#"{"a": 1.7976931348623157e308}"#, "a"),
            (r#"{"a": {"b": [1, -1e301]}}"#, "a.b[1]"),
        ] {
            let problem = members(body.as_bytes()).unwrap_err();
            assert!(problem.to_string().contains(path), "{body}: {problem}");
        }
        assert_eq!(members(br#"{"a": [1e300, -5]}"#).unwrap().len(), 1);
        assert!(members(b"").unwrap().is_empty());
    }
}
