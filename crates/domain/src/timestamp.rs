//! Times: UTC, whole microseconds (the precision PostgreSQL keeps).

use serde::Serializer;
use time::format_description::well_known::Rfc3339;
use time::{OffsetDateTime, UtcOffset};

/// Reads a date-time: RFC 3339, also without a zone (= UTC, C14), with a space instead of `T`,
/// without seconds, or a bare date (= midnight UTC). Cut to microseconds. `None` if it is none of these.
#[must_use]
pub fn parse(text: &str) -> Option<OffsetDateTime> {
    let text = text.trim();
    let parsed = OffsetDateTime::parse(text, &Rfc3339)
        .or_else(|error| OffsetDateTime::parse(&completed(text).ok_or(error)?, &Rfc3339))
        .ok()?
        .checked_to_offset(UtcOffset::UTC)?;
    // Years beyond 9999 cannot be written as RFC 3339; an offset can push a time over the edge.
    (0..=9999)
        .contains(&parsed.year())
        .then(|| to_micros(parsed))
}

/// The same moment cut to whole microseconds.
#[must_use]
pub fn to_micros(at: OffsetDateTime) -> OffsetDateTime {
    at.replace_microsecond(at.microsecond()).unwrap_or(at)
}

/// RFC 3339 with `Z` and exactly as many digits as needed: `2024-01-01T12:00:00Z`,
/// `2024-01-01T12:00:00.000001Z`. Written by hand: every event has several, and the general
/// formatting machinery was a tenth of the gateway's work.
#[must_use]
pub fn format(at: OffsetDateTime) -> String {
    let at = at.to_offset(UtcOffset::UTC);
    let (date, clock) = (at.date(), at.time());
    let mut out = Vec::with_capacity(27);
    push_digits(&mut out, date.year().unsigned_abs(), 4);
    out.push(b'-');
    push_digits(&mut out, u8::from(date.month()).into(), 2);
    out.push(b'-');
    push_digits(&mut out, date.day().into(), 2);
    out.push(b'T');
    push_digits(&mut out, clock.hour().into(), 2);
    out.push(b':');
    push_digits(&mut out, clock.minute().into(), 2);
    out.push(b':');
    push_digits(&mut out, clock.second().into(), 2);
    let micros = clock.microsecond();
    if micros != 0 {
        out.push(b'.');
        push_digits(&mut out, micros, 6);
        while out.last() == Some(&b'0') {
            out.pop();
        }
    }
    out.push(b'Z');
    String::from_utf8(out).unwrap_or_default()
}

/// Serializes a time as [`format`] writes it.
///
/// # Errors
/// Those of the serializer.
pub fn serialize<S: Serializer>(at: &OffsetDateTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&format(*at))
}

/// As [`serialize`]; `None` is null.
///
/// # Errors
/// Those of the serializer.
pub fn serialize_option<S: Serializer>(
    at: &Option<OffsetDateTime>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match at {
        Some(at) => serialize(at, serializer),
        None => serializer.serialize_none(),
    }
}

/// Appends the last `width` digits of a number, zeros in front.
fn push_digits(out: &mut Vec<u8>, number: u32, width: u32) {
    for place in (0..width).rev() {
        out.push(b'0' + u8::try_from(number / 10_u32.pow(place) % 10).unwrap_or(0));
    }
}

/// RFC 3339 made of the forms that leave something out: the time, the seconds, the zone.
fn completed(text: &str) -> Option<String> {
    let (date, rest) = text.split_at_checked(10)?;
    let Some(rest) = rest.strip_prefix(['T', 't', ' ']) else {
        return rest.is_empty().then(|| format!("{date}T00:00:00Z"));
    };
    let (clock, zone) = rest.split_at(rest.find(['Z', 'z', '+', '-']).unwrap_or(rest.len()));
    let seconds = if clock.len() == 5 { ":00" } else { "" };
    let zone = match zone.len() {
        0 => "Z".to_owned(),
        3 => format!("{zone}:00"),
        5 => format!("{}:{}", zone.get(..3)?, zone.get(3..)?),
        _ => zone.to_owned(),
    };
    Some(format!("{date}T{}{seconds}{zone}", clock.replace(',', ".")))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn accepted_forms() {
        for (text, want) in [
            ("2024-01-01T12:00:00Z", "2024-01-01T12:00:00Z"),
            (
                "2024-01-01T12:00:00.1234567Z",
                "2024-01-01T12:00:00.123456Z",
            ),
            ("2024-01-01T12:00:00", "2024-01-01T12:00:00Z"),
            ("2024-01-01 12:00:00.5", "2024-01-01T12:00:00.5Z"),
            ("2024-01-01T12:00", "2024-01-01T12:00:00Z"),
            ("2024-02-29", "2024-02-29T00:00:00Z"),
            ("2024-01-01T00:30:00+02:00", "2023-12-31T22:30:00Z"),
            ("2024-01-01T00:30:00-0230", "2024-01-01T03:00:00Z"),
            ("2024-01-01t12:00:00z", "2024-01-01T12:00:00Z"),
            (
                "2024-01-01 12:00:00.12345678901",
                "2024-01-01T12:00:00.123456Z",
            ),
            ("2016-12-31T23:59:60Z", "2016-12-31T23:59:59.999999Z"),
            ("2016-12-31 23:59:60.5", "2016-12-31T23:59:59.999999Z"),
            (" 2024-01-01T12:00:00Z\n", "2024-01-01T12:00:00Z"),
            ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"),
            ("9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59.999999Z"),
        ] {
            assert_eq!(parse(text).map(format).as_deref(), Some(want), "{text}");
        }
    }

    #[test]
    fn refused_forms() {
        for text in [
            "",
            "now",
            "2023-02-29",
            "2024-13-01",
            "2024-01-01T25:00:00Z",
            "24-01-01",
            "2024-01-01T12:00:00Z junk",
            "12345",
            "2024-01-01T",
            "2024-01-01T12:00:60Z",
            "2024-01-01T12:00:00.",
            "2024-01-01 12:00:00.5x",
            "2024-01-01T12:00:00+25:00x",
            "+10000-01-01T00:00:00Z",
            "-0001-01-01T00:00:00Z",
            "0000-01-01T00:00:00+14:00",
            "9999-12-31T23:59:59-14:00",
            "２０２４-01-01",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused_without_panic(text in "\\PC{0,40}") {
            let _ = parse(&text);
        }

        #[test]
        fn near_dates_never_panic(text in "[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\\.[0-9]{0,10})?)?(Z|[+-][0-9]{2}:?[0-9]{2})?") {
            let _ = parse(&text);
        }

        #[test]
        fn what_is_written_reads_back(micros in 0_i64..253_402_300_799_000_000) {
            let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(micros) * 1000).unwrap();
            prop_assert_eq!(parse(&format(at)), Some(at));
        }
    }
}
