//! Times: UTC, whole microseconds (the precision PostgreSQL keeps).

use time::format_description::well_known::Rfc3339;
use time::{Date, Month, OffsetDateTime, PrimitiveDateTime, Time, UtcOffset};

/// Reads a date-time: RFC 3339, also without a zone (= UTC, C14), with a space instead of `T`,
/// without seconds, or a bare date (= midnight UTC). Cut to microseconds. `None` if it is none of these.
#[must_use]
pub fn parse(text: &str) -> Option<OffsetDateTime> {
    let text = text.trim();
    let parsed = match OffsetDateTime::parse(text, &Rfc3339) {
        Ok(exact) => exact.checked_to_offset(UtcOffset::UTC)?,
        Err(_) => parse_lenient(text)?,
    };
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

/// Appends the last `width` digits of a number, zeros in front.
fn push_digits(out: &mut Vec<u8>, number: u32, width: u32) {
    for place in (0..width).rev() {
        out.push(b'0' + u8::try_from(number / 10_u32.pow(place) % 10).unwrap_or(0));
    }
}

fn parse_lenient(text: &str) -> Option<OffsetDateTime> {
    if !text.is_ascii() {
        return None;
    }
    let (day, rest) = text.split_at_checked(10)?;
    let date = parse_date(day)?;
    if rest.is_empty() {
        return Some(PrimitiveDateTime::new(date, Time::MIDNIGHT).assume_utc());
    }
    let rest = rest.strip_prefix(['T', 't', ' '])?;
    let (clock, offset) = split_offset(rest)?;
    let local = PrimitiveDateTime::new(date, parse_clock(clock)?);
    local
        .assume_offset(offset)
        .checked_to_offset(UtcOffset::UTC)
}

fn digits(text: &str) -> Option<u32> {
    (!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok())?
}

fn parse_date(text: &str) -> Option<Date> {
    let mut parts = text.split('-');
    let (y, m, d) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() || (y.len(), m.len(), d.len()) != (4, 2, 2) {
        return None;
    }
    let month = Month::try_from(u8::try_from(digits(m)?).ok()?).ok()?;
    Date::from_calendar_date(
        i32::try_from(digits(y)?).ok()?,
        month,
        u8::try_from(digits(d)?).ok()?,
    )
    .ok()
}

fn parse_clock(text: &str) -> Option<Time> {
    let (whole, fraction) = text.split_once(['.', ',']).unwrap_or((text, "0"));
    let mut parts = whole.split(':');
    let mut two = || -> Option<u8> {
        let part = parts.next()?;
        (part.len() == 2).then(|| u8::try_from(digits(part)?).ok())?
    };
    let (hour, minute) = (two()?, two()?);
    let second = if whole.len() > 5 { two()? } else { 0 };
    let countable = !fraction.is_empty() && fraction.bytes().all(|b| b.is_ascii_digit());
    if parts.next().is_some() || !countable {
        return None;
    }
    if (minute, second) == (59, 60) {
        // A leap second is the last moment of its minute, as RFC 3339 texts with a zone are read.
        return Time::from_hms_nano(hour, minute, 59, 999_999_999).ok();
    }
    let kept = fraction.get(..9).unwrap_or(fraction);
    let nanos = digits(kept)? * 10_u32.pow(9 - u32::try_from(kept.len()).ok()?);
    Time::from_hms_nano(hour, minute, second, nanos).ok()
}

fn split_offset(text: &str) -> Option<(&str, UtcOffset)> {
    if let Some(clock) = text.strip_suffix(['Z', 'z']) {
        return Some((clock, UtcOffset::UTC));
    }
    let Some(at) = text.rfind(['+', '-']) else {
        return Some((text, UtcOffset::UTC));
    };
    let (clock, offset) = text.split_at_checked(at)?;
    let sign = if offset.starts_with('-') { -1 } else { 1 };
    let plain: String = offset.get(1..)?.chars().filter(|c| *c != ':').collect();
    let (hours, minutes) = match plain.len() {
        2 => (digits(&plain)?, 0),
        4 => (digits(plain.get(..2)?)?, digits(plain.get(2..)?)?),
        _ => return None,
    };
    let (hours, minutes) = (i8::try_from(hours).ok()?, i8::try_from(minutes).ok()?);
    if minutes > 59 {
        return None;
    }
    Some((
        clock,
        UtcOffset::from_hms(sign * hours, sign * minutes, 0).ok()?,
    ))
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
