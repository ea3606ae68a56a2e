//! The keys that an identity may be renewed with.
//!
//! A device makes its next key before it asks, and the answer may be lost, more than once. So the key that was last seen
//! in use stays good until the one that took its place is used: there are two keys at most, and never none that works.

use jiff::{SignedDuration, Timestamp};

use super::{IssueRefusal, RenewalRecord};

/// The keys of one identity (base64 of their SubjectPublicKeyInfo).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityKeys {
    /// The key that the last SVID was issued for.
    pub present: String,
    /// The one seen in use before, until the present one is used.
    pub previous: Option<String>,
}

impl IdentityKeys {
    /// Whether `key` is one of them.
    #[must_use]
    pub fn holds(&self, key: &str) -> bool {
        self.present == key || self.previous.as_deref() == Some(key)
    }

    /// The keys after an SVID was issued for `new` on a join token. What worked `before` goes on until `new` is used.
    #[must_use]
    pub fn attested(before: Option<Self>, new: &str) -> Self {
        match before {
            None => Self { present: new.to_owned(), previous: None },
            Some(keys) if keys.present == new => keys,
            Some(keys) => {
                let previous = keys.previous.filter(|previous| previous != new).unwrap_or(keys.present);
                Self { present: new.to_owned(), previous: Some(previous) }
            }
        }
    }

    /// The keys after `by`, one of them, has signed for `new`: that was a use of `by`.
    #[must_use]
    pub fn renewed(self, by: &str, new: &str) -> Self {
        if by != new {
            return Self { present: new.to_owned(), previous: Some(by.to_owned()) };
        }
        let previous = (by != self.present).then_some(self.present);
        Self { present: new.to_owned(), previous }
    }

    /// The keys after an SVID of `key` was shown.
    #[must_use]
    pub fn used(self, key: &str) -> Self {
        if self.present == key { Self { previous: None, ..self } } else { self }
    }
}

/// Whether `key` may sign a renewal at `now`: it belongs to the identity, whose satellite is admitted and whose last SVID
/// ended no longer than `grace` ago.
pub fn may_renew(
    record: &RenewalRecord,
    key: &str,
    grace: SignedDuration,
    now: Timestamp,
) -> Result<(), IssueRefusal> {
    if !record.keys.iter().any(|known| known == key) {
        return Err(IssueRefusal::Key);
    }
    if !record.state.admits() {
        return Err(IssueRefusal::NotAdmitted);
    }
    if now.duration_since(record.expires_at) > grace {
        return Err(IssueRefusal::Key);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::super::IssueGrant;
    use super::*;
    use crate::SatelliteId;
    use crate::satellite::SatelliteState;

    /// What happens between a device and the authority; `true`: the answer arrived.
    #[derive(Debug, Clone)]
    enum Step {
        Attest(bool),
        Renew(bool),
        RenewForAnother(bool),
        Show,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            1 => any::<bool>().prop_map(Step::Attest),
            4 => any::<bool>().prop_map(Step::Renew),
            2 => any::<bool>().prop_map(Step::RenewForAnother),
            3 => Just(Step::Show),
        ]
    }

    proptest! {
        /// Whatever answers are lost: the key in a device's hands can renew, or the one it attests with is answered.
        #[test]
        fn no_lost_answer_locks_a_device_out(steps in proptest::collection::vec(step(), 0..60)) {
            let mut keys = IdentityKeys::attested(None, "0");
            let (mut held, mut next, mut attesting, mut made) = ("0".to_owned(), None::<String>, false, 0);
            let mut fresh = || {
                made += 1;
                made.to_string()
            };
            for step in steps {
                match step {
                    Step::Show => keys = keys.used(&held),
                    // A join token is bound to the key: the device asks with it until it is answered.
                    Step::Attest(arrived) | Step::Renew(arrived) | Step::RenewForAnother(arrived)
                        if attesting || matches!(step, Step::Attest(_)) =>
                    {
                        let new = next.take().filter(|_| attesting).unwrap_or_else(&mut fresh);
                        keys = IdentityKeys::attested(Some(keys), &new);
                        attesting = !arrived;
                        if arrived { held = new } else { next = Some(new) }
                    }
                    Step::Attest(arrived) | Step::Renew(arrived) => {
                        let new = next.take().unwrap_or_else(&mut fresh);
                        keys = keys.renewed(&held, &new);
                        if arrived { held = new } else { next = Some(new) }
                    }
                    Step::RenewForAnother(arrived) => {
                        let new = fresh();
                        keys = keys.renewed(&held, &new);
                        next = (!arrived).then(|| new.clone());
                        if arrived {
                            held = new;
                        }
                    }
                }
                let works = if attesting { next.as_ref() } else { Some(&held) };
                prop_assert!(works.is_some_and(|key| keys.holds(key)), "{:?}: {} {:?}", keys, held, next);
                prop_assert_ne!(Some(&keys.present), keys.previous.as_ref());
            }
        }

        /// Once the new key is used, no other works any more.
        #[test]
        fn a_used_key_is_the_only_one(by_present: bool) {
            let keys = IdentityKeys { present: "b".into(), previous: Some("a".into()) };
            let keys = keys.renewed(if by_present { "b" } else { "a" }, "c").used("c");
            prop_assert_eq!(keys, IdentityKeys { present: "c".into(), previous: None });
        }

        #[test]
        fn only_a_known_key_of_an_admitted_satellite_renews_within_the_grace(
            state in select(SatelliteState::ALL.to_vec()), key in select(vec!["a", "b", "c"]), now in 0_i64..300
        ) {
            let record = RenewalRecord {
                grant: IssueGrant {
                    satellite: SatelliteId::generate(),
                    name: "edge-01".into(),
                    region: "default".into(),
                    epoch: 1,
                    again: false,
                },
                state,
                keys: vec!["a".into(), "b".into()],
                expires_at: Timestamp::from_second(100).unwrap(),
            };
            let grace = SignedDuration::from_secs(100);
            let decided = may_renew(&record, key, grace, Timestamp::from_second(now).unwrap());
            prop_assert_eq!(decided.is_ok(), key != "c" && state.admits() && now <= 200);
            prop_assert_eq!(decided == Err(IssueRefusal::NotAdmitted), key != "c" && !state.admits());
        }
    }
}
