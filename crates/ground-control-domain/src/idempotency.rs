//! Requests that make something once, however often they are sent (draft-ietf-httpapi-idempotency-key-header).
//!
//! A key is claimed before its request is carried out, and marked in the transaction of what the request makes: so that it is
//! known whether something was made, wherever a process ended. The answer comes after that. Where it got lost in between,
//! or is not kept any longer, the same request is told so, and makes nothing a second time.

use jiff::{SignedDuration, Timestamp};

/// For how long a key is known.
pub const LIFETIME: SignedDuration = SignedDuration::from_hours(24);
/// For how long an answer is kept that holds a secret.
pub const SECRET_LIFETIME: SignedDuration = SignedDuration::from_mins(10);
/// For how long nobody else carries a request out: longer than any request takes.
pub const CLAIM: SignedDuration = SignedDuration::from_secs(120);
/// The most keys of one caller; the oldest that are no longer under way go first.
pub const MOST_KEYS: u32 = 1000;

/// A key of one caller. Only hashes are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Whose key it is.
    pub caller: String,
    /// The hash of the key.
    pub key_hash: String,
    /// Who carries the request out: made anew for each attempt.
    pub holder: String,
}

/// Somebody asks with a key.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// To be the claim, where there is none.
    pub claim: Claim,
    /// The hash of what is asked for.
    pub request_hash: String,
}

/// What is known of a key that is there already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// The hash of what was asked for with it.
    pub request_hash: String,
    /// Whether what was asked for is made.
    pub made: bool,
    /// Until when its request is under way, unless it was answered.
    pub claimed_until: Timestamp,
    /// The status of the answer, where there was one.
    pub status: Option<u16>,
    /// The answer, sealed, where it is kept.
    pub answer: Option<String>,
    /// Until when it is.
    pub answer_until: Timestamp,
}

/// What becomes of a request with a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is carried out now, under the attempt's claim.
    Claimed,
    /// The same request is under way.
    UnderWay,
    /// The key was another request's.
    AnotherRequest,
    /// It was answered: with this status, and this, sealed.
    Answered(u16, String),
    /// It was carried out, and what was answered is not known any more.
    Forgotten,
}

impl Known {
    /// What becomes of the same key's next request. `Claimed` is never among it: who may take a claim over is decided where it is
    /// taken.
    pub fn outcome(self, request_hash: &str, now: Timestamp) -> Outcome {
        if self.request_hash != request_hash {
            return Outcome::AnotherRequest;
        }
        match (self.status, self.answer) {
            (Some(status), Some(answer)) if self.answer_until > now => Outcome::Answered(status, answer),
            (Some(_), _) => Outcome::Forgotten,
            // Who made something answers within its claim, or never.
            (None, _) if self.claimed_until <= now => Outcome::Forgotten,
            (None, _) => Outcome::UnderWay,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn under_way() -> Known {
        Known {
            request_hash: "one".to_owned(),
            made: false,
            claimed_until: at(100),
            status: None,
            answer: None,
            answer_until: at(0),
        }
    }

    #[test]
    fn the_same_request_is_told_how_it_stands() {
        let answered = Known {
            made: true,
            status: Some(201),
            answer: Some("sealed".to_owned()),
            answer_until: at(600),
            ..under_way()
        };
        let without = Known { answer: None, ..answered.clone() };
        let lost = Known { made: true, ..under_way() };
        for (known, now, outcome) in [
            (under_way(), 99, Outcome::UnderWay),
            (lost.clone(), 99, Outcome::UnderWay),
            (lost, 100, Outcome::Forgotten),
            (answered.clone(), 599, Outcome::Answered(201, "sealed".to_owned())),
            (answered.clone(), 600, Outcome::Forgotten),
            (without, 50, Outcome::Forgotten),
        ] {
            assert_eq!(known.clone().outcome("one", at(now)), outcome, "{known:?} {now}");
            assert_eq!(known.outcome("two", at(now)), Outcome::AnotherRequest);
        }
    }
}
