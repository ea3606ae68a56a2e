//! When an authority signs, when the next one is made, and when one may be forgotten: pure decisions over their terms.
//!
//! An edge that was away comes back with the bundle of its last renewal, at most `grace` and one SVID's life old. So
//! every authority is in the bundles for longer than that before it signs anything (nobody meets a signature that it
//! cannot check), and stays in them for as long after its last one (what it signed is known to the last day of grace).
//!
//! ```text
//! created        signs from              the next signs        forgotten
//!    ├── in bundles ──┼────────── signs ──────────┼── in bundles ──┤
//!                          the next is created ┤
//! ```
//!
//! Times are chosen so that replicas which decide at the same moment choose the same: the store keeps one of them.

use jiff::{SignedDuration, Timestamp};

use super::SVID_LIFE;

/// How long an authority lives.
pub const AUTHORITY_LIFE: SignedDuration = SignedDuration::from_hours(365 * 24);
/// The longest grace for which an authority's life has room.
pub const MAX_GRACE: SignedDuration = SignedDuration::from_hours(100 * 24);
/// The next authority is made so much earlier than it has to be: for a service that was down, and for replicas that look
/// only now and then.
const MARGIN: SignedDuration = SignedDuration::from_hours(7 * 24);
const DAY: i64 = 24 * 3600;

/// For how long things are good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    grace: SignedDuration,
}

/// An authority's times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Term {
    /// When it was made, and so put into the bundles.
    pub created_at: Timestamp,
    /// From when on it signs.
    pub signs_from: Timestamp,
    /// The end of its certificate.
    pub expires_at: Timestamp,
}

impl Policy {
    /// A policy for edges that may be away for `grace` after their SVID ended; at most [`MAX_GRACE`].
    #[must_use]
    pub fn new(grace: SignedDuration) -> Self {
        Self { grace: grace.clamp(SignedDuration::ZERO, MAX_GRACE) }
    }

    /// For how long after its end an SVID renews.
    #[must_use]
    pub fn grace(&self) -> SignedDuration {
        self.grace
    }

    /// How old a bundle may be that somebody still goes by.
    #[must_use]
    pub fn overlap(&self) -> SignedDuration {
        self.grace + SVID_LIFE
    }

    /// When an authority has to be relieved, so that all it signed ends, and is remembered, within its own life.
    fn retires_at(&self, term: &Term) -> Timestamp {
        minus(term.expires_at, self.overlap())
    }
}

/// Which one signs: of those that may sign by now and have not ended, the one that began last.
///
/// Where there is none (a clock that was set back, a service that was down for long), the one that would be next:
/// somebody always signs as long as anybody is left.
#[must_use]
pub fn signing(terms: &[Term], now: Timestamp) -> Option<usize> {
    let alive = || terms.iter().enumerate().filter(|(_, term)| now < term.expires_at);
    alive()
        .filter(|(_, term)| term.signs_from <= now)
        .max_by_key(|(_, term)| (term.signs_from, term.created_at))
        .or_else(|| alive().min_by_key(|(_, term)| (term.signs_from, term.created_at)))
        .map(|(index, _)| index)
}

/// The authority that has to be made now, if any.
#[must_use]
pub fn next(terms: &[Term], now: Timestamp, policy: Policy) -> Option<Term> {
    let expires_at = plus(now, AUTHORITY_LIFE);
    let Some(last) = terms.iter().max_by_key(|term| (term.signs_from, term.expires_at)) else {
        // The first: it signs from ever on, whichever replica makes it.
        return Some(Term { created_at: now, signs_from: Timestamp::UNIX_EPOCH, expires_at });
    };
    let in_time = policy.retires_at(last);
    let known_at = plus(now, policy.overlap());
    if plus(known_at, MARGIN) < in_time {
        return None;
    }
    let signs_from = if known_at <= in_time {
        in_time
    } else {
        // Late: as early as everybody can know it, but before the last one cannot sign a whole SVID any more.
        next_day(known_at).min(minus(last.expires_at, SVID_LIFE))
    };
    let signs_from = signs_from.max(plus(last.signs_from, SignedDuration::from_secs(1)));
    Some(Term { created_at: now, signs_from, expires_at })
}

/// Those that nobody needs to know any more.
#[must_use]
pub fn forgotten(terms: &[Term], now: Timestamp, policy: Policy) -> Vec<usize> {
    let Some(signing) = signing(terms, now) else { return Vec::new() };
    let over = |term: &Term| {
        // The first that took over from it.
        let relieved =
            terms.iter().map(|other| other.signs_from).filter(|from| *from > term.signs_from).min();
        relieved.is_some_and(|from| plus(from, policy.overlap()) <= now)
    };
    (0..terms.len()).filter(|index| *index != signing && over(&terms[*index])).collect()
}

fn plus(time: Timestamp, by: SignedDuration) -> Timestamp {
    time.saturating_add(by).unwrap_or(Timestamp::MAX)
}

fn minus(time: Timestamp, by: SignedDuration) -> Timestamp {
    time.saturating_sub(by).unwrap_or(Timestamp::MIN)
}

fn next_day(time: Timestamp) -> Timestamp {
    let day = time.as_second().div_euclid(DAY).saturating_add(1);
    Timestamp::from_second(day.saturating_mul(DAY)).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const START: i64 = 1_700_000_000;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    /// A service that looks at `looks`, and what every authority ever did.
    struct History {
        policy: Policy,
        known: Vec<Term>,
        /// Each authority, and when it was last seen signing and last seen in the bundle.
        lives: Vec<(Term, Option<Timestamp>, Timestamp)>,
    }

    impl History {
        fn new(policy: Policy) -> Self {
            Self { policy, known: Vec::new(), lives: Vec::new() }
        }

        /// One upkeep, as the service does it; returns who signs then.
        fn look(&mut self, now: Timestamp) -> Option<Term> {
            if let Some(term) = next(&self.known, now, self.policy) {
                self.known.push(term);
                self.lives.push((term, None, now));
            }
            let mut gone = forgotten(&self.known, now, self.policy);
            gone.sort_unstable();
            for index in gone.into_iter().rev() {
                self.known.remove(index);
            }
            let signs = signing(&self.known, now).map(|index| self.known[index]);
            for (term, signed, seen) in &mut self.lives {
                if self.known.contains(term) {
                    *seen = now;
                }
                if signs == Some(*term) {
                    *signed = Some(now);
                }
            }
            signs
        }
    }

    proptest! {
        /// A service that is never down for longer than the margin: nobody is ever left without a way back.
        #[test]
        fn a_bundle_as_old_as_the_grace_allows_is_always_enough(
            grace in 0i64..=100,
            gaps in proptest::collection::vec(60i64..6 * DAY, 500),
        ) {
            let policy = Policy::new(SignedDuration::from_secs(grace * DAY));
            let mut history = History::new(policy);
            let mut now = START;
            for gap in gaps {
                let signs = history.look(at(now)).unwrap();
                // Whoever signs is known, alive for as long as what it signs, and first in nobody's eyes.
                prop_assert!(at(now) + SVID_LIFE <= signs.expires_at);
                prop_assert!(history.known.len() <= 3);
                if signs.signs_from != Timestamp::UNIX_EPOCH {
                    prop_assert!(signs.created_at + policy.overlap() <= at(now));
                }
                now += gap;
            }
            for (term, signed, seen) in &history.lives {
                let Some(signed) = signed else { continue };
                // What is in the bundle still at the end may go on being there.
                let still = history.known.contains(term);
                prop_assert!(still || *seen + SignedDuration::from_hours(7 * 24) >= *signed + policy.overlap());
                prop_assert!(signed.saturating_add(SVID_LIFE).unwrap() <= term.expires_at);
            }
        }

        /// However long it is down, somebody signs after the next look, and nobody signs who has ended.
        #[test]
        fn somebody_always_signs(
            grace in 0i64..=100,
            gaps in proptest::collection::vec(prop_oneof![60i64..DAY, DAY..900 * DAY], 1..60),
        ) {
            let mut history = History::new(Policy::new(SignedDuration::from_secs(grace * DAY)));
            let mut now = START;
            for gap in gaps {
                let signs = history.look(at(now));
                prop_assert!(signs.is_some_and(|term| at(now) < term.expires_at));
                prop_assert!(history.known.len() <= 4);
                now += gap;
            }
        }

        /// At every moment exactly one signs, whoever looks: the order in which a replica knows them does not matter.
        #[test]
        fn replicas_agree_on_who_signs(
            terms in proptest::collection::vec((0i64..1000, 0i64..1000, 1i64..1000), 0..6),
            now in 0i64..2000,
            turn in 0usize..6,
        ) {
            let mut terms: Vec<Term> = terms
                .into_iter()
                .enumerate()
                .map(|(index, (created, from, life))| Term {
                    created_at: at(created),
                    // The store keeps one for each time.
                    signs_from: at(from * 6 + i64::try_from(index).unwrap()),
                    expires_at: at(from * 6 + life * 6),
                })
                .collect();
            let one = signing(&terms, at(now)).map(|index| terms[index]);
            prop_assert_eq!(one.is_some(), terms.iter().any(|term| at(now) < term.expires_at));
            let middle = turn.min(terms.len());
            terms.rotate_left(middle);
            prop_assert_eq!(signing(&terms, at(now)).map(|index| terms[index]), one);
        }
    }

    #[test]
    fn two_replicas_decide_the_same_time() {
        let policy = Policy::new(SignedDuration::from_hours(30 * 24));
        let first = next(&[], at(START), policy).unwrap();
        assert_eq!(next(&[], at(START + 5), policy).unwrap().signs_from, first.signs_from);
        let due = first.expires_at.as_second() - 70 * DAY;
        let one = next(&[first], at(due + 2 * DAY), policy).unwrap();
        let two = next(&[first], at(due + 2 * DAY + 7), policy).unwrap();
        assert_eq!(one.signs_from, two.signs_from);
        assert_eq!(one.signs_from, first.expires_at - policy.overlap());
        assert_eq!(next(&[first, one], at(due + 3 * DAY), policy), None);
    }

    #[test]
    fn a_year_in_the_life_of_an_authority() {
        let policy = Policy::new(SignedDuration::from_hours(30 * 24));
        let first = next(&[], at(START), policy).unwrap();
        let day = |n: i64| at(START + n * DAY);
        assert_eq!(first.expires_at, day(365));
        assert_eq!(next(&[first], day(290), policy), None);
        let second = next(&[first], day(297), policy).unwrap();
        assert_eq!(second.signs_from, day(334));
        let both = [first, second];
        assert_eq!(signing(&both, day(333)), Some(0));
        assert_eq!(signing(&both, day(334)), Some(1));
        assert_eq!(forgotten(&both, day(364), policy), Vec::<usize>::new());
        assert_eq!(forgotten(&both, day(365), policy), [0]);
        // Down for two years: a new one signs at once.
        let late = next(&both, day(1000), policy).unwrap();
        assert_eq!(signing(&[first, second, late], day(1000)), Some(2));
    }
}
