//! Join tokens: who gets an SVID for one.
//!
//! A lost answer must not brick a device, and two devices must never share a token. The device keeps its new key before
//! it asks for the first time; the first claim binds the token to that key, and the same key is answered again until
//! the SVID is used, which shows that an answer arrived.

use jiff::Timestamp;

use super::IssueRefusal;

/// A join token as the database keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// Until when it may be claimed.
    pub expires_at: Timestamp,
    /// The public key that claimed it (base64 of its SubjectPublicKeyInfo).
    pub claimed_by: Option<String>,
    /// Whether it is over: the SVID was used, or the token was voided.
    pub closed: bool,
}

/// What a claim comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JoinDecision {
    /// The token is bound to this key.
    First,
    /// The same key again.
    Again,
    /// No answer.
    Refused(IssueRefusal),
}

impl JoinToken {
    /// Decides a claim by `key` at `now`.
    ///
    /// The expiry bounds the first claim only: whoever was answered just before it may still have lost the answer.
    #[must_use]
    pub fn decide(&self, key: &str, now: Timestamp) -> JoinDecision {
        match &self.claimed_by {
            _ if self.closed => JoinDecision::Refused(IssueRefusal::Used),
            None if now < self.expires_at => JoinDecision::First,
            None => JoinDecision::Refused(IssueRefusal::Expired),
            Some(bound) if bound == key => JoinDecision::Again,
            Some(_) => JoinDecision::Refused(IssueRefusal::Used),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[derive(Debug, Clone)]
    enum Step {
        Claim(u8, i64),
        Close,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            8 => (0_u8..3, 0_i64..200).prop_map(|(key, second)| Step::Claim(key, second)),
            1 => Just(Step::Close),
        ]
    }

    proptest! {
        /// However claims come, at most one key is ever answered, first before the token's end, and never after it closed.
        #[test]
        fn one_key_has_the_token(steps in proptest::collection::vec(step(), 0..40)) {
            let mut token = JoinToken { expires_at: at(100), claimed_by: None, closed: false };
            let mut holder: Option<String> = None;
            for step in steps {
                match step {
                    Step::Close => token.closed = true,
                    Step::Claim(key, second) => {
                        let key = key.to_string();
                        match token.decide(&key, at(second)) {
                            JoinDecision::First => {
                                prop_assert!(holder.is_none() && second < 100 && !token.closed);
                                holder = Some(key.clone());
                                token.claimed_by = Some(key);
                            }
                            JoinDecision::Again => {
                                prop_assert!(!token.closed);
                                prop_assert_eq!(holder.as_ref(), Some(&key));
                            }
                            JoinDecision::Refused(refusal) => {
                                prop_assert!(token.closed || holder.as_ref() != Some(&key));
                                let expired = holder.is_none() && !token.closed;
                                prop_assert_eq!(refusal == IssueRefusal::Expired, expired);
                            }
                        }
                    }
                }
            }
        }
    }
}
