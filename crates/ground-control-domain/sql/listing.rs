//! Lists of satellites.
//!
//! Queries by a selector are put together while the program runs: it has as many conditions as its author wrote. Only our own words become its text, every value is bound; that it chooses what
//! [`ground_control_domain::label::Selector::matches`] chooses is tested on both databases.

use std::collections::HashMap;

use ground_control_domain::label::{Labels, Requirement};
use ground_control_domain::satellite::{Satellite, SatelliteFilter};
use ground_control_domain::{Page, Paged, StoreResult};
use sqlx::{QueryBuilder, Row as _};

use super::satellites::Row;
use super::{During, among, count};
use crate::dialect::{Connection, Driver};

/// A page of the satellites that `filter` chooses, by name.
pub(super) async fn page(
    connection: &mut Connection,
    filter: &SatelliteFilter,
    page: Page,
    operation: &'static str,
) -> StoreResult<Paged<Satellite>> {
    let mut query = QueryBuilder::<Driver>::new("SELECT COUNT(*) FROM satellites s WHERE ");
    conditions(&mut query, filter, Shape::Gather);
    // Its text is another one with each filter: nothing to remember for the next time.
    let counted = query.build().persistent(false).fetch_one(&mut *connection).await.during(operation)?;
    let total: i64 = counted.try_get(0).during(operation)?;

    let mut query = QueryBuilder::<Driver>::new(
        "SELECT s.id, s.name, s.region, s.state, c.name AS config_name, s.heartbeat_interval,
                COALESCE(h.received_at, s.last_seen), s.created_at, s.updated_at
         FROM satellites s LEFT JOIN configs c ON c.id = s.config_id
              LEFT JOIN heartbeats h ON h.satellite_id = s.id WHERE ",
    );
    let early = total >= EARLY * (page.offset() + page.limit());
    let shape = if early { Shape::Walk } else { Shape::Gather };
    conditions(&mut query, filter, shape);
    query.push(" ORDER BY s.name LIMIT ").push_bind(page.limit());
    query.push(" OFFSET ").push_bind(page.offset());
    let rows = query.build().persistent(false).fetch_all(&mut *connection).await.during(operation)?;
    let rows = rows
        .into_iter()
        .map(|row| {
            Ok(Row {
                id: row.try_get(0)?,
                name: row.try_get(1)?,
                region: row.try_get(2)?,
                state: row.try_get(3)?,
                config_name: row.try_get(4)?,
                heartbeat_interval: row.try_get(5)?,
                last_seen: row.try_get(6)?,
                created_at: row.try_get(7)?,
                updated_at: row.try_get(8)?,
            })
        })
        .collect::<Result<Vec<Row>, sqlx::Error>>()
        .during(operation)?;

    let (mut groups, mut labels) = beside(connection, &rows, operation).await?;
    let items = rows
        .into_iter()
        .map(|row| {
            let mut groups = groups.remove(&row.id).unwrap_or_default();
            groups.sort();
            let labels = labels.remove(&row.id).unwrap_or_default();
            row.satellite(groups, labels, operation)
        })
        .collect::<StoreResult<_>>()?;
    Ok(Paged { items, total: count(total) })
}

/// The groups and labels of the satellites of one page.
async fn beside(
    connection: &mut Connection,
    rows: &[Row],
    operation: &'static str,
) -> StoreResult<(HashMap<String, Vec<String>>, HashMap<String, Labels>)> {
    let (mut groups, mut labels) = (HashMap::<_, Vec<_>>::new(), HashMap::<_, Labels>::new());
    if rows.is_empty() {
        return Ok((groups, labels));
    }
    let mut query = QueryBuilder::<Driver>::new(
        "SELECT m.satellite_id, g.name FROM group_members m JOIN artifact_groups g ON g.id = m.group_id
         WHERE m.satellite_id IN (",
    );
    among(&mut query, rows.iter().map(|row| row.id.clone()));
    for row in query.build().persistent(false).fetch_all(&mut *connection).await.during(operation)? {
        let (id, name): (String, String) =
            (row.try_get(0).during(operation)?, row.try_get(1).during(operation)?);
        groups.entry(id).or_default().push(name);
    }
    let mut query = QueryBuilder::<Driver>::new(
        "SELECT satellite_id, name, value FROM satellite_labels WHERE satellite_id IN (",
    );
    among(&mut query, rows.iter().map(|row| row.id.clone()));
    for row in query.build().persistent(false).fetch_all(connection).await.during(operation)? {
        let (id, name): (String, String) =
            (row.try_get(0).during(operation)?, row.try_get(1).during(operation)?);
        labels.entry(id).or_default().insert(name, row.try_get(2).during(operation)?);
    }
    Ok((groups, labels))
}

/// How satellites with a label are found; what is found is the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// All that have the label are gathered by its index: for few, and for counting.
    Gather,
    /// Satellites are looked at one after the other: an early page of a long list is full soon.
    Walk,
}

/// A page is walked to where the list is this many times as long as what it takes to the page's end: then a few of
/// all satellites are looked at, wherever those with the label stand.
const EARLY: i64 = 20;

/// What a satellite must meet to be in the list.
pub(super) fn conditions(query: &mut QueryBuilder<Driver>, filter: &SatelliteFilter, shape: Shape) {
    query.push("s.state <> 'deleted'");
    if let Some(state) = filter.state {
        query.push(" AND s.state = ").push_bind(state.as_str());
    }
    match filter.drift {
        None => {}
        Some(true) => {
            query.push(" AND s.id IN (SELECT d.satellite_id FROM satellite_drift d WHERE d.drift)");
        }
        Some(false) => {
            query.push(
                " AND NOT EXISTS (SELECT 1 FROM satellite_drift d WHERE d.satellite_id = s.id AND d.drift)",
            );
        }
    }
    if let Some(region) = &filter.region {
        query.push(" AND s.region = ").push_bind(region.clone());
    }
    if let Some(group) = &filter.group {
        query
            .push(
                " AND s.id IN (SELECT m.satellite_id FROM group_members m
                               JOIN artifact_groups g ON g.id = m.group_id WHERE g.name = ",
            )
            .push_bind(group.clone())
            .push(")");
    }
    for requirement in filter.selector.iter().flat_map(|selector| selector.requirements()) {
        let (wanted, key, values) = match requirement {
            Requirement::Exists(key) => (true, key, None),
            Requirement::Absent(key) => (false, key, None),
            Requirement::In(key, values) => (true, key, Some(values)),
            Requirement::NotIn(key, values) => (false, key, Some(values)),
        };
        query.push(match (wanted, shape) {
            (true, Shape::Gather) => {
                " AND s.id IN (SELECT l.satellite_id FROM satellite_labels l WHERE l.name = "
            }
            (true, Shape::Walk) => {
                " AND EXISTS (SELECT 1 FROM satellite_labels l WHERE l.satellite_id = s.id AND l.name = "
            }
            (false, _) => {
                " AND NOT EXISTS (SELECT 1 FROM satellite_labels l WHERE l.satellite_id = s.id AND l.name = "
            }
        });
        query.push_bind(key.clone());
        if let Some(values) = values {
            query.push(" AND l.value IN (");
            among(query, values.iter().cloned());
        }
        query.push(")");
    }
}
