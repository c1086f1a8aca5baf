//! Which known name an unknown one is a slip of.

use strsim::osa_distance;

/// The known name that is nearest, if it is near: fewer slips than a third of its
/// letters (at least two), of a letter too many, too few or another, or two that
/// changed places. Else the only one that begins or ends so: a name without its unit.
pub(crate) fn nearest<'k>(name: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    // Nobody misspells a name by becoming this long, and slips are counted in squares.
    if name.len() > 100 {
        return None;
    }
    let known: Vec<_> = known.collect();
    let whole = known.iter().filter_map(|known| near(name, known, known));
    if let Some((_, known)) = whole.min() {
        return Some(known);
    }
    let in_part = known.iter().filter_map(|known| {
        let parts = parts(known).filter_map(|part| near(name, part, known));
        parts.min()
    });
    let mut in_part: Vec<_> = in_part.collect();
    in_part.sort_unstable();
    match in_part[..] {
        [(_, known)] => Some(known),
        [(slips, known), (next, _), ..] if slips < next => Some(known),
        _ => None,
    }
}

/// How many slips lead from a name to such a writing of a known one, if they are few.
fn near<'k>(name: &str, written: &str, known: &'k str) -> Option<(usize, &'k str)> {
    let slips = osa_distance(name, written);
    (slips <= (written.len() / 3).max(2)).then_some((slips, known))
}

/// `max` and `concurrency` of `max_concurrency`: its first words, and its last ones, as
/// far as they say something.
fn parts(known: &str) -> impl Iterator<Item = &str> {
    let ends = known.match_indices('_').map(|(at, _)| at);
    let parts = ends.flat_map(|at| [&known[..at], &known[at + 1..]]);
    parts.filter(|part| part.len() > 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_without_its_unit_is_that_name() {
        let known = || {
            let known = ["stagger_seconds", "max_concurrency", "max_waiting"];
            let known = known
                .into_iter()
                .chain(["tokens_per_day", "tokens_per_minute"]);
            known.chain(["retry_deadline_seconds"])
        };
        for (name, meant) in [
            ("stagger", Some("stagger_seconds")),
            ("stager", Some("stagger_seconds")),
            ("concurrency", Some("max_concurrency")),
            ("retry_deadline", Some("retry_deadline_seconds")),
            // Of which of several?
            ("seconds", None),
            ("tokens", None),
            ("max", None),
        ] {
            assert_eq!(nearest(name, known()), meant, "{name}");
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
        assert_eq!(nearest("seconds", known()), None);
        assert_eq!(nearest(&"x".repeat(10_000), known()), None);
    }
}
