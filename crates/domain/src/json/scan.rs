//! One pass over a JSON text: is it JSON, and can PostgreSQL hold it?

mod error;
mod repeated;
mod scanned;

use std::borrow::Cow;

use super::members::tag;
use crate::field::{Code, FieldError};
use crate::write::plain;
pub use error::ScanError;
use scanned::Member;
pub(crate) use scanned::Scanned;

/// Checks one JSON text in one pass without building anything: the grammar of RFC 8259, and what
/// PostgreSQL's `jsonb` cannot hold or give back (`\u0000`, lone surrogates, numbers beyond a double
/// or that it prints with more than [`MAX_DIGITS`] digits), and the depth (the outermost container
/// is 1).
///
/// # Errors
/// The first offence, with its path.
pub fn scan(text: &str, max_depth: usize) -> Result<(), ScanError> {
    scanned(text, max_depth).map(drop)
}

/// As [`scan`]; returns the text with each member once, the last of equal names as in `jsonb`.
///
/// # Errors
/// The first offence, with its path.
pub fn canonical(text: &str, max_depth: usize) -> Result<Cow<'_, str>, ScanError> {
    Ok(scanned(text, max_depth)?.text)
}

/// As [`canonical`]; also tells the depth.
pub(crate) fn scanned(text: &str, max_depth: usize) -> Result<Scanned<'_>, ScanError> {
    let mut scanner = Scanner {
        bytes: text.as_bytes(),
        at: 0,
        max_depth,
        deepest: 0,
        path: Vec::with_capacity(8),
        members: Vec::with_capacity(16),
        repeated: Vec::new(),
        printed: 0,
    };
    scanner.space();
    scanner.value()?;
    scanner.space();
    if scanner.at != text.len() {
        return Err(scanner.syntax("text after the end of the value"));
    }
    Ok(Scanned {
        depth: scanner.deepest,
        members: scanner.members,
        text: if scanner.repeated.is_empty() {
            text.into()
        } else {
            repeated::without(text, scanner.repeated).into()
        },
    })
}

/// A string that was read: the byte range between its quotes.
struct Text {
    from: usize,
    to: usize,
    escaped: bool,
}

enum Step {
    /// Byte range of the key's text between its quotes.
    Key(usize, usize),
    Index(usize),
}

struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
    max_depth: usize,
    deepest: usize,
    path: Vec<Step>,
    /// The members so far of the objects that are open; in the end those of the outermost.
    members: Vec<Member>,
    /// Byte ranges of members whose name comes again in their object.
    repeated: Vec<(usize, usize)>,
    /// Bytes that the numbers so far print to beyond what they are written with.
    printed: usize,
}

/// Most digits of one number as PostgreSQL prints it: without an exponent, `1e-300` with 301.
pub const MAX_DIGITS: usize = 1_000;
/// Most bytes by which the numbers of one text may grow when they are printed.
const MAX_GROWTH: usize = 1024 * 1024;

impl Scanner<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn syntax(&self, message: &'static str) -> ScanError {
        ScanError::Syntax {
            at: self.at,
            message,
        }
    }

    fn refuse(&self, code: Code, message: impl Into<String>) -> ScanError {
        ScanError::Field(FieldError::new(self.path(), code, message))
    }

    /// The path so far, cut to a length that suits an answer.
    fn path(&self) -> String {
        const SHOWN: usize = 200;
        let mut path = String::new();
        for step in &self.path {
            match step {
                Step::Key(from, to) => {
                    if !path.is_empty() {
                        path.push('.');
                    }
                    let key = self.bytes.get(*from..*to).unwrap_or_default();
                    path.push_str(&String::from_utf8_lossy(key));
                }
                Step::Index(index) => path.push_str(&format!("[{index}]")),
            }
            if path.len() > SHOWN {
                let cut = (0..=SHOWN)
                    .rev()
                    .find(|at| path.is_char_boundary(*at))
                    .unwrap_or(0);
                path.truncate(cut);
                path.push('…');
                break;
            }
        }
        path
    }

    fn value(&mut self) -> Result<(), ScanError> {
        match self.peek() {
            Some(b'{') => self.object(),
            Some(b'[') => self.array(),
            Some(b'"') => self.string().map(drop),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word(b"true"),
            Some(b'f') => self.word(b"false"),
            Some(b'n') => self.word(b"null"),
            Some(_) => Err(self.syntax("expected a value")),
            None => Err(self.syntax("unexpected end")),
        }
    }

    fn word(&mut self, word: &[u8]) -> Result<(), ScanError> {
        if self
            .bytes
            .get(self.at..)
            .is_some_and(|rest| rest.starts_with(word))
        {
            self.at += word.len();
            Ok(())
        } else {
            Err(self.syntax("expected a value"))
        }
    }

    /// Steps into a container. The recursion is bounded by `max_depth`, so the stack is too.
    fn descend(&mut self) -> Result<(), ScanError> {
        if self.path.len() >= self.max_depth {
            return Err(self.refuse(
                Code::TooDeep,
                format!("nested deeper than {}", self.max_depth),
            ));
        }
        self.deepest = self.deepest.max(self.path.len() + 1);
        self.at += 1;
        self.space();
        Ok(())
    }

    fn object(&mut self) -> Result<(), ScanError> {
        self.descend()?;
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(());
        }
        let first = self.members.len();
        loop {
            if self.peek() != Some(b'"') {
                return Err(self.syntax("expected a key in quotes"));
            }
            let start = self.at;
            let Text { from, to, escaped } = self.string()?;
            self.members.push(Member {
                start,
                name: (from, to),
                tag: tag(self.bytes.get(from..to).unwrap_or_default()),
                escaped,
                value: (0, 0),
            });
            self.path.push(Step::Key(from, to));
            self.space();
            if self.peek() != Some(b':') {
                return Err(self.syntax("expected ':' after a key"));
            }
            self.at += 1;
            self.space();
            let from = self.at;
            self.value()?;
            if let Some(member) = self.members.last_mut() {
                member.value = (from, self.at);
            }
            self.path.pop();
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    repeated::find(self.bytes, &self.members[first..], &mut self.repeated);
                    if !self.path.is_empty() {
                        self.members.truncate(first);
                    }
                    return Ok(());
                }
                _ => return Err(self.syntax("expected ',' or '}'")),
            }
            self.space();
        }
    }

    fn array(&mut self) -> Result<(), ScanError> {
        self.descend()?;
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(());
        }
        for index in 0.. {
            self.path.push(Step::Index(index));
            self.value()?;
            self.path.pop();
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => {
                    self.at += 1;
                    break;
                }
                _ => return Err(self.syntax("expected ',' or ']'")),
            }
            self.space();
        }
        Ok(())
    }

    fn string(&mut self) -> Result<Text, ScanError> {
        self.at += 1;
        let from = self.at;
        let mut escaped = false;
        loop {
            self.at += plain(self.bytes.get(self.at..).unwrap_or_default());
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    let to = self.at - 1;
                    return Ok(Text { from, to, escaped });
                }
                Some(b'\\') => {
                    escaped = true;
                    self.escape()?;
                }
                Some(_) => return Err(self.syntax("control character in a string")),
                None => return Err(self.syntax("unexpected end of a string")),
            }
        }
    }

    fn escape(&mut self) -> Result<(), ScanError> {
        match self.bytes.get(self.at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                self.at += 2;
                return Ok(());
            }
            Some(b'u') => {}
            _ => return Err(self.syntax("unknown escape in a string")),
        }
        let unit = self.unit(self.at)?;
        self.at += 6;
        match unit {
            0 => Err(self.refuse(Code::NotStorable, "contains a NUL character (\\u0000)")),
            0xD800..=0xDBFF => {
                let low = self.bytes.get(self.at..self.at + 2) == Some(b"\\u".as_slice());
                if low && (0xDC00..=0xDFFF).contains(&self.unit(self.at)?) {
                    self.at += 6;
                    Ok(())
                } else {
                    Err(self.refuse(Code::NotStorable, "contains a lone surrogate"))
                }
            }
            0xDC00..=0xDFFF => Err(self.refuse(Code::NotStorable, "contains a lone surrogate")),
            _ => Ok(()),
        }
    }

    /// The code unit of the `\uXXXX` that starts at `at`.
    fn unit(&self, at: usize) -> Result<u16, ScanError> {
        self.bytes
            .get(at + 2..at + 6)
            .filter(|hex| hex.iter().all(u8::is_ascii_hexdigit))
            .and_then(|hex| std::str::from_utf8(hex).ok())
            .and_then(|hex| u16::from_str_radix(hex, 16).ok())
            .ok_or_else(|| self.syntax("expected four hexadecimal digits after \\u"))
    }

    fn digits(&mut self) -> usize {
        let from = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        self.at - from
    }

    fn number(&mut self) -> Result<(), ScanError> {
        let from = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        let mut whole = 1;
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            whole = self.digits();
            if whole == 0 {
                return Err(self.syntax("expected a digit"));
            }
        }
        let mut fraction = 0;
        if self.peek() == Some(b'.') {
            self.at += 1;
            fraction = self.digits();
            if fraction == 0 {
                return Err(self.syntax("expected a digit after '.'"));
            }
        }
        let mut exponent = 0_isize;
        let plain = !matches!(self.peek(), Some(b'e' | b'E'));
        if !plain {
            self.at += 1;
            let sign_at = self.at;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            if self.digits() == 0 {
                return Err(self.syntax("expected a digit in the exponent"));
            }
            exponent = self.text(sign_at).parse().unwrap_or(isize::MIN / 2);
        }
        let written = self.at - from;
        // Most numbers are short and plain; only the others can be out of range.
        let finite = (plain && written < 300) || self.text(from).parse().is_ok_and(f64::is_finite);
        let digits = whole.saturating_add_signed(exponent)
            + fraction.saturating_add_signed(exponent.saturating_neg());
        self.printed += digits.saturating_sub(written);
        if !finite {
            Err(self.refuse(Code::NotStorable, "number out of range"))
        } else if digits > MAX_DIGITS {
            let message = format!("a number of more than {MAX_DIGITS} digits, written out");
            Err(self.refuse(Code::NotStorable, message))
        } else if self.printed > MAX_GROWTH {
            let message = "with this number, the event's numbers are too long, written out";
            Err(self.refuse(Code::NotStorable, message))
        } else {
            Ok(())
        }
    }

    fn text(&self, from: usize) -> &str {
        self.bytes
            .get(from..self.at)
            .and_then(|b| std::str::from_utf8(b).ok())
            .unwrap_or("")
    }
}

#[cfg(test)]
mod tests;
