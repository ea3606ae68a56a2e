//! One site at Harbor, step by step until there is nothing left to do.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ::harbor::{
    Client, CreatedRobot, Error, ErrorKind, Expiry, Lifetime, NewRobot, Permissions, RobotId, RobotName,
    RobotNameError,
};
use jiff::Timestamp;
use secrecy::ExposeSecret as _;

use super::login::{Login, LoginError};
use crate::auth::{Robots, Seal};
use crate::domain::StoreError;
use crate::domain::harbor::comparison::MADE_BY;
use crate::domain::harbor::{Account, MadeRobot, Site, SiteRobot, Step, for_ever, next, robot_name};
use crate::store::SharedStore;

/// More steps than any site needs in a row.
const MOST_STEPS: usize = 64;
/// For how long it is remembered whether a project is there: a whole group asks for it at once.
const REMEMBERED: Duration = Duration::from_secs(5);
/// Bytes of the name of a project that is remembered; what is longer is none of Harbor's.
const LONGEST_PROJECT: usize = 255;

/// Why a site is not as it should be.
#[derive(Debug, thiserror::Error)]
pub(super) enum SiteError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Login(#[from] LoginError),
    #[error(transparent)]
    Harbor(#[from] Error),
    #[error("{0}")]
    Refused(String),
}

impl SiteError {
    /// Whether this may be nothing but an outage, which says nothing about the site.
    pub(super) fn may_be_outage(&self) -> bool {
        match self {
            Self::Harbor(error) | Self::Login(LoginError::Harbor(error)) => error.may_be_outage(),
            Self::Store(_) | Self::Login(LoginError::Password(_)) => true,
            Self::Refused(_) => false,
        }
    }
}

/// What carries steps out.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) store: SharedStore,
    pub(super) login: std::sync::Arc<Login>,
    pub(super) robots: Robots,
    pub(super) seal: Seal,
    pub(super) days: u32,
    pub(super) account: Mutex<Option<Account>>,
    projects: Mutex<HashMap<String, (Instant, bool)>>,
}

/// How a step ended.
enum Done {
    /// The next one follows.
    Next,
    /// A project is not there, though it seemed so: they are all to be looked for.
    LookForProjects,
}

impl Worker {
    pub(super) fn new(
        store: SharedStore,
        login: std::sync::Arc<Login>,
        robots: Robots,
        seal: Seal,
        days: u32,
    ) -> Self {
        Self { store, login, robots, seal, days, account: Mutex::new(None), projects: Mutex::default() }
    }

    fn account(&self) -> Account {
        self.account.lock().unwrap_or_else(PoisonError::into_inner).unwrap_or(Account::User)
    }

    /// Reads what kind of account ours is, where that was learnt before.
    pub(super) async fn recall_account(&self) -> Result<(), StoreError> {
        let known = self.store.harbor_account(&self.login.config().username).await?;
        *self.account.lock().unwrap_or_else(PoisonError::into_inner) = known;
        Ok(())
    }

    async fn learn_account(&self, account: Account) -> Result<(), StoreError> {
        let before = self.account.lock().unwrap_or_else(PoisonError::into_inner).replace(account);
        if before == Some(account) {
            return Ok(());
        }
        let username = &self.login.config().username;
        self.store.set_harbor_account(Some((username, account))).await?;
        tracing::info!(username, kind = account.as_str(), "kind of our account at harbor learnt");
        Ok(())
    }

    /// Does for a site whatever there is to do; the end is recorded by the caller. `Err` where it has to be tried again, `Ok` with
    /// when it is to be looked at again.
    pub(super) async fn settle(&self, mut site: Site) -> Result<Option<Timestamp>, SiteError> {
        let client = self.login.client().await?;
        let mut look_for_all = false;
        for _ in 0..MOST_STEPS {
            let missing = self.missing(&client, &mut site, look_for_all).await?;
            let done = match next(&site, self.account(), self.days, Timestamp::now()) {
                Step::Rest(rest) if missing.is_empty() => return Ok(rest),
                Step::Rest(_) => {
                    let names: Vec<&str> = missing.iter().map(String::as_str).collect();
                    return Err(SiteError::Refused(format!(
                        "harbor has no project {}: the site has all the others; make it, or take it out of the groups",
                        names.join(", ")
                    )));
                }
                step => self.step(&client, &site, step).await?,
            };
            if matches!(done, Done::LookForProjects) {
                if std::mem::replace(&mut look_for_all, true) {
                    let what = "harbor says that a project is not there, and has all of them";
                    return Err(SiteError::Refused(what.to_owned()));
                }
                self.projects.lock().unwrap_or_else(PoisonError::into_inner).clear();
            }
            match self.store.site(&site.satellite).await? {
                Some(read) => site = read,
                None => return Ok(None),
            }
        }
        Err(SiteError::Refused(format!("there was still something to do after {MOST_STEPS} steps")))
    }

    /// Takes those projects from what is wanted that Harbor does not have: with one of them in it, Harbor refuses all. What a
    /// robot already has is there, unless `all` are doubted.
    async fn missing(
        &self,
        client: &Client,
        site: &mut Site,
        all: bool,
    ) -> Result<BTreeSet<String>, SiteError> {
        let mut missing = BTreeSet::new();
        if !site.admitted {
            return Ok(missing);
        }
        let live: Vec<&SiteRobot> = site.robots.iter().filter(|robot| robot.is_live()).collect();
        for project in &site.wanted {
            let has = !live.is_empty() && live.iter().all(|robot| robot.projects.contains(project));
            if (!has || all) && !self.has_project(client, project).await? {
                missing.insert(project.clone());
            }
        }
        site.wanted.retain(|project| !missing.contains(project));
        Ok(missing)
    }

    async fn has_project(&self, client: &Client, project: &str) -> Result<bool, SiteError> {
        if project.len() > LONGEST_PROJECT {
            return Ok(false);
        }
        let known = {
            let mut projects = self.projects.lock().unwrap_or_else(PoisonError::into_inner);
            projects.retain(|_, (at, _)| at.elapsed() < REMEMBERED);
            projects.get(project).map(|(_, there)| *there)
        };
        if let Some(there) = known {
            return Ok(there);
        }
        let there = client.project_exists(project).await?;
        let mut projects = self.projects.lock().unwrap_or_else(PoisonError::into_inner);
        projects.insert(project.to_owned(), (Instant::now(), there));
        Ok(there)
    }

    async fn step(&self, client: &Client, site: &Site, step: Step<'_>) -> Result<Done, SiteError> {
        match step {
            Step::Recover(robot) => self.recover(client, robot).await?,
            Step::Forget(robot) => self.store.robot_removed(&robot.id).await?,
            Step::Condemn(robot) => self.store.condemn_robot(&robot.id).await?,
            Step::Delete(robot) => {
                if let Some(id) = robot.harbor_id {
                    client.delete_robot(RobotId(id)).await?;
                    tracing::info!(satellite = %site.name, robot = robot.username, "robot deleted at harbor");
                }
                self.store.robot_removed(&robot.id).await?;
            }
            Step::Begin => {
                let number = free_number(site);
                let name = robot_name(&site.name, number, rand::random());
                self.store.begin_robot(&site.satellite, number, &name, Timestamp::now()).await?;
            }
            Step::Create(robot) => return self.create(client, site, robot).await,
            Step::Permit(robot) => return self.permit(client, site, robot).await,
            Step::Extend(robot) => return self.extend(client, site, robot).await,
            Step::Rest(_) => {}
        }
        Ok(Done::Next)
    }

    /// Looks whether a request without an answer made the robot, and removes it: its secret is lost.
    async fn recover(&self, client: &Client, robot: &SiteRobot) -> Result<(), SiteError> {
        self.remove_own(client, robot).await?;
        self.store.robot_tried(&robot.id, false).await?;
        Ok(())
    }

    /// Whether the robot of this name is one that a lost request of ours made; it is deleted then.
    async fn remove_own(&self, client: &Client, robot: &SiteRobot) -> Result<bool, SiteError> {
        let name = name_of(robot)?;
        match client.find_robot(&name).await? {
            Some(found) if found.description.contains(&robot.id) => {
                client.delete_robot(found.id).await?;
                tracing::info!(robot = %found.name, "robot of a lost answer deleted at harbor");
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    async fn create(&self, client: &Client, site: &Site, robot: &SiteRobot) -> Result<Done, SiteError> {
        let lifetime = if for_ever(site, self.account()) {
            Lifetime::Never
        } else {
            Lifetime::from_days(i64::from(self.days)).unwrap_or(Lifetime::Never)
        };
        let new = NewRobot {
            name: name_of(robot)?,
            lifetime,
            description: format!("satellite {}, {MADE_BY}{})", site.name, robot.id),
            permissions: Permissions::pull(site.wanted.iter().map(String::as_str)),
        };
        // From here on it may be there, whatever becomes of us.
        self.store.robot_tried(&robot.id, true).await?;
        let created = match client.create_robot(&new).await {
            Ok(created) => created,
            Err(error) if error.may_have_happened() => return Err(error.into()),
            Err(error) => {
                self.store.robot_tried(&robot.id, false).await?;
                if error.is_not_found() {
                    return Ok(Done::LookForProjects);
                }
                if !error.is_conflict() {
                    return Err(error.into());
                }
                if !self.remove_own(client, robot).await? {
                    let number = robot.number.saturating_add(1);
                    let name = robot_name(&site.name, number, rand::random());
                    self.store.rename_robot(&robot.id, number, &name).await?;
                }
                return Ok(Done::Next);
            }
        };
        self.look_who_we_are(client, created.id).await?;
        if for_ever(site, self.account()) && lifetime != Lifetime::Never {
            // Nobody could let it live longer. It is removed like one whose answer was lost, before anybody has it.
            return Ok(Done::Next);
        }
        self.made(robot, site, created).await?;
        Ok(Done::Next)
    }

    /// Harbor tells of what we just made whether we are a robot. Where that was found once by a refusal it is looked at again.
    async fn look_who_we_are(&self, client: &Client, made: RobotId) -> Result<(), SiteError> {
        let known = *self.account.lock().unwrap_or_else(PoisonError::into_inner);
        if known == Some(Account::User) {
            return Ok(());
        }
        match client.robot(made).await {
            Ok(robot) if robot.made_by_robot() => self.learn_account(Account::Robot).await?,
            Ok(_) => self.learn_account(Account::User).await?,
            // The next one that is made tells it.
            Err(error) => tracing::debug!(%error, "kind of our account not learnt"),
        }
        Ok(())
    }

    async fn made(&self, robot: &SiteRobot, site: &Site, created: CreatedRobot) -> Result<(), SiteError> {
        let sealed_secret = self
            .seal
            .seal(robot.id.as_bytes(), created.secret.expose_secret())
            .map_err(|error| SiteError::Refused(error.to_string()))?;
        tracing::info!(satellite = %site.name, robot = %created.name, "robot made at harbor");
        let made = MadeRobot {
            harbor_id: created.id.0,
            secret: self.robots.hash(&created.secret),
            username: created.name,
            sealed_secret,
            projects: site.wanted.clone(),
            created_at: created.created_at,
            expires_at: end(created.expiry),
        };
        self.store.robot_made(&robot.id, made).await?;
        Ok(())
    }

    /// The robot as Harbor has it; `None` where it is gone, which is recorded.
    async fn found(
        &self,
        client: &Client,
        site: &Site,
        robot: &SiteRobot,
    ) -> Result<Option<::harbor::Robot>, SiteError> {
        let Some(id) = robot.harbor_id else {
            self.store.robot_gone(&robot.id).await?;
            return Ok(None);
        };
        match client.robot(RobotId(id)).await {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.is_not_found() => {
                tracing::warn!(satellite = %site.name, robot = robot.username, "somebody deleted the robot at harbor");
                self.store.robot_gone(&robot.id).await?;
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn permit(&self, client: &Client, site: &Site, robot: &SiteRobot) -> Result<Done, SiteError> {
        let Some(found) = self.found(client, site, robot).await? else { return Ok(Done::Next) };
        let wanted = Permissions::pull(site.wanted.iter().map(String::as_str));
        if found.permissions != wanted {
            match client.replace_permissions(&found, &wanted).await {
                Ok(()) => {
                    tracing::info!(satellite = %site.name, robot = %found.name, projects = ?site.wanted, "robot's projects replaced");
                }
                Err(error) if error.is_forbidden() => {
                    return self.may_not_change(error).await.map(|()| Done::Next);
                }
                // The robot was there a moment ago.
                Err(error) if error.is_not_found() => return Ok(Done::LookForProjects),
                Err(error) => return Err(error.into()),
            }
        }
        self.store.robot_permitted(&robot.id, &site.wanted).await?;
        Ok(Done::Next)
    }

    async fn extend(&self, client: &Client, site: &Site, robot: &SiteRobot) -> Result<Done, SiteError> {
        let Some(found) = self.found(client, site, robot).await? else { return Ok(Done::Next) };
        let lifetime = found.lifetime.extended(found.created_at, Timestamp::now(), self.days);
        if lifetime != found.lifetime || found.expiry.has_passed(Timestamp::now()) {
            match client.set_lifetime(&found, lifetime).await {
                Ok(()) => {
                    tracing::info!(satellite = %site.name, robot = %found.name, days = lifetime.days(), "robot lives longer");
                }
                Err(error) if error.is_forbidden() => {
                    return self.may_not_change(error).await.map(|()| Done::Next);
                }
                Err(error) if error.is_not_found() => return Ok(Done::LookForProjects),
                Err(error) => return Err(error.into()),
            }
        }
        self.store.robot_extended(&robot.id, end(lifetime.expiry(found.created_at))).await?;
        Ok(Done::Next)
    }

    /// A robot may not change robots: then ours is one. Of one that is known to be a user's it is a refusal.
    async fn may_not_change(&self, error: Error) -> Result<(), SiteError> {
        let known = *self.account.lock().unwrap_or_else(PoisonError::into_inner);
        match known {
            None => Ok(self.learn_account(Account::Robot).await?),
            Some(_) => Err(error.into()),
        }
    }
}

/// The name that a robot is asked for by. A satellite of before may have one that Harbor does not take.
fn name_of(robot: &SiteRobot) -> Result<RobotName, SiteError> {
    robot.attempt.parse().map_err(|error: RobotNameError| SiteError::Refused(error.to_string()))
}

/// The first of the names that none of the site's robots has.
fn free_number(site: &Site) -> u32 {
    (0..).find(|number| site.robots.iter().all(|robot| robot.number != *number)).unwrap_or(u32::MAX)
}

fn end(expiry: Expiry) -> Option<Timestamp> {
    match expiry {
        Expiry::Never => None,
        Expiry::At(seconds) => Some(Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX)),
    }
}

/// Whether Harbor answered at all, whatever it said.
pub(super) fn is_away(error: &SiteError) -> bool {
    match error {
        SiteError::Harbor(error) => error.may_be_outage() && !matches!(error.kind(), ErrorKind::Malformed(_)),
        _ => false,
    }
}
