//! A database of very many satellites, made of those of the simulation by SQL.
//!
//! Registered one by one through the API they would take an hour. The copies have everything that their originals have, apart
//! from past reports. Which tables belong to a satellite is read from the database itself: a table of a later migration is
//! copied, too.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use testbed::{Error, Result};

use super::cloud::{Cloud, Database};

/// What is not copied: no list reads it, and it is most of the bytes.
const LEFT_OUT: [&str; 1] = ["heartbeat_history"];

const COLUMNS_SQLITE: &str = "SELECT m.name, p.name, p.pk FROM sqlite_master m, pragma_table_info(m.name) p
    WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY m.name, p.cid";
const COLUMNS_POSTGRES: &str = "SELECT c.table_name, c.column_name, COUNT(k.column_name)
    FROM information_schema.columns c
    LEFT JOIN information_schema.table_constraints t
        ON t.table_schema = c.table_schema AND t.table_name = c.table_name AND t.constraint_type = 'PRIMARY KEY'
    LEFT JOIN information_schema.key_column_usage k
        ON k.constraint_name = t.constraint_name AND k.table_schema = c.table_schema AND k.column_name = c.column_name
    WHERE c.table_schema = 'public'
    GROUP BY c.table_name, c.column_name, c.ordinal_position ORDER BY c.table_name, c.ordinal_position";

/// The columns of each table of which every satellite has rows of its own.
type Tables = BTreeMap<String, Vec<String>>;

/// Makes so many of the satellites that there are. They get labels and states as a fleet has them, and online ones stay so
/// though nobody hears of them any more.
pub(super) async fn multiply(cloud: &Cloud, satellites: usize) -> Result<()> {
    let columns = match cloud.database() {
        Database::Sqlite => COLUMNS_SQLITE,
        Database::Postgres => COLUMNS_POSTGRES,
    };
    let tables = tables(&cloud.sql(columns).await?);
    if !tables.contains_key("satellites") {
        return Err(Error::Content("the database has no table of satellites".to_owned()));
    }
    let originals: usize = cloud
        .sql("SELECT COUNT(*) FROM satellites WHERE state <> 'deleted'")
        .await?
        .trim()
        .parse()
        .map_err(|_| Error::Content("the satellites of the database cannot be counted".to_owned()))?;
    for statement in prepared() {
        cloud.sql(statement).await?;
    }
    let copies = (satellites / originals.max(1)).saturating_sub(1);
    let mut numbers = String::from("INSERT INTO fleet_copies (k) VALUES (0)");
    for k in 1..=copies {
        let _ = write!(numbers, ", ({k})");
    }
    cloud.sql(&(numbers + "; DELETE FROM fleet_copies WHERE k = 0")).await?;
    // The satellites first: what belongs to them refers to them.
    let others = tables.iter().filter(|(table, _)| *table != "satellites");
    for (table, columns) in tables.get_key_value("satellites").into_iter().chain(others) {
        cloud.sql(&copying(table, columns, originals, cloud.database())).await?;
    }
    cloud.sql("DROP TABLE fleet_originals; DROP TABLE fleet_copies").await?;
    if cloud.database() == Database::Postgres {
        // What autovacuum would do within the next minute.
        cloud.sql("VACUUM ANALYZE").await?;
    }
    Ok(())
}

/// Numbers the originals and spreads labels and states over them.
fn prepared() -> [&'static str; 7] {
    [
        "CREATE TABLE fleet_originals (i BIGINT NOT NULL, id TEXT NOT NULL PRIMARY KEY, name TEXT NOT NULL)",
        "CREATE TABLE fleet_copies (k BIGINT NOT NULL PRIMARY KEY)",
        "INSERT INTO fleet_originals (i, id, name)
         SELECT row_number() OVER (ORDER BY name) - 1, id, name FROM satellites WHERE state <> 'deleted'",
        "INSERT INTO satellite_labels (satellite_id, satellite, name, value)
         SELECT id, name, 'env', CASE WHEN i % 10 = 0 THEN 'test' ELSE 'prod' END FROM fleet_originals",
        "INSERT INTO satellite_labels (satellite_id, satellite, name, value)
         SELECT id, name, 'tier', CASE i % 3 WHEN 0 THEN 'front' WHEN 1 THEN 'middle' ELSE 'back' END FROM fleet_originals",
        "UPDATE satellites SET stale_at = stale_at + 86400000",
        "UPDATE satellites SET state = CASE WHEN id IN (SELECT id FROM fleet_originals WHERE i % 20 = 1) THEN 'revoked'
             ELSE 'stale' END
         WHERE id IN (SELECT id FROM fleet_originals WHERE i % 20 = 1 OR i % 10 = 2)",
    ]
}

/// The statement that copies the rows of one table.
fn copying(table: &str, columns: &[String], originals: usize, database: Database) -> String {
    let number = format!("(c.k * {originals} + o.i)");
    let number = match database {
        Database::Sqlite => format!("printf('%012x', {number})"),
        Database::Postgres => format!("lpad(to_hex({number}), 12, '0')"),
    };
    let id = format!("'01000000-0000-7000-8000-' || {number}");
    let owner = if table == "satellites" { "id" } else { "satellite_id" };
    let values: Vec<String> = columns
        .iter()
        .map(|column| match (table, column.as_str()) {
            (_, column) if column == owner => id.clone(),
            ("satellites", "name") => "x.name || '-' || c.k".to_owned(),
            // The name beside what belongs to it.
            (_, "satellite") => "x.satellite || '-' || c.k".to_owned(),
            (_, column) => format!("x.{column}"),
        })
        .collect();
    format!(
        "INSERT INTO {table} ({}) SELECT {} FROM {table} x JOIN fleet_originals o ON o.id = x.{owner}
         CROSS JOIN fleet_copies c",
        columns.join(", "),
        values.join(", ")
    )
}

/// Reads `table|column|primary` lines.
fn tables(rows: &str) -> Tables {
    let mut all: BTreeMap<String, (Vec<String>, bool)> = BTreeMap::new();
    for row in rows.lines() {
        let mut fields = row.split('|');
        let (Some(table), Some(column), Some(key)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        let (columns, owned) = all.entry(table.to_owned()).or_default();
        columns.push(column.to_owned());
        *owned |= table == "satellites" || (column == "satellite_id" && key != "0");
    }
    all.into_iter()
        .filter(|(table, (_, owned))| *owned && !LEFT_OUT.contains(&table.as_str()))
        .map(|(table, (columns, _))| (table, columns))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_belongs_to_a_satellite_is_copied() {
        let read = tables(
            "satellites|id|1\nsatellites|name|0\nrobots|satellite_id|1\nrobots|secret_hash|0\n\
             tokens|hash|1\ntokens|satellite_id|0\nheartbeat_history|satellite_id|1\ngroups|id|1\n",
        );
        assert_eq!(read.keys().collect::<Vec<_>>(), ["robots", "satellites"]);
        let statement = copying("robots", &read["robots"], 7, Database::Sqlite);
        assert!(
            statement.contains("printf('%012x', (c.k * 7 + o.i)), x.secret_hash FROM robots x"),
            "{statement}"
        );
    }
}
