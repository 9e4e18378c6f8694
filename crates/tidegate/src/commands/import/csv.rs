//! Rows of CSV (RFC 4180) as events.

use std::collections::BTreeMap;

use serde_json::value::RawValue;
use time::OffsetDateTime;

/// The fields of an event that are texts.
const TEXTS: [&str; 14] = [
    "event_id",
    "event_type",
    "event_source",
    "event_category",
    "user_id",
    "session_id",
    "organization_id",
    "device_id",
    "correlation_id",
    "aggregate_type",
    "aggregate_id",
    "version",
    "schema_version",
    "timestamp",
];

/// Those that are JSON objects.
const OBJECTS: [&str; 4] = ["data", "metadata", "context", "properties"];

/// What a column is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Target {
    Text(String),
    Object(String),
    Inside(String, String),
    Nothing,
}

impl Target {
    /// `None`: it names no field.
    fn parse(text: &str) -> Option<Self> {
        if text == "-" {
            return Some(Self::Nothing);
        }
        if TEXTS.contains(&text) {
            return Some(Self::Text(text.to_owned()));
        }
        if OBJECTS.contains(&text) {
            return Some(Self::Object(text.to_owned()));
        }
        let (object, name) = text.split_once('.')?;
        let is_one = OBJECTS.contains(&object) && !name.is_empty();
        is_one.then(|| Self::Inside(object.to_owned(), name.to_owned()))
    }
}

/// What columns are by their names.
#[derive(Debug)]
pub(super) struct Mapping {
    named: BTreeMap<String, Target>,
    event_type: Option<String>,
    as_text: bool,
}

impl Mapping {
    /// From `COLUMN=FIELD`, and the type of all events that no column gives one.
    ///
    /// # Errors
    /// One of them names no field.
    pub(super) fn new(
        maps: &[String],
        event_type: Option<String>,
        as_text: bool,
    ) -> Result<Self, String> {
        let mut named = BTreeMap::new();
        for map in maps {
            let (column, field) = map
                .rsplit_once('=')
                .ok_or_else(|| format!("{map:?}: expected COLUMN=FIELD"))?;
            let target = Target::parse(field).ok_or_else(|| {
                let (texts, objects) = (TEXTS.join(", "), OBJECTS.join(", "));
                format!("{map:?}: {field:?} is none of {texts}, {objects}, data.NAME and -")
            })?;
            named.insert(column.to_owned(), target);
        }
        Ok(Self {
            named,
            event_type,
            as_text,
        })
    }

    /// What the columns of a file are.
    ///
    /// # Errors
    /// A mapped column is not among them, or nothing is the type.
    pub(super) fn columns(&self, names: Vec<Option<String>>) -> Result<Columns, String> {
        let names: Vec<String> = names
            .into_iter()
            .map(|name| name.unwrap_or_default().trim().to_owned())
            .collect();
        if let Some(missing) = self.named.keys().find(|column| !names.contains(column)) {
            return Err(format!(
                "there is no column {missing:?}; there are {}",
                names.join(", ")
            ));
        }
        let target = |name: &String| {
            let known = self.named.get(name).cloned();
            match known.or_else(|| Target::parse(name)) {
                Some(target) => target,
                None if name.is_empty() => Target::Nothing,
                None => Target::Inside("data".to_owned(), name.clone()),
            }
        };
        let targets: Vec<Target> = names.iter().map(target).collect();
        let is_type = |target: &Target| *target == Target::Text("event_type".to_owned());
        if self.event_type.is_none() && !targets.iter().any(is_type) {
            return Err(format!(
                "no column is event_type: name one with --map COLUMN=event_type, or one type for all \
                 with --event-type; there are {}",
                names.join(", ")
            ));
        }
        Ok(Columns {
            names,
            targets,
            event_type: self.event_type.clone(),
            as_text: self.as_text,
        })
    }
}

/// The columns of a file.
#[derive(Debug)]
pub(super) struct Columns {
    names: Vec<String>,
    targets: Vec<Target>,
    event_type: Option<String>,
    as_text: bool,
}

type Members = BTreeMap<String, Box<RawValue>>;

impl Columns {
    /// The event of a row, as JSON.
    ///
    /// # Errors
    /// In words, why it is none.
    pub(super) fn object(&self, fields: Vec<Option<String>>) -> Result<String, String> {
        if fields.len() != self.targets.len() {
            let (has, wants) = (fields.len(), self.targets.len());
            return Err(format!("{has} fields, but {wants} columns"));
        }
        let mut event = Members::new();
        let mut inside: BTreeMap<&str, Members> = BTreeMap::new();
        if let Some(event_type) = &self.event_type {
            event.insert("event_type".to_owned(), quoted(event_type)?);
        }
        for ((field, target), name) in fields.into_iter().zip(&self.targets).zip(&self.names) {
            let Some(field) = field else {
                continue;
            };
            match target {
                Target::Nothing => {}
                Target::Text(text) if text == "timestamp" => {
                    event.insert(text.clone(), quoted(&moment(&field))?);
                }
                Target::Text(text) => {
                    event.insert(text.clone(), quoted(&field)?);
                }
                Target::Object(object) => {
                    let members: Members = serde_json::from_str(&field)
                        .map_err(|error| format!("{name}: no JSON object: {error}"))?;
                    inside.entry(object).or_default().extend(members);
                }
                Target::Inside(object, key) => {
                    let value = self.value(field)?;
                    inside.entry(object).or_default().insert(key.clone(), value);
                }
            }
        }
        for (object, members) in inside {
            event.insert(object.to_owned(), raw(serde_json::to_string(&members))?);
        }
        serde_json::to_string(&event).map_err(|error| error.to_string())
    }

    /// What a field is in JSON: what it looks like there, else a text.
    fn value(&self, field: String) -> Result<Box<RawValue>, String> {
        let looks = !self.as_text && !field.starts_with('"');
        if looks && serde_json::from_str::<&RawValue>(&field).is_ok() {
            return raw(Ok(field.trim().to_owned()));
        }
        quoted(&field)
    }
}

fn quoted(text: &str) -> Result<Box<RawValue>, String> {
    raw(serde_json::to_string(text))
}

fn raw(json: serde_json::Result<String>) -> Result<Box<RawValue>, String> {
    json.and_then(RawValue::from_string)
        .map_err(|error| error.to_string())
}

/// A time as the service reads it: of seconds or milliseconds since 1970, and of PostgreSQL's zone
/// without minutes too.
fn moment(text: &str) -> String {
    let text = text.trim();
    let nanoseconds = match (text.len(), text.parse::<i128>()) {
        (9..=10, Ok(seconds)) => seconds * 1_000_000_000,
        (12..=13, Ok(milliseconds)) => milliseconds * 1_000_000,
        _ => {
            let zone = text.len().checked_sub(3).and_then(|at| text.get(at..));
            let is_short = text.contains(':')
                && zone.is_some_and(|zone| {
                    zone.starts_with(['+', '-']) && zone[1..].bytes().all(|b| b.is_ascii_digit())
                });
            return if is_short {
                format!("{text}:00")
            } else {
                text.to_owned()
            };
        }
    };
    OffsetDateTime::from_unix_timestamp_nanos(nanoseconds)
        .map_or_else(|_| text.to_owned(), domain::timestamp::format)
}

/// The fields of a record. What is empty without quotes is absent.
///
/// # Errors
/// In words, what is wrong with it.
pub(super) fn fields(record: &str, delimiter: char) -> Result<Vec<Option<String>>, String> {
    let mut fields = Vec::new();
    let mut rest = record;
    loop {
        let (field, after) = match rest.strip_prefix('"') {
            Some(quoted) => {
                let (field, after) = unquoted(quoted)?;
                (Some(field), after)
            }
            None => {
                let end = rest.find(delimiter).unwrap_or(rest.len());
                let field = Some(rest[..end].to_owned()).filter(|field| !field.is_empty());
                (field, &rest[end..])
            }
        };
        fields.push(field);
        if after.is_empty() {
            return Ok(fields);
        }
        rest = after
            .strip_prefix(delimiter)
            .ok_or_else(|| format!("field {}: text after the closing quote", fields.len()))?;
    }
}

/// The text up to the closing quote, and what is behind it.
fn unquoted(text: &str) -> Result<(String, &str), String> {
    let (mut field, mut rest) = (String::new(), text);
    loop {
        let end = rest.find('"').ok_or("a quote is not closed")?;
        field.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix('"') {
            Some(after) => {
                field.push('"');
                rest = after;
            }
            None => return Ok((field, rest)),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn event(mapping: &Mapping, header: &str, row: &str) -> Value {
        let columns = mapping.columns(fields(header, ',').unwrap()).unwrap();
        let object = columns.object(fields(row, ',').unwrap()).unwrap();
        serde_json::from_str(&object).unwrap()
    }

    #[test]
    fn fields_are_read_as_rfc_4180_says() {
        let some = |text: &str| Some(text.to_owned());
        for (record, expected) in [
            ("a,b", vec![some("a"), some("b")]),
            ("", vec![None]),
            (",\"\",", vec![None, some(""), None]),
            ("\"a,\"\"b\"\"\nc\",d", vec![some("a,\"b\"\nc"), some("d")]),
        ] {
            assert_eq!(fields(record, ',').unwrap(), expected, "{record}");
        }
        for (record, says) in [("\"a\"b,c", "after the closing"), ("a,\"b", "not closed")] {
            assert!(fields(record, ',').unwrap_err().contains(says), "{record}");
        }
    }

    #[test]
    fn columns_are_fields_by_their_names_or_as_mapped() {
        let maps = [
            "id=event_id",
            "at=timestamp",
            "note=metadata.note",
            "secret=-",
        ];
        let maps = maps.map(str::to_owned);
        let mapping = Mapping::new(&maps, Some("order.placed".to_owned()), false).unwrap();
        let header = "id,at,user_id,total,zip,paid,note,secret,data,context.ip,empty";
        let row = "o-1,1714564740,u-1,12.50,01234,true,7,x,\"{\"\"lines\"\":[1]}\",10.0.0.1,";
        assert_eq!(
            event(&mapping, header, row),
            json!({
                "event_id": "o-1", "event_type": "order.placed", "user_id": "u-1",
                "timestamp": "2024-05-01T11:59:00Z",
                "data": {"total": 12.50, "zip": "01234", "paid": true, "lines": [1]},
                "metadata": {"note": 7}, "context": {"ip": "10.0.0.1"},
            })
        );
        let plain = Mapping::new(&[], None, true).unwrap();
        assert_eq!(
            event(&plain, "event_type,n", "a,12.50"),
            json!({"event_type": "a", "data": {"n": "12.50"}})
        );
    }

    #[test]
    fn what_cannot_be_mapped_is_named() {
        let wrong = |map: &str| Mapping::new(&[map.to_owned()], None, false).unwrap_err();
        assert!(wrong("a").contains("COLUMN=FIELD"));
        assert!(wrong("a=when").contains("\"when\" is none of event_id"));
        let mapping = |map: &str| Mapping::new(&[map.to_owned()], None, false).unwrap();
        let header = || fields("a,b", ',').unwrap();
        let error = mapping("x=event_type").columns(header()).unwrap_err();
        assert!(error.contains("no column \"x\"; there are a, b"), "{error}");
        let error = mapping("a=user_id").columns(header()).unwrap_err();
        assert!(error.contains("--event-type"), "{error}");
        let columns = mapping("a=event_type").columns(header()).unwrap();
        assert_eq!(
            columns.object(vec![None]).unwrap_err(),
            "1 fields, but 2 columns"
        );
    }

    #[test]
    fn times_of_other_systems_are_read() {
        for (text, expected) in [
            ("1714564740", "2024-05-01T11:59:00Z"),
            ("1714564740123", "2024-05-01T11:59:00.123Z"),
            ("2024-05-01 11:59:00.5+00", "2024-05-01 11:59:00.5+00:00"),
            ("2024-05-01", "2024-05-01"),
            ("2024-05-01T11:59:00Z", "2024-05-01T11:59:00Z"),
        ] {
            assert_eq!(moment(text), expected, "{text}");
        }
    }
}
