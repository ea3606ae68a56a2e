//! Lists of satellites, in the order of their names.
//!
//! What chooses satellites (a group, a label, drift, their own rows) has an index in the order of names. One of them *leads*: its
//! entries are walked, and the others are looked up for each, by name, which is a walk along theirs. Only the identifiers of one
//! page come out of that; its rows are read afterwards. A page of the second half is walked to from the end.
//!
//! The queries are put together while the program runs: they have as many conditions as a selector's author wrote. Only our own
//! words become their text, every value is bound; that they choose what [`ground_control_domain::label::Selector::matches`] chooses
//! is tested on both databases.

use std::collections::HashMap;

use ground_control_domain::label::{Labels, Requirement};
use ground_control_domain::satellite::{Satellite, SatelliteFilter};
use ground_control_domain::{Page, Paged, StoreResult};
use sqlx::{QueryBuilder, Row as _};

use super::satellites::Row;
use super::{During, SqlStore, among, count};
use crate::dialect::{self, Connection, Driver};

/// How far the candidates for the lead are counted to find the shortest: who has more than that is as long as any.
const PROBED: i64 = 20_000;

/// A page of the satellites that `filter` chooses, by name.
pub(super) async fn page(
    connection: &mut Connection,
    filter: &SatelliteFilter,
    page: Page,
    operation: &'static str,
) -> StoreResult<Paged<Satellite>> {
    let Some(conditions) = conditions(connection, filter, operation).await? else {
        return Ok(Paged { items: Vec::new(), total: 0 });
    };
    dialect::walk_indexes(connection, true).await.during(operation)?;
    let walk = Walk::choose(connection, conditions, operation).await?;
    let total = walk.count(connection, operation).await?;
    let ids = match Part::of(page, total) {
        Some(part) => walk.ids(connection, part, operation).await?,
        None => Vec::new(),
    };
    dialect::walk_indexes(connection, false).await.during(operation)?;
    Ok(Paged { items: satellites(connection, &ids, operation).await?, total: count(total) })
}

/// The part of a list that a page is, reached from the end that is nearer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    /// From the last one backwards.
    pub(super) backwards: bool,
    pub(super) skip: i64,
    pub(super) take: i64,
}

impl Part {
    /// The part of a list of `total` that `page` is; none where the page is empty.
    pub(super) fn of(page: Page, total: i64) -> Option<Self> {
        let take = page.limit().min(total.saturating_sub(page.offset()));
        let behind = total - page.offset() - take;
        let backwards = behind < page.offset();
        let skip = if backwards { behind } else { page.offset() };
        (take > 0).then_some(Self { backwards, skip, take })
    }

    /// Pushes the order by `key` and the bounds.
    pub(super) fn push(self, query: &mut QueryBuilder<Driver>, key: &'static str) {
        query.push(" ORDER BY ").push(key).push(if self.backwards { " DESC LIMIT " } else { " LIMIT " });
        query.push_bind(self.take).push(" OFFSET ").push_bind(self.skip);
    }

    /// Brings what was found into the order of the list.
    pub(super) fn in_order<T>(self, mut found: Vec<T>) -> Vec<T> {
        if self.backwards {
            found.reverse();
        }
        found
    }
}

/// One thing that a satellite must meet.
enum Condition {
    /// Its own row: a state, a region. Both absent, all satellites meet it.
    Own { state: Option<&'static str>, region: Option<String> },
    /// It is in the group with this identifier.
    Member(String),
    /// It has, or has not, a label with this key and one of the values, or any.
    Label { key: String, values: Option<Vec<String>>, wanted: bool },
    /// It drifts, or does not.
    Drift(bool),
}

impl Condition {
    /// Whether it has entries for those that meet it, and not for the others.
    fn chooses(&self) -> bool {
        !matches!(self, Self::Label { wanted: false, .. } | Self::Drift(false))
    }

    /// Where its entries stand, with the column of the satellite's name and that of its identifier.
    fn place(&self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Own { .. } => ("satellites", "name", "id"),
            Self::Member(_) => ("group_members", "satellite", "satellite_id"),
            Self::Label { .. } => ("satellite_labels", "satellite", "satellite_id"),
            Self::Drift(_) => ("satellite_drift", "satellite", "satellite_id"),
        }
    }

    /// Pushes what those of the table's rows meet that are its entries.
    fn entries(&self, query: &mut QueryBuilder<Driver>, table: &'static str) {
        match self {
            Self::Own { state, region } => {
                query.push(table).push(".state <> 'deleted'");
                if let Some(state) = state {
                    query.push(" AND ").push(table).push(".state = ").push_bind(*state);
                }
                if let Some(region) = region {
                    query.push(" AND ").push(table).push(".region = ").push_bind(region.clone());
                }
            }
            Self::Member(group) => {
                query.push(table).push(".group_id = ").push_bind(group.clone());
            }
            Self::Label { key, values, .. } => {
                query.push(table).push(".name = ").push_bind(key.clone());
                if let Some(values) = values {
                    query.push(" AND ").push(table).push(".value IN (");
                    among(query, values.iter().cloned());
                }
            }
            Self::Drift(_) => {
                query.push(table).push(".drift = TRUE");
            }
        }
    }
}

/// What `filter` asks for; nothing where it names a group that is not there.
async fn conditions(
    connection: &mut Connection,
    filter: &SatelliteFilter,
    operation: &'static str,
) -> StoreResult<Option<Vec<Condition>>> {
    let mut conditions = Vec::new();
    if filter.state.is_some() || filter.region.is_some() {
        let state = filter.state.map(|state| state.as_str());
        conditions.push(Condition::Own { state, region: filter.region.clone() });
    }
    if let Some(group) = &filter.group {
        let id = sqlx::query_scalar!("SELECT id FROM artifact_groups WHERE name = $1", group)
            .fetch_optional(connection)
            .await
            .during(operation)?;
        let Some(id) = id else { return Ok(None) };
        conditions.push(Condition::Member(id));
    }
    for requirement in filter.selector.iter().flat_map(|selector| selector.requirements()) {
        let (wanted, key, values) = match requirement {
            Requirement::Exists(key) => (true, key, None),
            Requirement::Absent(key) => (false, key, None),
            Requirement::In(key, values) => (true, key, Some(values)),
            Requirement::NotIn(key, values) => (false, key, Some(values)),
        };
        let values = values.map(|values| values.iter().cloned().collect());
        conditions.push(Condition::Label { key: key.clone(), values, wanted });
    }
    conditions.extend(filter.drift.map(Condition::Drift));
    Ok(Some(conditions))
}

/// How the satellites are found that meet several conditions.
struct Walk {
    lead: Condition,
    others: Vec<Condition>,
}

impl Walk {
    /// Makes the condition the lead that the fewest satellites meet.
    async fn choose(
        connection: &mut Connection,
        mut conditions: Vec<Condition>,
        operation: &'static str,
    ) -> StoreResult<Self> {
        let candidates: Vec<usize> =
            (0..conditions.len()).filter(|n| conditions.get(*n).is_some_and(Condition::chooses)).collect();
        let mut best = candidates.first().copied();
        if candidates.len() > 1 {
            let mut fewest = i64::MAX;
            for n in candidates {
                let Some(condition) = conditions.get(n) else { continue };
                let entries = probe(connection, condition, operation).await?;
                if entries < fewest {
                    (fewest, best) = (entries, Some(n));
                }
            }
        }
        let lead = match best {
            Some(n) => conditions.remove(n),
            None => Condition::Own { state: None, region: None },
        };
        Ok(Self { lead, others: conditions })
    }

    /// How many satellites there are.
    async fn count(&self, connection: &mut Connection, operation: &'static str) -> StoreResult<i64> {
        // All but those that it chooses: two counts of one index each.
        let all_but = match (&self.lead, self.others.as_slice()) {
            (Condition::Own { state: None, region: None }, [other]) => Some(other),
            _ => None,
        };
        let others = if all_but.is_some() { &[] } else { self.others.as_slice() };
        let mut query = QueryBuilder::new("SELECT COUNT(*)");
        from(&mut query, &self.lead, others, false);
        let counted = number(connection, query, operation).await?;
        let Some(other) = all_but else { return Ok(counted) };
        let mut query = QueryBuilder::new("SELECT COUNT(*)");
        from(&mut query, other, &[], false);
        Ok(counted - number(connection, query, operation).await?)
    }

    /// The identifiers of those in one part of the list, by name.
    async fn ids(
        &self,
        connection: &mut Connection,
        part: Part,
        operation: &'static str,
    ) -> StoreResult<Vec<String>> {
        let (_, _, id) = self.lead.place();
        let mut query = QueryBuilder::new("SELECT lead.");
        query.push(id);
        from(&mut query, &self.lead, &self.others, part.backwards);
        part.push(&mut query, if id == "id" { "lead.name" } else { "lead.satellite" });
        // Its text is another one with each filter: nothing to remember for the next time.
        let rows = query.build().persistent(false).fetch_all(connection).await.during(operation)?;
        let ids = rows.into_iter().map(|row| row.try_get(0)).collect::<Result<_, _>>().during(operation)?;
        Ok(part.in_order(ids))
    }
}

/// Pushes where satellites are found that meet all of these, the lead's entries as `lead`.
fn from(query: &mut QueryBuilder<Driver>, lead: &Condition, others: &[Condition], backwards: bool) {
    let (table, key, _) = lead.place();
    query.push(" FROM ").push(table).push(" lead WHERE ");
    lead.entries(query, "lead");
    for other in others {
        let (table, name, _) = other.place();
        if other.chooses() {
            query.push(" AND EXISTS (SELECT 1 FROM ").push(table).push(" o WHERE o.").push(name);
            query.push(" = lead.").push(key).push(" AND ");
            other.entries(query, "o");
            query.push(")");
        } else {
            // The order is there already; before its version 16 PostgreSQL does not see that here, and sorts.
            query
                .push(" AND NOT EXISTS (SELECT 1 FROM (SELECT o.")
                .push(name)
                .push(" AS name FROM ")
                .push(table);
            query.push(" o WHERE ");
            other.entries(query, "o");
            query.push(" ORDER BY o.").push(name).push(if backwards { " DESC" } else { "" });
            query.push(") w WHERE w.name = lead.").push(key).push(")");
        }
    }
}

/// How many meet a condition, as far as it matters.
async fn probe(
    connection: &mut Connection,
    condition: &Condition,
    operation: &'static str,
) -> StoreResult<i64> {
    let mut query = QueryBuilder::new("SELECT COUNT(*) FROM (SELECT 1 AS one");
    from(&mut query, condition, &[], false);
    query.push(" LIMIT ").push_bind(PROBED).push(") AS probed");
    number(connection, query, operation).await
}

async fn number(
    connection: &mut Connection,
    mut query: QueryBuilder<Driver>,
    operation: &'static str,
) -> StoreResult<i64> {
    let row = query.build().persistent(false).fetch_one(connection).await.during(operation)?;
    row.try_get(0).during(operation)
}

/// The satellites with these identifiers, in this order.
async fn satellites(
    connection: &mut Connection,
    ids: &[String],
    operation: &'static str,
) -> StoreResult<Vec<Satellite>> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let mut query = QueryBuilder::<Driver>::new(
        "SELECT s.id, s.name, s.region, s.state, c.name AS config_name, s.heartbeat_interval,
                COALESCE(h.received_at, s.last_seen), s.created_at, s.updated_at
         FROM satellites s LEFT JOIN configs c ON c.id = s.config_id
              LEFT JOIN heartbeats h ON h.satellite_id = s.id WHERE s.state <> 'deleted' AND s.id IN (",
    );
    among(&mut query, ids.iter().cloned());
    let found = query.build().persistent(false).fetch_all(&mut *connection).await.during(operation)?;
    let mut rows = HashMap::with_capacity(found.len());
    for row in found {
        let row = Row {
            id: row.try_get(0).during(operation)?,
            name: row.try_get(1).during(operation)?,
            region: row.try_get(2).during(operation)?,
            state: row.try_get(3).during(operation)?,
            config_name: row.try_get(4).during(operation)?,
            heartbeat_interval: row.try_get(5).during(operation)?,
            last_seen: row.try_get(6).during(operation)?,
            created_at: row.try_get(7).during(operation)?,
            updated_at: row.try_get(8).during(operation)?,
        };
        rows.insert(row.id.clone(), row);
    }
    let (mut groups, mut labels) = beside(connection, ids, operation).await?;
    ids.iter()
        .filter_map(|id| rows.remove(id))
        .map(|row| {
            let mut groups = groups.remove(&row.id).unwrap_or_default();
            groups.sort();
            let labels = labels.remove(&row.id).unwrap_or_default();
            row.satellite(groups, labels, operation)
        })
        .collect()
}

/// The groups and labels of some satellites.
async fn beside(
    connection: &mut Connection,
    ids: &[String],
    operation: &'static str,
) -> StoreResult<(HashMap<String, Vec<String>>, HashMap<String, Labels>)> {
    let (mut groups, mut labels) = (HashMap::<_, Vec<_>>::new(), HashMap::<_, Labels>::new());
    let mut query = QueryBuilder::<Driver>::new(
        "SELECT m.satellite_id, g.name FROM group_members m JOIN artifact_groups g ON g.id = m.group_id
         WHERE m.satellite_id IN (",
    );
    among(&mut query, ids.iter().cloned());
    for row in query.build().persistent(false).fetch_all(&mut *connection).await.during(operation)? {
        let (id, name): (String, String) =
            (row.try_get(0).during(operation)?, row.try_get(1).during(operation)?);
        groups.entry(id).or_default().push(name);
    }
    let mut query = QueryBuilder::<Driver>::new(
        "SELECT satellite_id, name, value FROM satellite_labels WHERE satellite_id IN (",
    );
    among(&mut query, ids.iter().cloned());
    for row in query.build().persistent(false).fetch_all(connection).await.during(operation)? {
        let (id, name): (String, String) =
            (row.try_get(0).during(operation)?, row.try_get(1).during(operation)?);
        labels.entry(id).or_default().insert(name, row.try_get(2).during(operation)?);
    }
    Ok((groups, labels))
}

impl SqlStore {
    /// Fills in the names that an older program, which keeps none there, left out.
    pub(super) async fn name_unlisted(&self, operation: &'static str) -> StoreResult<()> {
        let mut connection = self.database.read(operation).await?;
        let any = sqlx::query_scalar!(
            r#"SELECT EXISTS (SELECT 1 FROM group_members WHERE satellite = '')
                   OR EXISTS (SELECT 1 FROM satellite_labels WHERE satellite = '')
                   OR EXISTS (SELECT 1 FROM satellite_drift WHERE satellite = '') AS "any!: bool""#
        )
        .fetch_one(&mut *connection)
        .await
        .during(operation)?;
        drop(connection);
        if !any {
            return Ok(());
        }
        let mut tx = self.database.fleet(operation).await?;
        dialect::lock_drift(&mut tx).await.during(operation)?;
        sqlx::query!(
            "UPDATE group_members SET satellite = (SELECT s.name FROM satellites s WHERE s.id = group_members.satellite_id)
             WHERE satellite = ''"
        )
        .execute(&mut *tx)
        .await
        .during(operation)?;
        sqlx::query!(
            "UPDATE satellite_labels
             SET satellite = (SELECT s.name FROM satellites s WHERE s.id = satellite_labels.satellite_id)
             WHERE satellite = ''"
        )
        .execute(&mut *tx)
        .await
        .during(operation)?;
        sqlx::query!(
            "UPDATE satellite_drift SET satellite = (SELECT s.name FROM satellites s WHERE s.id = satellite_drift.satellite_id)
             WHERE satellite = ''"
        )
        .execute(&mut *tx)
        .await
        .during(operation)?;
        tx.commit().await.during(operation)
    }
}
