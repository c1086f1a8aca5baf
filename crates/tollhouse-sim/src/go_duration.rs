//! Durations as Go writes them: `0s`, `6ms`, `8.64s`, `1m0.198s`, `1h8m25.745s`.

use std::time::Duration;

const MILLI: u128 = 1_000_000;

/// Writes whole milliseconds; anything finer is left out, as in OpenAI's
/// headers.
pub(crate) fn format(time: Duration) -> String {
    let millis = time.as_millis();
    if millis > 0 && millis < 1_000 {
        return format!("{millis}ms");
    }
    let (hours, minutes) = (millis / 3_600_000, millis / 60_000 % 60);
    let seconds = seconds(millis % 60_000);
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, _) => format!("{minutes}m{seconds}s"),
        _ => format!("{hours}h{minutes}m{seconds}s"),
    }
}

/// Seconds without needless zeros after the point.
fn seconds(millis: u128) -> String {
    let text = format!("{}.{:03}", millis / 1_000, millis % 1_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A delay that is told must not be shorter than the real one.
pub(crate) fn round_up_to_millis(time: Duration) -> Duration {
    let millis = time.as_nanos().div_ceil(MILLI);
    Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_look_as_recorded() {
        let table = [
            (0, "0s"),
            (6_000, "6ms"),
            (9_900, "9ms"),
            (999_999, "999ms"),
            (1_000_000, "1s"),
            (8_640_000, "8.64s"),
            (18_642_000, "18.642s"),
            (60_000_000, "1m0s"),
            (60_198_000, "1m0.198s"),
            (432_000_000, "7m12s"),
            (864_000_000, "14m24s"),
            (3_600_000_000, "1h0m0s"),
            (4_105_745_000, "1h8m25.745s"),
            (299_439_057_000, "83h10m39.057s"),
        ];
        for (micros, text) in table {
            assert_eq!(format(Duration::from_micros(micros)), text);
        }
    }

    #[test]
    fn delays_are_rounded_up() {
        let up = |nanos| round_up_to_millis(Duration::from_nanos(nanos));
        assert_eq!(up(0), Duration::ZERO);
        assert_eq!(up(1), Duration::from_millis(1));
        assert_eq!(up(2_000_000), Duration::from_millis(2));
        assert_eq!(up(2_000_001), Duration::from_millis(3));
    }
}
