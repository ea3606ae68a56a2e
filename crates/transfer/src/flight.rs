//! One flight per blob: whoever needs a blob that is on its way waits for that one.
//!
//! A flight is a task of its own, so that it outlives the copy that began it as long as another waits for it.
//! When nobody waits any more it is dropped; what has arrived stays as a partial and is continued by the next.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use oci::Digest;
use tokio::sync::watch;

use crate::error::Cause;
use crate::event::{Event, Observer};
use crate::seam::Held;

/// What became of a flight.
#[derive(Clone, Debug)]
pub(crate) struct Landed {
    /// How the blob came to be in the destination.
    pub(crate) held: Held,
    /// Bytes that came from the source.
    pub(crate) fetched: u64,
}

type Landing = Option<Result<Landed, Cause>>;

/// The flights that are in the air. The list holds none of them up: that is for those who wait.
#[derive(Default)]
pub(crate) struct Flights {
    airborne: Mutex<HashMap<Digest, Weak<watch::Sender<Landing>>>>,
}

/// A place in a flight.
pub(crate) struct Seat {
    /// Whether this flight was begun for us.
    pub(crate) own: bool,
    landing: watch::Receiver<Landing>,
}

impl Seat {
    /// Waits for the end of the flight; `None` where it was dropped before its end.
    pub(crate) async fn land(mut self) -> Option<Result<Landed, Cause>> {
        let landing = self.landing.wait_for(Option::is_some).await.ok()?;
        landing.clone()
    }
}

impl Flights {
    /// Joins the flight of this blob, or begins it with `work`. `stop` ends it early; a flight that ends before its
    /// work is told to the observer, since nobody may be left to hear of it otherwise.
    pub(crate) fn board<W, F>(
        self: &Arc<Self>,
        digest: Digest,
        stop: watch::Receiver<bool>,
        observer: &Arc<dyn Observer>,
        work: W,
    ) -> Seat
    where
        W: FnOnce() -> F,
        F: Future<Output = Result<Landed, Cause>> + Send + 'static,
    {
        let mut airborne = self.airborne();
        if let Some(flight) = airborne.get(&digest).and_then(Weak::upgrade) {
            return Seat { own: false, landing: flight.subscribe() };
        }
        let (sender, landing) = watch::channel(None);
        let sender = Arc::new(sender);
        airborne.insert(digest, Arc::downgrade(&sender));
        let flights = Arc::downgrade(self);
        let (work, observer) = (work(), observer.clone());
        tokio::spawn(async move {
            let landed = tokio::select! {
                landed = work => Some(landed),
                () = stopped(stop) => Some(Err(Cause::Stopped)),
                () = sender.closed() => None,
            };
            if matches!(landed, None | Some(Err(Cause::Stopped))) {
                observer.observe(&Event::BlobStopped { digest });
            }
            // Off the list first: who comes now finds the blob in the destination, or begins anew.
            if let Some(flights) = flights.upgrade() {
                let mut airborne = flights.airborne();
                if airborne.get(&digest).is_some_and(|flight| flight.as_ptr() == Arc::as_ptr(&sender)) {
                    airborne.remove(&digest);
                }
            }
            if let Some(landed) = landed {
                sender.send_replace(Some(landed));
            }
        });
        Seat { own: true, landing }
    }

    fn airborne(&self) -> MutexGuard<'_, HashMap<Digest, Weak<watch::Sender<Landing>>>> {
        self.airborne.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Comes back when the engine stops or is gone.
pub(crate) async fn stopped(mut stop: watch::Receiver<bool>) {
    // An error means that the engine is gone, which is the same.
    let _ = stop.wait_for(|stop| *stop).await;
}
