//! Satellites and their lifecycle, their robots, and what those may read.

use std::fmt;
use std::str::FromStr;

use fleet_protocol::api::SatelliteLifecycle;
use jiff::Timestamp;

use crate::SatelliteId;
use crate::label::{Labels, Selector};
use crate::secret::Hashed;

/// Where a satellite stands in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SatelliteState {
    /// Created, never seen.
    Pending,
    /// Introduced itself and waits for an administrator.
    AwaitingApproval,
    /// Heard from within its time.
    Online,
    /// Not heard from for too long.
    Stale,
    /// Refused until an administrator enables it again.
    Revoked,
    /// Gone; the row stays for the audit.
    Deleted,
}

/// What happens to a satellite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LifecycleEvent {
    /// An authenticated heartbeat arrived.
    Heartbeat,
    /// It was silent for longer than its threshold.
    Silence,
    /// An administrator approved it.
    Approve,
    /// An administrator revoked it.
    Revoke,
    /// An administrator enabled or registered it again.
    Enable,
    /// An administrator deleted it.
    Delete,
}

impl SatelliteState {
    /// Every state.
    pub const ALL: [Self; 6] =
        [Self::Pending, Self::AwaitingApproval, Self::Online, Self::Stale, Self::Revoked, Self::Deleted];

    /// The state after `event`, or `None` where the event is refused in this state.
    ///
    /// Pending → online → stale → online; any → revoked; revoked → pending by an administrator; nothing leaves
    /// deleted, because a name that comes back is a new satellite.
    pub fn after(self, event: LifecycleEvent) -> Option<Self> {
        use LifecycleEvent as Event;
        match (self, event) {
            (Self::Deleted, _) => None,
            (_, Event::Delete) => Some(Self::Deleted),
            (_, Event::Revoke) => Some(Self::Revoked),
            (Self::Pending | Self::Online | Self::Stale, Event::Heartbeat) => Some(Self::Online),
            (Self::Online, Event::Silence) => Some(Self::Stale),
            (Self::AwaitingApproval, Event::Approve) => Some(Self::Pending),
            (Self::Revoked, Event::Enable) => Some(Self::Pending),
            _ => None,
        }
    }

    /// Whether its credentials are good for anything.
    pub fn admits(self) -> bool {
        matches!(self, Self::Pending | Self::Online | Self::Stale)
    }

    /// The state as people are told it; `None` for a deleted satellite, which no list shows.
    pub fn lifecycle(self) -> Option<SatelliteLifecycle> {
        Some(match self {
            Self::Pending => SatelliteLifecycle::Pending,
            Self::AwaitingApproval => SatelliteLifecycle::AwaitingApproval,
            Self::Online => SatelliteLifecycle::Online,
            Self::Stale => SatelliteLifecycle::Stale,
            Self::Revoked => SatelliteLifecycle::Revoked,
            Self::Deleted => return None,
        })
    }

    /// The name in the database and on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::AwaitingApproval => "awaiting_approval",
            Self::Online => "online",
            Self::Stale => "stale",
            Self::Revoked => "revoked",
            Self::Deleted => "deleted",
        }
    }
}

impl fmt::Display for SatelliteState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for SatelliteState {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|state| state.as_str() == text)
            .ok_or_else(|| format!("{text:?} is no state of a satellite"))
    }
}

/// A satellite as people see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Satellite {
    /// Its identifier.
    pub id: SatelliteId,
    /// Its name, unique among those that are not deleted.
    pub name: String,
    /// The region of its identity.
    pub region: String,
    /// Where it stands in its life.
    pub state: SatelliteState,
    /// The groups it is in, by name, sorted.
    pub groups: Vec<String>,
    /// What people say of it.
    pub labels: Labels,
    /// The configuration it is given.
    pub config_name: String,
    /// How often it says that it reports, as it wrote it (`@every 00h00m30s`).
    pub heartbeat_interval: Option<String>,
    /// The last authenticated heartbeat.
    pub last_seen: Option<Timestamp>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When a person last changed it (a heartbeat is no change).
    pub updated_at: Timestamp,
}

/// A satellite to be created.
#[derive(Debug, Clone)]
pub struct NewSatellite {
    /// Its name.
    pub name: String,
    /// The region of its identity.
    pub region: String,
    /// The groups it starts in; every one must exist.
    pub groups: Vec<String>,
    /// Its configuration; must exist.
    pub config_name: String,
    /// The hash of the one-time token it registers with.
    pub token: Hashed,
    /// When that token is worth nothing any more.
    pub token_expires_at: Timestamp,
}

/// Which satellites a list holds. Deleted ones are in none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SatelliteFilter {
    /// Only those in this state.
    pub state: Option<SatelliteState>,
    /// Only those in this group.
    pub group: Option<String>,
    /// Only those of this region.
    pub region: Option<String>,
    /// Only those whose labels meet this.
    pub selector: Option<Selector>,
    /// Only those whose artifacts differ from what they shall have, or only the others.
    pub drift: Option<bool>,
}

/// What a satellite's HTTP Basic credentials are checked against.
#[derive(Debug, Clone)]
pub struct Robot {
    /// Whose robot it is.
    pub satellite: SatelliteId,
    /// That satellite's name.
    pub satellite_name: String,
    /// That satellite's state.
    pub state: SatelliteState,
    /// The hash of the present secret; `None` before the first registration.
    pub secret: Option<Hashed>,
    /// The hash of the one before, good until the present one is used.
    pub previous_secret: Option<Hashed>,
    /// Since when the present secret is there; tells when it is time for another.
    pub secret_since: Option<Timestamp>,
}

/// Which of a robot's secrets was presented.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretMatch {
    /// The present one; where a previous one is still kept, it is now to be dropped
    /// ([`Satellites::robot_secret_used`](crate::store::Satellites::robot_secret_used)).
    Current {
        /// Whether a previous secret is still kept.
        previous_kept: bool,
    },
    /// The previous one.
    Previous,
}

/// The name that satellites log in with.
pub fn robot_name(satellite: &str) -> String {
    format!("robot${satellite}")
}

/// The satellite whose robot is called `name`, if it is a robot's name at all.
pub fn satellite_of_robot(name: &str) -> Option<&str> {
    name.strip_prefix("robot$").filter(|rest| !rest.is_empty())
}

impl Robot {
    /// Which secret `presented` is, if any. Says nothing about the satellite's state.
    pub fn check(&self, presented: &Hashed) -> Option<SecretMatch> {
        if self.secret.as_ref() == Some(presented) {
            Some(SecretMatch::Current { previous_kept: self.previous_secret.is_some() })
        } else if self.previous_secret.as_ref() == Some(presented) {
            Some(SecretMatch::Previous)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proptest::sample::select;

    const EVENTS: [LifecycleEvent; 6] = [
        LifecycleEvent::Heartbeat,
        LifecycleEvent::Silence,
        LifecycleEvent::Approve,
        LifecycleEvent::Revoke,
        LifecycleEvent::Enable,
        LifecycleEvent::Delete,
    ];

    proptest! {
        #[test]
        fn only_an_administrator_brings_a_revoked_satellite_back(
            events in proptest::collection::vec(select(EVENTS.to_vec()), 0..30)
        ) {
            let mut state = SatelliteState::Revoked;
            for event in events {
                let next = state.after(event).unwrap_or(state);
                if state == SatelliteState::Revoked && next.admits() {
                    prop_assert_eq!(event, LifecycleEvent::Enable);
                }
                if state == SatelliteState::Deleted {
                    prop_assert_eq!(next, SatelliteState::Deleted);
                }
                if state == SatelliteState::AwaitingApproval && next.admits() {
                    prop_assert_eq!(event, LifecycleEvent::Approve);
                }
                state = next;
            }
        }

        #[test]
        fn a_heartbeat_makes_exactly_the_admitted_states_online(state in select(SatelliteState::ALL.to_vec())) {
            let next = state.after(LifecycleEvent::Heartbeat);
            prop_assert_eq!(next.is_some(), state.admits());
            prop_assert!(next.is_none_or(|n| n == SatelliteState::Online));
        }

        #[test]
        fn states_read_back(state in select(SatelliteState::ALL.to_vec())) {
            prop_assert_eq!(state.as_str().parse::<SatelliteState>(), Ok(state));
        }
    }

    #[test]
    fn a_robot_knows_its_two_secrets() {
        let hash = |s: &str| Hashed::from(s.to_owned());
        let robot = Robot {
            satellite: SatelliteId::generate(),
            satellite_name: "edge-01".into(),
            state: SatelliteState::Online,
            secret: Some(hash("new")),
            previous_secret: Some(hash("old")),
            secret_since: None,
        };
        assert_eq!(robot.check(&hash("new")), Some(SecretMatch::Current { previous_kept: true }));
        assert_eq!(robot.check(&hash("old")), Some(SecretMatch::Previous));
        assert_eq!(robot.check(&hash("other")), None);
        let never = Robot { secret: None, previous_secret: None, ..robot };
        assert_eq!(never.check(&hash("")), None);
    }

    #[test]
    fn robot_names_read_back() {
        assert_eq!(satellite_of_robot(&robot_name("edge-01")), Some("edge-01"));
        assert_eq!(satellite_of_robot("edge-01"), None);
        assert_eq!(satellite_of_robot("robot$"), None);
    }
}
