//! What is wrong with a record, and where in its bytes.

use domain::envelope::Origin;
use domain::json::{ScanError, scan};
use domain::{Context, DecodeError, EventCategory, EventSource, Limits, TenantId};
use serde::Serialize;
use serde_json::Value;
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

/// Bytes shown on either side of a place.
const AROUND: usize = 60;

/// A fault of a record, as it is read today.
#[derive(Debug, Serialize, ToSchema)]
pub struct Fault {
    /// The field; empty for the whole record.
    pub path: String,
    /// A stable word.
    pub code: String,
    /// A sentence.
    pub message: String,
    /// Where the record ceases to be readable, in bytes from its beginning.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<usize>,
    /// What stands right before that place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// What stands from that place on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// What the field holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub value: Option<Value>,
}

/// What is wrong with these bytes; nothing if they are an event.
#[must_use]
pub fn of(bytes: &[u8], content_type: Option<&str>) -> Vec<Fault> {
    let now = service::clock::now();
    let cx = Context {
        origin: Origin::Log,
        tenant: &TenantId::default(),
        received_at: now.max(OffsetDateTime::UNIX_EPOCH),
        now,
        fresh_id: Uuid::nil(),
        default_source: EventSource::Backend,
        default_category: EventCategory::UserAction,
        content_type,
        limits: Limits {
            // What is too large is said in its detail.
            max_event_bytes: usize::MAX,
            ..Limits::default()
        },
    };
    let Err(error) = domain::decode(bytes, &cx) else {
        return vec![];
    };
    let code = error.reason().to_owned();
    match error {
        DecodeError::Fields(errors) => {
            let whole: Value = serde_json::from_slice(bytes).unwrap_or_default();
            let fault = |error: domain::FieldError| Fault {
                value: at_path(&whole, &error.path).cloned(),
                code: error.code.as_str().to_owned(),
                path: error.path,
                message: error.message,
                at: None,
                before: None,
                after: None,
            };
            errors.into_iter().map(fault).collect()
        }
        error => {
            let at = place(bytes);
            let shown = |from: usize, to: usize| {
                let part = bytes.get(from..to.min(bytes.len())).unwrap_or_default();
                String::from_utf8_lossy(part).into_owned()
            };
            vec![Fault {
                path: String::new(),
                code,
                message: error.to_string(),
                at,
                before: at.map(|at| shown(at.saturating_sub(AROUND), at)),
                after: at.map(|at| shown(at, at.saturating_add(AROUND))),
                value: None,
            }]
        }
    }
}

/// Where the bytes cease to be JSON.
fn place(bytes: &[u8]) -> Option<usize> {
    match std::str::from_utf8(bytes) {
        Err(error) => Some(error.valid_up_to()),
        Ok(text) => match scan(text, 100) {
            Err(ScanError::Syntax { at, .. }) => Some(at),
            _ => None,
        },
    }
}

/// What stands under a path such as `data.items[2].name`.
fn at_path<'a>(whole: &'a Value, path: &str) -> Option<&'a Value> {
    if path.is_empty() {
        return None;
    }
    let mut value = whole;
    for part in path.split('.') {
        let (name, indices) = part.split_once('[').unwrap_or((part, ""));
        if !name.is_empty() {
            value = value.get(name)?;
        }
        for index in indices.split(['[', ']']).filter(|text| !text.is_empty()) {
            value = value.get(index.parse::<usize>().ok()?)?;
        }
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_of_a_fault_is_marked() {
        let faults = of(br#"{"event_type":"a","data":{"n":1,}}"#, None);
        let [fault] = &faults[..] else {
            panic!("{faults:?}")
        };
        assert_eq!((fault.code.as_str(), fault.at), ("invalid_json", Some(32)));
        assert!(fault.before.as_deref().unwrap().ends_with(r#"{"n":1,"#));
        assert_eq!(fault.after.as_deref(), Some("}}"));

        let faults = of(
            br#"{"event_type":"a","user_id":7,"data":{"a":[1,"\u0000"]}}"#,
            None,
        );
        let found: Vec<_> = faults
            .iter()
            .map(|f| (f.path.as_str(), f.value.clone()))
            .collect();
        assert_eq!(found, [("data.a[1]", Some("\0".into()))]);
        let faults = of(br#"{"event_type":"a","user_id":7,"data":{}}"#, None);
        assert_eq!(
            (faults[0].path.as_str(), &faults[0].value),
            ("user_id", &Some(7.into()))
        );
        assert!(of(br#"{"event_type":"a","data":{}}"#, None).is_empty());
    }
}
