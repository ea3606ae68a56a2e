//! What groups follow in the registry.

use std::collections::BTreeSet;

use async_trait::async_trait;
use ground_control_domain::StoreResult;
use ground_control_domain::audit::{Action, Event};
use ground_control_domain::document::DocumentKey;
use ground_control_domain::group::Artifact;
use ground_control_domain::resolution::{self, Resolution, Resolutions, Resolved, Selector, Unresolved};
use ground_control_domain::store::{Followed, Following, Look};
use jiff::Timestamp;

use super::{During, SqlStore, count, groups, json, millis, outbox, read, read_json, time};
use crate::dialect::Connection;

/// The longest reason that is kept of a failure.
const MAX_REASON: usize = 1000;
/// So many selectors, digests and groups are told in a row of the audit.
const MOST_TOLD: usize = 8;
/// When a look is due that somebody asked for: before all that only time has come for.
const AT_ONCE: i64 = 0;

fn change_id() -> String {
    uuid::Uuid::now_v7().to_string()
}

fn reason(text: &str) -> String {
    text.chars().filter(|c| *c != '\0').take(MAX_REASON).collect()
}

/// A selector with the digests that it stood for and stands for.
type Moved = (String, Vec<String>, Vec<String>);

fn digests(resolved: &[Resolved]) -> Vec<String> {
    resolved.iter().take(MOST_TOLD).map(|resolved| resolved.digest.to_string()).collect()
}

/// The row of a look after which documents are others; a look that found the same, or new referrers alone, has none.
fn moved_event(repository: &str, moved: &[Moved], groups: &BTreeSet<String>) -> Option<Event> {
    let moved: Vec<_> = moved
        .iter()
        .filter(|(_, from, to)| from != to)
        .take(MOST_TOLD)
        .map(|(selector, from, to)| serde_json::json!({"selector": selector, "from": from, "to": to}))
        .collect();
    if moved.is_empty() || groups.is_empty() {
        return None;
    }
    let groups: Vec<&String> = groups.iter().take(MOST_TOLD).collect();
    Some(
        Event::new(Action::RepositoryMoved, "repository", repository)
            .with("moved", moved)
            .with("groups", serde_json::json!(groups)),
    )
}

/// Asks for a look at what came to a list or changed in it, within the caller's transaction.
pub(super) async fn ask_for(
    connection: &mut Connection,
    before: &[Artifact],
    after: &[Artifact],
    operation: &'static str,
) -> StoreResult<()> {
    let selected = |list: &[Artifact]| -> BTreeSet<(String, Selector)> {
        list.iter()
            .flat_map(|artifact| {
                let repository = artifact.repository.to_string();
                resolution::selectors(artifact)
                    .into_iter()
                    .map(move |selector| (repository.clone(), selector))
            })
            .collect()
    };
    let (before, after) = (selected(before), selected(after));
    // In one order, so that nobody waits in a circle.
    let repositories: BTreeSet<&str> = after.difference(&before).map(|(name, _)| name.as_str()).collect();
    for repository in repositories {
        let change = change_id();
        sqlx::query!(
            "INSERT INTO followed_repositories (repository, change_id, due_at, claimed_until, attempts)
             VALUES ($1, $2, $3, 0, 0)
             ON CONFLICT (repository) DO UPDATE SET change_id = excluded.change_id, due_at = excluded.due_at",
            repository,
            change,
            AT_ONCE
        )
        .execute(&mut *connection)
        .await
        .during(operation)?;
    }
    Ok(())
}

struct ResolutionRow {
    repository: String,
    selector: String,
    resolved: String,
    resolved_at: Option<i64>,
    unresolved: Option<String>,
    unresolved_since: Option<i64>,
}

impl ResolutionRow {
    fn resolution(self, operation: &'static str) -> StoreResult<Resolution> {
        let unresolved = match (self.unresolved, self.unresolved_since) {
            (Some(reason), Some(since)) => Some(Unresolved { reason, since: time(operation, since)? }),
            _ => None,
        };
        Ok(Resolution {
            resolved: read_json(operation, &self.resolved)?,
            resolved_at: self.resolved_at.map(|at| time(operation, at)).transpose()?,
            unresolved,
        })
    }
}

/// What is known of a group's selectors.
pub(super) async fn known(
    connection: &mut Connection,
    group_id: &str,
    operation: &'static str,
) -> StoreResult<Resolutions> {
    sqlx::query_as!(
        ResolutionRow,
        "SELECT repository, selector, resolved, resolved_at, unresolved, unresolved_since FROM resolutions
         WHERE repository IN (SELECT repository FROM group_artifacts WHERE group_id = $1)",
        group_id
    )
    .fetch_all(connection)
    .await
    .during(operation)?
    .into_iter()
    .map(|row| {
        let key = (read(operation, &row.repository)?, read(operation, &row.selector)?);
        Ok((key, row.resolution(operation)?))
    })
    .collect()
}

/// The names of the groups that list something of a repository, with what they select there.
async fn listed(
    connection: &mut Connection,
    repository: &str,
    operation: &'static str,
) -> StoreResult<Vec<(String, Selector)>> {
    let mut listed = Vec::new();
    for (group, artifact) in groups::listing(connection, repository, operation).await? {
        listed.extend(resolution::selectors(&artifact).into_iter().map(|selector| (group.clone(), selector)));
    }
    Ok(listed)
}

async fn keep(
    connection: &mut Connection,
    repository: &str,
    selector: &str,
    resolution: &Resolution,
    operation: &'static str,
) -> StoreResult<()> {
    let resolved = json(operation, &resolution.resolved)?;
    let resolved_at = resolution.resolved_at.map(millis);
    let unresolved = resolution.unresolved.as_ref().map(|unresolved| reason(&unresolved.reason));
    let since = resolution.unresolved.as_ref().map(|unresolved| millis(unresolved.since));
    sqlx::query!(
        "INSERT INTO resolutions (repository, selector, resolved, resolved_at, unresolved, unresolved_since)
         VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (repository, selector) DO UPDATE SET resolved = excluded.resolved,
             resolved_at = excluded.resolved_at, unresolved = excluded.unresolved,
             unresolved_since = excluded.unresolved_since",
        repository,
        selector,
        resolved,
        resolved_at,
        unresolved,
        since
    )
    .execute(connection)
    .await
    .during(operation)
    .map(drop)
}

#[async_trait]
impl Following for SqlStore {
    async fn follow(&self, now: Timestamp) -> StoreResult<()> {
        const OPERATION: &str = "bring the followed repositories up to date";
        let (now, change) = (millis(now), change_id());
        let mut connection = self.database.read(OPERATION).await?;
        let differs = sqlx::query_scalar!(
            r#"SELECT EXISTS (SELECT 1 FROM group_artifacts a WHERE NOT EXISTS (
                          SELECT 1 FROM followed_repositories f WHERE f.repository = a.repository))
                   OR EXISTS (SELECT 1 FROM followed_repositories f WHERE NOT EXISTS (
                          SELECT 1 FROM group_artifacts a WHERE a.repository = f.repository)) AS "differs!: bool""#
        )
        .fetch_one(&mut *connection)
        .await
        .during(OPERATION)?;
        drop(connection);
        if !differs {
            return Ok(());
        }
        // With what people change: a list that is written at this moment counts.
        let mut tx = self.database.fleet(OPERATION).await?;
        sqlx::query!(
            "INSERT INTO followed_repositories (repository, change_id, due_at, claimed_until, attempts)
             SELECT DISTINCT a.repository, CAST($1 AS TEXT), CAST($2 AS BIGINT), 0, 0 FROM group_artifacts a
             WHERE NOT EXISTS (SELECT 1 FROM followed_repositories f WHERE f.repository = a.repository)
             ON CONFLICT (repository) DO NOTHING",
            change,
            now
        )
        .execute(&mut *tx)
        .await
        .during(OPERATION)?;
        sqlx::query!(
            "DELETE FROM followed_repositories WHERE claimed_until <= $1 AND NOT EXISTS (
                 SELECT 1 FROM group_artifacts a WHERE a.repository = followed_repositories.repository)",
            now
        )
        .execute(&mut *tx)
        .await
        .during(OPERATION)?;
        sqlx::query!(
            "DELETE FROM resolutions WHERE NOT EXISTS (
                 SELECT 1 FROM group_artifacts a WHERE a.repository = resolutions.repository)"
        )
        .execute(&mut *tx)
        .await
        .during(OPERATION)?;
        tx.commit().await.during(OPERATION)
    }

    async fn claim_followed(
        &self,
        limit: u32,
        now: Timestamp,
        until: Timestamp,
    ) -> StoreResult<Vec<Followed>> {
        const OPERATION: &str = "claim repositories to look at";
        let (limit, now, until) = (i64::from(limit), millis(now), millis(until));
        let mut connection = self.database.read(OPERATION).await?;
        let mut due = sqlx::query_scalar!(
            "SELECT repository FROM followed_repositories WHERE due_at <= $1 AND claimed_until <= $1
             ORDER BY due_at, repository LIMIT $2",
            now,
            limit
        )
        .fetch_all(&mut *connection)
        .await
        .during(OPERATION)?;
        drop(connection);
        if due.is_empty() {
            return Ok(Vec::new());
        }
        due.sort();
        let mut tx = self.database.rows(OPERATION).await?;
        let mut claimed = Vec::with_capacity(due.len());
        for repository in due {
            // Whoever comes second finds it claimed.
            let row = sqlx::query!(
                "UPDATE followed_repositories SET claimed_until = $1
                 WHERE repository = $2 AND due_at <= $3 AND claimed_until <= $3 RETURNING change_id, attempts",
                until,
                repository,
                now
            )
            .fetch_optional(&mut *tx)
            .await
            .during(OPERATION)?;
            let Some(row) = row else { continue };
            let selectors: BTreeSet<Selector> = listed(&mut tx, &repository, OPERATION)
                .await?
                .into_iter()
                .map(|(_, selector)| selector)
                .collect();
            claimed.push(Followed {
                repository: read(OPERATION, &repository)?,
                change: row.change_id,
                attempts: u32::try_from(row.attempts).unwrap_or(u32::MAX),
                selectors: selectors.into_iter().collect(),
            });
        }
        tx.commit().await.during(OPERATION)?;
        Ok(claimed)
    }

    async fn hold_followed(&self, followed: &Followed, until: Timestamp) -> StoreResult<()> {
        const OPERATION: &str = "keep a claim of a repository";
        let (repository, until) = (followed.repository.as_str(), millis(until));
        let mut tx = self.database.rows(OPERATION).await?;
        sqlx::query!(
            "UPDATE followed_repositories SET claimed_until = $1 WHERE repository = $2 AND claimed_until <> 0",
            until,
            repository
        )
        .execute(&mut *tx)
        .await
        .during(OPERATION)?;
        tx.commit().await.during(OPERATION)
    }

    async fn looked(&self, followed: &Followed, look: Look, now: Timestamp) -> StoreResult<Vec<String>> {
        const OPERATION: &str = "remember what a look at a repository found";
        let repository = followed.repository.as_str();
        let failed = look.failure.is_some();
        let (failure, next) = (look.failure.as_deref().map(reason), millis(look.next));
        let looked_at = millis(now);
        let mut tx = self.database.rows(OPERATION).await?;
        sqlx::query!(
            "UPDATE followed_repositories SET claimed_until = 0, looked_at = $1, last_error = $2,
                 attempts = CASE WHEN $3 THEN attempts + 1 ELSE 0 END,
                 due_at = CASE WHEN change_id = $4 THEN CAST($5 AS BIGINT) ELSE due_at END
             WHERE repository = $6",
            looked_at,
            failure,
            failed,
            followed.change,
            next,
            repository
        )
        .execute(&mut *tx)
        .await
        .during(OPERATION)?;
        let rows = sqlx::query_as!(
            ResolutionRow,
            "SELECT repository, selector, resolved, resolved_at, unresolved, unresolved_since FROM resolutions
             WHERE repository = $1",
            repository
        )
        .fetch_all(&mut *tx)
        .await
        .during(OPERATION)?;
        let mut before = std::collections::HashMap::new();
        for row in rows {
            before.insert(row.selector.clone(), row.resolution(OPERATION)?);
        }
        let listed = listed(&mut tx, repository, OPERATION).await?;
        let wanted: BTreeSet<&Selector> = listed.iter().map(|(_, selector)| selector).collect();
        let (mut changed, mut seen, mut moved) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
        for (selector, finding) in look.findings {
            if !wanted.contains(&selector) {
                continue;
            }
            let key = selector.to_string();
            let known = before.remove(&key);
            let after = known.clone().unwrap_or_default().after(finding, now);
            if known.as_ref() == Some(&after) {
                continue;
            }
            keep(&mut tx, repository, &key, &after, OPERATION).await?;
            if known.is_none() {
                seen.insert(selector.clone());
            }
            let before = known.unwrap_or_default().resolved;
            if before != after.resolved {
                // What a list stands for at first follows from the change of that list.
                if !before.is_empty() {
                    moved.push((key, digests(&before), digests(&after.resolved)));
                }
                changed.insert(selector);
            }
        }
        // What no group selects any more; what was asked for while this look ran stays for the next.
        let kept: BTreeSet<String> = wanted.iter().map(ToString::to_string).collect();
        for key in before.into_keys().filter(|key| !kept.contains(key)) {
            sqlx::query!("DELETE FROM resolutions WHERE repository = $1 AND selector = $2", repository, key)
                .execute(&mut *tx)
                .await
                .during(OPERATION)?;
        }
        let of = |selectors: &BTreeSet<Selector>| -> BTreeSet<String> {
            let selected = listed.iter().filter(|(_, selector)| selectors.contains(selector));
            selected.map(|(group, _)| group.clone()).collect()
        };
        let told = of(&changed);
        // A document that waits for this first look waits no longer, whatever it found.
        for group in told.union(&of(&seen)) {
            outbox::enqueue(&mut tx, &DocumentKey::group(group), now, OPERATION).await?;
        }
        match moved_event(repository, &moved, &told) {
            Some(event) => self.commit(tx, &event, OPERATION).await?,
            None => tx.commit().await.during(OPERATION)?,
        }
        Ok(told.into_iter().collect())
    }

    async fn look_again(&self, repository: &str) -> StoreResult<bool> {
        const OPERATION: &str = "ask for a look at a repository";
        let change = change_id();
        let mut connection = self.database.read(OPERATION).await?;
        // Most of what is pushed is followed by nobody: that costs no write.
        let followed = sqlx::query_scalar!(
            r#"SELECT EXISTS (SELECT 1 FROM followed_repositories WHERE repository = $1) AS "followed!: bool""#,
            repository
        )
        .fetch_one(&mut *connection)
        .await
        .during(OPERATION)?;
        drop(connection);
        if !followed {
            return Ok(false);
        }
        let mut tx = self.database.rows(OPERATION).await?;
        let asked = sqlx::query!(
            "UPDATE followed_repositories SET change_id = $1, due_at = $2 WHERE repository = $3",
            change,
            AT_ONCE,
            repository
        )
        .execute(&mut *tx)
        .await
        .during(OPERATION)?;
        tx.commit().await.during(OPERATION)?;
        Ok(asked.rows_affected() > 0)
    }

    async fn look_at_all_again(&self, now: Timestamp) -> StoreResult<u64> {
        const OPERATION: &str = "ask for a look at every repository";
        let (now, change) = (millis(now), change_id());
        let mut tx = self.database.fleet(OPERATION).await?;
        let asked = sqlx::query!(
            "UPDATE followed_repositories SET change_id = $1, due_at = $2 WHERE due_at > $2",
            change,
            now
        )
        .execute(&mut *tx)
        .await
        .during(OPERATION)?;
        tx.commit().await.during(OPERATION)?;
        Ok(asked.rows_affected())
    }

    async fn resolutions(&self, group: &str) -> StoreResult<Resolutions> {
        const OPERATION: &str = "look up what a group's list stands for";
        let mut snapshot = self.database.snapshot(OPERATION).await?;
        let id = groups::id_of(&mut snapshot, group, OPERATION).await?;
        known(&mut snapshot, &id, OPERATION).await
    }

    async fn unresolved(&self) -> StoreResult<u64> {
        const OPERATION: &str = "count what is unresolved";
        let mut connection = self.database.read(OPERATION).await?;
        sqlx::query_scalar!(r#"SELECT COUNT(*) AS "n!: i64" FROM resolutions WHERE unresolved IS NOT NULL"#)
            .fetch_one(&mut *connection)
            .await
            .during(OPERATION)
            .map(count)
    }
}
