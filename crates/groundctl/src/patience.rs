//! Waiting for a Ground Control that is away for a moment: whoever watches goes on when it is back.

use std::time::Duration;

use tokio::time::Instant;

use crate::error::Error;

/// How long it may be away in a row.
const LIMIT: Duration = Duration::from_secs(60);

/// What came of requests that are repeated for long.
#[derive(Default)]
pub(crate) struct Patience {
    away_since: Option<Instant>,
}

impl Patience {
    /// The answer, or nothing where another try is due later; the error where that has been so for too long.
    pub(crate) fn take<T>(&mut self, answer: Result<T, Error>) -> Result<Option<T>, Error> {
        match answer {
            Ok(answer) => {
                self.away_since = None;
                Ok(Some(answer))
            }
            Err(error) if error.may_pass() => {
                let since = *self.away_since.get_or_insert_with(|| {
                    eprintln!("{error}; trying again");
                    Instant::now()
                });
                if since.elapsed() < LIMIT { Ok(None) } else { Err(error) }
            }
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_passes_is_waited_for() {
        let away = || Err::<(), _>(Error::Refused { code: 503, message: "draining".into() });
        let mut patience = Patience::default();
        assert!(matches!(patience.take(Ok(())), Ok(Some(()))));
        assert!(matches!(patience.take(away()), Ok(None)));
        tokio::time::advance(LIMIT / 2).await;
        assert!(matches!(patience.take(away()), Ok(None)));
        assert!(matches!(patience.take(Ok(())), Ok(Some(()))), "and from then on the time runs anew");
        assert!(matches!(patience.take(away()), Ok(None)));
        tokio::time::advance(LIMIT).await;
        assert!(patience.take(away()).is_err());
        let refused = Err::<(), _>(Error::Refused { code: 404, message: "no such group".into() });
        assert!(Patience::default().take(refused).is_err());
    }
}
