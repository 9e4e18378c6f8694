//! What a client asks for, from a JSON body or a query string: read field by field, so that
//! every wrong one is named. Names that mean nothing here are ignored, as the specification's own
//! implementation does.

mod conditions;

use domain::field::Code;
use domain::json::{Members, ScanError, scan, whole};
use domain::{EventCategory, EventSource, EventStatus, FieldError, TenantId, timestamp};
use service::Problem;
use store::event_reads::{Filter, StatusFilter, Window};
use time::OffsetDateTime;

use conditions::conditions;

use crate::cursor::Scope;
use crate::unindexed::unindexed;

/// Most rows of one page (S4-25).
pub const MAX_LIMIT: u32 = 1_000;
/// Most rows passed over; to go further use a cursor.
pub const MAX_OFFSET: u32 = 100_000;
/// Longest text of a condition, in characters; the columns are as long.
pub const MAX_TEXT: usize = 255;
/// Deepest object to be contained.
const MAX_DEPTH: usize = 64;

enum Input<'a> {
    Json(Members<'a>),
    Query(Vec<(String, String)>),
}

/// Fields being read; what is wrong with them is collected.
pub struct Parameters<'a> {
    input: Input<'a>,
    errors: Vec<FieldError>,
}

/// A page of events asked for.
#[derive(Debug, Clone)]
pub struct ListRequest {
    /// Under which filter.
    pub filter: Filter,
    /// Which part.
    pub window: Window,
    /// Whether to count all events under the filter.
    pub count: bool,
    /// What cursors are bound to.
    pub scope: Scope,
}

impl<'a> Parameters<'a> {
    /// Reads a JSON body; an empty one stands for `{}`.
    ///
    /// # Errors
    /// 400 for what is no JSON, 422 for what is no object or cannot be compared with what
    /// PostgreSQL holds.
    pub fn from_json(body: &'a [u8]) -> Result<Self, Problem> {
        let text = std::str::from_utf8(body)
            .map_err(|error| Problem::bad_request(format!("The body is not UTF-8: {error}")))?;
        let text = if text.is_empty() { "{}" } else { text };
        scan(text, MAX_DEPTH).map_err(|error| match error {
            ScanError::Syntax { .. } => Problem::bad_request(error.to_string()),
            ScanError::Field(error) => Problem::fields(vec![error]),
        })?;
        let members = Members::split(text)
            .ok_or_else(|| Problem::unprocessable("", Code::WrongType, "must be an object"))?;
        Ok(Self {
            input: Input::Json(members),
            errors: Vec::new(),
        })
    }

    /// Reads a query string.
    ///
    /// # Errors
    /// 422 for what is no query string.
    pub fn from_query(query: &str) -> Result<Self, Problem> {
        let pairs = actix_web::web::Query::<Vec<(String, String)>>::from_query(query)
            .map_err(|error| Problem::unprocessable("", Code::BadFormat, error.to_string()))?;
        Ok(Self {
            input: Input::Query(pairs.into_inner()),
            errors: Vec::new(),
        })
    }

    /// Notes that a field is wrong.
    pub fn refuse(&mut self, path: &str, code: Code, message: impl Into<String>) {
        self.errors.push(FieldError::new(path, code, message));
    }

    /// The text of a field as it was sent: a JSON string's content, or a query value.
    pub fn raw_text(&mut self, key: &str) -> Option<String> {
        match &self.input {
            Input::Query(pairs) => pairs
                .iter()
                .rev()
                .find(|(name, _)| name == key)
                .map(|(_, value)| value.clone()),
            Input::Json(members) => {
                let value = members.get(key)?;
                if let Ok(text) = serde_json::from_str(value.get()) {
                    return Some(text);
                }
                self.refuse(key, Code::WrongType, "must be text");
                None
            }
        }
    }

    /// All values of a parameter of a query string.
    pub fn raw_texts(&self, key: &str) -> Vec<String> {
        match &self.input {
            Input::Json(_) => Vec::new(),
            Input::Query(pairs) => pairs
                .iter()
                .filter(|(name, _)| name == key)
                .map(|(_, value)| value.clone())
                .collect(),
        }
    }

    /// A text that PostgreSQL can compare, trimmed as those stored are.
    pub fn text(&mut self, key: &str) -> Option<String> {
        let text = self.raw_text(key)?;
        self.checked(key, text)
    }

    /// The type of events asked for; no event has an empty one.
    pub fn event_type(&mut self) -> Option<String> {
        let event_type = self.text("event_type");
        if event_type.as_deref() == Some("") {
            self.refuse("event_type", Code::IllegalValue, "must not be empty");
        }
        event_type
    }

    /// The same check for a text from the path.
    pub fn checked(&mut self, key: &str, text: String) -> Option<String> {
        if text.contains('\0') {
            self.refuse(key, Code::NotStorable, "must not contain NUL");
            return None;
        }
        if text.chars().count() > MAX_TEXT {
            let message = format!("must have at most {MAX_TEXT} characters");
            self.refuse(key, Code::OutOfRange, message);
            return None;
        }
        Some(text.trim().to_owned())
    }

    /// A time, inclusive, under the first of `keys` that is there.
    pub fn time(&mut self, keys: &[&str]) -> Option<OffsetDateTime> {
        for key in keys {
            if let Some(text) = self.raw_text(key) {
                let time = timestamp::parse(&text);
                if time.is_none() {
                    let message = "must be an ISO 8601 date or date-time, \
                                   such as 2024-01-01T12:00:00Z";
                    self.refuse(key, Code::BadFormat, message);
                }
                return time;
            }
        }
        None
    }

    /// A whole number from `min` to `max`.
    pub fn integer(&mut self, key: &str, min: u32, max: u32) -> Option<u32> {
        let text = match &self.input {
            Input::Query(_) => self.raw_text(key)?,
            Input::Json(members) => members.get(key)?.get().to_owned(),
        };
        // In JSON 10.0 is a whole number too.
        let text = match (&self.input, text.strip_suffix(".0")) {
            (Input::Json(_), Some(whole)) => whole.to_owned(),
            _ => text,
        };
        let digits = text.strip_prefix(['-', '+']).unwrap_or(&text);
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            self.refuse(key, Code::WrongType, "must be a whole number");
            return None;
        }
        match text.parse() {
            Ok(number) if (min..=max).contains(&number) => Some(number),
            _ => {
                let more = if key == "offset" {
                    "; use the cursor to go further"
                } else {
                    ""
                };
                let message = format!("must be from {min} to {max}{more}");
                self.refuse(key, Code::OutOfRange, message);
                None
            }
        }
    }

    /// A list of whole numbers of at least zero, of at most a thousand.
    pub fn integers(&mut self, key: &str) -> Option<Vec<i64>> {
        let Input::Json(members) = &self.input else {
            return None;
        };
        let text = members.get(key)?.get();
        let values = serde_json::from_str::<Vec<serde_json::Value>>(text).ok();
        let number = |value: &serde_json::Value| whole(value).filter(|number: &i64| *number >= 0);
        let numbers = values
            .filter(|values| values.len() <= 1_000)
            .and_then(|values| values.iter().map(number).collect::<Option<Vec<_>>>());
        if numbers.is_none() {
            let message = "must be an array of at most 1000 whole numbers";
            self.refuse(key, Code::WrongType, message);
        }
        numbers
    }

    /// A list of words: an array of texts, or a text with commas.
    pub fn words(&mut self, key: &str) -> Option<Vec<String>> {
        if let Input::Json(members) = &self.input
            && let Ok(words) = serde_json::from_str(members.get(key)?.get())
        {
            return Some(words);
        }
        let text = self.raw_text(key)?;
        let words = text
            .split(',')
            .map(str::trim)
            .filter(|word| !word.is_empty());
        Some(words.map(str::to_owned).collect())
    }

    /// `true` or `false`.
    pub fn boolean(&mut self, key: &str) -> Option<bool> {
        let text = match &self.input {
            Input::Query(_) => self.raw_text(key)?,
            Input::Json(members) => members.get(key)?.get().to_owned(),
        };
        let value = text.parse().ok();
        if value.is_none() {
            self.refuse(key, Code::WrongType, "must be true or false");
        }
        value
    }

    /// One of a set of names.
    pub fn choice<T: Copy>(
        &mut self,
        key: &str,
        all: &[T],
        name: impl Fn(T) -> &'static str,
    ) -> Option<T> {
        let text = self.raw_text(key)?;
        let found = all.iter().copied().find(|value| name(*value) == text);
        if found.is_none() {
            let names: Vec<_> = all.iter().map(|value| name(*value)).collect();
            let message = format!("must be one of {}", names.join(", "));
            self.refuse(key, Code::IllegalValue, message);
        }
        found
    }

    /// A JSON object to be contained, as its text; the empty one is contained in everything.
    pub fn object(&mut self, key: &str) -> Option<String> {
        let text = match &self.input {
            Input::Json(members) => members.get(key)?.get().to_owned(),
            Input::Query(_) => {
                let text = self.raw_text(key)?;
                if let Err(error) = scan(&text, MAX_DEPTH) {
                    self.refuse(key, Code::BadFormat, error.to_string());
                    return None;
                }
                text
            }
        };
        let Some(members) = Members::split(&text) else {
            self.refuse(key, Code::WrongType, "must be an object");
            return None;
        };
        let empty = members.iter().next().is_none();
        (!empty).then_some(text)
    }

    /// A cursor of that scope.
    pub fn cursor<T>(&mut self, read: impl Fn(&str) -> Result<T, FieldError>) -> Option<T> {
        let text = self.raw_text("cursor")?;
        match read(&text) {
            Ok(position) => Some(position),
            Err(error) => {
                self.errors.push(error);
                None
            }
        }
    }

    /// `limit` and `offset`.
    pub fn page(&mut self, default_limit: u32) -> (u32, u32) {
        let limit = self.integer("limit", 1, MAX_LIMIT).unwrap_or(default_limit);
        let offset = self.integer("offset", 0, MAX_OFFSET).unwrap_or(0);
        (limit, offset)
    }

    /// A cursor says where to begin: an offset beside it has no meaning.
    pub fn no_offset_beside_cursor(&mut self, cursor: bool, offset: u32) {
        if cursor && offset > 0 {
            self.refuse("offset", Code::OutOfRange, "must be 0 beside a cursor");
        }
    }

    /// The filter of a listing of events (S4-23, C19).
    pub fn filter(&mut self, tenant: TenantId) -> Filter {
        Filter {
            tenant_id: tenant,
            user_id: self.text("user_id"),
            event_type: self.event_type(),
            event_source: self.choice("event_source", EventSource::ALL, EventSource::as_str),
            event_category: self.choice(
                "event_category",
                EventCategory::ALL,
                EventCategory::as_str,
            ),
            status: self
                .choice("status", EventStatus::ALL, EventStatus::as_str)
                .map_or(StatusFilter::Any, StatusFilter::Is),
            start: self.time(&["start_time", "started_at"]),
            end: self.time(&["end_time", "ended_at"]),
            created_start: self.time(&["created_start"]),
            created_end: self.time(&["created_end"]),
            session_id: self.text("session_id"),
            organization_id: self.text("organization_id"),
            device_id: self.text("device_id"),
            correlation_id: self.text("correlation_id"),
            aggregate_type: self.text("aggregate_type"),
            aggregate_id: self.text("aggregate_id"),
            data: self.object("data"),
            metadata: self.object("metadata"),
        }
    }

    /// The part of a listing under that filter.
    pub fn list(
        &mut self,
        listing: &str,
        filter: Filter,
        default_limit: u32,
        count: bool,
    ) -> ListRequest {
        let (limit, offset) = self.page(default_limit);
        let scope = Scope::new(&filter.tenant_id, listing, &conditions(&filter));
        self.errors.extend(unindexed(&filter));
        let after = self.cursor(|text| scope.event(text));
        self.no_offset_beside_cursor(after.is_some(), offset);
        ListRequest {
            filter,
            window: Window {
                limit,
                offset,
                after,
            },
            count: self.boolean("count").unwrap_or(count),
            scope,
        }
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// Everything that was wrong: 400 for a value outside its set, else 422 (C25).
    pub fn finish(self) -> Result<(), Problem> {
        if self.errors.is_empty() {
            Ok(())
        } else {
            Err(Problem::fields(self.errors))
        }
    }
}

#[cfg(test)]
mod tests;
