//! Answers on the terminal: tables for people, JSON for scripts.

use comfy_table::{ContentArrangement, Table, TableStyle};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use crate::cli::Output;
use crate::error::Error;

/// Shows an answer: as JSON, or as the table that `table` makes of it.
pub(crate) fn show<T: Serialize>(
    output: Output,
    answer: &T,
    table: impl FnOnce(&T) -> Table,
) -> Result<(), Error> {
    match output {
        Output::Json => json(answer),
        Output::Table => {
            println!("{}", table(answer));
            Ok(())
        }
    }
}

/// Shows an answer as JSON.
pub(crate) fn json<T: Serialize>(answer: &T) -> Result<(), Error> {
    let text = serde_json::to_string_pretty(answer).map_err(|error| Error::Input(error.to_string()))?;
    println!("{text}");
    Ok(())
}

/// Says that something was done: a sentence for people, an object for scripts.
pub(crate) fn done(output: Output, sentence: &str) -> Result<(), Error> {
    match output {
        Output::Json => json(&serde_json::json!({ "message": sentence })),
        Output::Table => {
            println!("{sentence}");
            Ok(())
        }
    }
}

/// An empty table with these columns.
pub(crate) fn table<const N: usize>(columns: [&str; N]) -> Table {
    let mut table = Table::new();
    table
        .load_style(TableStyle::new())
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(columns);
    table
}

/// A table of one thing: a key and a value a row.
pub(crate) fn record<const N: usize>(rows: [(&str, String); N]) -> Table {
    let mut table = Table::new();
    table.load_style(TableStyle::new()).set_content_arrangement(ContentArrangement::Dynamic);
    for (key, value) in rows {
        table.add_row([format!("{key}:"), value]);
    }
    table
}

/// How long ago something was, in its largest unit: `3m ago`.
pub(crate) fn ago(time: Option<Timestamp>) -> String {
    time.map_or_else(
        || "never".to_owned(),
        |time| format!("{} ago", coarse(Timestamp::now().duration_since(time))),
    )
}

fn coarse(duration: SignedDuration) -> String {
    let seconds = duration.as_secs().max(0);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// A number of bytes for people: `1.4 GB`.
pub(crate) fn bytes(count: u64) -> String {
    let mut value = count as f64;
    let mut unit = "B";
    for next in ["kB", "MB", "GB", "TB"] {
        if value < 1000.0 {
            break;
        }
        value /= 1000.0;
        unit = next;
    }
    if unit == "B" { format!("{count} B") } else { format!("{value:.1} {unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn for_people() {
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(1_400_000_000), "1.4 GB");
        assert_eq!(coarse(SignedDuration::from_secs(59)), "59s");
        assert_eq!(coarse(SignedDuration::from_secs(7200)), "2h");
        assert_eq!(coarse(SignedDuration::from_secs(172_800)), "2d");
        assert_eq!(ago(None), "never");
    }
}
