//! Who is in a group because its selector says so.
//!
//! Membership is kept, not looked up: what satellites may pull and what their documents say is a plain join. So it is
//! brought up to date in the transaction that changes a label or a selector. A satellite without labels is never chosen,
//! so that a new one needs no look.

use ground_control_domain::StoreResult;
use ground_control_domain::document::DocumentKey;
use ground_control_domain::label::{Labels, Requirement, Selector};
use jiff::Timestamp;
use sqlx::QueryBuilder;

use super::{During, among, millis, outbox, read};
use crate::dialect::{Connection, Driver};

/// A satellite's labels have changed: it joins and leaves groups. Its document follows where that is a change.
pub(super) async fn relabelled(
    connection: &mut Connection,
    (satellite_id, name): (&str, &str),
    labels: &Labels,
    now: Timestamp,
    operation: &'static str,
) -> StoreResult<()> {
    let groups = sqlx::query!(
        r#"SELECT g.id AS "id!", g.selector AS "selector!", m.named AS "named?: bool", m.selected AS "selected?: bool"
           FROM artifact_groups g LEFT JOIN group_members m ON m.group_id = g.id AND m.satellite_id = $1
           WHERE g.selector <> ''"#,
        satellite_id
    )
    .fetch_all(&mut *connection)
    .await
    .during(operation)?;
    let (mut moved, joined_at) = (false, millis(now));
    for group in groups {
        let selector: Selector = read(operation, &group.selector)?;
        let chosen = selector.matches(labels);
        if chosen == group.selected.unwrap_or(false) {
            continue;
        }
        if chosen || group.named == Some(true) {
            sqlx::query!(
                "INSERT INTO group_members (satellite_id, group_id, joined_at, named, selected, satellite)
                 VALUES ($1, $2, $3, FALSE, $4, $5)
                 ON CONFLICT (satellite_id, group_id) DO UPDATE SET selected = excluded.selected",
                satellite_id,
                group.id,
                joined_at,
                chosen,
                name
            )
            .execute(&mut *connection)
            .await
            .during(operation)?;
        } else {
            sqlx::query!(
                "DELETE FROM group_members WHERE satellite_id = $1 AND group_id = $2",
                satellite_id,
                group.id
            )
            .execute(&mut *connection)
            .await
            .during(operation)?;
        }
        moved |= group.named != Some(true);
    }
    if moved {
        outbox::enqueue(connection, &DocumentKey::satellite(name), now, operation).await?;
    }
    Ok(())
}

/// A group's selector has changed: satellites join and leave it. The documents of those that do follow.
pub(super) async fn reselected(
    connection: &mut Connection,
    group_id: &str,
    selector: Option<&Selector>,
    now: Timestamp,
    operation: &'static str,
) -> StoreResult<()> {
    let chosen = |query: &mut QueryBuilder<Driver>| match selector {
        Some(selector) => matching(query, selector),
        None => {
            query.push("1 = 0");
        }
    };
    let now_millis = millis(now);

    // Those that come: chosen, and not there yet.
    let mut joining = outbox::enqueueing(now);
    joining.push(" FROM satellites s WHERE ");
    chosen(&mut joining);
    joining
        .push(" AND NOT EXISTS (SELECT 1 FROM group_members m WHERE m.satellite_id = s.id AND m.group_id = ")
        .push_bind(group_id.to_owned())
        .push(")");
    run(connection, outbox::or_again(joining), operation).await?;

    // Those that go: there by the selector before alone, and not chosen any more.
    let going = |query: &mut QueryBuilder<Driver>| {
        query.push("m.group_id = ").push_bind(group_id.to_owned());
        query.push(
            " AND m.selected AND NOT m.named
              AND NOT EXISTS (SELECT 1 FROM satellites s WHERE s.id = m.satellite_id AND ",
        );
        chosen(query);
        query.push(")");
    };
    let mut leaving = outbox::enqueueing(now);
    leaving.push(" FROM satellites s WHERE s.id IN (SELECT m.satellite_id FROM group_members m WHERE ");
    going(&mut leaving);
    leaving.push(")");
    run(connection, outbox::or_again(leaving), operation).await?;
    let mut removed = QueryBuilder::<Driver>::new("DELETE FROM group_members AS m WHERE ");
    going(&mut removed);
    run(connection, removed, operation).await?;

    sqlx::query!("UPDATE group_members SET selected = FALSE WHERE group_id = $1 AND selected", group_id)
        .execute(&mut *connection)
        .await
        .during(operation)?;
    let mut added = QueryBuilder::<Driver>::new(
        "INSERT INTO group_members (satellite_id, satellite, group_id, joined_at, named, selected)
         SELECT s.id, s.name, CAST(",
    );
    added.push_bind(group_id.to_owned()).push(" AS TEXT), CAST(").push_bind(now_millis);
    added.push(" AS BIGINT), FALSE, TRUE FROM satellites s WHERE ");
    chosen(&mut added);
    added.push(" ON CONFLICT (satellite_id, group_id) DO UPDATE SET selected = TRUE");
    run(connection, added, operation).await
}

/// Pushes what the satellites `s` meet that `selector` chooses: gathered by the label's index.
fn matching(query: &mut QueryBuilder<Driver>, selector: &Selector) {
    query.push("s.state <> 'deleted'");
    for requirement in selector.requirements() {
        let (chosen, key, values) = match requirement {
            Requirement::Exists(key) => (" AND s.id IN", key, None),
            Requirement::Absent(key) => (" AND s.id NOT IN", key, None),
            Requirement::In(key, values) => (" AND s.id IN", key, Some(values)),
            Requirement::NotIn(key, values) => (" AND s.id NOT IN", key, Some(values)),
        };
        query.push(chosen).push(" (SELECT l.satellite_id FROM satellite_labels l WHERE l.name = ");
        query.push_bind(key.clone());
        if let Some(values) = values {
            query.push(" AND l.value IN (");
            among(query, values.iter().cloned());
        }
        query.push(")");
    }
}

async fn run(
    connection: &mut Connection,
    mut query: QueryBuilder<Driver>,
    operation: &'static str,
) -> StoreResult<()> {
    query.build().persistent(false).execute(connection).await.during(operation).map(drop)
}
