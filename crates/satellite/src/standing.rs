//! How the satellite stands with Ground Control, by the answers to its heartbeats.
//!
//! A refusal takes nothing away: credentials and content stay, and what is held is served. While it lasts nothing new is
//! fetched, and registration is tried again, slowly. A single 401 is no refusal yet, because it may be an outage; with a
//! robot account it never becomes one, since only a new token would help.

/// How the satellite stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Standing {
    /// Nothing is known against it.
    #[default]
    Good,
    /// So many heartbeats in a row were answered with 401.
    Doubtful(u8),
    /// It is revoked, deleted or not approved.
    Refused,
    /// It was refused, and is taken again; what it holds of credentials may be void.
    Returning,
}

/// What became of a heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Taken.
    Taken,
    /// 401.
    Unauthorized,
    /// 403.
    Forbidden,
    /// Anything else, which says nothing about the satellite.
    Other,
}

/// So many answers of 401 in a row to an SVID mean that the satellite is gone from Ground Control.
const UNAUTHORIZED: u8 = 3;

impl Outcome {
    /// By the status of an answer; `None` where there was none.
    pub(crate) fn of_refusal(status: Option<u16>) -> Self {
        match status {
            Some(401) => Self::Unauthorized,
            Some(403) => Self::Forbidden,
            _ => Self::Other,
        }
    }
}

impl Standing {
    /// After a heartbeat. `by_svid`: the satellite identifies itself by an SVID and can register again by itself.
    pub(crate) fn after(self, outcome: Outcome, by_svid: bool) -> Self {
        match (outcome, self) {
            (Outcome::Other, _) => self,
            (Outcome::Taken, Self::Refused | Self::Returning) if by_svid => Self::Returning,
            (Outcome::Taken, _) => Self::Good,
            (Outcome::Forbidden, _) | (Outcome::Unauthorized, Self::Refused | Self::Returning) => {
                Self::Refused
            }
            (Outcome::Unauthorized, Self::Good) => Self::Doubtful(1),
            (Outcome::Unauthorized, Self::Doubtful(times)) => match times.saturating_add(1) {
                times if by_svid && times >= UNAUTHORIZED => Self::Refused,
                times => Self::Doubtful(times),
            },
        }
    }

    /// Whether new content may be asked for.
    pub(crate) fn may_fetch(self) -> bool {
        matches!(self, Self::Good | Self::Doubtful(_))
    }

    /// Whether registration by SVID is to be tried again.
    pub(crate) fn wants_registration(self) -> bool {
        !self.may_fetch()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn through(by_svid: bool, outcomes: &[Outcome]) -> Standing {
        outcomes.iter().fold(Standing::Good, |standing, outcome| standing.after(*outcome, by_svid))
    }

    #[test]
    fn the_table() {
        use Outcome::{Forbidden, Other, Taken, Unauthorized};
        for (by_svid, outcomes, standing) in [
            (true, vec![Forbidden], Standing::Refused),
            (false, vec![Forbidden], Standing::Refused),
            (false, vec![Forbidden, Taken], Standing::Good),
            (true, vec![Forbidden, Taken], Standing::Returning),
            (true, vec![Forbidden, Taken, Taken], Standing::Returning),
            (true, vec![Forbidden, Taken, Unauthorized], Standing::Refused),
            (true, vec![Unauthorized, Unauthorized], Standing::Doubtful(2)),
            (true, vec![Unauthorized, Other, Unauthorized, Unauthorized], Standing::Refused),
            (true, vec![Unauthorized, Unauthorized, Taken, Unauthorized], Standing::Doubtful(1)),
            (false, vec![Unauthorized; 300], Standing::Doubtful(255)),
            (true, vec![Other; 9], Standing::Good),
        ] {
            assert_eq!(through(by_svid, &outcomes), standing, "{by_svid} {outcomes:?}");
        }
    }

    proptest! {
        #[test]
        fn an_outage_alone_changes_nothing(
            outcomes in proptest::collection::vec(
                prop_oneof![Just(Outcome::Taken), Just(Outcome::Unauthorized), Just(Outcome::Forbidden)], 0..6,
            ),
            by_svid: bool,
        ) {
            let standing = through(by_svid, &outcomes);
            prop_assert_eq!(standing.after(Outcome::Other, by_svid), standing);
            prop_assert!(standing.may_fetch() || outcomes.contains(&Outcome::Forbidden) || by_svid);
        }
    }
}
