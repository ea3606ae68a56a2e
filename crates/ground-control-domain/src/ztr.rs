//! Zero-touch registration: who gets an answer for a one-time token.
//!
//! A lost answer must not brick a device, and two devices must never share a token. A device therefore makes a
//! nonce once and keeps it before it asks for the first time; the first claim binds the token to that nonce, and
//! the same nonce is answered again, each time with a fresh secret, until the first authenticated heartbeat shows
//! that an answer arrived. The older form without a nonce can only be answered again to the same source address,
//! for ten minutes: two devices behind one address can take a token from each other in that time, but the
//! secret of the one that asked first ends when the other is answered, so they never work side by side.

use std::net::IpAddr;

use jiff::{SignedDuration, Timestamp};

use crate::SatelliteId;
use crate::secret::Hashed;

/// How long a token may wait for its device.
pub const TOKEN_LIFETIME: SignedDuration = SignedDuration::from_hours(24);

/// How long the form without a nonce is answered again.
pub const SOURCE_REPLAY: SignedDuration = SignedDuration::from_mins(10);

/// A token as the database keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenState {
    /// Until when it may be claimed.
    pub expires_at: Timestamp,
    /// The claim, once there was one.
    pub claim: Option<TokenClaim>,
    /// Whether it is over: an authenticated heartbeat arrived, or the token was voided.
    pub closed: bool,
}

/// The claim that a token was given to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenClaim {
    /// When it was claimed first.
    pub at: Timestamp,
    /// Who claimed it.
    pub claimant: Claimant,
}

/// What identifies the device that asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claimant {
    /// Its nonce, hashed.
    Nonce(Hashed),
    /// The address it asks from, where it sent no nonce.
    Source(IpAddr),
}

/// A try to claim a token.
#[derive(Debug, Clone)]
pub struct ClaimAttempt {
    /// The token's hash.
    pub token: Hashed,
    /// Who asks.
    pub claimant: Claimant,
    /// The hash of the secret that the robot gets if the claim succeeds.
    pub new_secret: Hashed,
}

/// What a claim comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClaimDecision {
    /// The token is bound to this device; whatever secret the robot had is void.
    First,
    /// The same device again. `keep_previous`: the secret of the answer before stays good until the new one is
    /// used, which is right only where it is surely the same device.
    Again {
        /// Whether the secret of the answer before stays good.
        keep_previous: bool,
    },
    /// No answer.
    Refused(ClaimRefusal),
}

/// Why a claim is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ClaimRefusal {
    /// No such token (HTTP 400).
    #[error("the token is not known")]
    Unknown,
    /// Its time ran out before anyone claimed it (HTTP 401).
    #[error("the token has expired")]
    Expired,
    /// It was used, by this device or another (HTTP 401).
    #[error("the token has been used")]
    Used,
    /// The satellite may not register as it stands: revoked, or waiting for approval (HTTP 403).
    #[error("the satellite is not admitted")]
    NotAdmitted,
}

/// A claim that succeeded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimGrant {
    /// The satellite whose token it was.
    pub satellite: SatelliteId,
    /// Its name.
    pub satellite_name: String,
    /// Whether this device was answered before.
    pub again: bool,
}

/// Decides a claim by `claimant` at `now`.
///
/// The expiry bounds the first claim only: a device that was answered just before it may still have lost the answer.
pub fn decide(token: &TokenState, claimant: &Claimant, now: Timestamp) -> ClaimDecision {
    if token.closed {
        return ClaimDecision::Refused(ClaimRefusal::Used);
    }
    let Some(claim) = &token.claim else {
        return if now < token.expires_at {
            ClaimDecision::First
        } else {
            ClaimDecision::Refused(ClaimRefusal::Expired)
        };
    };
    match (&claim.claimant, claimant) {
        (Claimant::Nonce(bound), Claimant::Nonce(asked)) if bound == asked => {
            ClaimDecision::Again { keep_previous: true }
        }
        (Claimant::Source(bound), Claimant::Source(asked))
            if bound == asked && now.duration_since(claim.at) < SOURCE_REPLAY =>
        {
            ClaimDecision::Again { keep_previous: false }
        }
        _ => ClaimDecision::Refused(ClaimRefusal::Used),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn claimant() -> impl Strategy<Value = Claimant> {
        prop_oneof![
            (0u8..4).prop_map(|n| Claimant::Nonce(Hashed::from(format!("{n}")))),
            (0u8..4).prop_map(|n| Claimant::Source(IpAddr::from([10, 0, 0, n]))),
        ]
    }

    #[derive(Debug, Clone)]
    enum Step {
        Claim(Claimant, i64),
        Heartbeat,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (claimant(), 0i64..900).prop_map(|(c, s)| Step::Claim(c, s)),
            1 => Just(Step::Heartbeat),
        ]
    }

    proptest! {
        /// However claims and heartbeats mix, one device alone is ever answered, and none after its heartbeat.
        #[test]
        fn one_token_serves_one_device(steps in proptest::collection::vec(step(), 1..40)) {
            let mut now = 0;
            let mut token = TokenState { expires_at: at(5000), claim: None, closed: false };
            let mut answered: Option<Claimant> = None;
            for step in steps {
                match step {
                    Step::Heartbeat => token.closed |= token.claim.is_some(),
                    Step::Claim(claimant, pause) => {
                        now += pause;
                        match decide(&token, &claimant, at(now)) {
                            ClaimDecision::First => {
                                prop_assert!(answered.is_none() && now < 5000);
                                token.claim = Some(TokenClaim { at: at(now), claimant: claimant.clone() });
                                answered = Some(claimant);
                            }
                            ClaimDecision::Again { keep_previous } => {
                                prop_assert_eq!(answered.as_ref(), Some(&claimant));
                                prop_assert!(!token.closed);
                                prop_assert_eq!(keep_previous, matches!(claimant, Claimant::Nonce(_)));
                            }
                            ClaimDecision::Refused(ClaimRefusal::Expired) => {
                                prop_assert!(answered.is_none() && now >= 5000);
                            }
                            ClaimDecision::Refused(refusal) => {
                                prop_assert_eq!(refusal, ClaimRefusal::Used);
                                prop_assert!(answered.is_some());
                            }
                        }
                    }
                }
            }
        }

        /// The nonce that claimed is answered however late, until its heartbeat.
        #[test]
        fn a_lost_answer_never_bricks_a_device(late in 0i64..10_000_000) {
            let nonce = Claimant::Nonce(Hashed::from("n".to_owned()));
            let claim = TokenClaim { at: at(10), claimant: nonce.clone() };
            let token = TokenState { expires_at: at(100), claim: Some(claim), closed: false };
            prop_assert_eq!(decide(&token, &nonce, at(10 + late)), ClaimDecision::Again { keep_previous: true });
        }

        #[test]
        fn a_source_is_answered_again_for_ten_minutes(late in 0i64..2000) {
            let source = Claimant::Source(IpAddr::from([192, 0, 2, 1]));
            let claim = TokenClaim { at: at(10), claimant: source.clone() };
            let token = TokenState { expires_at: at(100), claim: Some(claim), closed: false };
            let again = decide(&token, &source, at(10 + late)) == ClaimDecision::Again { keep_previous: false };
            prop_assert_eq!(again, late < 600);
        }
    }
}
