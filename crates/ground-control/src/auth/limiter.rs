//! Limits in the memory of this replica: what is asked for each request, and costs no database anything.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

use crate::domain::limit::Rate;

/// Subjects that are kept at most. Beyond that everybody begins anew: who has so many addresses is not held up by a limit
/// for each of them.
const MOST: usize = 65_536;

/// One bucket for each subject.
#[derive(Debug)]
pub struct Limiter<K> {
    rate: Rate,
    kept: Mutex<HashMap<K, Timestamp>>,
}

impl<K: Eq + Hash> Limiter<K> {
    /// Every bucket full.
    pub fn new(rate: Rate) -> Self {
        Self { rate, kept: Mutex::default() }
    }

    fn kept(&self) -> MutexGuard<'_, HashMap<K, Timestamp>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes one.
    ///
    /// # Errors
    /// How long it takes until there is one.
    pub fn take(&self, subject: K, now: Timestamp) -> Result<(), Duration> {
        let mut kept = self.kept();
        let next = self.rate.take(kept.get(&subject).copied(), now)?;
        if kept.len() >= MOST && !kept.contains_key(&subject) {
            kept.retain(|_, whole_at| now < *whole_at);
            if kept.len() >= MOST {
                kept.clear();
            }
        }
        kept.insert(subject, next);
        Ok(())
    }

    /// How long it takes until there is one to take; none is taken. `None`: there is one.
    pub fn exhausted(&self, subject: &K, now: Timestamp) -> Option<Duration> {
        self.rate.take(self.kept().get(subject).copied(), now).err()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_subject_has_a_bucket_of_its_own() {
        let limiter = Limiter::new(Rate { burst: 2, every: Duration::from_secs(10) });
        let at = |second| Timestamp::from_second(second).unwrap();
        assert_eq!([limiter.take("a", at(0)), limiter.take("a", at(0))], [Ok(()), Ok(())]);
        assert_eq!(limiter.take("a", at(1)), Err(Duration::from_secs(9)));
        assert_eq!(limiter.exhausted(&"a", at(1)), Some(Duration::from_secs(9)));
        assert_eq!(limiter.exhausted(&"b", at(1)), None);
        assert_eq!(limiter.take("b", at(1)), Ok(()));
        assert_eq!(limiter.take("a", at(10)), Ok(()));
    }

    #[test]
    fn memory_is_bounded() {
        let limiter = Limiter::new(Rate { burst: 1, every: Duration::from_secs(10) });
        for n in 0..=MOST {
            assert_eq!(limiter.take(n, Timestamp::UNIX_EPOCH), Ok(()));
        }
        assert!(limiter.kept().len() <= MOST);
    }
}
