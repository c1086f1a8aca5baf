//! When failures are too many to go on.

use crate::format::Count;
use crate::summary::Summary;

/// A share of failures says nothing of so few requests.
const LEAST_ENDED: u64 = 20;

/// The reason to give up that the failures so far are, if they are one: more than
/// this share.
pub(crate) fn too_many(most: Option<f64>, summary: &Summary) -> Option<String> {
    let most = most?;
    let ended = summary.ok + summary.failed;
    let share = summary.failed as f64 / ended as f64;
    (ended >= LEAST_ENDED && share > most).then(|| {
        format!(
            "{} of {} requests failed, more than {:.0}%",
            Count(summary.failed),
            Count(ended),
            most * 100.0
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_counts_from_twenty_requests_on() {
        let after = |ok, failed| {
            let mut summary = Summary::default();
            (summary.ok, summary.failed) = (ok, failed);
            too_many(Some(0.5), &summary)
        };
        assert_eq!(after(0, 19), None);
        assert_eq!(after(10, 10), None);
        let reason = "11 of 20 requests failed, more than 50%".to_owned();
        assert_eq!(after(9, 11), Some(reason));
        assert_eq!(too_many(None, &Summary::default()), None);
    }
}
