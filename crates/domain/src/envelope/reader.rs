//! Reads typed fields from an object and collects every complaint, so that a sender sees all of
//! them at once.

use std::borrow::Cow;

use time::OffsetDateTime;
use uuid::Uuid;

use crate::field::{Code, FieldError};
use crate::id::{Space, TenantId};
use crate::json::{Json, Members, Raw};
use crate::timestamp;

use super::context::{Context, Origin};

/// Longest text of an id or name column, in characters.
const MAX_TEXT: usize = 255;
/// Longest address (`page_url`, the `source` of a CloudEvent), in characters; no column bounds it.
const MAX_ADDRESS: usize = 4096;
/// Longest `version` and `schema_version`, in characters.
const MAX_VERSION: usize = 20;

pub(super) struct Reader<'a> {
    members: Members<'a>,
    errors: Vec<FieldError>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(members: Members<'a>) -> Self {
        Self {
            members,
            errors: Vec::new(),
        }
    }

    pub(super) fn members(&self) -> &Members<'a> {
        &self.members
    }

    pub(super) fn into_errors(self) -> Vec<FieldError> {
        self.errors
    }

    pub(super) fn complain(&mut self, path: &str, code: Code, message: impl Into<String>) {
        self.errors.push(FieldError::new(path, code, message));
    }

    /// True if the field has been complained about.
    pub(super) fn complained(&self, path: &str) -> bool {
        self.errors.iter().any(|error| error.path == path)
    }

    /// The first of `keys` that is there and not null, with its name.
    pub(super) fn any(&self, keys: &[&'static str]) -> Option<(&'static str, Raw<'a>)> {
        keys.iter()
            .find_map(|key| self.members.get(key).map(|value| (*key, value)))
    }

    /// A trimmed text of at most 255 characters without control characters; empty counts as absent.
    pub(super) fn text(&mut self, keys: &[&'static str]) -> Option<String> {
        self.short(keys, MAX_TEXT).map(Cow::into_owned)
    }

    /// As [`Self::text`], borrowed where it has no escapes.
    pub(super) fn text_ref(&mut self, keys: &[&'static str]) -> Option<Cow<'a, str>> {
        self.short(keys, MAX_TEXT)
    }

    /// As [`Self::text`], for an address.
    pub(super) fn address(&mut self, key: &'static str) -> Option<String> {
        self.short(&[key], MAX_ADDRESS).map(Cow::into_owned)
    }

    /// As [`Self::text`]; absent, null or empty is a complaint.
    pub(super) fn required(&mut self, key: &'static str) -> Option<String> {
        self.or_missing(key, MAX_TEXT)
    }

    /// As [`Self::required`], for an address.
    pub(super) fn required_address(&mut self, key: &'static str) -> Option<String> {
        self.or_missing(key, MAX_ADDRESS)
    }

    fn or_missing(&mut self, key: &'static str, max: usize) -> Option<String> {
        let complaints = self.errors.len();
        let text = self.short(&[key], max);
        if text.is_none() && self.errors.len() == complaints {
            self.complain(key, Code::Missing, "is required");
        }
        text.map(Cow::into_owned)
    }

    fn short(&mut self, keys: &[&'static str], max: usize) -> Option<Cow<'a, str>> {
        let (key, raw) = self.any(keys)?;
        let Some(text) = string(raw) else {
            self.complain(key, Code::WrongType, "must be a string");
            return None;
        };
        self.bounded(key, text, max)
    }

    fn bounded(&mut self, key: &str, text: Cow<'a, str>, max: usize) -> Option<Cow<'a, str>> {
        let text = trimmed(text);
        if text.is_empty() {
            return None;
        }
        if text.len() > max && text.chars().count() > max {
            self.complain(
                key,
                Code::OutOfRange,
                format!("longer than {max} characters"),
            );
            return None;
        }
        if has_control(&text) {
            self.complain(key, Code::BadFormat, "contains a control character");
            return None;
        }
        Some(text)
    }

    /// A version: a short string, or a number taken as its text.
    pub(super) fn version(&mut self, keys: &[&'static str]) -> String {
        let found = self.any(keys).and_then(|(key, raw)| match scalar(raw) {
            Some(text) if raw.get().starts_with('"') => self.bounded(key, text, MAX_VERSION),
            Some(number) => Some(short_number(number)),
            None => {
                self.complain(key, Code::WrongType, "must be a string");
                None
            }
        });
        found.unwrap_or(Cow::Borrowed("1.0.0")).into_owned()
    }

    /// The event type: 1..=255 printable characters in any script (C12). Absent is one complaint,
    /// empty or illegal another (C25); after a complaint the text is empty.
    pub(super) fn event_type(&mut self, key: &'static str) -> String {
        let Some(raw) = self.members.get(key) else {
            self.complain(key, Code::Missing, "is required");
            return String::new();
        };
        let Some(text) = string(raw) else {
            self.complain(key, Code::WrongType, "must be a string");
            return String::new();
        };
        let text = text.trim();
        let complaint = if text.is_empty() {
            "must not be empty"
        } else if text.len() > MAX_TEXT && text.chars().count() > MAX_TEXT {
            "longer than 255 characters"
        } else if has_control(text) {
            "contains a control character"
        } else {
            return text.to_owned();
        };
        self.complain(key, Code::IllegalValue, complaint);
        String::new()
    }

    /// One of a set of names; another name counts as absent (C11).
    pub(super) fn name<T>(
        &mut self,
        keys: &[&'static str],
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        let (key, raw) = self.any(keys)?;
        let Some(text) = string(raw) else {
            self.complain(key, Code::WrongType, "must be a string");
            return None;
        };
        parse(text.trim())
    }

    /// A JSON object; absent or null is `{}` (S4-62).
    pub(super) fn object(&mut self, key: &'static str) -> Json {
        match self.members.get(key) {
            None => Json::default(),
            Some(raw) if raw.get().starts_with('{') => Json::from_checked(raw),
            Some(_) => {
                self.complain(key, Code::WrongType, "must be an object");
                Json::default()
            }
        }
    }

    /// `object` with every member that is not among the `known` ones; what stands outside wins.
    pub(super) fn keep_unknown(&self, object: Json, known: &[&str]) -> Json {
        let unknown = |(key, raw): &(&str, Raw<'_>)| !known.contains(key) && raw.get() != "null";
        let mut outside = self.members.iter().filter(unknown).peekable();
        if outside.peek().is_none() {
            return object;
        }
        let mut members = object.members();
        outside.for_each(|(key, raw)| members.set(key, raw));
        Json::from(&members)
    }

    /// The event's own id under any of `keys`, with its text where that is no UUID, else the fresh
    /// one. The nil UUID is the absence of one (RFC 9562, 5.9).
    pub(super) fn event_id(
        &mut self,
        keys: &[&'static str],
        tenant: &TenantId,
        cx: &Context<'_>,
    ) -> (Uuid, Option<String>) {
        let space = match cx.origin {
            Origin::Frontend => Space::Frontend,
            Origin::Http | Origin::Log => Space::Backend,
        };
        self.event_id_in(space, keys, tenant, cx)
    }

    /// As [`Self::event_id`], whatever the door.
    pub(super) fn event_id_in(
        &mut self,
        space: Space<'_>,
        keys: &[&'static str],
        tenant: &TenantId,
        cx: &Context<'_>,
    ) -> (Uuid, Option<String>) {
        let Some(text) = self.text_ref(keys) else {
            return (cx.fresh_id, None);
        };
        match own_id(space, tenant, &text) {
            (id, _) if id.is_nil() => (cx.fresh_id, None),
            own => own,
        }
    }

    pub(super) fn time(&mut self, keys: &[&'static str]) -> Option<OffsetDateTime> {
        let (key, raw) = self.any(keys)?;
        let Some(text) = string(raw) else {
            self.complain(key, Code::WrongType, "must be a date-time string");
            return None;
        };
        let parsed = timestamp::parse(&text);
        if parsed.is_none() {
            let message = "must be a date-time such as 2024-01-01T12:00:00Z";
            self.complain(key, Code::BadFormat, message);
        }
        parsed
    }

    /// The version that the stream must have: a number, `none` for 0, `any` as if it were absent.
    pub(super) fn expected_version(&mut self) -> Option<i64> {
        const KEY: &str = "expected_version";
        match self.members.get(KEY).and_then(string).as_deref() {
            None => self.count(KEY),
            Some("any") => None,
            Some("none") => Some(0),
            Some(_) => {
                let message = "must be a whole number, \"any\" or \"none\"";
                self.complain(KEY, Code::WrongType, message);
                None
            }
        }
    }

    /// A whole number of at least zero.
    fn count(&mut self, key: &'static str) -> Option<i64> {
        let text = self.members.get(key)?.get();
        // In JSON 10.0 is a whole number too.
        let text = text.strip_suffix(".0").unwrap_or(text);
        let digits = text.strip_prefix('-').unwrap_or(text);
        match text.parse::<i64>() {
            Ok(number) if number >= 0 => return Some(number),
            Err(_) if !digits.bytes().all(|b| b.is_ascii_digit()) => {
                self.complain(key, Code::WrongType, "must be a whole number");
            }
            _ => {
                let message = format!("must be from 0 to {}", i64::MAX);
                self.complain(key, Code::OutOfRange, message);
            }
        }
        None
    }
}

/// The event id of a client's text, and the text where it had to be mapped.
pub(super) fn own_id(space: Space<'_>, tenant: &TenantId, text: &str) -> (Uuid, Option<String>) {
    let id = space.event_id(tenant, text);
    let mapped = Uuid::try_parse(text) != Ok(id);
    (id, mapped.then(|| text.to_owned()))
}

/// Most texts are plain ASCII, which need not be taken apart into characters.
fn has_control(text: &str) -> bool {
    let plain = |byte: u8| (b' '..=b'~').contains(&byte);
    !text.bytes().all(plain) && text.chars().any(char::is_control)
}

fn trimmed(text: Cow<'_, str>) -> Cow<'_, str> {
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.trim()),
        Cow::Owned(text) => Cow::Owned(text.trim().to_owned()),
    }
}

/// The text of a JSON string, borrowed unless it has escapes.
pub(super) fn string(raw: Raw<'_>) -> Option<Cow<'_, str>> {
    let inner = raw.get().strip_prefix('"')?.strip_suffix('"')?;
    if inner.contains('\\') {
        serde_json::from_str(raw.get()).ok().map(Cow::Owned)
    } else {
        Some(Cow::Borrowed(inner))
    }
}

/// A string, or a number as its text.
fn scalar(raw: Raw<'_>) -> Option<Cow<'_, str>> {
    let number = |c: char| c == '-' || c.is_ascii_digit();
    string(raw).or_else(|| {
        raw.get()
            .starts_with(number)
            .then_some(Cow::Borrowed(raw.get()))
    })
}

/// A number as its text, with fewer digits where those of a version would not hold it.
fn short_number(text: Cow<'_, str>) -> Cow<'_, str> {
    match text.parse::<f64>() {
        Ok(number) if text.len() > MAX_VERSION => format!("{number:.11e}").into(),
        _ => text,
    }
}

/// Looks into a sender's payload. What is unusable there is no complaint, for the payload is theirs.
pub(super) struct Inside<'a>(Members<'a>);

impl<'a> Inside<'a> {
    pub(super) fn of(object: &'a Json) -> Self {
        Self(object.members())
    }

    /// A usable id or name: a short text, or a number as its text.
    pub(super) fn text(&self, key: &str) -> Option<String> {
        let text = trimmed(scalar(self.0.get(key)?)?);
        let fits = !text.is_empty() && text.chars().count() <= MAX_TEXT;
        (fits && !text.chars().any(char::is_control)).then(|| text.into_owned())
    }
}
