//! What other replicas tell: a connection that does nothing but listen.

use std::time::Duration;

use ground_control_domain::change::Change;
use sqlx::postgres::{PgConnectOptions, PgListener, PgPool, PgPoolOptions};
use tokio::sync::broadcast;
use tokio::task::AbortHandle;

use crate::shared::CHANGES;

/// The channel on which changes are told.
const CHANNEL: &str = "ground_control";
/// The pause before the next try to listen again.
const PAUSE: Duration = Duration::from_secs(1);

/// Listens until it is stopped or dropped.
#[derive(Debug)]
pub(crate) struct Listening {
    changes: broadcast::Sender<Change>,
    task: AbortHandle,
}

impl Listening {
    /// Begins to listen. What is committed after this returns is told.
    pub(crate) async fn start(options: PgConnectOptions) -> Result<Self, sqlx::Error> {
        let pool = PgPoolOptions::new().max_connections(1).connect_lazy_with(options);
        let listener = listener(&pool).await?;
        let changes = broadcast::Sender::new(CHANGES);
        let task = tokio::spawn(listen(pool, listener, changes.clone())).abort_handle();
        Ok(Self { changes, task })
    }

    pub(crate) fn changes(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }

    pub(crate) fn stop(&self) {
        self.task.abort();
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.stop();
    }
}

async fn listener(pool: &PgPool) -> Result<PgListener, sqlx::Error> {
    let mut listener = PgListener::connect_with(pool).await?;
    listener.listen(CHANNEL).await?;
    Ok(listener)
}

/// Hands on what is told. What is told while nobody listens never arrives: after each gap there is a [`Change::Lost`],
/// once it is listened again.
async fn listen(pool: PgPool, mut listening: PgListener, changes: broadcast::Sender<Change>) {
    loop {
        match listening.try_recv().await {
            Ok(Some(told)) => {
                // A later version may tell what this one does not know.
                let _ = changes.send(told.payload().parse().unwrap_or(Change::Lost));
                continue;
            }
            // The connection broke and there is a new one, which listens already.
            Ok(None) => {}
            Err(_) => loop {
                tokio::time::sleep(PAUSE).await;
                if let Ok(again) = listener(&pool).await {
                    listening = again;
                    break;
                }
            },
        }
        let _ = changes.send(Change::Lost);
    }
}
