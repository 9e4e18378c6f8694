//! The words of a text.

use std::ops::Range;

/// Longest word, in characters; of a longer one the begin counts.
const LONGEST: usize = 64;

/// The words of a text, in lower case, with the bytes where they stand: runs of letters and digits. Of
/// scripts without spaces each sign is a word, so that what stands side by side is found as a phrase.
pub(super) fn words(text: &str) -> impl Iterator<Item = (Range<usize>, String)> {
    let mut left = text.char_indices().peekable();
    std::iter::from_fn(move || {
        let (begin, first) = left.find(|(_, c)| c.is_alphanumeric())?;
        let mut end = begin + first.len_utf8();
        if !is_sign(first) {
            let goes_on = |&(_, c): &(usize, char)| c.is_alphanumeric() && !is_sign(c);
            while let Some((at, c)) = left.next_if(goes_on) {
                end = at + c.len_utf8();
            }
        }
        let word = text.get(begin..end).unwrap_or_default().to_lowercase();
        Some((begin..end, word.chars().take(LONGEST).collect()))
    })
}

/// Of a script that puts no spaces between words.
fn is_sign(c: char) -> bool {
    matches!(u32::from(c),
        0x0E00..=0x0EFF | 0x3040..=0x30FF | 0x3400..=0x4DBF | 0x4E00..=0x9FFF | 0xF900..=0xFAFF
        | 0x2_0000..=0x3_FFFF)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_runs_of_letters_and_digits() {
        let of = |text| words(text).map(|(_, word)| word).collect::<Vec<_>>();
        assert_eq!(
            of("Order-17: ÄPFEL, bob@x.org"),
            ["order", "17", "äpfel", "bob", "x", "org"]
        );
        assert_eq!(of("東京tower"), ["東", "京", "tower"]);
        assert!(of("🎉 … --").is_empty());
        assert_eq!(of(&"a".repeat(500)), ["a".repeat(64)]);
    }
}
