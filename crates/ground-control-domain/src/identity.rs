//! SPIFFE identities of satellites: who is let in by an SVID, and what the built-in authority decides.

mod claim;
mod keys;

use fleet_protocol::api::AttestationMethod;
use jiff::{SignedDuration, Timestamp};

use crate::SatelliteId;
use crate::satellite::{Satellite, SatelliteState};
use crate::secret::Hashed;

pub use claim::{JoinDecision, JoinToken};
pub use keys::{IdentityKeys, may_renew};

/// A new epoch: random, so that what an earlier life of a name was given is worth nothing, and positive.
#[must_use]
pub fn new_epoch() -> i64 {
    rand::random_range(1..=i64::MAX)
}

/// How long a renewal's nonce is good.
pub const NONCE_LIFETIME: SignedDuration = SignedDuration::from_mins(5);

/// What the database knows of a name that an SVID carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NameRecord {
    /// Never heard of.
    Unknown,
    /// There was one, and it was deleted: the name comes back only by an administrator.
    Deleted,
    /// There is one.
    Known(IdentityRecord),
}

/// What an SVID is compared with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityRecord {
    /// Which satellite.
    pub satellite: SatelliteId,
    /// Its name.
    pub name: String,
    /// The region of its identity.
    pub region: String,
    /// Where it stands in its life.
    pub state: SatelliteState,
    /// The epoch that every SVID of the built-in authority carries.
    pub epoch: i64,
    /// Whether the use of its SVID has something to end: a previous key, or the claim of a join token.
    pub awaits_use: bool,
}

/// An SVID as it was shown, chain and validity already checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown<'a> {
    /// The region in its SPIFFE ID.
    pub region: &'a str,
    /// The epoch in its serial number; `None` where another authority than the built-in one issued it.
    pub epoch: Option<i64>,
}

/// Whether an SVID opens anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admission {
    /// Its satellite is let in.
    Admitted,
    /// Nobody knows the name; registration may make it known.
    Unknown,
    /// HTTP 401: deleted, or issued to an earlier life of the name.
    Gone,
    /// HTTP 403: the name belongs to another identity, or its satellite is not admitted.
    Refused(&'static str),
}

/// Decides whether what was shown is the satellite that the database knows.
pub fn admit(known: &NameRecord, shown: &Shown<'_>) -> Admission {
    let record = match known {
        NameRecord::Unknown => return Admission::Unknown,
        NameRecord::Deleted => return Admission::Gone,
        NameRecord::Known(record) => record,
    };
    if record.region != shown.region {
        return Admission::Refused("the name belongs to a satellite of another region");
    }
    match record.state {
        SatelliteState::Revoked => Admission::Refused("the satellite is revoked"),
        SatelliteState::AwaitingApproval => {
            Admission::Refused("the satellite waits for an administrator's approval")
        }
        SatelliteState::Deleted => Admission::Gone,
        SatelliteState::Pending | SatelliteState::Online | SatelliteState::Stale => match shown.epoch {
            Some(epoch) if epoch != record.epoch => Admission::Gone,
            _ => Admission::Admitted,
        },
    }
}

/// What becomes of a valid identity that nobody registered (`AUTO_REGISTER`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum AutoRegister {
    /// It is registered, without groups.
    #[default]
    Allow,
    /// It waits for an administrator.
    Approve,
    /// It is refused.
    Deny,
}

/// A registration to be recorded; the identity's maker has done its part already.
#[derive(Debug, Clone)]
pub struct NewRegistration {
    /// The satellite's name.
    pub name: String,
    /// Its region; a repeat with another one is a conflict.
    pub region: String,
    /// Groups to join, beside those that it is in.
    pub groups: Vec<String>,
    /// Its configuration; `None`: `default` for a new satellite, unchanged for a known one.
    pub config_name: Option<String>,
    /// How its agent attests.
    pub method: AttestationMethod,
    /// The SPIFFE ID of its agent.
    pub parent_id: String,
    /// What its workload must show.
    pub selectors: Vec<String>,
    /// The hash of a join token of the built-in authority, and its end. Unclaimed ones from before are closed.
    pub join_token: Option<(Hashed, Timestamp)>,
}

/// A registration as it is recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// Whose.
    pub satellite: SatelliteId,
    /// That satellite's name.
    pub name: String,
    /// Its region.
    pub region: String,
    /// How its agent attests.
    pub method: AttestationMethod,
    /// The SPIFFE ID of its agent.
    pub parent_id: String,
    /// What its workload must show.
    pub selectors: Vec<String>,
}

/// Entries and agents that are to be removed where they were made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Withdrawal {
    /// What was registered.
    pub registration: Registration,
    /// How often removing it failed so far.
    pub attempts: u32,
    /// Whether no other admitted satellite is served by the same agent, so that it may be banned.
    pub agent_is_unused: bool,
}

/// How a satellite is let in again.
#[derive(Debug, Clone)]
pub enum Enabling {
    /// With a registration token, as after `POST /api/satellites`.
    Token {
        /// Its hash.
        token: Hashed,
        /// Its end.
        expires_at: Timestamp,
    },
    /// By its registration, done anew.
    Registration(Box<NewRegistration>),
}

/// A try to attest with a join token.
#[derive(Debug, Clone)]
pub struct AttestAttempt {
    /// The token's hash.
    pub token: Hashed,
    /// The public key that the SVID shall be for (base64 of its SubjectPublicKeyInfo).
    pub public_key: String,
    /// The end of the SVID that is issued if the claim succeeds.
    pub expires_at: Timestamp,
    /// The node agent that attests for its workloads; `None` where the satellite itself attests.
    pub agent: Option<String>,
}

/// Who an SVID is issued to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssueGrant {
    /// The satellite.
    pub satellite: SatelliteId,
    /// Its name.
    pub name: String,
    /// Its region.
    pub region: String,
    /// The epoch to put into the serial number.
    pub epoch: i64,
    /// Whether the same key was answered before.
    pub again: bool,
}

/// Why attestation or renewal is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IssueRefusal {
    /// No such token (HTTP 400).
    #[error("the join token is not known")]
    Unknown,
    /// Its time ran out before anyone claimed it (HTTP 401).
    #[error("the join token has expired")]
    Expired,
    /// It was used, by this key or another (HTTP 401).
    #[error("the join token has been used")]
    Used,
    /// The nonce was used or is too old (HTTP 401).
    #[error("the nonce is not good any more; ask for a new one")]
    Nonce,
    /// Not a key of this identity, or its last SVID ended longer ago than the grace (HTTP 401).
    #[error("this key may not renew the identity; a new join token is needed")]
    Key,
    /// The satellite is revoked or not approved (HTTP 403).
    #[error("the satellite is not admitted")]
    NotAdmitted,
}

/// What a renewal is checked against before anything is changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenewalRecord {
    /// Who.
    pub grant: IssueGrant,
    /// Where it stands in its life.
    pub state: SatelliteState,
    /// The keys that may sign (base64 of their SubjectPublicKeyInfo): the present one first.
    pub keys: Vec<String>,
    /// The end of the SVID issued last.
    pub expires_at: Timestamp,
}

/// A renewal whose signature has been checked.
#[derive(Debug, Clone)]
pub struct RenewAttempt {
    /// Whose.
    pub satellite: SatelliteId,
    /// The nonce, hashed; consumed.
    pub nonce: Hashed,
    /// The key that signed; it stays good until the new one is used.
    pub old_key: String,
    /// The key of the new SVID.
    pub new_key: String,
    /// The end of the new SVID.
    pub expires_at: Timestamp,
    /// How long after the end of the last SVID a renewal is still taken (`SVID_RENEWAL_GRACE`).
    pub grace: SignedDuration,
}

/// A certificate authority as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthorityRecord {
    /// Its identifier.
    pub id: String,
    /// Its trust domain.
    pub trust_domain: String,
    /// Its certificate (PEM).
    pub certificate: String,
    /// Its key, sealed under the server key (base64).
    pub sealed_key: String,
    /// When it was made, and so put into the bundles.
    pub created_at: Timestamp,
    /// From when on it signs.
    pub signs_from: Timestamp,
    /// When its certificate ends.
    pub expires_at: Timestamp,
}

/// A node agent that attested to the built-in authority.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeAgent {
    /// Its identity.
    pub spiffe_id: String,
    /// The satellite whose join token it came with.
    pub satellite: Registration,
    /// The keys that are good (base64 of their SubjectPublicKeyInfo): the present one first.
    pub keys: Vec<String>,
    /// The end of its SVID.
    pub expires_at: Timestamp,
    /// Whether it was banned.
    pub banned: bool,
}

/// A satellite that a node agent may get SVIDs for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentEntry {
    /// What was registered.
    pub registration: Registration,
    /// The epoch to put into serial numbers.
    pub epoch: i64,
    /// When it was registered or changed; tells an agent that the entry is a new one.
    pub updated_at: Timestamp,
}

/// What auto-registration came to.
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "there is one at a time, and it is taken apart at once")]
pub enum AutoRegistered {
    /// It is there now, and admitted or waiting for approval as its state says.
    Created(Satellite),
    /// Somebody else was quicker, or the name has been there: look it up again.
    Exists,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;

    fn record(region: &str, state: SatelliteState, epoch: i64) -> NameRecord {
        NameRecord::Known(IdentityRecord {
            satellite: SatelliteId::generate(),
            name: "edge-01".into(),
            region: region.into(),
            state,
            epoch,
            awaits_use: false,
        })
    }

    proptest! {
        #[test]
        fn nobody_is_admitted_but_the_satellite_itself(
            state in select(SatelliteState::ALL.to_vec()),
            known_region in select(vec!["default", "us-east"]),
            region in select(vec!["default", "us-east"]),
            known_epoch in 0_i64..3,
            epoch in proptest::option::of(0_i64..3),
        ) {
            let admission = admit(&record(known_region, state, known_epoch), &Shown { region, epoch });
            let same = region == known_region && epoch.is_none_or(|epoch| epoch == known_epoch);
            prop_assert_eq!(admission == Admission::Admitted, same && state.admits());
            let refused_by_state = matches!(state, SatelliteState::Revoked | SatelliteState::AwaitingApproval);
            if region != known_region || refused_by_state {
                prop_assert!(matches!(admission, Admission::Refused(_)));
            } else if state == SatelliteState::Deleted {
                prop_assert_eq!(admission, Admission::Gone);
            }
        }
    }

    #[test]
    fn a_name_that_nobody_knows_and_one_that_was_deleted_are_two_things() {
        let shown = Shown { region: "default", epoch: None };
        assert_eq!(admit(&NameRecord::Unknown, &shown), Admission::Unknown);
        assert_eq!(admit(&NameRecord::Deleted, &shown), Admission::Gone);
    }

    #[test]
    fn epochs_are_positive_and_differ() {
        let (a, b) = (new_epoch(), new_epoch());
        assert!(a > 0 && b > 0 && a != b);
    }
}
