//! An object split into its members without parsing the values.

use std::borrow::Cow;
use std::fmt;

use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use crate::write::Write;

/// The text of a JSON value, without space around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Raw<'a>(&'a str);

impl<'a> Raw<'a> {
    /// The text.
    #[must_use]
    pub fn get(self) -> &'a str {
        self.0
    }

    /// Takes the text of a value that the scanner has passed.
    pub(super) fn from_checked(text: &'a str) -> Self {
        Self(text)
    }
}

impl<'a> From<&'a RawValue> for Raw<'a> {
    fn from(raw: &'a RawValue) -> Self {
        Self(raw.get())
    }
}

impl Serialize for Raw<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let raw: &RawValue = serde_json::from_str(self.0).map_err(S::Error::custom)?;
        raw.serialize(serializer)
    }
}

impl Write for Raw<'_> {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.0.as_bytes());
    }
}

/// The members of an object in their order, each value as its text; the last of equal keys wins,
/// as in `jsonb`.
#[derive(Debug, Clone, Default)]
pub struct Members<'a>(Vec<Member<'a>>);

#[derive(Debug, Clone)]
struct Member<'a> {
    /// [`tag`] of the name.
    tag: u64,
    name: Cow<'a, str>,
    value: Raw<'a>,
}

impl<'a> Member<'a> {
    fn new(name: Cow<'a, str>, value: Raw<'a>) -> Self {
        Self {
            tag: tag(name.as_bytes()),
            name,
            value,
        }
    }
}

/// Equal for equal names, and seldom for others: the length, both ends and the middle. An event's
/// members are looked up some thirty times, most of them in vain.
#[inline]
pub(super) fn tag(name: &[u8]) -> u64 {
    let at = |index: usize| u64::from(name.get(index).copied().unwrap_or_default());
    let length = name.len();
    let ends = at(0) | at(length / 2) << 8 | at(length.wrapping_sub(1)) << 16;
    ends | (length as u64) << 24
}

impl<'a> Members<'a> {
    /// Splits an object. `None` if the text is JSON but no object, or no JSON.
    #[must_use]
    pub fn split(text: &'a str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// The value of `key`; null counts as absent.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<Raw<'a>> {
        let found = self.last(key)?.value;
        (found.get() != "null").then_some(found)
    }

    /// True if the key is there, be it null.
    #[must_use]
    pub fn has(&self, key: &str) -> bool {
        self.last(key).is_some()
    }

    fn last(&self, key: &str) -> Option<&Member<'a>> {
        let tag = tag(key.as_bytes());
        let mut members = self.0.iter().rev();
        members.find(|member| member.tag == tag && member.name == key)
    }

    /// Replaces the member of that name, or appends it.
    pub fn set(&mut self, key: impl Into<Cow<'a, str>>, value: impl Into<Raw<'a>>) {
        let (key, value) = (key.into(), value.into());
        match self.0.iter_mut().rfind(|member| member.name == key) {
            Some(member) => member.value = value,
            None => self.0.push(Member::new(key, value)),
        }
    }

    /// Leaves out the members of these names.
    #[must_use]
    pub fn without(mut self, left_out: impl Fn(&str) -> bool) -> Self {
        self.0.retain(|member| !left_out(&member.name));
        self
    }

    /// Every member, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Raw<'a>)> {
        self.0.iter().map(|member| (&*member.name, member.value))
    }
}

impl<'a> FromIterator<(Cow<'a, str>, Raw<'a>)> for Members<'a> {
    fn from_iter<I: IntoIterator<Item = (Cow<'a, str>, Raw<'a>)>>(members: I) -> Self {
        let members = members.into_iter();
        Self(
            members
                .map(|(name, value)| Member::new(name, value))
                .collect(),
        )
    }
}

impl Write for Members<'_> {
    fn write(&self, out: &mut Vec<u8>) {
        out.push(b'{');
        for (index, Member { name, value, .. }) in self.0.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            name.write(out);
            out.push(b':');
            value.write(out);
        }
        out.push(b'}');
    }
}

impl Serialize for Members<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(
                self,
                mut map: A,
            ) -> Result<Self::Value, A::Error> {
                let mut members = Vec::with_capacity(16);
                while let Some(Key(key)) = map.next_key()? {
                    let value: &RawValue = map.next_value()?;
                    members.push(Member::new(key, value.into()));
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(Visitor)
    }
}

/// A key that borrows unless it has escapes.
struct Key<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Key<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }

            fn visit_borrowed_str<E>(self, key: &'de str) -> Result<Self::Value, E> {
                Ok(Key(key.into()))
            }

            fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
                Ok(Key(key.to_owned().into()))
            }
        }

        deserializer.deserialize_str(Visitor)
    }
}
