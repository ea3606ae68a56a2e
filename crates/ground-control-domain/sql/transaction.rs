//! A transaction that tells others what it changed, once that is committed.

use std::ops::{Deref, DerefMut};

use ground_control_domain::change::Change;
use sqlx::Transaction;

use crate::dialect::{Connection, Driver, Feed};

/// The most changes that one transaction tells one by one; of more, the reader looks at everything.
const MOST: usize = 64;

/// A transaction that changes something. Dropped without [`Writing::commit`] it changes and tells nothing.
pub(crate) struct Writing {
    transaction: Transaction<'static, Driver>,
    feed: Feed,
    told: Vec<Change>,
}

impl Writing {
    pub(crate) fn new(transaction: Transaction<'static, Driver>, feed: Feed) -> Self {
        Self { transaction, feed, told: Vec::new() }
    }

    /// To be told when this is committed.
    pub(crate) fn tell(&mut self, change: Change) {
        if self.told.len() > MOST {
            self.told = vec![Change::Lost];
        } else if self.told != [Change::Lost] && !self.told.contains(&change) {
            self.told.push(change);
        }
    }

    /// Commits, and tells.
    pub(crate) async fn commit(mut self) -> Result<(), sqlx::Error> {
        self.feed.before_commit(&mut self.transaction, &self.told).await?;
        self.transaction.commit().await?;
        self.feed.after_commit(self.told);
        Ok(())
    }
}

impl Deref for Writing {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.transaction
    }
}

impl DerefMut for Writing {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.transaction
    }
}
