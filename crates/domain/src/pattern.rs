//! Patterns for event types (C36): a glob per segment, `user.*`, `order.*.paid`, `**.failed`.

/// Longest pattern, in characters; event types are no longer.
pub const MAX_CHARS: usize = 255;

/// A pattern for event types, whose segments are separated by dots. `*` within a segment stands
/// for any characters of it, `*` alone for one segment, at the end for one or more; `**` stands for
/// any number of segments, none included. Everything else is itself: case counts.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TypePattern(Box<str>);

impl TypePattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// A sentence about what is wrong: it is empty, too long or has a NUL.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.is_empty() {
            return Err("must not be empty".to_owned());
        }
        if text.chars().count() > MAX_CHARS {
            return Err(format!("must have at most {MAX_CHARS} characters"));
        }
        if text.contains('\0') {
            return Err("must not contain NUL".to_owned());
        }
        Ok(Self(text.into()))
    }

    /// The text it was read from.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether events of that type are meant.
    #[must_use]
    pub fn matches(&self, event_type: &str) -> bool {
        if !self.0.contains('*') {
            return *self.0 == *event_type;
        }
        let (pattern, open) = match self.0.strip_suffix('*') {
            // `a.*` at the end: one segment, and any number after it.
            Some(head) if head.is_empty() || head.ends_with('.') => (&*self.0, true),
            _ => (&*self.0, false),
        };
        let segments = pattern.split('.').chain(open.then_some("**"));
        let segments: Segments<'_> = segments.collect();
        let words: Segments<'_> = event_type.split('.').collect();
        glob(
            &segments,
            &words,
            |segment| *segment == "**",
            |segment, word| {
                glob(
                    segment.as_bytes(),
                    word.as_bytes(),
                    |byte| *byte == b'*',
                    |byte, other| byte == other,
                )
            },
        )
    }
}

type Segments<'a> = Vec<&'a str>;

/// Whether `text` is what `pattern` says, where a `wild` item stands for any number of items. Goes
/// back to the last wild item only, so it takes at most |pattern| x |text| steps.
fn glob<P, T>(
    pattern: &[P],
    text: &[T],
    wild: impl Fn(&P) -> bool,
    same: impl Fn(&P, &T) -> bool,
) -> bool {
    let (mut at, mut next) = (0, 0);
    // After the last wild item, and where in the text it was last taken to end.
    let mut back: Option<(usize, usize)> = None;
    while let Some(item) = text.get(next) {
        match pattern.get(at) {
            Some(wanted) if wild(wanted) => {
                at += 1;
                back = Some((at, next));
            }
            Some(wanted) if same(wanted, item) => {
                at += 1;
                next += 1;
            }
            _ => match &mut back {
                Some((after, end)) => {
                    *end += 1;
                    (at, next) = (*after, *end);
                }
                None => return false,
            },
        }
    }
    pattern.iter().skip(at).all(wild)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, event_type: &str) -> bool {
        TypePattern::parse(pattern).unwrap().matches(event_type)
    }

    #[test]
    fn each_form_means_what_it_says() {
        for (pattern, yes, no) in [
            (
                "user.created",
                vec!["user.created"],
                vec!["user.Created", "user.created.x", "user", "auser.created"],
            ),
            (
                "user.*",
                vec!["user.created", "user.a.b", "user."],
                vec!["user", "users.created"],
            ),
            (
                "user.**",
                vec!["user", "user.created", "user.a.b"],
                vec!["users"],
            ),
            ("*", vec!["a", "a.b", ""], vec![]),
            ("**", vec!["a", "a.b.c", ""], vec![]),
            (
                "*.created",
                vec!["user.created"],
                vec!["created", "a.b.created"],
            ),
            (
                "**.failed",
                vec!["failed", "a.failed", "a.failed.b.failed"],
                vec!["a.failed.b"],
            ),
            ("a.*.c", vec!["a.b.c"], vec!["a.c", "a.b.b.c", "a.b.c.d"]),
            ("a.**.c", vec!["a.c", "a.b.c", "a.b.c.c"], vec!["a.b", "c"]),
            (
                "user.log*",
                vec!["user.login", "user.log"],
                vec!["user.lo", "user.login.x"],
            ),
            ("*_*.x", vec!["a_b.x", "_.x"], vec!["ab.x"]),
            ("a.*.*", vec!["a.b.c", "a.b.c.d"], vec!["a.b"]),
            ("é.*", vec!["é.ü"], vec!["e.ü"]),
        ] {
            for event_type in yes {
                assert!(matches(pattern, event_type), "{pattern} {event_type}");
            }
            for event_type in no {
                assert!(!matches(pattern, event_type), "{pattern} {event_type}");
            }
        }
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for bad in ["", "  ", "a\0b", &"a".repeat(256)] {
            assert!(TypePattern::parse(bad).is_err(), "{bad:?}");
        }
        assert_eq!(TypePattern::parse(" a.* ").unwrap().as_str(), "a.*");
    }

    #[test]
    fn a_hostile_pattern_ends_soon() {
        let pattern = "**.a*a*a*a*a*a*b.".repeat(12);
        assert!(!matches(&pattern, &"a".repeat(255)));
        assert!(!matches(&pattern, &"aaaaaaaaaaaa.".repeat(19)));
    }
}
