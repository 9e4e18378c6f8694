//! Types that are likely to be others, misspelt.

use super::names::words;

/// A type is known where it is so many times as frequent as what could be a typo of it.
const KNOWN: i64 = 20;
/// Characters that a name must have for one letter to be a typo, and for two.
const ONE: usize = 5;
const TWO: usize = 12;

/// The types that are likely to be others: by their words, or but for a letter or two. `types` are names
/// with the number of their events.
#[must_use]
pub fn typos(types: &[(String, i64)]) -> Vec<(&str, &str)> {
    let of = |(name, count): &'_ (String, i64)| (words(name).join("_"), *count);
    let all: Vec<(String, i64)> = types.iter().map(of).collect();
    let mut found = vec![];
    for (typo, (plain, count)) in types.iter().zip(&all) {
        let known = types.iter().zip(&all).filter(|(other, (like, many))| {
            *other != typo && *many >= count.saturating_mul(KNOWN) && is_like(plain, like)
        });
        let most = known.max_by_key(|(_, (_, many))| *many);
        found.extend(most.map(|(known, _)| (typo.0.as_str(), known.0.as_str())));
    }
    found
}

fn is_like(one: &str, other: &str) -> bool {
    let (a, b): (Vec<char>, Vec<char>) = (one.chars().collect(), other.chars().collect());
    let shorter = a.len().min(b.len());
    let most = match shorter {
        TWO.. => 2,
        ONE.. => 1,
        _ => 0,
    };
    a.len().abs_diff(b.len()) <= most && !differs_by_number(&a, &b) && distance(&a, &b) <= most
}

/// `step_1` and `step_2` are no typos of each other.
fn differs_by_number(a: &[char], b: &[char]) -> bool {
    let letters = |name: &[char]| -> Vec<char> {
        name.iter()
            .copied()
            .filter(|c| !c.is_ascii_digit())
            .collect()
    };
    a != b && letters(a) == letters(b)
}

/// How many letters must be changed, added, left out, or swapped with the next.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let at = |back: usize, column: usize| {
                let row = (i + 1).checked_sub(back).and_then(|row| rows.get(row));
                row.and_then(|row| row.get(column))
                    .copied()
                    .unwrap_or(usize::MAX - 9)
            };
            let left = row.get(j).copied().unwrap_or(usize::MAX - 9);
            let mut best = (at(1, j) + usize::from(x != y))
                .min(at(1, j + 1) + 1)
                .min(left + 1);
            let swapped = i > 0 && j > 0 && a.get(i - 1) == Some(y) && b.get(j - 1) == Some(x);
            if swapped && let Some(column) = j.checked_sub(1) {
                best = best.min(at(2, column) + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows.last().and_then(|row| row.last()).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rare_types_that_are_like_frequent_ones_are_typos() {
        let types = [
            ("order.placed", 10_000),
            ("order.paid", 9_000),
            ("order.plcaed", 3),
            ("orderPlaced", 12),
            ("order.placced", 1),
            ("order.shipped", 5),
            ("step_1", 1_000),
            ("step_2", 2),
            ("page.viewed", 900),
            ("page.view", 800),
        ]
        .map(|(name, count)| (name.to_owned(), count));
        let found = typos(&types);
        let want = [
            ("order.plcaed", "order.placed"),
            ("orderPlaced", "order.placed"),
            ("order.placced", "order.placed"),
        ];
        assert_eq!(found, want);
    }
}
