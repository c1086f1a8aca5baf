//! Wall-clock times in headers: HTTP dates, RFC 3339 instants, epochs.
//!
//! The only place that may read the wall clock. A header's time is measured
//! against the `date` header of the same answer wherever there is one, so that
//! a wrong clock on this side does no harm; what leaves this module is always
//! a span, never an instant.

use std::time::{Duration, SystemTime};

use http::HeaderMap;
use http::header::DATE;

use super::{LONGEST, decimal};

/// The provider's time as it sent the answer, else ours.
#[allow(
    clippy::disallowed_methods,
    reason = "an absolute time in a header without a date beside it has no other origin"
)]
pub(crate) fn now(headers: &HeaderMap) -> SystemTime {
    let date = headers.get(DATE).and_then(|date| date.to_str().ok());
    date.and_then(http_date).unwrap_or_else(SystemTime::now)
}

/// The time from `now` until `then`; zero where it has passed.
pub(crate) fn until(then: SystemTime, now: SystemTime) -> Duration {
    then.duration_since(now).unwrap_or_default().min(LONGEST)
}

/// Reads an HTTP date in any of its three forms (RFC 9110, section 5.6.7).
pub(crate) fn http_date(text: &str) -> Option<SystemTime> {
    httpdate::parse_http_date(text.trim()).ok()
}

/// An instant so many seconds after 1970.
pub(crate) fn epoch(since: Duration) -> Option<SystemTime> {
    SystemTime::UNIX_EPOCH.checked_add(since)
}

/// Reads an RFC 3339 instant, such as `2024-06-04T18:39:57Z` or
/// `2024-06-04T20:39:57.25+02:00`.
pub(crate) fn rfc3339(text: &str) -> Option<SystemTime> {
    let text = text.trim();
    let date = text.get(..10)?;
    let time = text.get(11..19)?;
    if !matches!(text.as_bytes()[10], b'T' | b't' | b' ') {
        return None;
    }
    let [year, month, day] = fields(date, '-', [4, 2, 2])?;
    let [hour, minute, second] = fields(time, ':', [2, 2, 2])?;
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let (fraction, zone) = fraction(&text[19..])?;
    let clock = i64::from(hour * 3_600 + minute * 60 + second);
    let seconds = days(year, month, day)? * 86_400 + clock - offset(zone)?;
    epoch(Duration::from_secs(u64::try_from(seconds).ok()?) + fraction)
}

/// Three numbers of fixed widths.
fn fields(text: &str, separator: char, widths: [usize; 3]) -> Option<[u32; 3]> {
    let mut parts = text.split(separator);
    let mut numbers = [0; 3];
    for (number, width) in numbers.iter_mut().zip(widths) {
        let part = parts.next()?;
        if part.len() != width || !part.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        *number = part.parse().ok()?;
    }
    Some(numbers)
}

/// The fraction of a second, if any, and what follows it.
fn fraction(text: &str) -> Option<(Duration, &str)> {
    if !text.starts_with('.') {
        return Some((Duration::ZERO, text));
    }
    let end = text[1..]
        .find(|c: char| !c.is_ascii_digit())
        .map_or(text.len(), |end| end + 1);
    let number = format!("0{}", &text[..end]);
    let (value, unread) = decimal(&number)?;
    let fraction = Duration::try_from_secs_f64(value).ok()?;
    unread.is_empty().then_some((fraction, &text[end..]))
}

/// Seconds east of Greenwich.
fn offset(zone: &str) -> Option<i64> {
    if matches!(zone, "Z" | "z") {
        return Some(0);
    }
    let sign = match zone.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let (hours, minutes) = zone[1..].split_once(':')?;
    let hours: u8 = hours.parse().ok()?;
    let minutes: u8 = minutes.parse().ok()?;
    (hours < 24 && minutes < 60)
        .then(|| sign * (i64::from(hours) * 3_600 + i64::from(minutes) * 60))
}

/// Days from 1970-01-01 to a date of the proleptic Gregorian calendar: whole
/// years, then whole months, then days, with the leap days of the centuries.
fn days(year: u32, month: u32, day: u32) -> Option<i64> {
    const BEFORE_MONTH: [u32; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
    let before = BEFORE_MONTH.get(month.checked_sub(1)? as usize)?;
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    if year == 0 || !(1..=31).contains(&day) {
        return None;
    }
    let past = year - 1;
    let leap_days = past / 4 - past / 100 + past / 400;
    let leap_day = u32::from(leap && month > 2);
    let since_year_one = past * 365 + leap_days + before + leap_day + day - 1;
    Some(i64::from(since_year_one) - 719_162)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epoch_millis(text: &str) -> Option<u128> {
        let since = rfc3339(text)?.duration_since(SystemTime::UNIX_EPOCH);
        Some(since.expect("after 1970").as_millis())
    }

    #[test]
    fn rfc3339_instants_count_from_1970() {
        let cases = [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2000-02-29T00:00:00Z", Some(951_782_400_000)),
            ("2024-06-04T18:39:57Z", Some(1_717_526_397_000)),
            ("2024-06-04T20:39:57.25+02:00", Some(1_717_526_397_250)),
            ("2024-06-04t13:39:57-05:00", Some(1_717_526_397_000)),
            ("2024-13-04T18:39:57Z", None),
            ("2024-06-04T18:39:57", None),
            ("2024-06-04", None),
            ("1969-12-31T23:59:59Z", None),
            ("6m0s", None),
            ("2024-06-04T18:39:57.Z", None),
            ("2024-06-04T18:39:57+éé", None),
        ];
        for (text, expected) in cases {
            assert_eq!(epoch_millis(text), expected, "{text}");
        }
    }

    #[test]
    fn the_date_header_is_the_clock() {
        let mut headers = HeaderMap::new();
        headers.insert(DATE, "Mon, 23 Nov 2026 12:00:00 GMT".parse().unwrap());
        let later = http_date("Mon, 23 Nov 2026 12:00:30 GMT").unwrap();
        assert_eq!(until(later, now(&headers)), Duration::from_secs(30));
        assert_eq!(until(now(&headers), later), Duration::ZERO);
    }
}
