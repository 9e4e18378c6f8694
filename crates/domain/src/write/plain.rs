//! The bytes of a string that stand for themselves.

/// How many bytes of a string come before its end, an escape or a control character; eight at a time,
/// because most of an event is text.
pub(crate) fn plain(rest: &[u8]) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    // The high bit of each byte that is less than `than`, which is at most 128. The first that is marked
    // is right; one behind it may be marked wrongly.
    let less = |eight: u64, than: u64| eight.wrapping_sub(ONES * than) & !eight & HIGH;
    let (eights, _) = rest.as_chunks::<8>();
    for (index, eight) in eights.iter().enumerate() {
        let eight = u64::from_le_bytes(*eight);
        let quote = less(eight ^ (ONES * u64::from(b'"')), 1);
        let escape = less(eight ^ (ONES * u64::from(b'\\')), 1);
        let found = quote | escape | less(eight, 0x20);
        if found != 0 {
            return index * 8 + found.trailing_zeros() as usize / 8;
        }
    }
    let at = eights.len() * 8;
    let last = rest.get(at..).unwrap_or_default();
    let is_plain = |byte: &&u8| !matches!(byte, b'"' | b'\\' | 0..=0x1f);
    at + last.iter().take_while(is_plain).count()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn one_by_one(bytes: &[u8]) -> usize {
        let is_plain = |byte: &&u8| !matches!(byte, b'"' | b'\\' | 0..=0x1f);
        bytes.iter().take_while(is_plain).count()
    }

    #[test]
    fn every_byte_is_told_at_every_place() {
        for byte in 0..=u8::MAX {
            for at in 0..20 {
                for around in [b' ', b'!', b'#', b'[', b']', 0x7f, 0x80, 0xff] {
                    let mut bytes = [around; 20];
                    bytes[at] = byte;
                    assert_eq!(plain(&bytes), one_by_one(&bytes), "{byte} at {at}");
                }
            }
        }
    }

    proptest! {
        #[test]
        fn any_bytes_agree(bytes: Vec<u8>) {
            prop_assert_eq!(plain(&bytes), one_by_one(&bytes));
        }
    }
}
