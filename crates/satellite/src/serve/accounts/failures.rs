//! Who was wrong how often: a source has a few tries at hand, and gets a new one every few seconds.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

/// Tries that a source has at hand.
const AT_HAND: u32 = 10;
/// How long one takes to come back.
const EACH: Duration = Duration::from_secs(6);
/// Sources that are remembered.
const MOST: usize = 1024;

/// The moment at which each source has all its tries again.
#[derive(Debug, Default)]
pub(super) struct Failures {
    whole_at: HashMap<IpAddr, Instant>,
}

impl Failures {
    /// How long this source has to wait before it is asked again; none where it may try.
    pub(super) fn wait(&self, source: IpAddr, now: Instant) -> Option<Duration> {
        let missing = self.whole_at.get(&network(source))?.checked_duration_since(now)?;
        let over = missing.checked_sub(EACH * (AT_HAND - 1))?;
        (!over.is_zero()).then_some(over)
    }

    /// Takes one try away.
    pub(super) fn count(&mut self, source: IpAddr, now: Instant) {
        if self.whole_at.len() >= MOST {
            self.whole_at.retain(|_, whole| *whole > now);
        }
        if self.whole_at.len() >= MOST
            && let Some(first) =
                self.whole_at.iter().min_by_key(|(_, whole)| **whole).map(|(source, _)| *source)
        {
            self.whole_at.remove(&first);
        }
        let whole = self.whole_at.entry(network(source)).or_insert(now);
        *whole = (*whole).max(now) + EACH;
    }
}

/// Who has one IPv6 address has all of its network.
fn network(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_run_out_and_come_back() {
        let now = Instant::now();
        let mut failures = Failures::default();
        let (here, there): (IpAddr, IpAddr) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        for _ in 0..AT_HAND {
            assert_eq!(failures.wait(here, now), None);
            failures.count(here, now);
        }
        assert_eq!(failures.wait(here, now), Some(EACH));
        assert_eq!(failures.wait("::ffff:192.0.2.1".parse().unwrap(), now), Some(EACH), "the same machine");
        assert_eq!(failures.wait(there, now), None, "nobody locks out others");
        assert_eq!(failures.wait(here, now + EACH), None);
        failures.count(here, now + EACH);
        assert_eq!(failures.wait(here, now + EACH), Some(EACH));
        assert_eq!(failures.wait(here, now + EACH * 30), None);
    }

    #[test]
    fn a_network_of_addresses_is_one_source_and_memory_is_bounded() {
        let now = Instant::now();
        let mut failures = Failures::default();
        for last in 0..AT_HAND {
            failures.count(format!("2001:db8::{last}").parse().unwrap(), now);
        }
        assert!(failures.wait("2001:db8::ffff".parse().unwrap(), now).is_some());
        for number in 0..2 * MOST as u128 {
            failures.count(Ipv6Addr::from_bits(number << 64).into(), now);
        }
        assert!(failures.whole_at.len() <= MOST);
        assert!(failures.wait("2001:db8::1".parse().unwrap(), now).is_some(), "the worst are remembered");
    }
}
