//! What a simulated satellite is and what befalls it: decided by the seed and its number alone.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

/// The longest that a clock is wrong, in seconds.
const MAX_SKEW: i64 = 600;

/// Parts of the fleet, in percent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shares {
    /// Those that know no waiting and always list their images, as deployed satellites.
    pub(super) plain: f64,
    /// Those whose clock is wrong.
    pub(super) skewed: f64,
    /// Those that a partition cuts off.
    pub(super) partitioned: f64,
}

/// What a satellite is from its birth.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Nature {
    /// Whether it asks Ground Control to wait, and sends the digest of its images where that is enough.
    pub(super) waits: bool,
    /// How wrong its clock is, in seconds.
    pub(super) skew: i64,
    /// Whether a partition cuts it off.
    pub(super) partitioned: bool,
    /// When in the first interval it connects: 0 to 1.
    pub(super) phase: f64,
}

/// What befalls a satellite at churn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// Its connection breaks.
    Reconnect,
    /// It starts anew: what it knew of Ground Control is gone, its images are there.
    Reboot,
}

/// The dice of one satellite.
#[derive(Debug)]
pub(super) struct Script(StdRng);

impl Script {
    /// The script of the satellite with this number, and what it is.
    pub(super) fn new(seed: u64, number: usize, shares: &Shares) -> (Self, Nature) {
        let number = u64::try_from(number).unwrap_or(u64::MAX);
        // Neighbours are to share nothing: their seeds differ in half of the bits (the constant is 2^64 divided by the golden ratio).
        let mut dice = StdRng::seed_from_u64(seed ^ (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let chance = |dice: &mut StdRng, percent: f64| dice.random_bool((percent / 100.0).clamp(0.0, 1.0));
        let waits = !chance(&mut dice, shares.plain);
        let skewed = chance(&mut dice, shares.skewed);
        let skew = dice.random_range(-MAX_SKEW..=MAX_SKEW);
        let partitioned = chance(&mut dice, shares.partitioned);
        let phase = dice.random();
        (Self(dice), Nature { waits, skew: if skewed { skew } else { 0 }, partitioned, phase })
    }

    /// What comes next, and after how long, where `percent` of the fleet are hit in a minute.
    pub(super) fn next(&mut self, percent: f64) -> (Duration, Event) {
        let minutes = -(1.0 - self.0.random::<f64>()).ln() * 100.0 / percent.max(f64::MIN_POSITIVE);
        let event = if self.0.random_bool(0.4) { Event::Reboot } else { Event::Reconnect };
        (Duration::from_secs_f64((minutes * 60.0).min(1e6)), event)
    }

    /// A time of up to `longest`.
    pub(super) fn within(&mut self, longest: Duration) -> Duration {
        longest.mul_f64(self.0.random())
    }

    /// How long to stay away after so many failures one after the other.
    pub(super) fn backoff(&mut self, failures: u32) -> Duration {
        let longest = Duration::from_millis(500).saturating_mul(1 << failures.min(6));
        longest.mul_f64(self.0.random_range(0.5..1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHARES: Shares = Shares { plain: 2.0, skewed: 5.0, partitioned: 10.0 };

    #[test]
    fn a_seed_decides_everything() {
        let of = |seed, number| {
            let (mut script, nature) = Script::new(seed, number, &SHARES);
            (nature, script.next(5.0), script.backoff(3))
        };
        assert_eq!(of(1, 7), of(1, 7));
        assert!(of(1, 7) != of(1, 8) && of(1, 7) != of(2, 7));
    }

    #[test]
    fn shares_are_kept() {
        let all: Vec<Nature> = (0..10_000).map(|number| Script::new(1, number, &SHARES).1).collect();
        let share = |what: fn(&Nature) -> bool| all.iter().filter(|one| what(one)).count();
        assert!((100..300).contains(&share(|one| !one.waits)));
        assert!((400..600).contains(&share(|one| one.skew != 0)));
        assert!((850..1150).contains(&share(|one| one.partitioned)));
        assert!(all.iter().all(|one| one.skew.abs() <= MAX_SKEW && (0.0..1.0).contains(&one.phase)));
    }

    #[test]
    fn events_come_as_often_as_they_should() {
        let mut hit = 0;
        for number in 0..10_000 {
            let (after, _) = Script::new(3, number, &SHARES).0.next(5.0);
            hit += usize::from(after < Duration::from_secs(60));
        }
        assert!((400..600).contains(&hit), "{hit}");
        let (mut script, _) = Script::new(3, 1, &SHARES);
        assert!((0..20).all(|failures| script.backoff(failures) <= Duration::from_secs(32)));
    }
}
