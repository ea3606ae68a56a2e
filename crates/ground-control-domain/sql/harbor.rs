//! Robots at Harbor: what is recorded of each, and of the sites that they belong to.

mod robots;
mod shown;
mod sites;

use std::collections::BTreeSet;

use ground_control_domain::harbor::{Account, STATE_PROJECT, SiteRobot, project_of};
use ground_control_domain::secret::Hashed;
use ground_control_domain::{StoreError, StoreResult};

use super::{During, read, read_json, time};
use crate::dialect::Connection;

/// The setting that remembers which kind of account a login at Harbor is: `<kind>:<user name>`.
const ACCOUNT: &str = "harbor_account";

struct RobotRow {
    id: String,
    role: String,
    number: i64,
    attempt: String,
    tried: bool,
    gone: bool,
    harbor_id: Option<i64>,
    username: Option<String>,
    secret_hash: Option<String>,
    projects: String,
    created_at: Option<i64>,
    expires_at: Option<i64>,
    given_at: Option<i64>,
    used_at: Option<i64>,
}

impl RobotRow {
    fn robot(self, operation: &'static str) -> StoreResult<SiteRobot> {
        let at = |millis: Option<i64>| millis.map(|millis| time(operation, millis)).transpose();
        Ok(SiteRobot {
            role: read(operation, &self.role)?,
            number: u32::try_from(self.number).unwrap_or(u32::MAX),
            projects: read_json(operation, &self.projects)?,
            created_at: at(self.created_at)?,
            expires_at: at(self.expires_at)?,
            given_at: at(self.given_at)?,
            used_at: at(self.used_at)?,
            id: self.id,
            attempt: self.attempt,
            tried: self.tried,
            gone: self.gone,
            harbor_id: self.harbor_id,
            username: self.username,
            secret: self.secret_hash.map(Hashed::from),
        })
    }
}

/// A satellite's robots, the latest first.
async fn robots(
    connection: &mut Connection,
    satellite: &str,
    operation: &'static str,
) -> StoreResult<Vec<SiteRobot>> {
    sqlx::query_as!(
        RobotRow,
        r#"SELECT id AS "id!", role AS "role!", number AS "number!", attempt AS "attempt!", tried AS "tried!: bool",
                  gone AS "gone!: bool", harbor_id AS "harbor_id?", username AS "username?",
                  secret_hash AS "secret_hash?", projects AS "projects!", created_at AS "created_at?", expires_at AS "expires_at?", given_at AS "given_at?",
                  used_at AS "used_at?"
           FROM harbor_robots WHERE satellite_id = $1 ORDER BY begun_at DESC, id DESC"#,
        satellite
    )
    .fetch_all(connection)
    .await
    .during(operation)?
    .into_iter()
    .map(|row| row.robot(operation))
    .collect()
}

/// The projects of repositories.
fn projects(repositories: impl IntoIterator<Item = String>) -> BTreeSet<String> {
    repositories.into_iter().filter_map(|name| project_of(&name).map(str::to_owned)).collect()
}

async fn projects_of_group(
    connection: &mut Connection,
    group_id: &str,
    operation: &'static str,
) -> StoreResult<BTreeSet<String>> {
    sqlx::query_scalar!(
        "SELECT DISTINCT repository FROM group_artifacts WHERE group_id = $1 AND NOT deleted",
        group_id
    )
    .fetch_all(connection)
    .await
    .during(operation)
    .map(projects)
}

/// The projects that a satellite's robots are to have.
async fn projects_of_satellite(
    connection: &mut Connection,
    satellite: &str,
    operation: &'static str,
) -> StoreResult<BTreeSet<String>> {
    let repositories = sqlx::query_scalar!(
        "SELECT DISTINCT a.repository FROM group_members m JOIN group_artifacts a ON a.group_id = m.group_id
             WHERE m.satellite_id = $1 AND NOT a.deleted",
        satellite
    )
    .fetch_all(connection)
    .await
    .during(operation)?;
    let mut wanted = projects(repositories);
    wanted.insert(STATE_PROJECT.to_owned());
    Ok(wanted)
}

/// Something that the satellite's robots follow from changed, within the caller's transaction. Nothing where it has none.
pub(super) async fn asked(
    connection: &mut Connection,
    satellite: &str,
    now: i64,
    operation: &'static str,
) -> StoreResult<()> {
    sqlx::query!(
        "UPDATE harbor_sites SET asked = asked + 1, due_at = $1, attempts = 0, failed_at = NULL
         WHERE satellite_id = $2",
        now,
        satellite
    )
    .execute(connection)
    .await
    .during(operation)
    .map(drop)
}

/// A satellite is shut out, or begins anew: all that it was given is to go at Harbor.
pub(super) async fn condemn_all(
    connection: &mut Connection,
    satellite: &str,
    now: i64,
    operation: &'static str,
) -> StoreResult<()> {
    sqlx::query!(
        "UPDATE harbor_robots SET role = 'condemned', sealed_secret = NULL
         WHERE satellite_id = $1 AND role IN ('prepared', 'current', 'retiring')",
        satellite
    )
    .execute(&mut *connection)
    .await
    .during(operation)?;
    asked(connection, satellite, now, operation).await
}

/// Whoever is let in again, or deleted, is not known by the robots that it had.
pub(super) async fn forget_removed(
    connection: &mut Connection,
    satellite: &str,
    operation: &'static str,
) -> StoreResult<()> {
    sqlx::query!("DELETE FROM harbor_robots WHERE satellite_id = $1 AND role = 'removed'", satellite)
        .execute(connection)
        .await
        .during(operation)
        .map(drop)
}

/// What kind of account the login is that robots are made with; `None` where Harbor is not the central registry.
async fn account(
    connection: &mut Connection,
    operation: &'static str,
) -> StoreResult<Option<(Account, String)>> {
    let value = sqlx::query_scalar!("SELECT value FROM settings WHERE name = $1", ACCOUNT)
        .fetch_optional(connection)
        .await
        .during(operation)?;
    Ok(value.as_deref().and_then(|value| value.split_once(':')).and_then(|(kind, name)| {
        let kind = [Account::User, Account::Robot].into_iter().find(|account| account.as_str() == kind)?;
        Some((kind, name.to_owned()))
    }))
}

/// The most satellites that a refusal names.
const MOST_NAMES: usize = 10;

/// Refuses, within the caller's transaction, what gave satellites another project that cannot be given one: those without an
/// identity, where our account at Harbor is a robot, which may not change theirs. `group` or `satellite` says whose were
/// looked at.
pub(super) async fn check_fixed(
    connection: &mut Connection,
    group: Option<&str>,
    satellite: Option<&str>,
    operation: &'static str,
) -> StoreResult<()> {
    if !account(connection, operation).await?.is_some_and(|(kind, _)| kind == Account::Robot) {
        return Ok(());
    }
    let rows = sqlx::query!(
        r#"SELECT DISTINCT s.name AS "name!", r.projects AS "has!", a.repository AS "repository!"
           FROM group_members m JOIN satellites s ON s.id = m.satellite_id
               JOIN harbor_robots r ON r.satellite_id = s.id AND r.role = 'current'
               JOIN group_artifacts a ON a.group_id = m.group_id AND NOT a.deleted
           WHERE s.state IN ('pending', 'online', 'stale')
               AND (m.group_id = $1 OR m.satellite_id = $2)
               AND EXISTS (SELECT 1 FROM ztr_tokens t WHERE t.satellite_id = s.id)
               AND NOT EXISTS (SELECT 1 FROM registrations n WHERE n.satellite_id = s.id AND n.active)"#,
        group,
        satellite
    )
    .fetch_all(connection)
    .await
    .during(operation)?;
    let (mut names, mut lacking) = (BTreeSet::new(), BTreeSet::new());
    for row in rows {
        let has: BTreeSet<String> = read_json(operation, &row.has)?;
        if let Some(project) = project_of(&row.repository).filter(|project| !has.contains(*project)) {
            names.insert(row.name);
            lacking.insert(project.to_owned());
        }
    }
    if names.is_empty() {
        return Ok(());
    }
    let (all, listed) = (names.len(), |set: BTreeSet<String>| {
        set.into_iter().take(MOST_NAMES).collect::<Vec<_>>().join(", ")
    });
    Err(StoreError::Conflict {
        message: format!(
            "{all} satellites without an identity cannot be given the projects {} ({}): Ground Control's own account at \
             Harbor is a robot, which may not change theirs; register them anew (POST /api/satellites/register), or leave \
             them out of the group",
            listed(lacking),
            listed(names)
        ),
    })
}
