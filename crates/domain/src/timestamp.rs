//! Times: UTC, whole microseconds (the precision PostgreSQL keeps).

use serde::Serializer;
use time::format_description::well_known::Rfc3339;
use time::{Date, Month, OffsetDateTime, PrimitiveDateTime, Time, UtcOffset};

/// Reads a date-time: RFC 3339, also without a zone (= UTC, C14), with a space instead of `T`,
/// without seconds, or a bare date (= midnight UTC). Cut to microseconds. `None` if it is none of these.
#[must_use]
pub fn parse(text: &str) -> Option<OffsetDateTime> {
    if let Some(at) = as_written(text) {
        return Some(at);
    }
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

/// Reads what [`format`] writes: on the log every event has two of these. `None` for anything else, valid
/// or not.
fn as_written(text: &str) -> Option<OffsetDateTime> {
    let (date, clock) = text.strip_suffix('Z')?.split_once('T')?;
    let number = |text: &str, from: usize, to: usize| -> Option<u32> {
        let digits = text.as_bytes().get(from..to)?;
        digits.iter().try_fold(0, |number, byte| {
            byte.is_ascii_digit()
                .then(|| number * 10 + u32::from(byte - b'0'))
        })
    };
    let small = |text, from, to| u8::try_from(number(text, from, to)?).ok();
    let is = |text: &str, at: usize, byte: u8| text.as_bytes().get(at) == Some(&byte);
    if date.len() != 10 || !is(date, 4, b'-') || !is(date, 7, b'-') {
        return None;
    }
    if !is(clock, 2, b':') || !is(clock, 5, b':') {
        return None;
    }
    let micros = match clock.len() {
        8 => 0,
        length @ 10..=15 if is(clock, 8, b'.') => {
            number(clock, 9, length)? * 10_u32.pow(u32::try_from(15 - length).ok()?)
        }
        _ => return None,
    };
    let month = Month::try_from(small(date, 5, 7)?).ok()?;
    let year = i32::try_from(number(date, 0, 4)?).ok()?;
    let date = Date::from_calendar_date(year, month, small(date, 8, 10)?).ok()?;
    let (hour, minute, second) = (
        small(clock, 0, 2)?,
        small(clock, 3, 5)?,
        small(clock, 6, 8)?,
    );
    let clock = Time::from_hms_micro(hour, minute, second, micros).ok()?;
    Some(PrimitiveDateTime::new(date, clock).assume_utc())
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
    written(at, |text| text.to_owned())
}

/// Gives the text of [`format`] to `take`.
pub(crate) fn written<T>(at: OffsetDateTime, take: impl FnOnce(&str) -> T) -> T {
    let at = at.to_offset(UtcOffset::UTC);
    let (year, month, day) = at.to_calendar_date();
    let (hour, minute, second, micros) = at.to_hms_micro();
    let mut text = *b"0000-00-00T00:00:00.000000Z";
    set_digits(&mut text[..4], year.unsigned_abs());
    set_digits(&mut text[5..7], u8::from(month).into());
    set_digits(&mut text[8..10], day.into());
    set_digits(&mut text[11..13], hour.into());
    set_digits(&mut text[14..16], minute.into());
    set_digits(&mut text[17..19], second.into());
    let mut length = 19;
    if micros != 0 {
        set_digits(&mut text[20..26], micros);
        length = 26;
        while text[length - 1] == b'0' {
            length -= 1;
        }
    }
    text[length] = b'Z';
    take(std::str::from_utf8(&text[..=length]).unwrap_or_default())
}

/// Serializes a time as [`format`] writes it.
///
/// # Errors
/// Those of the serializer.
pub fn serialize<S: Serializer>(at: &OffsetDateTime, serializer: S) -> Result<S::Ok, S::Error> {
    written(*at, |text| serializer.serialize_str(text))
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

/// Writes the last digits of a number, as many as there is room for, zeros in front.
fn set_digits(room: &mut [u8], mut number: u32) {
    for digit in room.iter_mut().rev() {
        *digit = b'0' + u8::try_from(number % 10).unwrap_or(0);
        number /= 10;
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
        fn what_is_read_quickly_is_read_alike(text in "[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-6][0-9]:[0-6][0-9](\\.[0-9]{0,7})?Z") {
            if let Some(at) = as_written(&text) {
                let general = OffsetDateTime::parse(&text, &Rfc3339).ok();
                prop_assert_eq!(general.map(to_micros), Some(at));
            }
        }

        #[test]
        fn what_is_written_reads_back(micros in 0_i64..253_402_300_799_000_000) {
            let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(micros) * 1000).unwrap();
            prop_assert_eq!(parse(&format(at)), Some(at));
            prop_assert_eq!(as_written(&format(at)), Some(at));
        }
    }
}
