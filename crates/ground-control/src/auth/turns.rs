//! Who may have a password stretched next: strangers by their source, people who are logged in by their account.
//!
//! Stretching is what costs, so that a flood of logins is a queue here and nowhere else. Sessions and tokens never come this
//! way. Whoever is logged in and has a password of theirs checked or changed stands in a queue of their own, and the two
//! take turns: no number of strangers refuses or delays those by more than one.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::fair::{FairQueue, Pushed};
use super::hashing::Busy;
use crate::domain::UserId;
use crate::domain::limit::Source;

/// Strangers of one source that wait.
const OF_A_SOURCE: usize = 224;
/// Strangers that wait: fewer than requests of the API are served at once, so that those who wait leave room.
const OF_ALL: usize = 256;
/// Of one account, and of all.
const OF_AN_ACCOUNT: usize = 8;
const OF_ACCOUNTS: usize = 128;

/// In whose name a turn is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Lane {
    Stranger(Source),
    Account(UserId),
}

#[derive(Debug)]
struct State {
    strangers: FairQueue<Lane, oneshot::Sender<Turn>>,
    accounts: FairQueue<Lane, oneshot::Sender<Turn>>,
    accounts_next: bool,
    free: usize,
}

/// Gives turns, as many at once as there are threads to stretch passwords.
#[derive(Debug, Clone)]
pub(super) struct Turns(Arc<Mutex<State>>);

/// Somebody's turn, until this is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    turns: Turns,
    lane: Option<Lane>,
}

impl Turns {
    pub(super) fn new(at_once: usize) -> Self {
        Self(Arc::new(Mutex::new(State {
            strangers: FairQueue::new(OF_A_SOURCE, OF_ALL),
            accounts: FairQueue::new(OF_AN_ACCOUNT, OF_ACCOUNTS),
            accounts_next: false,
            free: at_once.max(1),
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a turn.
    ///
    /// # Errors
    /// [`Busy`]: there is no room to wait, or it went to somebody of whom fewer waited.
    pub(super) async fn wait(&self, lane: Lane) -> Result<Turn, Busy> {
        let (give, given) = oneshot::channel();
        let pushed = {
            let mut state = self.state();
            let queue = match lane {
                Lane::Stranger(_) => &mut state.strangers,
                Lane::Account(_) => &mut state.accounts,
            };
            queue.push(lane, give, oneshot::Sender::is_closed)
        };
        // Dropping the sender of who is displaced tells them; that is done without the lock.
        drop(pushed_out(pushed)?);
        self.give();
        given.await.map_err(|_| Busy)
    }

    /// Gives what turns there are to those who wait for them.
    fn give(&self) {
        loop {
            let (lane, waiter) = {
                let mut state = self.state();
                if state.free == 0 {
                    return;
                }
                let State { strangers, accounts, accounts_next, .. } = &mut *state;
                let (first, second) = if *accounts_next {
                    (&mut *accounts, &mut *strangers)
                } else {
                    (&mut *strangers, &mut *accounts)
                };
                let Some((lane, waiter)) = first.pop().or_else(|| second.pop()) else { return };
                *accounts_next = matches!(lane, Lane::Stranger(_));
                if waiter.is_closed() {
                    // Left while it waited.
                    state.served(&lane);
                    continue;
                }
                state.free -= 1;
                (lane, waiter)
            };
            // Whoever leaves at this moment gives the turn back, without the lock being held here.
            drop(waiter.send(Turn { turns: self.clone(), lane: Some(lane) }));
        }
    }

    /// How many wait.
    #[cfg(test)]
    fn waiting(&self) -> usize {
        let state = self.state();
        state.strangers.len() + state.accounts.len()
    }
}

fn pushed_out<T>(pushed: Pushed<T>) -> Result<Option<T>, Busy> {
    match pushed {
        Pushed::Waits => Ok(None),
        Pushed::Displaced(other) => Ok(Some(other)),
        Pushed::Refused(_) => Err(Busy),
    }
}

impl State {
    fn served(&mut self, lane: &Lane) {
        match lane {
            Lane::Stranger(_) => self.strangers.served(lane),
            Lane::Account(_) => self.accounts.served(lane),
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let Some(lane) = self.lane.take() else { return };
        {
            let mut state = self.turns.state();
            state.free += 1;
            state.served(&lane);
        }
        self.turns.give();
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn stranger(n: u8) -> Lane {
        Lane::Stranger(Source::of([192, 0, 2, n].into()))
    }

    fn account(n: u8) -> Lane {
        Lane::Account(UserId::from(n.to_string()))
    }

    type Waiting = Pin<Box<dyn Future<Output = Result<Turn, Busy>>>>;

    /// Asks for a turn and stands in the queue.
    fn ask(turns: &Turns, lane: Lane) -> Waiting {
        let turns = turns.clone();
        let mut waiting: Waiting = Box::pin(async move { turns.wait(lane).await });
        assert!(now(&mut waiting).is_none(), "served at once");
        waiting
    }

    fn now(waiting: &mut Waiting) -> Option<Result<Turn, Busy>> {
        match waiting.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(turn) => Some(turn),
            Poll::Pending => None,
        }
    }

    /// However many wait of one source, somebody of another has one of them in front, and so has who is logged in.
    #[tokio::test]
    async fn a_flood_from_one_source_delays_others_by_one_turn() {
        let turns = Turns::new(1);
        let held = turns.wait(stranger(1)).await.unwrap();
        let mut flood: Vec<Waiting> = (0..OF_A_SOURCE).map(|_| ask(&turns, stranger(1))).collect();
        assert_eq!(turns.wait(stranger(1)).await.unwrap_err(), Busy);
        let (mut other, mut logged_in) = (ask(&turns, stranger(2)), ask(&turns, account(1)));
        drop(held);
        let logged_in = now(&mut logged_in).unwrap().unwrap();
        assert!(now(&mut other).is_none());
        drop(logged_in);
        let first = now(&mut flood[0]).unwrap().unwrap();
        drop(first);
        let other = now(&mut other).unwrap().unwrap();
        assert!(flood[1..].iter_mut().all(|waiting| now(waiting).is_none()));
        drop(other);
        assert!(now(&mut flood[1]).unwrap().is_ok());
    }

    #[tokio::test]
    async fn a_full_queue_takes_in_who_has_nobody_waiting_and_tells_who_has_to_go() {
        let turns = Turns::new(1);
        let _held = turns.wait(stranger(1)).await.unwrap();
        let mut all: Vec<Waiting> =
            (0..OF_ALL).map(|n| ask(&turns, stranger(if n < OF_A_SOURCE { 1 } else { 2 }))).collect();
        assert_eq!(turns.waiting(), OF_ALL);
        let _newcomer = ask(&turns, stranger(3));
        assert_eq!(turns.waiting(), OF_ALL);
        assert_eq!(now(&mut all[OF_A_SOURCE - 1]).unwrap().unwrap_err(), Busy);
        // Those who are logged in have room of their own.
        let _waits = ask(&turns, account(1));
    }

    #[tokio::test]
    async fn who_leaves_takes_no_turn_along() {
        let turns = Turns::new(1);
        let held = turns.wait(stranger(1)).await.unwrap();
        let gone = ask(&turns, stranger(2));
        let mut stays = ask(&turns, stranger(3));
        drop(gone);
        drop(held);
        let turn = now(&mut stays).unwrap().unwrap();
        drop(turn);
        // Given, and not taken: the turn comes back.
        let held = turns.wait(stranger(1)).await.unwrap();
        let given = ask(&turns, stranger(2));
        drop(held);
        drop(given);
        drop(turns.wait(stranger(2)).await.unwrap());
        assert_eq!(turns.waiting(), 0);
    }

    #[tokio::test]
    async fn of_one_source_one_is_served_at_a_time() {
        let turns = Turns::new(2);
        let first = turns.wait(stranger(1)).await.unwrap();
        let mut second = ask(&turns, stranger(1));
        let _other = turns.wait(stranger(2)).await.unwrap();
        assert!(now(&mut second).is_none());
        drop(first);
        assert!(now(&mut second).unwrap().is_ok());
    }
}
