//! Words that something may have changed.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

/// How many repositories wait to be looked at by a word; beyond that all of them are.
const MAX_WAITING: usize = 10_000;

#[derive(Debug, Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    repositories: HashSet<String>,
    all: bool,
}

/// Takes such words from whoever has one, at once and without a look at the database; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Hints(Arc<Shared>);

/// What was said since the last time.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) repositories: Vec<String>,
    pub(super) all: bool,
}

impl Hints {
    /// Something was committed that asks for a look.
    pub fn wake(&self) {
        self.0.wake.notify_one();
    }

    /// Something may have changed in this repository.
    pub fn changed(&self, repository: &str) {
        {
            let mut waiting = self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            if waiting.repositories.len() < MAX_WAITING {
                waiting.repositories.insert(repository.to_owned());
            } else if !waiting.repositories.contains(repository) {
                waiting.all = true;
            }
        }
        self.wake();
    }

    /// Waits for a word.
    pub(super) async fn woken(&self) {
        self.0.wake.notified().await;
    }

    pub(super) fn take(&self) -> Said {
        let mut waiting = self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let Waiting { repositories, all } = std::mem::take(&mut *waiting);
        Said { repositories: repositories.into_iter().collect(), all }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn words_are_kept_until_somebody_listens() {
        let hints = Hints::default();
        hints.changed("library/nginx");
        hints.changed("library/nginx");
        hints.woken().await;
        let said = hints.take();
        assert_eq!((said.repositories, said.all), (vec!["library/nginx".to_owned()], false));
        assert_eq!(hints.take(), Said::default());
    }

    #[test]
    fn a_flood_is_one_word_for_all() {
        let hints = Hints::default();
        for n in 0..MAX_WAITING + 5 {
            hints.changed(&format!("a/{n}"));
        }
        let said = hints.take();
        assert_eq!((said.repositories.len(), said.all), (MAX_WAITING, true));
    }
}
