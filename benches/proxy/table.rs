//! What was measured beside what is demanded.

use std::fmt;

use super::rounds::{Figures, median};

/// All rounds of one subject.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rounds(pub(crate) Vec<Figures>);

impl Rounds {
    pub(crate) fn median(&self, of: fn(&Figures) -> f64) -> f64 {
        median(self.0.iter().map(of))
    }

    /// The median of the rounds' own ratios.
    pub(crate) fn ratio(&self, other: &Rounds, of: fn(&Figures) -> f64) -> f64 {
        median(self.pairs(other).map(|(one, other)| of(one) / of(other)))
    }

    /// The median of what each round has more, in milliseconds.
    pub(crate) fn added(&self, other: &Rounds, of: fn(&Figures) -> f64) -> f64 {
        let pairs = self.pairs(other);
        median(pairs.map(|(one, other)| (of(one) - of(other)) / 1_000.0))
    }

    fn pairs<'r>(&'r self, other: &'r Rounds) -> impl Iterator<Item = (&'r Figures, &'r Figures)> {
        self.0.iter().zip(&other.0)
    }
}

pub(crate) const HEAD: &str = "subject               req/s  busy %  CPU us    p50 us    p99 us  \
     stream: CPU us  first us   paced: CPU us    longest gap ms";

/// One line of the table: the medians, and of the gaps the longest.
pub(crate) struct Row<'r>(pub(crate) &'r str, pub(crate) &'r Rounds);

impl fmt::Display for Row<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Row(name, rounds) = self;
        write!(
            f,
            "{name:<19}{:>8.0}{:>8.0}{:>8.1}{:>10.0}{:>10.0}{:>16.1}{:>10.0}{:>16.1}{:>18.1}",
            rounds.median(|figures| figures.rate),
            rounds.median(|figures| figures.busy * 100.0),
            rounds.median(|figures| figures.cpu),
            rounds.median(|figures| figures.p50),
            rounds.median(|figures| figures.p99),
            rounds.median(|figures| figures.burst_cpu),
            rounds.median(|figures| figures.first),
            rounds.median(|figures| figures.paced_cpu),
            rounds.median(|figures| figures.gap) / 1_000.0,
        )
    }
}

/// One thing that must hold.
pub(crate) struct Demand {
    pub(crate) what: &'static str,
    pub(crate) found: f64,
    pub(crate) bound: Bound,
}

#[derive(Clone, Copy)]
pub(crate) enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

impl Demand {
    pub(crate) fn is_kept(&self) -> bool {
        match self.bound {
            Bound::AtLeast(least) => self.found >= least,
            Bound::AtMost(most) => self.found <= most,
        }
    }
}

impl fmt::Display for Demand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (word, number) = match self.bound {
            Bound::AtLeast(least) => ("at least", least),
            Bound::AtMost(most) => ("at most", most),
        };
        let verdict = if self.is_kept() { "kept" } else { "MISSED" };
        write!(
            f,
            "{:<66}{:>10.2}  {word:<8}{number:>8.2}  {verdict}",
            self.what, self.found
        )
    }
}
