//! What a satellite shall have, as the answer to its heartbeat tells it.

use std::collections::BTreeMap;

use oci::Digest;
use serde::{Deserialize, Serialize};

/// Manifest digests of the documents of one satellite that are already published: it fetches what differs, by digest, and
/// asks the registry for nothing where nothing does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Desired {
    /// Grows with each change of what this satellite shall have, so that an older answer is told from a newer one:
    /// [`generation`]. What is older than what is in force is passed over; what is equal or newer is taken.
    pub generation: u64,
    /// Its own state document; absent before it was first published.
    pub state: Option<Digest>,
    /// Its config document; absent where it has none or it is not published yet.
    pub config: Option<Digest>,
    /// The documents of its groups, by the group's name. A group that is not published yet is absent.
    pub groups: BTreeMap<String, Digest>,
}

/// Bits of a generation that count within an epoch.
const NUMBER_BITS: u32 = 40;

/// A generation of an epoch: after a backup was restored the epoch is a new one, and whatever it counts to is newer than
/// everything before. Epochs up to 8,191 keep the whole below 2^53, which every JSON reader takes.
pub fn generation(epoch: u64, number: u64) -> u64 {
    (epoch << NUMBER_BITS) | (number & ((1 << NUMBER_BITS) - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_epoch_is_compared_first() {
        assert!(generation(1, 0) > generation(0, (1 << 40) - 1));
        assert!(generation(1, 2) > generation(1, 1));
        assert_eq!(generation(0, 7), 7);
    }

    #[test]
    fn what_is_left_out_is_not_there() {
        let desired: Desired = serde_json::from_str(r#"{"generation":3,"later":true}"#).unwrap();
        assert_eq!(desired, Desired { generation: 3, ..Desired::default() });
    }
}
