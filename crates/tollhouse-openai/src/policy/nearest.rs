//! Which known name an unknown one is a slip of.

/// The known name that is nearest, if it is near: fewer slips than a third of its
/// letters (at least two), of a letter too many, too few or another, or two that
/// changed places.
pub(crate) fn nearest<'k>(name: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    // Nobody misspells a name by becoming this long, and slips are counted in squares.
    if name.len() > 100 {
        return None;
    }
    let slips = known.map(|known| (slips(name.as_bytes(), known.as_bytes()), known));
    let (slips, known) = slips.min()?;
    (slips <= (known.len() / 3).max(2)).then_some(known)
}

/// How many slips lead from one to the other.
pub(super) fn slips(one: &[u8], other: &[u8]) -> usize {
    let mut before = Vec::new();
    let mut above: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in other.iter().enumerate() {
            let replaced = above[j] + usize::from(a != b);
            let mut least = replaced.min(above[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *a == other[j - 1] && one[i - 1] == *b {
                least = least.min(before[j - 1] + 1);
            }
            row.push(least);
        }
        before = std::mem::replace(&mut above, row);
    }
    above[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_counted() {
        for (one, other, count) in [
            ("", "", 0),
            ("a", "", 1),
            ("tpm", "tpm", 0),
            ("tmp", "tpm", 1),
            ("tokens", "token", 1),
            ("tokens_per_min", "tokens_per_minute", 3),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(
                slips(one.as_bytes(), other.as_bytes()),
                count,
                "{one} {other}"
            );
            assert_eq!(
                slips(other.as_bytes(), one.as_bytes()),
                count,
                "{other} {one}"
            );
        }
    }

    #[test]
    fn what_is_far_is_nobodys_slip() {
        let known = || ["headroom", "tokens_per_minute"].into_iter();
        assert_eq!(nearest("headrom", known()), Some("headroom"));
        assert_eq!(
            nearest("token_per_minutes", known()),
            Some("tokens_per_minute")
        );
        assert_eq!(nearest("colour", known()), None);
        assert_eq!(nearest(&"x".repeat(10_000), known()), None);
    }
}
