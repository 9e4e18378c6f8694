//! What the scanner found in a text.

use std::borrow::Cow;

use crate::json::members::{Members, Raw};

/// A text that was passed.
pub(crate) struct Scanned<'a> {
    /// The text, with each member once.
    pub(crate) text: Cow<'a, str>,
    /// How deep it is nested.
    pub(crate) depth: usize,
    /// If it is an object as it came, its members.
    pub(super) members: Vec<Member>,
}

impl Scanned<'_> {
    /// The members of the object; `None` if it is none.
    pub(crate) fn members(&self) -> Option<Members<'_>> {
        let text = match &self.text {
            Cow::Borrowed(text) if !self.members.is_empty() => text,
            text => return Members::split(text),
        };
        let members = self.members.iter();
        members.map(|member| member.of(text)).collect()
    }
}

/// A member of an object that is being read.
pub(super) struct Member {
    /// Where it begins, with the quotes of its name.
    pub(super) start: usize,
    /// Byte range of the name's text between its quotes.
    pub(super) name: (usize, usize),
    /// [`crate::json::members::tag`] of the name.
    pub(super) tag: u64,
    /// Whether the name has escapes.
    pub(super) escaped: bool,
    /// Byte range of the value, once it is read.
    pub(super) value: (usize, usize),
}

impl Member {
    /// Its name and its value in the text.
    pub(super) fn of<'a>(&self, text: &'a str) -> Option<(Cow<'a, str>, Raw<'a>)> {
        let name = if self.escaped {
            let quoted = text.get(self.start..=self.name.1)?;
            Cow::Owned(serde_json::from_str(quoted).ok()?)
        } else {
            Cow::Borrowed(text.get(self.name.0..self.name.1)?)
        };
        let value = text.get(self.value.0..self.value.1)?;
        Some((name, Raw::from_checked(value)))
    }
}
