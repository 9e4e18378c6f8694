//! Headers of a record as one column.

/// Headers as they stand in their column: length and bytes of each name and value, in order, the
/// lengths as four bytes, most significant first.
#[must_use]
pub fn pack_headers<'a>(headers: impl Iterator<Item = (&'a str, &'a [u8])>) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in headers {
        for part in [name.as_bytes(), value] {
            // A record, and so each part of it, is far below 4 GiB.
            out.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
            out.extend_from_slice(part);
        }
    }
    out
}

/// The reverse of [`pack_headers`]; stops at what is none.
#[must_use]
pub fn unpack_headers(mut bytes: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut headers = Vec::new();
    while let Some(name) = part(&mut bytes)
        && let Some(value) = part(&mut bytes)
    {
        headers.push((String::from_utf8_lossy(name).into_owned(), value.to_vec()));
    }
    headers
}

fn part<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (part, rest) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
    *bytes = rest;
    Some(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_come_back_as_they_were() {
        let headers = [
            ("a", &b"1"[..]),
            ("", b""),
            ("a", b"\0\xff"),
            ("\u{e4}", b"x"),
        ];
        let packed = pack_headers(headers.into_iter());
        let unpacked = unpack_headers(&packed);
        let expected: Vec<_> = headers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.to_vec()))
            .collect();
        assert_eq!(unpacked, expected);
        assert_eq!(unpack_headers(&[]), []);
        assert_eq!(unpack_headers(packed.split_last().unwrap().1).len(), 3);
    }
}
