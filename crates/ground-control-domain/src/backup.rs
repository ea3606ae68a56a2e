//! What a backup of the database is known by, and what becomes of a database that is put back.

/// The greatest epoch: with it a generation is still below 2^53, which every JSON reader takes.
pub const MAX_EPOCH: u64 = 8_191;

/// The setting that holds the keyed hash by which the server key is told from others.
pub const KEY_CHECK: &str = "server_key_check";

/// How far a database has got, and the key that it is kept under.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// The number of the last migration.
    pub schema: i64,
    /// Raised by each restore.
    pub epoch: u64,
    /// The keyed hash by which the server key is told from others; `None` before the first start.
    pub key_check: Option<String>,
}

impl Standing {
    /// Takes note of one row of the settings.
    ///
    /// # Errors
    /// Where the epoch is no number.
    pub fn note(&mut self, name: &str, value: String) -> Result<(), std::num::ParseIntError> {
        match name {
            "epoch" => self.epoch = value.parse()?,
            KEY_CHECK => self.key_check = Some(value),
            _ => {}
        }
        Ok(())
    }
}

/// What a restore made of a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restored {
    /// The new epoch.
    pub epoch: u64,
    /// Sessions that were ended.
    pub sessions: u64,
    /// One-time tokens that were closed: whether they were used after the backup cannot be known.
    pub tokens: u64,
    /// Documents that are written again.
    pub documents: u64,
}

/// The epoch after a restore, where the database says `kept` and another one that satellites may have followed since said
/// `seen`.
pub fn next_epoch(kept: u64, seen: u64) -> u64 {
    kept.max(seen).saturating_add(1).min(MAX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_is_above_all_that_was_seen() {
        assert_eq!(next_epoch(0, 0), 1);
        assert_eq!(next_epoch(3, 7), 8);
        assert_eq!(next_epoch(7, 3), 8);
        assert_eq!(next_epoch(MAX_EPOCH, 0), MAX_EPOCH);
        assert_eq!(next_epoch(u64::MAX, 0), MAX_EPOCH);
    }
}
