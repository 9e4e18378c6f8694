//! A question, and how it is read.

use time::OffsetDateTime;

use super::document::time;
use super::fields::{OBJECTS, WHOLE, path};
use super::words::words;
use crate::field::{Code, FieldError};
use crate::timestamp;

/// Longest question, in characters.
pub const MAX_LENGTH: usize = 1_000;
/// Most clauses.
pub const MAX_CLAUSES: usize = 32;
/// Most words of a phrase.
const MAX_WORDS: usize = 16;
/// Fewest characters before `*`.
const MIN_BEGIN: usize = 2;

/// A question: all clauses hold.
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    /// The clauses, at least one.
    pub clauses: Vec<Clause>,
}

/// A part of a question.
#[derive(Debug, Clone, PartialEq)]
pub struct Clause {
    /// The contrary is meant.
    pub negated: bool,
    /// What is meant.
    pub condition: Condition,
}

/// What an event is asked for.
#[derive(Debug, Clone, PartialEq)]
pub enum Condition {
    /// These words side by side, anywhere or in the field of that path.
    Phrase {
        /// `None` is anywhere.
        path: Option<String>,
        /// At least one, in lower case.
        words: Vec<String>,
    },
    /// A word with that begin, anywhere or in the field of that path.
    Begin {
        /// `None` is anywhere.
        path: Option<String>,
        /// In lower case.
        begin: String,
    },
    /// `field=value` of a field that is compared as a whole.
    Exact {
        /// In lower case.
        value: String,
        /// More may follow.
        begin: bool,
    },
    /// A number, or the seconds of a time, between these bounds, each with whether it is itself meant.
    Number {
        /// The field.
        path: String,
        /// The lower bound.
        low: Option<(f64, bool)>,
        /// The upper bound.
        high: Option<(f64, bool)>,
    },
    /// The event's own time, likewise.
    Time {
        /// The lower bound.
        low: Option<(OffsetDateTime, bool)>,
        /// The upper bound.
        high: Option<(OffsetDateTime, bool)>,
    },
}

impl Query {
    /// Reads a question.
    ///
    /// # Errors
    /// What is wrong, with the place of it, for the field `q`.
    pub fn parse(text: &str) -> Result<Self, FieldError> {
        let characters = text.chars().count();
        if characters > MAX_LENGTH {
            let message = format!("must have at most {MAX_LENGTH} characters");
            return Err(FieldError::new("q", Code::OutOfRange, message));
        }
        let mut reader = Reader { text, at: 0 };
        let mut clauses = Vec::new();
        while reader.skip_space() {
            if clauses.len() == MAX_CLAUSES {
                return Err(reader.wrong(format!("more than {MAX_CLAUSES} conditions")));
            }
            clauses.push(reader.clause()?);
        }
        if clauses.is_empty() {
            let message = "is needed: words, \"a phrase\" or field:value";
            return Err(FieldError::new("q", Code::Missing, message));
        }
        Ok(Self { clauses })
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

/// A field that is asked for.
enum Field {
    Anywhere,
    Of(String),
    Whole(&'static str),
    Time,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    /// Whether something follows.
    fn skip_space(&mut self) -> bool {
        self.at = self.text.len() - self.rest().trim_start().len();
        !self.rest().is_empty()
    }

    fn wrong(&self, message: impl std::fmt::Display) -> FieldError {
        self.wrong_at(self.at, message)
    }

    fn wrong_at(&self, at: usize, message: impl std::fmt::Display) -> FieldError {
        let place = self.text.get(..at).unwrap_or(self.text).chars().count() + 1;
        let message = format!("at character {place}: {message}");
        FieldError::new("q", Code::BadFormat, message)
    }

    fn eat(&mut self, what: &str) -> bool {
        let eaten = self.rest().starts_with(what);
        if eaten {
            self.at += what.len();
        }
        eaten
    }

    /// Up to the next space.
    fn run(&mut self) -> &'a str {
        let rest = self.rest();
        let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
        self.at += end;
        rest.get(..end).unwrap_or_default()
    }

    /// What is between quotes, of which the first is eaten; with `\"` for one inside.
    fn quoted(&mut self) -> Result<String, FieldError> {
        let begin = self.at;
        let mut text = String::new();
        let mut characters = self.rest().char_indices();
        while let Some((at, c)) = characters.next() {
            match c {
                '"' => {
                    self.at = begin + at + 1;
                    return Ok(text);
                }
                '\\' => text.extend(characters.next().map(|(_, c)| c)),
                c => text.push(c),
            }
        }
        Err(self.wrong_at(begin - 1, "this quote is not closed"))
    }

    fn clause(&mut self) -> Result<Clause, FieldError> {
        let negated = self.rest().starts_with('-')
            && !self.rest()[1..].starts_with(|c: char| c.is_whitespace() || c == '-')
            && self.rest().len() > 1
            && self.eat("-");
        let field = self.field()?;
        let condition = self.condition(field)?;
        Ok(Clause { negated, condition })
    }

    /// The name before a colon, if there is one.
    fn field(&mut self) -> Result<Field, FieldError> {
        let rest = self.rest();
        let end = rest.find(|c: char| c.is_whitespace() || matches!(c, ':' | '"'));
        let Some((name, _)) = end.and_then(|end| rest.split_at_checked(end)) else {
            return Ok(Field::Anywhere);
        };
        if name.is_empty() || !rest[name.len()..].starts_with(':') {
            return Ok(Field::Anywhere);
        }
        let lower = name.to_lowercase();
        let inside = |object: &str| {
            let member = lower.strip_prefix(object);
            member.is_some_and(|member| member.len() > 1 && member.starts_with('.'))
        };
        let field = if let Some((_, whole)) = WHOLE.iter().find(|(name, _)| *name == lower) {
            Field::Whole(whole)
        } else if OBJECTS.iter().any(|object| inside(object)) {
            Field::Of(path(name))
        } else if lower == "timestamp" {
            Field::Time
        } else {
            return Err(self.wrong(format_args!(
                "{name:?} is no field; there are event_type, source, category, user_id, session_id, \
                 organization_id, device_id, correlation_id, aggregate_type, aggregate_id, timestamp, \
                 and data., metadata., context., properties. with a path. Put text with a colon in quotes"
            )));
        };
        self.at += name.len() + 1;
        Ok(field)
    }

    fn condition(&mut self, field: Field) -> Result<Condition, FieldError> {
        let begin = self.at;
        if matches!(field, Field::Of(_) | Field::Time)
            && self.rest().starts_with(['[', '{', '<', '>'])
        {
            return self.range(field);
        }
        let (text, prefix) = if self.eat("\"") {
            (self.quoted()?, false)
        } else {
            let run = self.run();
            match run.strip_suffix('*') {
                Some(begin) => (begin.to_owned(), true),
                None => (run.to_owned(), false),
            }
        };
        if prefix && text.chars().filter(|c| c.is_alphanumeric()).count() < MIN_BEGIN {
            let message = format!("at least {MIN_BEGIN} letters or digits are needed before *");
            return Err(self.wrong_at(begin, message));
        }
        let path = match field {
            Field::Time => {
                let message = "timestamp wants a range, such as timestamp:>=2026-01-01";
                return Err(self.wrong_at(begin, message));
            }
            Field::Whole(name) if text.trim().is_empty() => {
                return Err(self.wrong_at(begin, format_args!("{name} of what?")));
            }
            Field::Whole(name) => {
                return Ok(Condition::Exact {
                    value: format!("{name}={}", text.trim().to_lowercase()),
                    begin: prefix,
                });
            }
            Field::Of(path) => Some(path),
            Field::Anywhere => None,
        };
        let mut words: Vec<String> = words(&text).map(|(_, word)| word).collect();
        match words.len() {
            0 => Err(self.wrong_at(begin, "no letter or digit to search for")),
            1 if prefix => Ok(Condition::Begin {
                path,
                begin: words.remove(0),
            }),
            _ if prefix => Err(self.wrong_at(begin, "* goes with one word only")),
            1..=MAX_WORDS => Ok(Condition::Phrase { path, words }),
            _ => Err(self.wrong_at(
                begin,
                format_args!("a phrase has at most {MAX_WORDS} words"),
            )),
        }
    }

    fn range(&mut self, field: Field) -> Result<Condition, FieldError> {
        let begin = self.at;
        for (sign, low, itself) in [
            (">=", true, true),
            ("<=", false, true),
            (">", true, false),
            ("<", false, false),
        ] {
            if self.eat(sign) {
                let bound = (self.run().trim_matches('"'), itself);
                let (low, high) = if low {
                    (Some(bound), None)
                } else {
                    (None, Some(bound))
                };
                return self.between(field, low, high, begin);
            }
        }
        let example =
            "a range is [10 TO 20], with * for no bound and { } for bounds that are not meant";
        let first = self.eat("[") || !self.eat("{");
        let rest = self.rest();
        let inside = rest
            .find([']', '}'])
            .and_then(|end| rest.split_at_checked(end));
        let Some((inside, end)) = inside else {
            return Err(self.wrong_at(begin, example));
        };
        self.at += inside.len() + 1;
        let Some((low, high)) = inside.split_once(" TO ") else {
            return Err(self.wrong_at(begin, example));
        };
        let bound = |text: &'a str, itself| {
            let text = text.trim().trim_matches('"');
            (text != "*").then_some((text, itself))
        };
        let last = end.starts_with(']');
        self.between(field, bound(low, first), bound(high, last), begin)
    }

    fn between(
        &self,
        field: Field,
        low: Option<(&str, bool)>,
        high: Option<(&str, bool)>,
        begin: usize,
    ) -> Result<Condition, FieldError> {
        let wrong =
            |text: &str, what: &str| self.wrong_at(begin, format_args!("{text:?} is no {what}"));
        if let Field::Of(path) = field {
            let number = |(text, itself): (&str, bool)| match text.parse::<f64>() {
                Ok(number) if number.is_finite() => Ok((number + 0.0, itself)),
                _ => match time(text) {
                    Some(seconds) => Ok((seconds, itself)),
                    None => Err(wrong(text, "number and no date")),
                },
            };
            return Ok(Condition::Number {
                path,
                low: low.map(number).transpose()?,
                high: high.map(number).transpose()?,
            });
        }
        let time = |(text, itself): (&str, bool)| {
            let time = timestamp::parse(text).ok_or_else(|| wrong(text, "date or date-time"))?;
            Ok((time, itself))
        };
        Ok(Condition::Time {
            low: low.map(time).transpose()?,
            high: high.map(time).transpose()?,
        })
    }
}
