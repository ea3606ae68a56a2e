//! `audit`: who changed what, and who was refused.

use std::time::Duration;

use fleet_protocol::api::AuditEntry;
use serde_json::Value;

use crate::cli::{Audit, Output};
use crate::client::Client;
use crate::error::Error;
use crate::patience::Patience;
use crate::render;

const PATH: [&str; 2] = ["api", "audit"];
/// The most rows of a page.
const PAGE: usize = 100;
/// How often new rows are asked for.
const INTERVAL: Duration = Duration::from_secs(2);

pub(crate) async fn run(client: &Client, output: Output, audit: &Audit) -> Result<(), Error> {
    let mut filter: Vec<(&str, String)> = Vec::new();
    filter.extend(audit.actor.iter().map(|actor| ("actor", actor.clone())));
    filter.extend(audit.action.iter().map(|action| ("action", action.clone())));
    filter.extend(audit.subject.iter().map(|subject| ("subject", subject.clone())));
    filter.extend(audit.since.iter().map(|since| ("since", since.to_string())));
    filter.extend(audit.until.iter().map(|until| ("until", until.to_string())));
    if audit.follow {
        return follow(client, output, &filter, audit.limit).await;
    }
    let limit = if audit.limit == 0 { usize::MAX } else { audit.limit };
    let rows = newest(client, &filter, limit).await?;
    render::show(output, &rows, |rows| {
        let mut table = render::table(["NUMBER", "AT", "WHO", "FROM", "DID", "TO", "DETAILS"]);
        for row in rows {
            table.add_row([
                row.sequence.to_string(),
                row.at.to_string(),
                who(row),
                row.source.clone(),
                what(row),
                row.subject.clone(),
                details(&row.details),
            ]);
        }
        table
    })
}

/// The newest rows that meet a filter, the newest first.
pub(super) async fn newest(
    client: &Client,
    filter: &[(&str, String)],
    limit: usize,
) -> Result<Vec<AuditEntry>, Error> {
    let mut all: Vec<AuditEntry> = Vec::new();
    while all.len() < limit {
        let size = PAGE.min(limit - all.len());
        let place = all.last().map(|row| ("before", row.sequence.to_string()));
        let rows = page(client, filter, place, size).await?;
        let last = rows.len() < size;
        all.extend(rows);
        if last {
            break;
        }
    }
    Ok(all)
}

/// Shows the newest rows, the oldest of them first, and then each that comes, until interrupted.
///
/// Rows are asked for by the number behind which they come, so that none is missed, and none comes twice.
async fn follow(
    client: &Client,
    output: Output,
    filter: &[(&str, String)],
    limit: usize,
) -> Result<(), Error> {
    let mut rows = newest(client, filter, limit.max(1)).await?;
    rows.reverse();
    let mut last = rows.last().map_or(0, |row| row.sequence);
    for row in rows.iter().filter(|_| limit > 0) {
        one(output, row)?;
    }
    let mut patience = Patience::default();
    loop {
        let rows = page(client, filter, Some(("after", last.to_string())), PAGE).await;
        let rows = patience.take(rows)?.unwrap_or_default();
        for row in &rows {
            one(output, row)?;
            last = row.sequence;
        }
        if rows.len() < PAGE {
            tokio::time::sleep(INTERVAL).await;
        }
    }
}

async fn page(
    client: &Client,
    filter: &[(&str, String)],
    place: Option<(&str, String)>,
    size: usize,
) -> Result<Vec<AuditEntry>, Error> {
    let size = ("page_size", size.to_string());
    let query = filter.iter().chain(&place).chain([&size]);
    let query: Vec<(&str, &str)> = query.map(|(name, value)| (*name, value.as_str())).collect();
    client.ask(&PATH, &query).await
}

fn one(output: Output, row: &AuditEntry) -> Result<(), Error> {
    let line = match output {
        Output::Json => serde_json::to_string(row).map_err(|error| Error::Input(error.to_string()))?,
        Output::Table => {
            let line = [row.at.to_string(), who(row), what(row), row.subject.clone(), details(&row.details)]
                .join("  ");
            render::printable(&line)
        }
    };
    println!("{line}");
    Ok(())
}

fn who(row: &AuditEntry) -> String {
    match row.actor.as_str() {
        "" => row.actor_kind.clone(),
        actor => format!("{} {actor}", row.actor_kind),
    }
}

/// What was done, in a few words.
pub(super) fn what(row: &AuditEntry) -> String {
    let refused = if row.outcome == "done" { String::new() } else { format!(" ({})", row.outcome) };
    let times = if row.count > 1 { format!(" ×{}", row.count) } else { String::new() };
    format!("{}{refused}{times}", row.action)
}

/// Details as `key=value`.
pub(super) fn details(details: &Value) -> String {
    let Value::Object(members) = details else {
        return if details.is_null() { String::new() } else { details.to_string() };
    };
    let words = members.iter().map(|(key, value)| match value {
        Value::String(text) => format!("{key}={text}"),
        other => format!("{key}={other}"),
    });
    words.collect::<Vec<_>>().join(" ")
}
