//! Robots at Harbor: what a satellite needs there, and the one next thing to do about it.
//!
//! A *site* is a satellite as Harbor knows it: a few robots, each of which is somewhere between the intent to make it and its
//! end. [`next`] is a function from what is recorded to one [`Step`]; whoever acts carries it out, records what came of it,
//! and asks again until there is nothing but to rest. So it does not matter where it was interrupted.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use jiff::{SignedDuration, Timestamp};

use crate::SatelliteId;
use crate::secret::Hashed;

pub mod comparison;

/// The project of all state documents, which every robot may read.
pub const STATE_PROJECT: &str = "satellite";

/// How many names with a number are tried before chance decides.
const NUMBERED: u32 = 9;
/// The longest part of a satellite's name that a robot is called by: Harbor takes 255 characters, and a suffix needs room.
const LONGEST_STEM: usize = 240;

/// Where a robot stands between the intent to make it and its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RobotRole {
    /// To be made.
    Making,
    /// Made, and not handed out yet.
    Prepared,
    /// Handed out last.
    Current,
    /// Handed out before that; good until the current one is seen in use.
    Retiring,
    /// To be deleted.
    Condemned,
    /// Deleted; kept so that a revoked satellite is told that it is revoked.
    Removed,
}

impl RobotRole {
    /// Every role.
    pub const ALL: [Self; 6] =
        [Self::Making, Self::Prepared, Self::Current, Self::Retiring, Self::Condemned, Self::Removed];

    /// The name in the database and on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Making => "making",
            Self::Prepared => "prepared",
            Self::Current => "current",
            Self::Retiring => "retiring",
            Self::Condemned => "condemned",
            Self::Removed => "removed",
        }
    }
}

impl fmt::Display for RobotRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for RobotRole {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|role| role.as_str() == text)
            .ok_or_else(|| format!("{text:?} is no role of a robot"))
    }
}

/// A robot as it is recorded, without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteRobot {
    /// Our own identifier, which stands in the robot's description at Harbor: what was made and not recorded is known by it.
    pub id: String,
    /// Where it stands.
    pub role: RobotRole,
    /// Which of the names is asked for.
    pub number: u32,
    /// The name that it is asked for by, without Harbor's prefix.
    pub attempt: String,
    /// A request to make it was sent, and no answer was recorded.
    pub tried: bool,
    /// Harbor does not know it any more, though nobody here removed it.
    pub gone: bool,
    /// Harbor's identifier, once it is made.
    pub harbor_id: Option<i64>,
    /// The name that Harbor gave back.
    pub username: Option<String>,
    /// Its secret, hashed.
    pub secret: Option<Hashed>,
    /// The projects that it may read.
    pub projects: BTreeSet<String>,
    /// When Harbor made it.
    pub created_at: Option<Timestamp>,
    /// When it ends; `None` for one that does not.
    pub expires_at: Option<Timestamp>,
    /// When it was handed out.
    pub given_at: Option<Timestamp>,
    /// When it was first seen in use.
    pub used_at: Option<Timestamp>,
}

impl SiteRobot {
    /// Whether a satellite works with it, or will.
    pub fn is_live(&self) -> bool {
        matches!(self.role, RobotRole::Prepared | RobotRole::Current | RobotRole::Retiring) && !self.gone
    }
}

/// A satellite as Harbor is to know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// The satellite.
    pub satellite: SatelliteId,
    /// Its name.
    pub name: String,
    /// Whether it is let in.
    pub admitted: bool,
    /// Whether it has no identity: it cannot be counted on to fetch other credentials.
    pub token_only: bool,
    /// The projects of its groups, and [`STATE_PROJECT`].
    pub wanted: BTreeSet<String>,
    /// Somebody waits for credentials of which there are none ready.
    pub wants_fresh: bool,
    /// Counts what may have changed this.
    pub asked: i64,
    /// Failures in a row.
    pub attempts: u32,
    /// Its robots.
    pub robots: Vec<SiteRobot>,
}

impl Site {
    /// The robots in one role.
    pub fn in_role(&self, role: RobotRole) -> impl Iterator<Item = &SiteRobot> {
        self.robots.iter().filter(move |robot| robot.role == role)
    }
}

/// What Ground Control logs in with at Harbor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Account {
    /// A user, who may do everything.
    User,
    /// A robot, which may make and delete robots and not change them.
    Robot,
}

impl Account {
    /// The name in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Robot => "robot",
        }
    }
}

/// The one next thing to do for a site.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step<'a> {
    /// Look whether a request without an answer made this robot, and remove it there.
    Recover(&'a SiteRobot),
    /// Nothing of it is at Harbor: the record goes.
    Forget(&'a SiteRobot),
    /// Delete it at Harbor.
    Delete(&'a SiteRobot),
    /// It is not to be handed out as it is, and cannot be changed.
    Condemn(&'a SiteRobot),
    /// Record the intent to make another one.
    Begin,
    /// Make it.
    Create(&'a SiteRobot),
    /// Give it the projects that are wanted.
    Permit(&'a SiteRobot),
    /// Let it live longer.
    Extend(&'a SiteRobot),
    /// All is as it should be until then.
    Rest(Option<Timestamp>),
}

/// How long before its end a robot of `days` days is seen to.
pub fn margin(days: u32) -> SignedDuration {
    SignedDuration::from_hours(i64::from(days) * 24) / 3
}

/// Whether a robot made now is to live for ever: nobody could renew it.
pub fn for_ever(site: &Site, account: Account) -> bool {
    account == Account::Robot && site.token_only
}

/// The next step for `site`. `days`: how long robots live.
pub fn next(site: &Site, account: Account, days: u32, now: Timestamp) -> Step<'_> {
    if let Some(lost) = site.in_role(RobotRole::Making).find(|robot| robot.tried) {
        return Step::Recover(lost);
    }
    if let Some(condemned) = site.in_role(RobotRole::Condemned).next() {
        let there = condemned.harbor_id.is_some() && !condemned.gone;
        return if there { Step::Delete(condemned) } else { Step::Forget(condemned) };
    }
    if !site.admitted {
        if let Some(robot) = site.in_role(RobotRole::Making).next() {
            return Step::Forget(robot);
        }
        return match site.robots.iter().find(|robot| robot.role != RobotRole::Removed) {
            Some(robot) => Step::Condemn(robot),
            None => Step::Rest(None),
        };
    }
    wanted(site, account, days, now)
}

/// [`next`] for a satellite that is let in, once nothing is left over.
fn wanted(site: &Site, account: Account, days: u32, now: Timestamp) -> Step<'_> {
    let soon = now.checked_add(margin(days)).unwrap_or(Timestamp::MAX);
    let (mut fresh, mut rest) = (site.wants_fresh, None::<Timestamp>);
    if let Some(lost) = site.in_role(RobotRole::Prepared).find(|robot| robot.gone) {
        return Step::Condemn(lost);
    }
    let mortal = |robot: &SiteRobot| for_ever(site, account) && robot.expires_at.is_some();
    for robot in site.robots.iter().filter(|robot| robot.is_live()) {
        let other = robot.projects != site.wanted;
        let ends = robot.expires_at.is_some_and(|end| end <= soon);
        match account {
            Account::User if other => return Step::Permit(robot),
            Account::User if ends => return Step::Extend(robot),
            Account::Robot if other || ends || mortal(robot) => match robot.role {
                RobotRole::Prepared => return Step::Condemn(robot),
                RobotRole::Current => fresh = true,
                // It goes as soon as the current one is used.
                _ => {}
            },
            Account::User | Account::Robot => {}
        }
        if let Some(end) = robot.expires_at.filter(|end| *end > soon) {
            let look = end.checked_sub(margin(days)).unwrap_or(end);
            rest = Some(rest.map_or(look, |rest| rest.min(look)));
        }
    }
    let live = |role| site.in_role(role).any(SiteRobot::is_live);
    let prepared = live(RobotRole::Prepared);
    fresh |= !live(RobotRole::Current);
    if let Some(robot) = site.in_role(RobotRole::Making).next() {
        return if fresh && !prepared { Step::Create(robot) } else { Step::Forget(robot) };
    }
    if fresh && !prepared { Step::Begin } else { Step::Rest(rest) }
}

/// The name of a site's robot number `number` (from 0), without Harbor's prefix: the satellite's own, then with a number,
/// then with a piece of chance.
pub fn robot_name(satellite: &str, number: u32, chance: u32) -> String {
    let stem: String = satellite.chars().take(LONGEST_STEM).collect();
    let stem = stem.trim_end_matches(['.', '_', '-']);
    match number {
        0 if stem.len() == satellite.len() => stem.to_owned(),
        0..NUMBERED => format!("{stem}-{}", number.saturating_add(1)),
        _ => format!("{stem}-{:06x}", chance & 0xff_ffff),
    }
}

/// The first segment of a repository's name, which is its project.
pub fn project_of(repository: &str) -> Option<&str> {
    repository.split_once('/').map(|(project, _)| project)
}

/// What a person is shown of a robot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteStatus {
    /// Whether what Harbor has is what it should have.
    pub settled: bool,
    /// Whether it is let in.
    pub admitted: bool,
    /// Failures in a row.
    pub attempts: u32,
    /// Why the last try failed.
    pub error: Option<String>,
    /// Since when it fails.
    pub error_since: Option<Timestamp>,
    /// When it is tried or looked at again.
    pub due_at: Option<Timestamp>,
    /// Its robots.
    pub robots: Vec<SiteRobot>,
}

/// Robots of a group's satellites.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GroupAccounts {
    /// The projects of its list.
    pub projects: Vec<String>,
    /// Whether its document is held back until all are done or have failed.
    pub held_back: bool,
    /// Satellites of the group that are let in.
    pub satellites: u64,
    /// Those among them whose robots are as they should be.
    pub settled: u64,
    /// Those that have failed, by name, and why; the first ones of them.
    pub failed: Vec<SiteFailure>,
    /// How many have failed.
    pub failures: u64,
}

/// A site that has failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteFailure {
    /// The satellite's name.
    pub satellite: String,
    /// Why.
    pub error: String,
    /// Since when.
    pub since: Option<Timestamp>,
    /// How often in a row.
    pub attempts: u32,
    /// When it is tried again.
    pub due_at: Option<Timestamp>,
}

/// How many sites stand how, and robots wait to be deleted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SiteCounts {
    /// Sites with something to do.
    pub waiting: u64,
    /// Sites that have failed and are tried again.
    pub failed: u64,
    /// Robots to be deleted.
    pub condemned: u64,
}

/// A robot as Harbor made it.
#[derive(Debug, Clone)]
pub struct MadeRobot {
    /// Harbor's identifier.
    pub harbor_id: i64,
    /// The name that Harbor gave back.
    pub username: String,
    /// Its secret, sealed.
    pub sealed_secret: String,
    /// Its secret, hashed.
    pub secret: Hashed,
    /// The projects that it was given.
    pub projects: BTreeSet<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
}

/// A robot that is handed out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandedOut {
    /// Our identifier of it.
    pub robot: String,
    /// Whose it is.
    pub satellite_name: String,
    /// Its name.
    pub username: String,
    /// Its secret, sealed.
    pub sealed_secret: String,
    /// Whether this device was answered before.
    pub again: bool,
}

/// What came of a wish for credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HandOut {
    /// These.
    Given(HandedOut),
    /// None is ready; one is asked for.
    NotReady,
    /// The satellite is not let in.
    NotAdmitted,
    /// The presented secret is not good any more.
    Outdated,
}

/// Why a satellite with an identity asks for credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// It registers: what it was given and never used is as good as new.
    Registration,
    /// What it has is not good, or not for long.
    Renewal,
}

/// Whether a group's document may be published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupTurn {
    /// It may.
    Now,
    /// So many satellites' robots have to be seen to first.
    Waits(u64),
}

#[cfg(test)]
mod tests;
