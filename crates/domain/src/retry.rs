//! When what failed is tried again (C22).

use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::field::{Code, FieldError};
use crate::json::whole;

/// Most retries, and most pauses of a list.
pub const MAX_RETRIES: u32 = 20;
/// Longest pause, in seconds.
pub const MAX_BACKOFF_SECONDS: u64 = 24 * 3_600;
/// How much of a pause the jitter adds at most.
const JITTER: f64 = 0.2;

/// How often and when: `{"max_retries": 3, "backoff_seconds": [1, 5, 30]}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RetryPolicy {
    /// Attempts after the first one.
    pub max_retries: u32,
    /// The pause before each retry, in seconds; the last one holds for all that follow.
    pub backoff_seconds: Vec<u64>,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            max_retries: 3,
            backoff_seconds: vec![1, 5, 30],
        }
    }
}

impl RetryPolicy {
    /// Reads the field `name`, an object; absent parts are those of the default. What is wrong is
    /// appended to `errors`.
    pub fn read(members: &Map<String, Value>, name: &str, errors: &mut Vec<FieldError>) -> Self {
        let default = Self::default();
        let source = match members.get(name) {
            None | Some(Value::Null) => return default,
            Some(Value::Object(source)) => source,
            Some(_) => {
                errors.push(FieldError::new(name, Code::WrongType, "must be an object"));
                return default;
            }
        };
        let path = |field: &str| format!("{name}.{field}");
        for field in source.keys() {
            if !["max_retries", "backoff_seconds"].contains(&field.as_str()) {
                errors.push(FieldError::new(
                    path(field),
                    Code::IllegalValue,
                    "is not known",
                ));
            }
        }
        let max_retries = source.get("max_retries").map(|value| {
            let number = whole(value);
            number.filter(|number| *number <= MAX_RETRIES)
        });
        if max_retries == Some(None) {
            let message = format!("must be an integer of 0 to {MAX_RETRIES}");
            errors.push(FieldError::new(
                path("max_retries"),
                Code::OutOfRange,
                message,
            ));
        }
        let backoff_seconds = source.get("backoff_seconds").map(|value| {
            let pauses = value
                .as_array()
                .filter(|list| (1..=MAX_RETRIES as usize).contains(&list.len()));
            let second = |value: &Value| whole(value).filter(|s| *s <= MAX_BACKOFF_SECONDS);
            pauses.and_then(|list| list.iter().map(second).collect::<Option<Vec<u64>>>())
        });
        if backoff_seconds == Some(None) {
            let message = format!(
                "must be a list of 1 to {MAX_RETRIES} integers of 0 to {MAX_BACKOFF_SECONDS}"
            );
            errors.push(FieldError::new(
                path("backoff_seconds"),
                Code::OutOfRange,
                message,
            ));
        }
        Self {
            max_retries: max_retries.flatten().unwrap_or(default.max_retries),
            backoff_seconds: backoff_seconds.flatten().unwrap_or(default.backoff_seconds),
        }
    }

    /// The pause after so many attempts (1 is the first), or `None` if there is no further one.
    /// `jitter`, of 0 to 1, lengthens it by up to a fifth, so that what failed together does not come
    /// back together.
    #[must_use]
    pub fn pause(&self, attempts: u32, jitter: f64) -> Option<Duration> {
        if attempts > self.max_retries {
            return None;
        }
        let at = (attempts as usize).saturating_sub(1);
        let seconds = self.backoff_seconds.get(at).or(self.backoff_seconds.last());
        let pause = Duration::from_secs(seconds.copied().unwrap_or(0));
        Some(pause.mul_f64(1.0 + JITTER * jitter.clamp(0.0, 1.0)))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(value: Value) -> Result<RetryPolicy, Vec<String>> {
        let mut errors = vec![];
        let members = Map::from_iter([("retry".to_owned(), value)]);
        let policy = RetryPolicy::read(&members, "retry", &mut errors);
        if errors.is_empty() {
            Ok(policy)
        } else {
            Err(errors.iter().map(|error| error.path.clone()).collect())
        }
    }

    #[test]
    fn the_pauses_are_those_of_the_list_and_end_with_the_retries() {
        let policy = RetryPolicy {
            max_retries: 4,
            ..RetryPolicy::default()
        };
        let pauses: Vec<_> = (1..=5).map(|n| policy.pause(n, 0.0)).collect();
        let seconds = |n| Some(Duration::from_secs(n));
        assert_eq!(
            pauses,
            [seconds(1), seconds(5), seconds(30), seconds(30), None]
        );
        assert_eq!(policy.pause(2, 1.0), seconds(6));
        assert_eq!(policy.pause(2, 9.0), seconds(6));
        let none = RetryPolicy {
            max_retries: 0,
            backoff_seconds: vec![],
        };
        assert_eq!(none.pause(1, 0.5), None);
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(read(json!({})), Ok(RetryPolicy::default()));
        assert_eq!(read(Value::Null), Ok(RetryPolicy::default()));
        let policy = read(json!({"max_retries": 0, "backoff_seconds": [0]})).unwrap();
        assert_eq!((policy.max_retries, policy.backoff_seconds), (0, vec![0]));
        for (wrong, path) in [
            (json!(3), "retry"),
            (json!({"max_retries": 21}), "retry.max_retries"),
            (json!({"max_retries": -1}), "retry.max_retries"),
            (json!({"max_retries": "3"}), "retry.max_retries"),
            (json!({"backoff_seconds": []}), "retry.backoff_seconds"),
            (json!({"backoff_seconds": [1.5]}), "retry.backoff_seconds"),
            (
                json!({"backoff_seconds": [86_401]}),
                "retry.backoff_seconds",
            ),
            (json!({"backoff_seconds": 5}), "retry.backoff_seconds"),
            (json!({"retries": 5}), "retry.retries"),
        ] {
            assert_eq!(read(wrong.clone()), Err(vec![path.to_owned()]), "{wrong}");
        }
    }
}
