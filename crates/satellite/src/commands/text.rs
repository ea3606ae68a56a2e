//! How values are written for people.

use comfy_table::{ContentArrangement, Table, TableStyle};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

/// Indented JSON with a line end.
pub(super) fn json(value: &impl Serialize) -> String {
    // Only a map with keys that are no strings could fail here, and the documents have none.
    serde_json::to_string_pretty(value).unwrap_or_default() + "\n"
}

/// A table without borders, as wide as the terminal.
pub(super) fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table
        .load_style(TableStyle::new())
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(header);
    table
}

/// A table's text, indented, without the blanks at the ends of lines.
pub(super) fn lines(table: &Table) -> String {
    table.to_string().lines().map(|line| format!("  {}\n", line.trim())).collect()
}

/// A number of bytes in the largest unit that leaves something before the point.
pub(super) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    #[expect(clippy::cast_precision_loss, reason = "one decimal is shown")]
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// A length of time in its two largest units.
pub(super) fn duration(seconds: u64) -> String {
    let units =
        [(seconds / 86_400, "d"), (seconds / 3600 % 24, "h"), (seconds / 60 % 60, "m"), (seconds % 60, "s")];
    let first = units.iter().position(|(count, _)| *count > 0).unwrap_or(units.len() - 1);
    units[first..]
        .iter()
        .take(2)
        .filter(|(count, unit)| *count > 0 || *unit == "s")
        .map(|(count, unit)| format!("{count}{unit}"))
        .collect::<Vec<_>>()
        .join(" ")
}

/// How long ago, or in how long.
pub(super) fn relative(at: Option<Timestamp>, now: Timestamp) -> String {
    let Some(at) = at else { return "-".to_owned() };
    let distance = at.duration_since(now);
    let seconds = distance.unsigned_abs().as_secs();
    if distance > SignedDuration::ZERO {
        format!("in {}", duration(seconds))
    } else {
        format!("{} ago", duration(seconds))
    }
}

/// A digest short enough for a table.
pub(super) fn short_digest(digest: &str) -> String {
    digest.char_indices().nth(19).map_or_else(|| digest.to_owned(), |(end, _)| digest[..end].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_readable() {
        assert_eq!(
            ["0 B", "1023 B", "1.0 KiB", "1.5 MiB"],
            [0, 1023, 1024, 1_572_864].map(bytes).each_ref().map(String::as_str)
        );
        assert_eq!(
            ["0s", "59s", "1m", "1m 5s", "2h 3m", "3d 4h"],
            [0, 59, 60, 65, 7380, 273_600].map(duration).each_ref().map(|text| text.trim_end_matches(" 0s"))
        );
        let now = Timestamp::from_second(1_000_000).unwrap();
        let at = |second| Some(Timestamp::from_second(second).unwrap());
        assert_eq!(relative(at(1_000_005), now), "in 5s");
        assert_eq!(relative(at(999_900), now), "1m 40s ago");
        assert_eq!(relative(None, now), "-");
        assert_eq!(short_digest("sha256:0123456789abcdef"), "sha256:0123456789ab");
    }
}
