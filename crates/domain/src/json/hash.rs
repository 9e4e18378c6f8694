//! The hash of what a JSON text says, however it is written. The values are stored beside the events'
//! ids, so they must never change.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::write::plain;

/// Seeds that tell the kinds apart.
const TEXT: u64 = 1;
const NUMBER: u64 = 2;
const WORD: u64 = 3;
const ARRAY: u64 = 4;
const OBJECT: u64 = 5;

/// Hashes texts one after the other.
#[derive(Debug, Default)]
pub(crate) struct Hasher(u64);

impl Hasher {
    /// Adds a text, or its absence.
    pub(crate) fn text(&mut self, text: Option<&str>) {
        self.0 = mix(
            self.0,
            text.map_or(WORD, |text| of_bytes(TEXT, text.as_bytes())),
        );
    }

    /// Adds what a checked JSON text says, without the members of the outermost object, and of
    /// the objects in it, that `left_out` names.
    pub(crate) fn json(&mut self, text: &str, left_out: &[&str]) {
        let bytes = text.as_bytes();
        let mut reader = Reader { text, bytes, at: 0 };
        self.0 = mix(self.0, reader.value(left_out, 2));
    }

    /// The hash.
    pub(crate) fn finish(self) -> u64 {
        self.0
    }
}

fn of_bytes(seed: u64, bytes: &[u8]) -> u64 {
    xxh3_64_with_seed(bytes, seed)
}

fn mix(one: u64, other: u64) -> u64 {
    xxh3_64_with_seed(&other.to_le_bytes(), one)
}

/// Reads JSON that has been checked; the recursion is as deep as the check allowed.
struct Reader<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    /// The next byte that is neither space nor one of the marks between values.
    fn next(&mut self) -> Option<u8> {
        let skipped = |b: &u8| matches!(b, b' ' | b'\t' | b'\n' | b'\r' | b',' | b':');
        while self.bytes.get(self.at).is_some_and(skipped) {
            self.at += 1;
        }
        self.bytes.get(self.at).copied()
    }

    fn value(&mut self, left_out: &[&str], levels: usize) -> u64 {
        match self.next() {
            Some(b'{') => self.object(left_out, levels),
            Some(b'[') => self.array(),
            Some(b'"') => self.string(|text| of_bytes(TEXT, text.as_bytes())),
            _ => self.scalar(),
        }
    }

    /// The order of members says nothing, so their hashes are added.
    fn object(&mut self, left_out: &[&str], levels: usize) -> u64 {
        self.at += 1;
        let mut sum = 0_u64;
        while self.next() == Some(b'"') {
            let out = levels > 0 && !left_out.is_empty();
            let (key, skip) = self.string(|key| {
                let skip = out && left_out.contains(&key);
                (of_bytes(TEXT, key.as_bytes()), skip)
            });
            let value = self.value(left_out, levels.saturating_sub(1));
            if !skip {
                sum = sum.wrapping_add(mix(key, value));
            }
        }
        self.at += 1;
        mix(OBJECT, sum)
    }

    fn array(&mut self) -> u64 {
        self.at += 1;
        let mut hash = ARRAY;
        while self.next().is_some_and(|byte| byte != b']') {
            hash = mix(hash, self.value(&[], 0));
        }
        self.at += 1;
        mix(hash, ARRAY)
    }

    fn string<T>(&mut self, hash: impl Fn(&str) -> T) -> T {
        let from = self.at;
        self.at += 1;
        let mut escaped = false;
        loop {
            self.at += plain(self.bytes.get(self.at..).unwrap_or_default());
            match self.bytes.get(self.at) {
                Some(b'\\') => {
                    escaped = true;
                    self.at += 2;
                }
                _ => break,
            }
        }
        self.at += 1;
        let quoted = self.text.get(from..self.at).unwrap_or_default();
        if escaped {
            hash(&serde_json::from_str::<String>(quoted).unwrap_or_default())
        } else {
            hash(quoted.trim_matches('"'))
        }
    }

    fn scalar(&mut self) -> u64 {
        let from = self.at;
        let ends = |b: &u8| matches!(b, b',' | b']' | b'}' | b' ' | b'\t' | b'\n' | b'\r');
        while self.bytes.get(self.at).is_some_and(|b| !ends(b)) {
            self.at += 1;
        }
        let text = self.text.get(from..self.at).unwrap_or_default();
        if text.starts_with(|c: char| c == '-' || c.is_ascii_digit()) {
            number(text)
        } else {
            of_bytes(WORD, text.as_bytes())
        }
    }
}

/// The hash of a number's value: of its digits without zeros at the ends, and of where the point is.
fn number(text: &str) -> u64 {
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (negative, mantissa) = match mantissa.strip_prefix('-') {
        Some(rest) => (1_u64, rest),
        None => (0, mantissa),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = match (whole, fraction) {
        (whole, "") => whole.to_owned(),
        (whole, fraction) => [whole, fraction].concat(),
    };
    let significant = digits.trim_start_matches('0');
    let trimmed = significant.trim_end_matches('0');
    if trimmed.is_empty() {
        return NUMBER;
    }
    let count = |text: &str| i64::try_from(text.len()).unwrap_or(i64::MAX);
    let exponent: i64 = exponent.parse().unwrap_or(0);
    let exponent = exponent - count(fraction) + count(significant) - count(trimmed);
    let hash = mix(of_bytes(NUMBER, trimmed.as_bytes()), negative);
    mix(hash, exponent.cast_unsigned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(text: &str) -> u64 {
        let mut hasher = Hasher::default();
        hasher.json(text, &["out"]);
        hasher.finish()
    }

    #[test]
    fn one_content_has_one_hash_however_it_is_written() {
        for (one, other) in [
            (
                r#"{"a":1,"b":[{"c":null}]}"#,
                " {\n\"b\" : [ {\"c\": null } ] , \"a\":1 }",
            ),
            (r#"{"a":"\u0062\/"}"#, r#"{"\u0061":"b/"}"#),
            ("[100,1.5,-0,0.0,12e-1]", "[1e2,1.50,0,0e5,1.2]"),
            (r#"{"a":1,"out":2,"b":{"out":3}}"#, r#"{"a":1,"b":{}}"#),
            (r#"{"a":"\"x\""}"#, r#"{"a":"\u0022x\u0022"}"#),
        ] {
            assert_eq!(hash(one), hash(other), "{one} {other}");
        }
    }

    #[test]
    fn other_content_has_another_hash() {
        let texts = [
            "{}",
            "[]",
            "null",
            "false",
            "0",
            "1",
            "10",
            "-1",
            "0.1",
            r#""""#,
            r#""1""#,
            r#""null""#,
            "[1]",
            "[1,2]",
            "[2,1]",
            "[[1],2]",
            "[[1,2]]",
            "[12]",
            r#"{"a":1}"#,
            r#"{"b":1}"#,
            r#"{"a":"1"}"#,
            r#"{"a":{"b":1}}"#,
            r#"{"a":1,"b":1}"#,
            r#"[{"a":1,"b":2}]"#,
            r#"[{"a":1},{"b":2}]"#,
            r#"{"a":{"b":{"out":1}}}"#,
            r#"{"a":{"b":{}}}"#,
            r#""\"""#,
            r#"{"a":["out"]}"#,
            "1000000000000000000000001",
            "1000000000000000000000002",
        ];
        let mut seen = std::collections::HashMap::new();
        for text in texts {
            assert_eq!(seen.insert(hash(text), text), None, "{text}");
        }
    }

    #[test]
    fn stored_hashes_stay_what_they_are() {
        assert_eq!(hash(r#"{"a":[1.5,"x",null]}"#), STORED);
    }

    /// Never to be changed: databases hold such values.
    const STORED: u64 = 10_323_032_727_380_784_676;
}
