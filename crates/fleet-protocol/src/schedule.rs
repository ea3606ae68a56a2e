//! Schedules of the satellite: `@every <Go duration>` and five-field cron.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use croner::Cron;
use croner::parser::{CronParser, Seconds};
use jiff::Zoned;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The shortest interval that is taken.
pub const SHORTEST: Duration = Duration::from_secs(1);

/// When something is done again.
#[derive(Clone, Debug)]
pub struct Schedule {
    text: String,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    Every(Duration),
    Cron(Box<Cron>),
}

/// Why a text is no schedule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no schedule: {why}; write `@every 30s` or five cron fields such as `*/5 * * * *`")]
pub struct ScheduleError {
    text: String,
    why: String,
}

impl Schedule {
    /// Again and again after `interval`.
    pub fn every(interval: Duration) -> Self {
        Self { text: format!("@every {}", go_duration(interval)), kind: Kind::Every(interval) }
    }

    /// The interval, where the schedule is one.
    pub fn interval(&self) -> Option<Duration> {
        match &self.kind {
            Kind::Every(interval) => Some(*interval),
            Kind::Cron(_) => None,
        }
    }

    /// How long from `now` until the next time; `None` where a cron pattern has none (30 February).
    pub fn next_after(&self, now: &Zoned) -> Option<Duration> {
        match &self.kind {
            Kind::Every(interval) => Some(*interval),
            Kind::Cron(cron) => {
                let next = cron.find_next_occurrence(now, false).ok()?;
                Duration::try_from(now.duration_until(&next)).ok()
            }
        }
    }

    /// The schedule as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl PartialEq for Schedule {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Schedule {}

impl FromStr for Schedule {
    type Err = ScheduleError;

    fn from_str(text: &str) -> Result<Self, ScheduleError> {
        let error = |why: String| ScheduleError { text: text.chars().take(100).collect(), why };
        let trimmed = text.trim();
        let kind = if let Some(interval) = trimmed.strip_prefix("@every ") {
            let interval = parse_go_duration(interval.trim()).map_err(error)?;
            if interval < SHORTEST {
                return Err(error("an interval has at least one second".to_owned()));
            }
            Kind::Every(interval)
        } else {
            if trimmed.split_whitespace().count() != 5 {
                return Err(error("it has not five fields".to_owned()));
            }
            let parser = CronParser::builder().seconds(Seconds::Disallowed).build();
            Kind::Cron(Box::new(parser.parse(trimmed).map_err(|e| error(e.to_string()))?))
        };
        Ok(Self { text: trimmed.to_owned(), kind })
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for Schedule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Schedule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// Reads a duration in Go's form: `1h30m`, `00h00m10s`, `1.5s`, `250ms`; never negative, ten years at most.
pub fn parse_go_duration(text: &str) -> Result<Duration, String> {
    const MOST: f64 = 10.0 * 366.0 * 86_400.0;
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut rest = text;
    let mut seconds = 0.0_f64;
    if rest.is_empty() {
        return Err("an empty duration".to_owned());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, tail) = rest.split_at(digits);
        let number: f64 =
            number.parse().map_err(|_| format!("`{text}` is no duration such as 1h30m or 10s"))?;
        let unit_length = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_length);
        let factor = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return Err(format!("`{text}` is no duration such as 1h30m or 10s")),
        };
        seconds += number * factor;
        rest = tail;
    }
    if seconds > MOST {
        return Err(format!("`{text}` is longer than ten years"));
    }
    Duration::try_from_secs_f64(seconds).map_err(|e| e.to_string())
}

/// Writes a duration in the form that the field's configs have: `00h00m10s`, with milliseconds where there are any.
pub fn go_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match duration.subsec_millis() {
        0 => format!("{hours:02}h{minutes:02}m{rest:02}s"),
        millis => format!("{hours:02}h{minutes:02}m{rest:02}s{millis}ms"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every() {
        for (text, seconds) in
            [("@every 00h00m10s", 10), ("@every 30s", 30), ("@every 1h30m", 5400), ("@every  2m", 120)]
        {
            assert_eq!(
                text.parse::<Schedule>().unwrap().interval(),
                Some(Duration::from_secs(seconds)),
                "{text}"
            );
        }
        for bad in [
            "",
            "@every",
            "@every ",
            "@every 0s",
            "@every -1s",
            "@every 10",
            "@every 10x",
            "@hourly",
            "1 2 3",
        ] {
            assert!(bad.parse::<Schedule>().is_err(), "{bad}");
        }
    }

    #[test]
    fn cron() {
        let schedule: Schedule = "*/5 * * * *".parse().unwrap();
        let now: Zoned = "2026-11-01T10:03:00[UTC]".parse().unwrap();
        assert_eq!(schedule.next_after(&now), Some(Duration::from_secs(120)));
        for bad in ["61 * * * *", "* * * * * *", "a b c d e"] {
            assert!(bad.parse::<Schedule>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn go_durations_round_trip(millis in 0_u64..400_000_000) {
            let duration = Duration::from_millis(millis);
            let read = parse_go_duration(&go_duration(duration)).unwrap();
            prop_assert!(read.abs_diff(duration) < Duration::from_micros(1));
        }

        #[test]
        fn never_panics(text: String) {
            let _ = text.parse::<Schedule>();
            let _ = parse_go_duration(&text);
        }
    }
}
