//! Members whose name comes again in their object.

use std::borrow::Cow;
use std::collections::HashMap;

use super::scanned::Member;

/// Each member of so many is compared with each; of more there is a table.
const FEW: usize = 32;

/// Adds the byte ranges of those members of an object that have a later namesake. Each reaches up
/// to the member after it.
pub(super) fn find(text: &[u8], members: &[Member], repeated: &mut Vec<(usize, usize)>) {
    let name = |member: &Member| text.get(member.name.0..member.name.1).unwrap_or_default();
    if members.len() <= FEW && !members.iter().any(|member| member.escaped) {
        let mut rest = members;
        while let [one, later @ ..] = rest {
            rest = later;
            let same = |other: &Member| other.tag == one.tag && name(other) == name(one);
            if let [next, ..] = later
                && later.iter().any(same)
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
