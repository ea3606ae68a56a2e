//! Versions of what people change, so that a change can depend on what its author has seen (RFC 9110 section 13.1.1).
//!
//! A version follows from what people have set, and from when they last did: from the records themselves, so that nobody
//! who writes them, an older program beside this one included, could forget to count it up. What a satellite says of
//! itself, and what the registry answered, is no part of it: a heartbeat must not undo what somebody is about to change.

use std::fmt;

use jiff::Timestamp;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::config::Config;
use crate::group::Group;
use crate::satellite::{Satellite, SatelliteState};
use crate::{Entity, UserId};

/// Bytes of a version: no two of one thing are ever the same.
const LENGTH: usize = 16;

/// One version of one thing; its text is the opaque part of a strong entity tag (RFC 9110 section 8.8.3).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Version([u8; LENGTH]);

impl Version {
    /// From the parts that make it, in their order, each of them told apart from the next.
    fn of(kind: &str, parts: &[&[u8]]) -> Self {
        let mut hash = Sha256::new();
        for part in std::iter::once(kind.as_bytes()).chain(parts.iter().copied()) {
            hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            hash.update(part);
        }
        let mut version = [0; LENGTH];
        version.copy_from_slice(&hash.finalize()[..LENGTH]);
        Self(version)
    }

    /// Of an account: its role, and when that or its password was last set.
    pub fn of_user(id: &UserId, role: &str, updated_at: i64) -> Self {
        Self::of("user", &[id.as_str().as_bytes(), role.as_bytes(), &updated_at.to_be_bytes()])
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Version({self})")
    }
}

fn json<T: Serialize>(value: &T) -> Vec<u8> {
    // None of our records has keys that are no text, which is all that serialising them could fail at.
    serde_json::to_vec(value).unwrap_or_default()
}

fn millis(time: Timestamp) -> [u8; 8] {
    time.as_millisecond().to_be_bytes()
}

impl Group {
    /// The version of its list and its selector.
    pub fn version(&self) -> Version {
        let selector = self.selector.as_ref().map(ToString::to_string).unwrap_or_default();
        let parts: [&[u8]; 4] = [
            self.id.as_str().as_bytes(),
            &millis(self.updated_at),
            selector.as_bytes(),
            &json(&self.artifacts),
        ];
        Version::of("group", &parts)
    }
}

impl Config {
    /// The version of its document.
    pub fn version(&self) -> Version {
        let parts: [&[u8]; 3] =
            [self.id.as_str().as_bytes(), &millis(self.updated_at), &json(&self.document)];
        Version::of("config", &parts)
    }
}

impl Satellite {
    /// The version of what people have set: groups, labels, config, and whether it is let in.
    pub fn version(&self) -> Version {
        let admitted = match self.state {
            SatelliteState::Pending | SatelliteState::Online | SatelliteState::Stale => "admitted",
            other => other.as_str(),
        };
        let set = json(&(&self.region, &self.groups, &self.labels, &self.config_name));
        let parts: [&[u8]; 4] =
            [self.id.as_str().as_bytes(), &millis(self.updated_at), admitted.as_bytes(), &set];
        Version::of("satellite", &parts)
    }
}

/// What a change depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// That there is something to change.
    Exists,
    /// That it is in one of these versions. What we never gave out is in the list as it came, and is no version of
    /// anything.
    OneOf(Vec<String>),
}

impl Condition {
    /// Whether a change may be made of what is at `present`; `None` where there is nothing.
    pub fn is_met(&self, present: Option<&Version>) -> bool {
        match (self, present) {
            (_, None) => false,
            (Self::Exists, Some(_)) => true,
            (Self::OneOf(versions), Some(present)) => versions.contains(&present.to_string()),
        }
    }
}

/// What a change addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target<'a> {
    /// Its kind; one of those that have versions.
    pub entity: Entity,
    /// Its name.
    pub name: &'a str,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::{ConfigId, GroupId, SatelliteId};

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn satellite() -> Satellite {
        Satellite {
            id: SatelliteId::from("1".to_owned()),
            name: "edge-01".to_owned(),
            region: "default".to_owned(),
            state: SatelliteState::Pending,
            groups: vec!["east".to_owned()],
            labels: [("env".to_owned(), "prod".to_owned())].into(),
            config_name: "default".to_owned(),
            heartbeat_interval: None,
            last_seen: None,
            created_at: at(1),
            updated_at: at(1),
        }
    }

    #[test]
    fn what_people_set_makes_a_version_and_what_a_satellite_says_does_not() {
        let before = satellite();
        let heard = Satellite {
            state: SatelliteState::Online,
            last_seen: Some(at(9)),
            heartbeat_interval: Some("@every 30s".to_owned()),
            ..before.clone()
        };
        assert_eq!(heard.version(), before.version());
        for other in [
            Satellite { state: SatelliteState::Revoked, ..before.clone() },
            Satellite { state: SatelliteState::AwaitingApproval, ..before.clone() },
            Satellite { groups: vec![], ..before.clone() },
            Satellite { labels: [].into(), ..before.clone() },
            Satellite { config_name: "slow".to_owned(), ..before.clone() },
            Satellite { updated_at: at(2), ..before.clone() },
            Satellite { id: SatelliteId::from("2".to_owned()), ..before.clone() },
        ] {
            assert_ne!(other.version(), before.version(), "{other:?}");
        }
    }

    #[test]
    fn every_part_of_a_group_and_a_config_counts() {
        let list = json!([{"repository": "a/one", "tag": ["1"]}]);
        let group = Group {
            id: GroupId::from("1".to_owned()),
            name: "east".to_owned(),
            artifacts: serde_json::from_value(list).unwrap(),
            selector: None,
            created_at: at(1),
            updated_at: at(1),
        };
        for other in [
            Group { artifacts: vec![], ..group.clone() },
            Group { selector: Some("env=prod".parse().unwrap()), ..group.clone() },
            Group { updated_at: at(2), ..group.clone() },
        ] {
            assert_ne!(other.version(), group.version(), "{other:?}");
        }
        let config = Config {
            id: ConfigId::from("1".to_owned()),
            name: "slow".to_owned(),
            document: json!({"app_config": {"log_level": "info"}}),
            created_at: at(1),
            updated_at: at(1),
        };
        let other = Config { document: json!({"app_config": {"log_level": "warn"}}), ..config.clone() };
        assert_ne!(other.version(), config.version());
        let (id, roles) = (UserId::from("1".to_owned()), ["viewer", "admin"]);
        let [one, two] = roles.map(|role| Version::of_user(&id, role, 1));
        assert!(one != two && one != Version::of_user(&id, "viewer", 2));
    }

    #[test]
    fn a_condition_is_met_by_what_is_there_alone() {
        let present = satellite().version();
        let one_of = |tags: &[&str]| Condition::OneOf(tags.iter().map(|&tag| tag.to_owned()).collect());
        assert!(Condition::Exists.is_met(Some(&present)) && !Condition::Exists.is_met(None));
        let text = present.to_string();
        assert!(one_of(&["other", &text]).is_met(Some(&present)));
        for no in [one_of(&[]), one_of(&["other"]), one_of(&[&text.to_uppercase(), &text[1..]])] {
            assert!(!no.is_met(Some(&present)), "{no:?}");
        }
        assert!(!one_of(&[&text]).is_met(None));
    }

    proptest! {
        /// Parts never flow into each other.
        #[test]
        fn parts_are_told_apart(left in ".{0,8}", right in ".{0,8}", other in ".{0,8}", rest in ".{0,8}") {
            let of = |one: &str, two: &str| Version::of("test", &[one.as_bytes(), two.as_bytes()]);
            prop_assert_eq!(of(&left, &right) == of(&other, &rest), left == other && right == rest);
        }
    }
}
