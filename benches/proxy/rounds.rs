//! The subjects in turn, again and again, so that what else the machine does falls on all.

use std::time::Duration;

use super::Result;
use super::load::{Answered, ask_for};
use super::subject::Subject;
use super::upstream::Kind;

/// What one subject did in one round; times are in microseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Figures {
    /// Plain requests a second, over 16 connections.
    pub(crate) rate: f64,
    /// Of the core that it has, meanwhile.
    pub(crate) busy: f64,
    /// Its CPU for each.
    pub(crate) cpu: f64,
    /// A plain request over one connection.
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    /// Its CPU for a stream whose events come at once, over 16 connections.
    pub(crate) burst_cpu: f64,
    /// To the first event of such a stream, over one connection.
    pub(crate) first: f64,
    /// Its CPU for a stream whose events come one by one.
    pub(crate) paced_cpu: f64,
    /// The longest time in which nothing came of any stream.
    pub(crate) gap: f64,
}

/// What each part of a round takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part {
    pub(crate) time: Duration,
}

impl Part {
    /// All that is measured of one subject.
    pub(crate) async fn of(self, address: &str, subject: Option<&Subject>) -> Result<Figures> {
        let (plain, cpu) = self.load(address, subject, Kind::Plain, 16).await?;
        let (one, _) = self.load(address, subject, Kind::Plain, 1).await?;
        let (burst, burst_cpu) = self.load(address, subject, Kind::Burst, 16).await?;
        let (burst_one, _) = self.load(address, subject, Kind::Burst, 1).await?;
        let (paced, paced_cpu) = self.load(address, subject, Kind::Paced, 16).await?;
        let streams = || burst.iter().chain(&burst_one).chain(&paced);
        let gap = streams().map(|answered| answered.gap).max();
        Ok(Figures {
            rate: plain.len() as f64 / self.time.as_secs_f64(),
            busy: cpu / micros(self.time),
            cpu: cpu / plain.len() as f64,
            p50: quantile(&one, 0.5, |answered| answered.whole),
            p99: quantile(&one, 0.99, |answered| answered.whole),
            burst_cpu: burst_cpu / burst.len() as f64,
            first: quantile(&burst_one, 0.5, |answered| answered.first),
            paced_cpu: paced_cpu / paced.len() as f64,
            gap: gap.map(micros).unwrap_or_default(),
        })
    }

    /// The answers, and what they cost the subject in microseconds.
    async fn load(
        self,
        address: &str,
        subject: Option<&Subject>,
        kind: Kind,
        connections: usize,
    ) -> Result<(Vec<Answered>, f64)> {
        let spent = || subject.map_or(Ok(Duration::ZERO), Subject::cpu);
        let before = spent()?;
        let answered = ask_for(address, kind, connections, self.time).await?;
        Ok((answered, micros(spent()? - before)))
    }
}

fn quantile(all: &[Answered], share: f64, of: fn(&Answered) -> Duration) -> f64 {
    let mut all: Vec<_> = all.iter().map(of).collect();
    all.sort_unstable();
    let at = (all.len() as f64 * share) as usize;
    all.get(at.min(all.len().saturating_sub(1)))
        .map_or(f64::NAN, |time| micros(*time))
}

/// The middle one.
pub(crate) fn median(numbers: impl IntoIterator<Item = f64>) -> f64 {
    let mut numbers: Vec<_> = numbers.into_iter().collect();
    numbers.sort_unstable_by(f64::total_cmp);
    numbers.get(numbers.len() / 2).copied().unwrap_or(f64::NAN)
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
