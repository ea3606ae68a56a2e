//! How often something may happen, decided from values alone, and whom a limit binds.
//!
//! A limit is a bucket of so many tokens that fills at a steady rate. All that has to be kept of it is one moment: when the
//! bucket will be full again (the generic cell rate algorithm).

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use jiff::Timestamp;

/// So many at once, and one more each time that `every` has gone by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// How many may happen at once.
    pub burst: u32,
    /// How long it takes until one more may.
    pub every: Duration,
}

impl Rate {
    /// How long a bucket takes that was emptied, in milliseconds.
    fn whole(self) -> i64 {
        self.step().saturating_mul(i64::from(self.burst.max(1)))
    }

    fn step(self) -> i64 {
        i64::try_from(self.every.as_millis()).unwrap_or(i64::MAX).max(1)
    }

    /// Takes one. `whole_at`: when the bucket is full again, as it was kept; a moment that has passed, or none, is a full
    /// one. The answer is what to keep in its place, or how long it takes until there is one to take.
    ///
    /// # Errors
    /// How long to wait, at least a millisecond.
    pub fn take(self, whole_at: Option<Timestamp>, now: Timestamp) -> Result<Timestamp, Duration> {
        let now = now.as_millisecond();
        let from = whole_at.map_or(now, Timestamp::as_millisecond).max(now);
        // A clock that was set back, or a rate that was changed, closes the bucket for no longer than it takes to fill.
        let from = from.min(now.saturating_add(self.whole()));
        let next = from.saturating_add(self.step());
        let over = next.saturating_sub(now.saturating_add(self.whole()));
        if over > 0 {
            return Err(Duration::from_millis(over.unsigned_abs()));
        }
        Ok(Timestamp::from_millisecond(next).unwrap_or(Timestamp::MAX))
    }
}

/// Whom a limit for strangers binds: an IPv4 address, or the /64 of an IPv6 address, within which one device chooses freely.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Source(IpAddr);

impl Source {
    /// The source that an address belongs to; an IPv4 address in IPv6's clothes is the IPv4 address.
    pub fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
            v4 => v4,
        })
    }
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            IpAddr::V4(address) => write!(f, "{address}"),
            IpAddr::V6(address) => write!(f, "{address}/64"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(milliseconds: i64) -> Timestamp {
        Timestamp::from_millisecond(milliseconds).unwrap()
    }

    #[test]
    fn neighbours_of_ipv6_are_one_source() {
        let source = |text: &str| Source::of(text.parse().unwrap());
        assert_eq!(source("2001:db8:1:2::1"), source("2001:db8:1:2:ffff:ffff:ffff:ffff"));
        assert_ne!(source("2001:db8:1:2::1"), source("2001:db8:1:3::1"));
        assert_eq!(source("2001:db8:1:2::1").to_string(), "2001:db8:1:2::/64");
        assert_ne!(source("192.0.2.1"), source("192.0.2.2"));
        assert_eq!(source("::ffff:192.0.2.1"), source("192.0.2.1"));
    }

    proptest! {
        /// Within any window no more is given than the bucket holds and what filled it meanwhile; and whoever waits as
        /// long as told is served.
        #[test]
        fn a_bucket_gives_what_it_holds_and_what_fills_it(
            burst in 1u32..20,
            every in 1u64..500,
            steps in proptest::collection::vec(0i64..300, 1..200),
        ) {
            let rate = Rate { burst, every: Duration::from_millis(every) };
            let (mut now, mut kept, mut given) = (1_000_000, None, Vec::new());
            for step in steps {
                now += step;
                match rate.take(kept, at(now)) {
                    Ok(next) => {
                        kept = Some(next);
                        given.push(now);
                    }
                    Err(wait) => {
                        prop_assert!(wait > Duration::ZERO);
                        let later = now + i64::try_from(wait.as_millis()).unwrap();
                        prop_assert!(rate.take(kept, at(later)).is_ok());
                        prop_assert!(rate.take(kept, at(later - 1)).is_err());
                    }
                }
            }
            for (n, from) in given.iter().enumerate() {
                for (more, to) in given[n..].iter().enumerate() {
                    let filled = (to - from) as u64 / every;
                    prop_assert!(more as u64 <= u64::from(burst) + filled);
                }
            }
        }

        #[test]
        fn a_full_bucket_gives_its_burst_at_once_and_no_more(burst in 1u32..50, every in 1u64..10_000) {
            let rate = Rate { burst, every: Duration::from_millis(every) };
            let mut kept = None;
            for _ in 0..burst {
                kept = Some(rate.take(kept, at(0)).unwrap());
            }
            prop_assert_eq!(rate.take(kept, at(0)), Err(rate.every));
        }

        #[test]
        fn a_clock_that_was_set_back_closes_it_for_no_longer_than_it_takes_to_fill(kept in 0i64..10_000_000, burst in 1u32..50) {
            let rate = Rate { burst, every: Duration::from_secs(1) };
            if let Err(wait) = rate.take(Some(at(kept)), at(0)) {
                prop_assert!(wait <= rate.every);
            }
        }
    }
}
