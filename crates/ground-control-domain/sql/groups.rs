//! Groups and their artifacts.

use std::collections::HashMap;

use async_trait::async_trait;
use fleet_protocol::{GroupName, Pattern};
use ground_control_domain::audit::{Action, Event};
use ground_control_domain::document::DocumentKey;
use ground_control_domain::group::{self, Artifact, Group};
use ground_control_domain::label::Selector;
use ground_control_domain::revision::{Revision, RevisionDetail};
use ground_control_domain::store::Groups;
use ground_control_domain::{Entity, GroupId, Page, Paged, StoreError, StoreResult};
use jiff::Timestamp;

use super::{
    During, SqlStore, count, following, harbor, json, millis, outbox, read, read_json, revisions, selection,
    time,
};
use crate::dialect::Connection;

struct ArtifactRow {
    group_id: String,
    repository: String,
    tags: String,
    labels: String,
    kind: String,
    digest: String,
    deleted: bool,
    rule: String,
    platforms: String,
}

/// A rule as it is kept.
#[derive(serde::Serialize, serde::Deserialize)]
struct KeptRule {
    #[serde(rename = "match")]
    pattern: Pattern,
    keep: Option<u32>,
}

impl ArtifactRow {
    fn artifact(self, operation: &'static str) -> StoreResult<Artifact> {
        let rule: Option<KeptRule> = match self.rule.as_str() {
            "" => None,
            rule => Some(read_json(operation, rule)?),
        };
        let platforms: Vec<String> = read_json(operation, &self.platforms)?;
        Ok(Artifact {
            repository: read(operation, &self.repository)?,
            tags: read_json(operation, &self.tags)?,
            labels: read_json(operation, &self.labels)?,
            kind: self.kind,
            digest: match self.digest.as_str() {
                "" => None,
                digest => Some(read(operation, digest)?),
            },
            deleted: self.deleted,
            keep: rule.as_ref().and_then(|rule| rule.keep),
            pattern: rule.map(|rule| rule.pattern),
            platforms: platforms.iter().map(|text| read(operation, text)).collect::<StoreResult<_>>()?,
            referrers: None,
        })
    }
}

/// The list of one group, in the order given.
pub(super) async fn artifacts(
    connection: &mut Connection,
    group_id: &str,
    operation: &'static str,
) -> StoreResult<Vec<Artifact>> {
    sqlx::query_as!(
        ArtifactRow,
        "SELECT group_id, repository, tags, labels, kind, digest, deleted, rule, platforms FROM group_artifacts
         WHERE group_id = $1 ORDER BY ordinal",
        group_id
    )
    .fetch_all(connection)
    .await
    .during(operation)?
    .into_iter()
    .map(|row| row.artifact(operation))
    .collect()
}

/// What all groups list of one repository, with the name of the group.
pub(super) async fn listing(
    connection: &mut Connection,
    repository: &str,
    operation: &'static str,
) -> StoreResult<Vec<(String, Artifact)>> {
    sqlx::query_as!(
        ArtifactRow,
        r#"SELECT g.name AS "group_id!", a.repository AS "repository!", a.tags AS "tags!", a.labels AS "labels!",
                  a.kind AS "kind!", a.digest AS "digest!", a.deleted AS "deleted!: bool", a.rule AS "rule!",
                  a.platforms AS "platforms!"
           FROM group_artifacts a JOIN artifact_groups g ON g.id = a.group_id WHERE a.repository = $1"#,
        repository
    )
    .fetch_all(connection)
    .await
    .during(operation)?
    .into_iter()
    .map(|row| Ok((row.group_id.clone(), row.artifact(operation)?)))
    .collect()
}

/// The identifier of the group called `name`.
pub(super) async fn id_of(
    connection: &mut Connection,
    name: &str,
    operation: &'static str,
) -> StoreResult<String> {
    sqlx::query_scalar!("SELECT id FROM artifact_groups WHERE name = $1", name)
        .fetch_optional(connection)
        .await
        .during(operation)?
        .ok_or_else(|| StoreError::not_found(Entity::Group, name))
}

/// A group's selector as it is kept.
fn selector(operation: &'static str, text: &str) -> StoreResult<Option<Selector>> {
    if text.is_empty() { Ok(None) } else { read(operation, text).map(Some) }
}

pub(super) async fn load(
    connection: &mut Connection,
    name: &str,
    operation: &'static str,
) -> StoreResult<Option<Group>> {
    let row = sqlx::query!(
        "SELECT id, name, selector, created_at, updated_at FROM artifact_groups WHERE name = $1",
        name
    )
    .fetch_optional(&mut *connection)
    .await
    .during(operation)?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(Group {
        artifacts: artifacts(connection, &row.id, operation).await?,
        id: GroupId::from(row.id),
        name: row.name,
        selector: selector(operation, &row.selector)?,
        created_at: time(operation, row.created_at)?,
        updated_at: time(operation, row.updated_at)?,
    }))
}

async fn insert_artifact(
    connection: &mut Connection,
    group_id: &str,
    ordinal: usize,
    artifact: &Artifact,
    operation: &'static str,
) -> StoreResult<()> {
    let ordinal = i64::try_from(ordinal).unwrap_or(i64::MAX);
    let repository = artifact.repository.as_str();
    let (tags, labels) = (json(operation, &artifact.tags)?, json(operation, &artifact.labels)?);
    let digest = artifact.digest.map(|d| d.to_string()).unwrap_or_default();
    let rule = artifact.pattern.clone().map(|pattern| KeptRule { pattern, keep: artifact.keep });
    let rule = rule.map(|rule| json(operation, &rule)).transpose()?.unwrap_or_default();
    let platforms: Vec<String> = artifact.platforms.iter().map(ToString::to_string).collect();
    let platforms = json(operation, &platforms)?;
    sqlx::query!(
        "INSERT INTO group_artifacts (group_id, ordinal, repository, tags, labels, kind, digest, deleted, rule, platforms)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        group_id,
        ordinal,
        repository,
        tags,
        labels,
        artifact.kind,
        digest,
        artifact.deleted,
        rule,
        platforms
    )
    .execute(connection)
    .await
    .during(operation)
    .map(drop)
}

/// Gives a group another list, with the revision and the intent to publish that go with it. The same list again is no
/// change: nobody has to read anything anew.
pub(super) async fn replace(
    tx: &mut Connection,
    name: &str,
    before: Option<Group>,
    mut artifacts: Vec<Artifact>,
    by: &revisions::Origin<'_>,
    now: Timestamp,
    operation: &'static str,
) -> StoreResult<Group> {
    for artifact in &mut artifacts {
        // Found out here, and no one's to say.
        artifact.referrers = None;
    }
    group::check(&artifacts).map_err(StoreError::invalid)?;
    if let Some(group) = before.as_ref().filter(|group| group.artifacts == artifacts) {
        return Ok(group.clone());
    }
    let id = match &before {
        Some(group) => group.id.clone(),
        None => {
            GroupName::new(name).map_err(|error| StoreError::invalid(error.to_string()))?;
            GroupId::generate()
        }
    };
    let document = DocumentKey::group(name);
    outbox::publishable(&document)?;
    let (id_text, now_millis) = (id.as_str(), millis(now));
    sqlx::query!(
        "INSERT INTO artifact_groups (id, name, created_at, updated_at) VALUES ($1, $2, $3, $3)
         ON CONFLICT (name) DO UPDATE SET updated_at = excluded.updated_at",
        id_text,
        name,
        now_millis
    )
    .execute(&mut *tx)
    .await
    .during(operation)?;
    sqlx::query!("DELETE FROM group_artifacts WHERE group_id = $1", id_text)
        .execute(&mut *tx)
        .await
        .during(operation)?;
    for (ordinal, artifact) in artifacts.iter().enumerate() {
        insert_artifact(tx, id_text, ordinal, artifact, operation).await?;
    }
    revisions::record(tx, id_text, before.as_ref(), &artifacts, by, now, operation).await?;
    let had = before.as_ref().map_or(&[][..], |group| &group.artifacts);
    following::ask_for(tx, had, &artifacts, operation).await?;
    outbox::enqueue(tx, &document, now, operation).await?;
    harbor::check_fixed(tx, Some(id_text), None, operation).await?;
    let updated_at = time(operation, now_millis)?;
    Ok(Group {
        id,
        name: name.to_owned(),
        artifacts,
        selector: before.as_ref().and_then(|group| group.selector.clone()),
        created_at: before.map_or(updated_at, |group| group.created_at),
        updated_at,
    })
}

/// What a revision changed.
pub(super) fn revised(event: Event, made: &Revision) -> Event {
    event
        .with("revision", made.number)
        .with("added", made.added)
        .with("removed", made.removed)
        .with("changed", made.changed)
}

#[async_trait]
impl Groups for SqlStore {
    async fn sync_group(
        &self,
        name: &str,
        artifacts: Vec<Artifact>,
        author: &str,
        now: Timestamp,
    ) -> StoreResult<Group> {
        const OPERATION: &str = "replace a group's list";
        let mut tx = self.change_or_make(Entity::Group, name, OPERATION).await?;
        let before = load(&mut tx, name, OPERATION).await?;
        let unchanged = before.as_ref().is_some_and(|group| group.artifacts == artifacts);
        let by = revisions::Origin { author, restored_from: None };
        let group = replace(&mut tx, name, before, artifacts, &by, now, OPERATION).await?;
        if unchanged {
            return Ok(group);
        }
        let made = revisions::latest(&mut tx, group.id.as_str(), OPERATION).await?.revision;
        let event = revised(Event::new(Action::GroupSynced, "group", name), &made);
        self.commit(tx, &event, OPERATION).await?;
        Ok(group)
    }

    async fn group(&self, name: &str) -> StoreResult<Group> {
        const OPERATION: &str = "look up a group";
        let mut snapshot = self.database.snapshot(OPERATION).await?;
        load(&mut snapshot, name, OPERATION).await?.ok_or_else(|| StoreError::not_found(Entity::Group, name))
    }

    async fn groups(&self, page: Page) -> StoreResult<Paged<Group>> {
        const OPERATION: &str = "list the groups";
        let (limit, offset) = (page.limit(), page.offset());
        let mut snapshot = self.database.snapshot(OPERATION).await?;
        let total = sqlx::query_scalar!(r#"SELECT COUNT(*) AS "n!: i64" FROM artifact_groups"#)
            .fetch_one(&mut *snapshot)
            .await
            .during(OPERATION)?;
        let rows = sqlx::query!(
            "SELECT id, name, selector, created_at, updated_at FROM artifact_groups ORDER BY name LIMIT $1 OFFSET $2",
            limit,
            offset
        )
        .fetch_all(&mut *snapshot)
        .await
        .during(OPERATION)?;
        let mut lists: HashMap<String, Vec<Artifact>> = HashMap::new();
        let listed = sqlx::query_as!(
            ArtifactRow,
            "SELECT a.group_id, a.repository, a.tags, a.labels, a.kind, a.digest, a.deleted, a.rule, a.platforms
             FROM group_artifacts a
             WHERE a.group_id IN (SELECT id FROM artifact_groups ORDER BY name LIMIT $1 OFFSET $2)
             ORDER BY a.group_id, a.ordinal",
            limit,
            offset
        )
        .fetch_all(&mut *snapshot)
        .await
        .during(OPERATION)?;
        for row in listed {
            lists.entry(row.group_id.clone()).or_default().push(row.artifact(OPERATION)?);
        }
        let items = rows
            .into_iter()
            .map(|row| {
                Ok(Group {
                    artifacts: lists.remove(&row.id).unwrap_or_default(),
                    id: GroupId::from(row.id),
                    name: row.name,
                    selector: selector(OPERATION, &row.selector)?,
                    created_at: time(OPERATION, row.created_at)?,
                    updated_at: time(OPERATION, row.updated_at)?,
                })
            })
            .collect::<StoreResult<_>>()?;
        Ok(Paged { items, total: count(total) })
    }

    async fn revisions(&self, name: &str, page: Page) -> StoreResult<Paged<Revision>> {
        const OPERATION: &str = "list a group's revisions";
        let mut snapshot = self.database.snapshot(OPERATION).await?;
        let id = id_of(&mut snapshot, name, OPERATION).await?;
        revisions::list(&mut snapshot, &id, page, OPERATION).await
    }

    async fn revision(&self, name: &str, number: u64) -> StoreResult<RevisionDetail> {
        const OPERATION: &str = "look up a group's revision";
        let mut snapshot = self.database.snapshot(OPERATION).await?;
        let id = id_of(&mut snapshot, name, OPERATION).await?;
        revisions::load(&mut snapshot, &id, number, OPERATION).await
    }

    async fn restore_revision(
        &self,
        name: &str,
        number: u64,
        author: &str,
        now: Timestamp,
    ) -> StoreResult<RevisionDetail> {
        const OPERATION: &str = "restore a group's revision";
        let mut tx = self.change(Entity::Group, name, OPERATION).await?;
        let Some(before) = load(&mut tx, name, OPERATION).await? else {
            return Err(StoreError::not_found(Entity::Group, name));
        };
        let id = before.id.clone();
        let earlier = revisions::load(&mut tx, id.as_str(), number, OPERATION).await?;
        let unchanged = before.artifacts == earlier.artifacts;
        let by = revisions::Origin { author, restored_from: Some(number) };
        replace(&mut tx, name, Some(before), earlier.artifacts, &by, now, OPERATION).await?;
        let made = revisions::latest(&mut tx, id.as_str(), OPERATION).await?;
        if unchanged {
            return Ok(made);
        }
        let event = Event::new(Action::GroupRestored, "group", name).with("from", number);
        self.commit(tx, &revised(event, &made.revision), OPERATION).await?;
        Ok(made)
    }

    async fn set_selector(
        &self,
        name: &str,
        selector: Option<Selector>,
        now: Timestamp,
    ) -> StoreResult<Group> {
        const OPERATION: &str = "give a group a selector";
        if let Some(selector) = &selector {
            group::check_selector(selector).map_err(StoreError::invalid)?;
        }
        let mut tx = self.change(Entity::Group, name, OPERATION).await?;
        let Some(before) = load(&mut tx, name, OPERATION).await? else {
            return Err(StoreError::not_found(Entity::Group, name));
        };
        if before.selector == selector {
            return Ok(before);
        }
        let text = selector.as_ref().map(ToString::to_string).unwrap_or_default();
        let id = before.id.as_str();
        // The time of the group is that of its list, which stays.
        sqlx::query!("UPDATE artifact_groups SET selector = $1 WHERE id = $2", text, id)
            .execute(&mut *tx)
            .await
            .during(OPERATION)?;
        selection::reselected(&mut tx, id, selector.as_ref(), now, OPERATION).await?;
        harbor::check_fixed(&mut tx, Some(id), None, OPERATION).await?;
        let event = Event::new(Action::GroupSelectorSet, "group", name).with("selector", text);
        self.commit(tx, &event, OPERATION).await?;
        Ok(Group { selector, ..before })
    }

    async fn delete_group(&self, name: &str, now: Timestamp) -> StoreResult<()> {
        const OPERATION: &str = "delete a group";
        let mut tx = self.change(Entity::Group, name, OPERATION).await?;
        let id = id_of(&mut tx, name, OPERATION).await?;
        outbox::enqueue_members(&mut tx, &id, now, OPERATION).await?;
        sqlx::query!("DELETE FROM artifact_groups WHERE id = $1", id)
            .execute(&mut *tx)
            .await
            .during(OPERATION)?;
        outbox::enqueue(&mut tx, &DocumentKey::group(name), now, OPERATION).await?;
        self.commit(tx, &Event::new(Action::GroupDeleted, "group", name), OPERATION).await
    }
}
