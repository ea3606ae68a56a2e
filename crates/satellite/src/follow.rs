//! By what the satellite follows what it shall have: Ground Control's answers, or the registry.
//!
//! A Ground Control that knows of it names in each answer the digests of the published documents; then the registry is asked
//! for nothing that is here already. Where it does not (deployed ones), and after [`PATIENCE`] heartbeats in a row without
//! an answer, the documents' tags are looked at, as deployed satellites do. Decisions only; the heartbeat notes what it hears,
//! the replication reads where it stands.

use std::sync::{Arc, Mutex, PoisonError};

use fleet_protocol::desired::Desired;

/// So many heartbeats in a row have to fail before the registry is asked instead.
pub(crate) const PATIENCE: u32 = 3;

/// Where the present version of the documents is learnt.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Source {
    /// The registry's tags are looked at in each turn of the replication.
    #[default]
    Registry,
    /// After a start, before the first answer: what was read last is in force, and nothing is removed.
    Kept,
    /// The last answer named the digests.
    Answers(Arc<Desired>),
}

/// Where the satellite stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Position {
    /// Where documents are learnt.
    pub(crate) source: Source,
    /// The greatest generation that was told since the registration; 0 before the first. It outlives restarts.
    pub(crate) generation: u64,
    /// Heartbeats in a row without an answer.
    failures: u32,
}

/// What an answer meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heard {
    /// Something else than before.
    News,
    /// The same as before.
    Same,
    /// Of an older generation than the one that is known, so it was passed over.
    Older,
    /// Nothing of what is desired.
    Nothing,
}

impl Position {
    /// After a start. `generation` as it was kept; `kept`: a state document was read before.
    pub(crate) fn after_start(generation: u64, kept: bool) -> Self {
        let source = if generation > 0 && kept { Source::Kept } else { Source::Registry };
        Self { source, generation, failures: 0 }
    }

    /// An answer came.
    pub(crate) fn answered(&mut self, desired: Option<Desired>) -> Heard {
        self.failures = 0;
        let Some(desired) = desired else {
            self.source = Source::Registry;
            return Heard::Nothing;
        };
        if desired.generation < self.generation {
            return Heard::Older;
        }
        self.generation = desired.generation;
        match &self.source {
            Source::Answers(before) if **before == desired => Heard::Same,
            _ => {
                self.source = Source::Answers(Arc::new(desired));
                Heard::News
            }
        }
    }

    /// A heartbeat got no answer, or a refusal.
    pub(crate) fn failed(&mut self) {
        self.failures = self.failures.saturating_add(1);
        if self.failures >= PATIENCE {
            self.source = Source::Registry;
        }
    }

    /// No Ground Control is configured (any more): nobody will tell.
    pub(crate) fn alone(&mut self) {
        self.source = Source::Registry;
    }

    /// A new registration: whoever answers now may count anew.
    pub(crate) fn registered(&mut self) {
        *self = Self { source: Source::Registry, ..Self::default() };
    }
}

/// The position, between the heartbeat and the replication. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Follow(Arc<Mutex<Position>>);

impl Follow {
    pub(crate) fn new(position: Position) -> Self {
        Self(Arc::new(Mutex::new(position)))
    }

    pub(crate) fn position(&self) -> Position {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes it; tells what `change` told, and whether the
    /// source is another one now.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut Position) -> T) -> (T, bool) {
        let mut position = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = position.source.clone();
        let told = change(&mut position);
        let moved = before != position.source;
        (told, moved)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn desired(generation: u64) -> Desired {
        Desired { generation, ..Desired::default() }
    }

    #[test]
    fn three_failures_lead_to_the_registry_and_an_answer_leads_back() {
        let mut position = Position::default();
        assert_eq!(position.answered(Some(desired(4))), Heard::News);
        position.failed();
        position.failed();
        assert!(matches!(position.source, Source::Answers(_)));
        assert_eq!(position.answered(Some(desired(4))), Heard::Same);
        for _ in 0..PATIENCE {
            position.failed();
        }
        assert_eq!(position.source, Source::Registry);
        assert_eq!(position.answered(Some(desired(3))), Heard::Older);
        assert_eq!(position.source, Source::Registry, "what is passed over changes nothing");
        assert_eq!(position.answered(Some(desired(4))), Heard::News, "an equal generation is taken");
        assert_eq!(position.answered(None), Heard::Nothing);
        assert_eq!((position.source, position.generation), (Source::Registry, 4));
    }

    #[test]
    fn a_start_goes_on_with_what_is_kept() {
        assert_eq!(Position::after_start(7, true).source, Source::Kept);
        assert_eq!(Position::after_start(7, false).source, Source::Registry);
        assert_eq!(Position::after_start(0, true).source, Source::Registry);
        let mut position = Position::after_start(7, true);
        assert_eq!(position.answered(Some(desired(6))), Heard::Older);
        assert_eq!(position.source, Source::Kept);
        position.registered();
        assert_eq!(position.answered(Some(desired(1))), Heard::News, "another ground control counts anew");
    }

    proptest! {
        #[test]
        fn a_generation_never_goes_back(
            answers in proptest::collection::vec(proptest::option::weighted(0.7, proptest::option::of(0..9_u64)), 0..40),
        ) {
            let mut position = Position::default();
            for answer in answers {
                let before = position.generation;
                match answer {
                    None => position.failed(),
                    Some(generation) => drop(position.answered(generation.map(desired))),
                }
                prop_assert!(position.generation >= before);
                if let Source::Answers(told) = &position.source {
                    prop_assert_eq!(told.generation, position.generation);
                }
            }
        }
    }
}
