//! JSON written straight to bytes: the two forms that are written of every event. Serde's writer looks
//! at each byte of each name, which doubled what they cost; they are derived too, and tests compare.

mod plain;

use std::borrow::Cow;

use serde::Serialize;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::timestamp;
pub(crate) use plain::plain;

/// A value that can be appended as JSON.
pub trait Write {
    /// Appends it.
    fn write(&self, out: &mut Vec<u8>);

    /// Whether there is nothing in it.
    fn is_absent(&self) -> bool {
        false
    }
}

/// A value as JSON text.
#[must_use]
pub fn text(value: &(impl Write + ?Sized)) -> String {
    let mut text = Vec::new();
    value.write(&mut text);
    // Whatever is written is text.
    String::from_utf8(text).unwrap_or_default()
}

/// Appends an object of fields of `from`: each becomes the member of its name, in this order. One with
/// `?` is left out if there is nothing in it, one after `..` holds names and values that become members
/// themselves; the first is neither.
#[doc(hidden)]
#[macro_export]
macro_rules! __write_object {
    ($out:expr, $from:expr; $($fields:tt)+) => {{
        let (out, from): (&mut Vec<u8>, _) = ($out, $from);
        let start = out.len();
        $crate::write::object!(@ out from; $($fields)+ ,);
        // Each member came with a comma before it.
        if let Some(first) = out.get_mut(start) {
            *first = b'{';
        }
        out.push(b'}');
    }};
    (@ $out:ident $from:ident; $(,)?) => {};
    (@ $out:ident $from:ident; .. $fields:ident, $($rest:tt)*) => {
        for (name, value) in &$from.$fields {
            $out.push(b',');
            $crate::write::Write::write(name, $out);
            $out.push(b':');
            $crate::write::Write::write(value, $out);
        }
        $crate::write::object!(@ $out $from; $($rest)*);
    };
    (@ $out:ident $from:ident; $field:ident ?, $($rest:tt)*) => {
        if !$crate::write::Write::is_absent(&$from.$field) {
            $crate::write::object!(@ $out $from; $field,);
        }
        $crate::write::object!(@ $out $from; $($rest)*);
    };
    (@ $out:ident $from:ident; $field:ident, $($rest:tt)*) => {
        $out.extend_from_slice(concat!(",\"", stringify!($field), "\":").as_bytes());
        $crate::write::Write::write(&$from.$field, $out);
        $crate::write::object!(@ $out $from; $($rest)*);
    };
}

pub use __write_object as object;

impl Write for str {
    #[inline]
    fn write(&self, out: &mut Vec<u8>) {
        if plain(self.as_bytes()) == self.len() {
            out.push(b'"');
            out.extend_from_slice(self.as_bytes());
            out.push(b'"');
        } else {
            derived(self, out);
        }
    }
}

impl Write for String {
    #[inline]
    fn write(&self, out: &mut Vec<u8>) {
        self.as_str().write(out);
    }
}

impl Write for Cow<'_, str> {
    #[inline]
    fn write(&self, out: &mut Vec<u8>) {
        self.as_ref().write(out);
    }
}

impl<T: Write + ?Sized> Write for &T {
    #[inline]
    fn write(&self, out: &mut Vec<u8>) {
        (**self).write(out);
    }

    #[inline]
    fn is_absent(&self) -> bool {
        (**self).is_absent()
    }
}

impl<T: Write> Write for Option<T> {
    #[inline]
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Some(value) => value.write(out),
            None => out.extend_from_slice(b"null"),
        }
    }

    #[inline]
    fn is_absent(&self) -> bool {
        self.is_none()
    }
}

impl<T: Write> Write for [T] {
    fn write(&self, out: &mut Vec<u8>) {
        out.push(b'[');
        for (index, value) in self.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            value.write(out);
        }
        out.push(b']');
    }
}

impl Write for OffsetDateTime {
    fn write(&self, out: &mut Vec<u8>) {
        timestamp::written(*self, |text| text.write(out));
    }
}

impl Write for Uuid {
    fn write(&self, out: &mut Vec<u8>) {
        let mut text = Self::encode_buffer();
        self.hyphenated().encode_lower(&mut text).write(out);
    }
}

impl Write for i64 {
    fn write(&self, out: &mut Vec<u8>) {
        derived(self, out);
    }
}

impl Write for i32 {
    fn write(&self, out: &mut Vec<u8>) {
        derived(self, out);
    }
}

/// As serde writes it.
fn derived<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) {
    // Writing to memory cannot fail.
    let _ = serde_json::to_writer(out, value);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn members_of_a_list_stand_among_the_others() {
        struct Object {
            first: i64,
            absent: Option<i64>,
            list: Vec<(&'static str, &'static str)>,
            last: i64,
        }
        for (list, want) in [
            (vec![], r#"{"first":1,"last":2}"#),
            (
                vec![("a", "b"), ("\"", "")],
                r#"{"first":1,"a":"b","\"":"","last":2}"#,
            ),
        ] {
            let (absent, mut out) = (None, vec![]);
            let object = Object {
                first: 1,
                absent,
                list,
                last: 2,
            };
            object!(&mut out, &object; first, absent?, ..list, last);
            assert_eq!(String::from_utf8(out).unwrap(), want);
        }
    }

    proptest! {
        #[test]
        fn values_are_as_serde_writes_them(texts: Vec<String>, number: i64, small: Option<i32>) {
            let mut out = Vec::new();
            texts.as_slice().write(&mut out);
            prop_assert_eq!(&out, &serde_json::to_vec(&texts).unwrap());
            out.clear();
            number.write(&mut out);
            small.write(&mut out);
            let small = serde_json::to_string(&small).unwrap();
            prop_assert_eq!(String::from_utf8(out).unwrap(), format!("{number}{small}"));
        }
    }
}
