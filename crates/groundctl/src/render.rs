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
            print(&table(answer));
            Ok(())
        }
    }
}

/// Prints a table.
pub(crate) fn print(table: &Table) {
    println!("{}", printable(&table.to_string()));
}

/// A text of which no character steers a terminal: much of what is shown was said by satellites, registries, and whoever tried to log in.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { char::REPLACEMENT_CHARACTER } else { c }).collect()
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

/// How much of something is there: `1.4 MB of 5.0 MB (28 %)`; empty where nothing is known.
pub(crate) fn part(there: u64, all: u64) -> String {
    match (there, all) {
        (0, 0) => String::new(),
        (there, 0) => bytes(there),
        (there, all) => {
            let percent = u128::from(there.min(all)) * 100 / u128::from(all);
            format!("{} of {} ({percent} %)", bytes(there), bytes(all))
        }
    }
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
        assert_eq!(part(1_400_000, 5_000_000), "1.4 MB of 5.0 MB (28 %)");
        assert_eq!((part(0, 0), part(7, 0)), (String::new(), "7 B".to_owned()));
        assert_eq!(printable("a\u{1b}[31mb\r\nc"), "a\u{fffd}[31mb\u{fffd}\nc");
    }
}
