//! Places in a TOML text: where a table's header stands, where its lines end.

use std::ops::Range;

use toml_edit::{Document, Item, Table};

use crate::edit::{Refusal, line_start, next_line};

/// A parsed text that knows its places.
pub(crate) type Parsed<'a> = Document<&'a str>;

pub(crate) fn parse(text: &str) -> Result<Parsed<'_>, Refusal> {
    Document::parse(text).map_err(|e| Refusal::Syntax(one_line(&e.to_string())))
}

/// A parser's message without its picture of the place.
pub(crate) fn one_line(message: &str) -> String {
    message
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.contains('|'))
        .collect::<Vec<_>>()
        .join(": ")
}

/// A string as TOML writes it.
pub(crate) fn quoted(value: &str) -> String {
    let mut out = String::with_capacity(value.len() + 2);
    out.push('"');
    for c in value.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Where a table's header (`[a.b]`) stands; none for tables that only their children or dotted keys imply.
pub(crate) fn header(text: &str, table: &Table) -> Option<Range<usize>> {
    if table.is_implicit() || table.is_dotted() {
        return None;
    }
    let span = table.span()?;
    text.get(span.clone())?.starts_with('[').then_some(span)
}

/// End (exclusive, with its line break) of the last line that holds a key or the header of a table itself, without the
/// sub-tables that have headers of their own.
pub(crate) fn own_end(text: &str, table: &Table) -> Option<usize> {
    let header = header(text, table).map(|span| next_line(text, span.end.saturating_sub(1)));
    let values = table.iter().filter_map(|(_, item)| value_end(text, item)).max();
    header.max(values)
}

fn value_end(text: &str, item: &Item) -> Option<usize> {
    match item {
        Item::Value(value) => {
            value.span().map(|span| next_line(text, span.end.saturating_sub(1).max(span.start)))
        }
        Item::Table(table) if table.is_dotted() => {
            table.iter().filter_map(|(_, item)| value_end(text, item)).max()
        }
        _ => None,
    }
}

/// End of a table with all its sub-tables, as far as they follow it.
pub(crate) fn whole_end(text: &str, table: &Table) -> Option<usize> {
    let below = table.iter().filter_map(|(_, item)| match item {
        Item::Table(table) => whole_end(text, table),
        Item::ArrayOfTables(tables) => tables.iter().filter_map(|table| whole_end(text, table)).max(),
        _ => None,
    });
    own_end(text, table).max(below.max())
}

/// The ranges of whole lines that make up a table and its sub-tables, wherever they stand.
pub(crate) fn sections(text: &str, table: &Table, out: &mut Vec<Range<usize>>) {
    if let (Some(header), Some(end)) = (header(text, table), own_end(text, table)) {
        out.push(line_start(text, header.start)..end);
    }
    for (_, item) in table.iter() {
        match item {
            Item::Table(table) => sections(text, table, out),
            Item::ArrayOfTables(tables) => tables.iter().for_each(|table| sections(text, table, out)),
            _ => {}
        }
    }
}

/// Start of the comment lines that stand directly above a line.
pub(crate) fn with_comments_above(text: &str, line: usize) -> usize {
    let mut start = line;
    while start > 0 {
        let above = line_start(text, start - 1);
        if !text.get(above..start).is_some_and(|line| line.trim_start().starts_with('#')) {
            break;
        }
        start = above;
    }
    start
}

/// Follows a path of tables (headers, dotted keys and implied ones alike).
pub(crate) fn table_at<'a>(root: &'a Table, path: &[&str]) -> Result<Option<&'a Table>, Refusal> {
    let mut table = root;
    for (depth, key) in path.iter().enumerate() {
        match table.get(key) {
            None => return Ok(None),
            Some(Item::Table(next)) => table = next,
            Some(_) => return Err(Refusal::Shape(format!("`{}`", path[..=depth].join(".")))),
        }
    }
    Ok(Some(table))
}

/// The data of a table, without its form: what two texts are compared by.
pub(crate) fn data(table: &Table) -> serde_json::Value {
    serde_json::Value::Object(table.iter().map(|(key, item)| (key.to_owned(), item_data(item))).collect())
}

fn item_data(item: &Item) -> serde_json::Value {
    match item {
        Item::None => serde_json::Value::Null,
        Item::Value(value) => value_data(value),
        Item::Table(table) => data(table),
        Item::ArrayOfTables(tables) => serde_json::Value::Array(tables.iter().map(data).collect()),
    }
}

fn value_data(value: &toml_edit::Value) -> serde_json::Value {
    use toml_edit::Value;
    match value {
        Value::String(string) => string.value().as_str().into(),
        Value::Integer(integer) => (*integer.value()).into(),
        Value::Boolean(boolean) => (*boolean.value()).into(),
        Value::Float(float) => format!("float {}", float.value()).into(),
        Value::Datetime(time) => format!("time {}", time.value()).into(),
        Value::Array(array) => array.iter().map(value_data).collect(),
        Value::InlineTable(table) => serde_json::Value::Object(
            table.iter().map(|(key, value)| (key.to_owned(), value_data(value))).collect(),
        ),
    }
}

/// Cuts whole tables out of a text, with the blank line that one of them would leave doubled.
pub(crate) fn without(text: &str, mut ranges: Vec<Range<usize>>) -> String {
    ranges.sort_by_key(|range| range.start);
    let mut out = String::with_capacity(text.len());
    let mut from = 0;
    for range in ranges {
        if range.start < from {
            continue;
        }
        out.push_str(text.get(from..range.start).unwrap_or_default());
        from = range.end;
        let doubled = out.is_empty() || out.ends_with("\n\n") || out.ends_with("\n\r\n");
        if doubled && text.get(from..next_line(text, from)).is_some_and(|line| line.trim().is_empty()) {
            from = next_line(text, from);
        }
    }
    out.push_str(text.get(from..).unwrap_or_default());
    out
}
