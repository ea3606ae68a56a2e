//! When silence makes a satellite stale: after three of the intervals that it says it reports in.

use std::time::Duration;

use fleet_protocol::schedule::Schedule;
use jiff::{SignedDuration, Timestamp, tz::TimeZone};

/// How many reports may be missed.
const MISSED: usize = 3;

/// How long a satellite may be silent that never said how often it reports.
pub const UNTOLD: SignedDuration = SignedDuration::from_hours(1);

/// The moment from which on a satellite is stale that reported at `reported`, and every `interval` as it says.
///
/// A cron pattern is read without the satellite's time zone: of the third time after the report and the length of the
/// three intervals after the next one, the later counts, so that neither an offset nor a weekend makes it stale early.
#[must_use]
pub fn stale_at(reported: Timestamp, interval: Option<&str>) -> Timestamp {
    let silence = interval
        .and_then(|text| text.parse::<Schedule>().ok())
        .and_then(|schedule| three(&schedule, reported))
        .and_then(|silence| SignedDuration::try_from(silence).ok())
        .unwrap_or(UNTOLD);
    reported.checked_add(silence).unwrap_or(Timestamp::MAX)
}

fn three(schedule: &Schedule, reported: Timestamp) -> Option<Duration> {
    if let Some(interval) = schedule.interval() {
        return interval.checked_mul(u32::try_from(MISSED).ok()?);
    }
    let mut now = reported.to_zoned(TimeZone::UTC);
    let mut waits = Vec::with_capacity(MISSED + 1);
    for _ in 0..=MISSED {
        let wait = schedule.next_after(&now)?;
        now = now.checked_add(SignedDuration::try_from(wait).ok()?).ok()?;
        waits.push(wait);
    }
    let third: Duration = waits.iter().take(MISSED).sum();
    let following: Duration = waits.iter().skip(1).sum();
    Some(third.max(following))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn silence(reported: &str, interval: Option<&str>) -> SignedDuration {
        let reported: Timestamp = reported.parse().unwrap();
        stale_at(reported, interval).duration_since(reported)
    }

    #[test]
    fn three_reports_may_be_missed() {
        let monday = "2026-11-16T10:00:00Z";
        let hours = SignedDuration::from_hours;
        for (interval, expected) in [
            (Some("@every 00h00m30s"), SignedDuration::from_secs(90)),
            (Some("@every 24h"), hours(72)),
            (Some("*/5 * * * *"), SignedDuration::from_mins(15)),
            (Some("0 3 * * *"), hours(72)),
            (Some("nonsense"), UNTOLD),
            (Some("0 0 30 2 *"), UNTOLD),
            (None, UNTOLD),
        ] {
            assert_eq!(silence(monday, interval), expected, "{interval:?}");
        }
        // From Friday on, the third report on working days is Wednesday's.
        assert_eq!(silence("2026-11-20T03:00:00Z", Some("0 3 * * 1-5")), hours(120));
        assert_eq!(stale_at(Timestamp::MAX, Some("@every 24h")), Timestamp::MAX);
    }

    proptest! {
        #[test]
        fn an_interval_counts_three_times(seconds in 1_u64..1_000_000) {
            let text = Schedule::every(Duration::from_secs(seconds)).to_string();
            let expected = SignedDuration::from_secs(i64::try_from(seconds * 3).unwrap());
            prop_assert_eq!(silence("2026-11-16T10:00:00Z", Some(&text)), expected);
        }

        /// Whatever a satellite says, and wherever it is, it is not stale before two of its own reports were missed.
        #[test]
        fn an_offset_makes_nobody_stale_early(hour in 0_i64..24, offset in -12_i64..=14, weekdays: bool) {
            let pattern = format!("0 {hour} * * {}", if weekdays { "1-5" } else { "*" });
            let schedule: Schedule = pattern.parse().unwrap();
            // A report at the site's own time, which is `offset` ahead.
            let start: Timestamp = "2026-11-16T00:00:00Z".parse().unwrap();
            let local = start.to_zoned(TimeZone::fixed(jiff::tz::offset(i8::try_from(offset).unwrap())));
            let first = &local + SignedDuration::try_from(schedule.next_after(&local).unwrap()).unwrap();
            let second = &first + SignedDuration::try_from(schedule.next_after(&first).unwrap()).unwrap();
            let third = &second + SignedDuration::try_from(schedule.next_after(&second).unwrap()).unwrap();
            prop_assert!(stale_at(first.timestamp(), Some(&pattern)) >= third.timestamp());
        }

        #[test]
        fn never_panics(interval: String, second in -1_000_000_i64..4_000_000_000) {
            let _ = stale_at(Timestamp::from_second(second).unwrap(), Some(&interval));
        }
    }
}
