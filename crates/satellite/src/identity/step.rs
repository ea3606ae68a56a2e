//! What the satellite does next about an identity of the built-in authority: a decision from values to values.

use jiff::Timestamp;

/// What is known.
#[derive(Debug, Clone, Default)]
pub(super) struct View<'a> {
    /// The SVID that is held.
    pub(super) held: Option<Held<'a>>,
    /// SHA-256 of the join token that was given, if one was.
    pub(super) token: Option<&'a str>,
    /// The join token that was refused last.
    pub(super) refused_token: Option<&'a str>,
    /// Ground Control refused to renew, and that is not long ago enough to ask again.
    pub(super) renewal_waits: bool,
    /// The same for the join token that was refused.
    pub(super) token_waits: bool,
}

/// An SVID that is held.
#[derive(Debug, Clone)]
pub(super) struct Held<'a> {
    /// SHA-256 of the join token that it goes back to.
    pub(super) token: &'a str,
    /// When it is to be renewed.
    pub(super) renew_at: Timestamp,
    /// Ground Control refuses to renew it.
    pub(super) refused: bool,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Attest with the join token.
    Attest,
    /// Renew.
    Renew,
    /// Nothing for now.
    Wait,
    /// Nothing can be done before somebody gives a join token.
    NeedsToken,
}

/// Decides. A join token that nothing goes back to is a person's word and comes first; one that was refused is tried on
/// only where there is nothing better to do. What is held is used until something takes its place.
pub(super) fn next(view: &View<'_>, now: Timestamp) -> Step {
    let new = view.token.filter(|token| view.held.as_ref().is_none_or(|held| held.token != *token));
    let known_bad = new.is_some() && new == view.refused_token;
    if new.is_some() && !known_bad {
        return Step::Attest;
    }
    let try_again = known_bad && !view.token_waits;
    match &view.held {
        Some(held) if now >= held.renew_at && !view.renewal_waits => Step::Renew,
        Some(held) if held.refused && try_again => Step::Attest,
        Some(_) => Step::Wait,
        None if try_again => Step::Attest,
        None => Step::NeedsToken,
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;
    use proptest::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn held(token: &str, due_in: i64, refused: bool) -> Option<Held<'_>> {
        Some(Held { token, renew_at: NOW + SignedDuration::from_secs(due_in), refused })
    }

    #[test]
    fn the_table() {
        let nothing = View::default();
        for (view, step, why) in [
            (nothing.clone(), Step::NeedsToken, "nothing is there"),
            (View { token: Some("a"), ..nothing.clone() }, Step::Attest, "a first token"),
            (
                View { token: Some("a"), refused_token: Some("a"), token_waits: true, ..nothing.clone() },
                Step::NeedsToken,
                "refused, not long ago",
            ),
            (
                View { token: Some("a"), refused_token: Some("a"), ..nothing.clone() },
                Step::Attest,
                "refused, long ago",
            ),
            (
                View { token: Some("b"), refused_token: Some("a"), token_waits: true, ..nothing.clone() },
                Step::Attest,
                "another one is tried at once",
            ),
            (
                View { held: held("a", 9, false), token: Some("a"), ..nothing.clone() },
                Step::Wait,
                "good, token spent",
            ),
            (
                View { held: held("a", 9, false), token: Some("b"), ..nothing.clone() },
                Step::Attest,
                "a person's word",
            ),
            (View { held: held("a", 0, false), ..nothing.clone() }, Step::Renew, "due"),
            (
                View { held: held("a", 0, true), renewal_waits: true, ..nothing.clone() },
                Step::Wait,
                "refused, asks slowly",
            ),
            (
                View { held: held("a", 0, true), token: Some("b"), renewal_waits: true, ..nothing.clone() },
                Step::Attest,
                "a new token after a refusal",
            ),
            (
                View {
                    held: held("a", 9, false),
                    token: Some("b"),
                    refused_token: Some("b"),
                    ..nothing.clone()
                },
                Step::Wait,
                "a bad token costs nothing while the SVID is good",
            ),
        ] {
            assert_eq!(next(&view, NOW), step, "{why}");
        }
    }

    proptest! {
        #[test]
        fn a_spent_token_is_never_tried_and_what_is_refused_is_not_tried_at_once(
            held_token in proptest::option::of("[ab]"), token in proptest::option::of("[ab]"),
            refused_token in proptest::option::of("[ab]"), due in -5_i64..5, refused: bool,
            renewal_waits: bool, token_waits: bool,
        ) {
            let view = View {
                held: held_token.as_deref().and_then(|token| held(token, due, refused)),
                token: token.as_deref(),
                refused_token: refused_token.as_deref(),
                renewal_waits,
                token_waits,
            };
            match next(&view, NOW) {
                Step::Attest => {
                    prop_assert!(token.is_some() && token != held_token);
                    prop_assert!(token != refused_token || !token_waits);
                }
                Step::Renew => prop_assert!(held_token.is_some() && due <= 0 && !renewal_waits),
                Step::Wait => prop_assert!(held_token.is_some()),
                Step::NeedsToken => prop_assert!(held_token.is_none()),
            }
        }
    }
}
