//! When a robot ends. Harbor counts a robot's duration in days from its **creation**, and computes the end
//! anew only when a change brings another duration; a fresh secret moves nothing. So a robot is kept alive by durations
//! that grow, never by a refresh and hope.

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

const DAY: i64 = 86_400;
/// The longest duration that Harbor takes.
const MAX_DAYS: i64 = i32::MAX as i64 - 1;

/// How long a robot lives, counted from its creation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lifetime {
    /// So many days; Harbor takes 1 to 2,147,483,646.
    Days(u32),
    /// For ever, `-1` on the wire.
    Never,
}

/// A number that is no lifetime.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} is no duration of a robot: -1, or 1 to 2147483646 days")]
pub struct LifetimeError(pub i64);

/// When a robot ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Expiry {
    /// At this moment, in seconds since 1970; it may lie beyond what a [`Timestamp`] can hold.
    At(i64),
    /// Never, `-1` on the wire.
    Never,
}

impl Lifetime {
    /// From days, `-1` meaning for ever.
    ///
    /// # Errors
    /// [`LifetimeError`] for what Harbor refuses.
    pub fn from_days(days: i64) -> Result<Self, LifetimeError> {
        match days {
            -1 => Ok(Self::Never),
            1..=MAX_DAYS => u32::try_from(days).map(Self::Days).map_err(|_| LifetimeError(days)),
            _ => Err(LifetimeError(days)),
        }
    }

    /// Days, `-1` meaning for ever.
    pub fn days(self) -> i64 {
        match self {
            Self::Days(days) => i64::from(days),
            Self::Never => -1,
        }
    }

    /// When a robot of this lifetime ends: to the second, what is below is cut off.
    pub fn expiry(self, created_at: Timestamp) -> Expiry {
        match self {
            Self::Days(days) => Expiry::At(created_at.as_second() + i64::from(days) * DAY),
            Self::Never => Expiry::Never,
        }
    }

    /// The shortest lifetime with which a robot made at `created_at` lives at least until `end`.
    pub fn until(created_at: Timestamp, end: Timestamp) -> Self {
        let seconds = end.as_second() - created_at.as_second() + i64::from(end.subsec_nanosecond() > 0);
        let days = seconds.max(1).div_euclid(DAY) + i64::from(seconds.max(1).rem_euclid(DAY) > 0);
        Self::from_days(days.clamp(1, MAX_DAYS)).unwrap_or(Self::Never)
    }

    /// The lifetime that gives a robot, as Harbor shows it now, at least `days` more from `now` on. Never shorter than
    /// `self`, so that setting it cannot end the robot sooner.
    pub fn extended(self, created_at: Timestamp, now: Timestamp, days: u32) -> Self {
        let end = now.as_second().saturating_add(i64::from(days) * DAY);
        match Timestamp::from_second(end.saturating_add(1)) {
            Ok(end) => self.max(Self::until(created_at, end)),
            Err(_) => Self::Never,
        }
    }
}

impl Expiry {
    /// Whether the robot has ended.
    pub fn has_passed(self, now: Timestamp) -> bool {
        self.seconds_left(now).is_some_and(|left| left <= 0)
    }

    /// How many seconds are left, negative after the end; `None` where there is no end.
    pub fn seconds_left(self, now: Timestamp) -> Option<i64> {
        match self {
            Self::At(end) => Some(end.saturating_sub(now.as_second())),
            Self::Never => None,
        }
    }
}

impl Serialize for Lifetime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i64(self.days())
    }
}

impl<'de> Deserialize<'de> for Lifetime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Harbor shows robots that older versions made with numbers that it refuses today; one such must not hide the others.
        let days = i64::deserialize(deserializer)?;
        Ok(if days < 0 { Self::Never } else { Self::Days(u32::try_from(days).unwrap_or(u32::MAX)) })
    }
}

impl<'de> Deserialize<'de> for Expiry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match i64::deserialize(deserializer)? {
            -1 => Self::Never,
            at => Self::At(at),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn as_recorded() {
        let made: Timestamp = "2026-11-21T09:21:29.317Z".parse().unwrap();
        assert_eq!(Lifetime::Days(30).expiry(made), Expiry::At(1_797_844_889));
        let far: Timestamp = "2026-11-21T09:21:40.376Z".parse().unwrap();
        assert_eq!(Lifetime::Days(2_147_483_646).expiry(far), Expiry::At(185_544_382_267_300));
        let moved: Timestamp = "2026-10-27T09:22:06.546Z".parse().unwrap();
        assert_eq!(Lifetime::Days(55).expiry(moved), Expiry::At(1_797_844_926));
        let now: Timestamp = "2026-11-21T09:22:09Z".parse().unwrap();
        assert!(Lifetime::Days(5).expiry(moved).has_passed(now));
        assert!(!Lifetime::Days(60).expiry(moved).has_passed(now));
        assert!(!Lifetime::Never.expiry(moved).has_passed(now));
    }

    #[test]
    fn what_older_harbors_made_is_read() {
        assert_eq!(serde_json::from_str::<Lifetime>("0").unwrap(), Lifetime::Days(0));
        assert_eq!(serde_json::from_str::<Lifetime>("-1").unwrap(), Lifetime::Never);
    }

    #[test]
    fn what_harbor_refuses() {
        for bad in [0, -2, 2_147_483_647, i64::MAX, i64::MIN] {
            assert_eq!(Lifetime::from_days(bad), Err(LifetimeError(bad)));
        }
    }

    fn moment() -> impl Strategy<Value = Timestamp> {
        (0_i64..5_000_000_000, 0_i32..1000).prop_map(|(s, ms)| Timestamp::new(s, ms * 1_000_000).unwrap())
    }

    proptest! {
        #[test]
        fn until_is_enough_and_no_more(made in moment(), end in moment()) {
            let lifetime = Lifetime::until(made, end);
            let Expiry::At(reached) = lifetime.expiry(made) else { panic!("never") };
            prop_assert!(reached >= end.as_second());
            if lifetime.days() > 1 {
                let less = Lifetime::from_days(lifetime.days() - 1).unwrap();
                prop_assert!(less.expiry(made).seconds_left(end).unwrap() <= 0);
            }
        }

        #[test]
        fn extending_never_shortens(made in moment(), now in moment(), had in 1_u32..5000, more in 1_u32..5000) {
            let longer = Lifetime::Days(had).extended(made, now, more);
            prop_assert!(longer >= Lifetime::Days(had));
            prop_assert!(longer.expiry(made).seconds_left(now).unwrap() >= i64::from(more) * DAY);
            prop_assert_eq!(Lifetime::Never.extended(made, now, more), Lifetime::Never);
        }

        #[test]
        fn the_wire_changes_nothing(days in prop_oneof![Just(-1_i64), 1..=MAX_DAYS]) {
            let lifetime = Lifetime::from_days(days).unwrap();
            prop_assert_eq!(serde_json::from_str::<Lifetime>(&serde_json::to_string(&lifetime).unwrap()).unwrap(), lifetime);
        }
    }
}
