//! When a failed request is tried again, and after how long.

use std::time::{Duration, SystemTime};

use http::HeaderMap;
use http::header::RETRY_AFTER;

/// Exponential backoff with jitter. Each delay is drawn from the upper half of `base × 2ⁿ`, so that a fleet
/// that lost its registry at one moment does not come back at one moment.
#[derive(Clone, Copy, Debug)]
pub struct RetryPolicy {
    /// How often a request is tried in all; 1 means no retry.
    pub attempts: u32,
    /// The delay after the first failure.
    pub base: Duration,
    /// No computed delay is longer.
    pub max: Duration,
    /// A `Retry-After` up to this is waited for; a longer one ends the operation with an error that carries
    /// it, and the caller plans with it.
    pub max_retry_after: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts: 4,
            base: Duration::from_millis(250),
            max: Duration::from_secs(8),
            max_retry_after: Duration::from_secs(30),
        }
    }
}

impl RetryPolicy {
    /// No retries: one attempt.
    pub fn none() -> Self {
        Self { attempts: 1, ..Self::default() }
    }

    /// How long to wait after failure number `failures` (from 1), or `None` when it is time to give up.
    pub fn delay(&self, failures: u32, retry_after: Option<Duration>) -> Option<Duration> {
        if failures >= self.attempts {
            return None;
        }
        let doubled =
            self.base.saturating_mul(1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX));
        let backoff = doubled.min(self.max).mul_f64(rand::random_range(0.5..=1.0));
        match retry_after {
            Some(asked) if asked > self.max_retry_after => None,
            Some(asked) => Some(asked.max(backoff)),
            None => Some(backoff),
        }
    }
}

/// `Retry-After` (RFC 9110 section 10.2.3): seconds, or a date.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::parse(value).ok()?;
    let date = SystemTime::from(date.timestamp());
    Some(date.duration_since(SystemTime::now()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(value: &str) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, value.parse().unwrap());
        retry_after(&headers)
    }

    #[test]
    fn reads_seconds_and_dates() {
        assert_eq!(header("7"), Some(Duration::from_secs(7)));
        assert_eq!(header("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::ZERO));
        let far = header("Fri, 06 Nov 2093 08:49:37 GMT").unwrap();
        assert!(far > Duration::from_secs(86400 * 365));
        assert_eq!(header("soon"), None);
        assert_eq!(header("-1"), None);
    }

    #[test]
    fn delays_grow_are_bounded_and_honour_the_registry() {
        let policy = RetryPolicy {
            attempts: 40,
            base: Duration::from_millis(100),
            max: Duration::from_secs(2),
            max_retry_after: Duration::from_secs(5),
        };
        for failures in 1..40 {
            let delay = policy.delay(failures, None).unwrap();
            assert!(delay >= Duration::from_millis(50) && delay <= policy.max, "{failures}: {delay:?}");
        }
        assert_eq!(policy.delay(40, None), None);
        assert!(policy.delay(1, Some(Duration::from_secs(3))).unwrap() >= Duration::from_secs(3));
        assert_eq!(policy.delay(1, Some(Duration::from_secs(6))), None);
        assert_eq!(RetryPolicy::none().delay(1, None), None);
    }
}
