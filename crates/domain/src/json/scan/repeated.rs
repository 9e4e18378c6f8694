//! Members whose name comes again in their object.

use std::borrow::Cow;
use std::collections::HashMap;

use crate::json::members::tag;

/// A member of an object that is being read.
pub(super) struct Member {
    /// Where it begins, with the quotes of its name.
    pub(super) start: usize,
    /// Byte range of the name's text between its quotes.
    pub(super) name: (usize, usize),
    /// Whether the name has escapes.
    pub(super) escaped: bool,
}

/// Each member of so many is compared with each; of more there is a table.
const FEW: usize = 32;

/// Adds the byte ranges of those members of an object that have a later namesake. Each reaches up
/// to the member after it.
pub(super) fn find(text: &[u8], members: &[Member], repeated: &mut Vec<(usize, usize)>) {
    let name = |member: &Member| text.get(member.name.0..member.name.1).unwrap_or_default();
    if members.len() <= FEW && !members.iter().any(|member| member.escaped) {
        let mut tags = [0; FEW];
        for (tag_of, member) in tags.iter_mut().zip(members) {
            *tag_of = tag(name(member));
        }
        for (at, pair) in members.windows(2).enumerate() {
            let mut later = tags.iter().zip(members).skip(at + 1);
            if let ([one, next], Some(tag)) = (pair, tags.get(at))
                && later.any(|(other, member)| other == tag && name(member) == name(one))
            {
                repeated.push((one.start, next.start));
            }
        }
        return;
    }
    let unescaped = |member: &Member| match name(member) {
        plain if !plain.contains(&b'\\') => Cow::Borrowed(plain),
        _ => {
            let quoted = text.get(member.start..=member.name.1).unwrap_or_default();
            let name: String = serde_json::from_slice(quoted).unwrap_or_default();
            Cow::Owned(name.into_bytes())
        }
    };
    let mut last = HashMap::with_capacity(members.len());
    for (at, member) in members.iter().enumerate() {
        if let Some(before) = last.insert(unescaped(member), at)
            && let Some([one, next]) = members.get(before..before + 2)
        {
            repeated.push((one.start, next.start));
        }
    }
}

/// The text without these ranges, one of which may lie within another.
pub(super) fn without(text: &str, mut ranges: Vec<(usize, usize)>) -> String {
    ranges.sort_unstable();
    let mut left = String::with_capacity(text.len());
    let mut at = 0;
    for (from, to) in ranges {
        left.push_str(text.get(at..from).unwrap_or_default());
        at = at.max(to);
    }
    left.push_str(text.get(at..).unwrap_or_default());
    left
}
