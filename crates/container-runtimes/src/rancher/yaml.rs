//! A YAML text as a tree of nodes that know their places.

use std::ops::Range;

use granit_parser::{Event, Parser, ScalarStyle, Span, StructureStyle};

use crate::edit::{Refusal, line_start, next_line};

/// Deeper texts are refused.
const MAX_DEPTH: usize = 32;

/// A node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) kind: Kind,
    /// From its first byte to the end of its last token; empty for a value that is not written.
    pub(super) range: Range<usize>,
}

/// What a node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    Null,
    Scalar(String),
    Seq { flow: bool, items: Vec<Node> },
    Map { flow: bool, entries: Vec<Entry> },
}

/// A key and its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) key_range: Range<usize>,
    /// The key's column, from 0.
    pub(super) column: usize,
    pub(super) value: Node,
}

impl Node {
    /// Its data, without its form.
    pub(super) fn data(&self) -> serde_json::Value {
        match &self.kind {
            Kind::Null => serde_json::Value::Null,
            Kind::Scalar(value) => value.as_str().into(),
            Kind::Seq { items, .. } => items.iter().map(Self::data).collect(),
            Kind::Map { entries, .. } => serde_json::Value::Object(
                entries.iter().map(|entry| (entry.key.clone(), entry.value.data())).collect(),
            ),
        }
    }

    fn last_byte(&self) -> usize {
        match &self.kind {
            Kind::Seq { flow: false, items } => items.last().map_or(self.range.end, Self::last_byte),
            Kind::Map { flow: false, entries } => entries
                .last()
                .map_or(self.range.end, |entry| entry.value.last_byte().max(entry.key_range.end)),
            _ => self.range.end,
        }
    }
}

struct Reader<'a> {
    events: Vec<(Event<'a>, Span)>,
    next: usize,
}

/// Reads a text of one document.
pub(super) fn parse(text: &str) -> Result<Node, Refusal> {
    let mut events = Vec::new();
    for event in Parser::new_from_str(text) {
        events.push(event.map_err(|e| Refusal::Syntax(e.to_string()))?);
    }
    let documents = events.iter().filter(|(event, _)| matches!(event, Event::DocumentStart(..))).count();
    if documents > 1 {
        return Err(Refusal::Shape("a file of several documents".to_owned()));
    }
    let mut reader = Reader { events, next: 0 };
    while let Some((event, _)) = reader.events.get(reader.next) {
        match event {
            Event::StreamStart | Event::DocumentStart(..) => reader.next += 1,
            Event::StreamEnd | Event::DocumentEnd => break,
            _ => {
                let node = reader.node(0)?;
                return match node.kind {
                    Kind::Map { .. } | Kind::Null => Ok(node),
                    _ => Err(Refusal::Syntax("it is no mapping".to_owned())),
                };
            }
        }
    }
    Ok(Node { kind: Kind::Null, range: 0..0 })
}

fn bytes(span: &Span) -> Result<Range<usize>, Refusal> {
    span.byte_range().ok_or_else(|| Refusal::Syntax("a place without an offset".to_owned()))
}

impl Reader<'_> {
    fn node(&mut self, depth: usize) -> Result<Node, Refusal> {
        if depth > MAX_DEPTH {
            return Err(Refusal::Shape("a file that deep".to_owned()));
        }
        let (event, span) =
            self.events.get(self.next).cloned().ok_or_else(|| Refusal::Syntax("it ends early".to_owned()))?;
        self.next += 1;
        let start = bytes(&span)?;
        match event {
            Event::Scalar(value, style, 0, None) => {
                let empty = style == ScalarStyle::Plain
                    && matches!(value.as_ref(), "" | "~" | "null" | "Null" | "NULL");
                let kind = if empty { Kind::Null } else { Kind::Scalar(value.into_owned()) };
                Ok(Node { kind, range: start })
            }
            Event::SequenceStart(style, 0, None) => {
                let mut items = Vec::new();
                while !self.ends(&Event::SequenceEnd) {
                    items.push(self.node(depth + 1)?);
                }
                let end = self.close()?;
                Ok(Node {
                    kind: Kind::Seq { flow: style == StructureStyle::Flow, items },
                    range: start.start..end,
                })
            }
            Event::MappingStart(style, 0, None) => {
                let mut entries: Vec<Entry> = Vec::new();
                while !self.ends(&Event::MappingEnd) {
                    let column = self.events.get(self.next).map_or(0, |(_, span)| span.start.col());
                    let key = self.node(depth + 1)?;
                    let (Kind::Scalar(name), key_range) = (key.kind, key.range) else {
                        return Err(Refusal::Shape("a key that is no text".to_owned()));
                    };
                    if name == "<<" {
                        return Err(Refusal::Shape("a merge key (<<)".to_owned()));
                    }
                    if entries.iter().any(|entry| entry.key == name) {
                        return Err(Refusal::Syntax(format!("the key `{name}` stands there twice")));
                    }
                    let value = self.node(depth + 1)?;
                    entries.push(Entry { key: name, key_range, column, value });
                }
                let end = self.close()?;
                Ok(Node {
                    kind: Kind::Map { flow: style == StructureStyle::Flow, entries },
                    range: start.start..end,
                })
            }
            Event::Scalar(..) | Event::SequenceStart(..) | Event::MappingStart(..) | Event::Alias(..) => {
                Err(Refusal::Shape("an anchor, an alias or a tag".to_owned()))
            }
            _ => Err(Refusal::Syntax("it ends early".to_owned())),
        }
    }

    fn ends(&self, end: &Event<'_>) -> bool {
        self.events.get(self.next).is_none_or(|(event, _)| event == end)
    }

    fn close(&mut self) -> Result<usize, Refusal> {
        let end = self.events.get(self.next).map(|(_, span)| bytes(span)).transpose()?;
        self.next += 1;
        Ok(end.map_or(0, |end| end.end))
    }
}

/// By how much the text indents.
pub(super) fn step(node: &Node) -> Option<usize> {
    let Kind::Map { flow: false, entries } = &node.kind else { return None };
    let own = entries.first()?.column;
    entries.iter().find_map(|entry| match &entry.value.kind {
        Kind::Map { flow: false, entries } => {
            entries.first()?.column.checked_sub(own).filter(|step| *step > 0)
        }
        _ => None,
    })
}

fn lines(text: &str, start: usize, end: usize) -> Range<usize> {
    line_start(text, start)..next_line(text, end.saturating_sub(1).max(start))
}

fn neighbours(all: &[Range<usize>], index: usize) -> Option<Range<usize>> {
    match (all.get(index)?, all.get(index + 1), index.checked_sub(1).and_then(|before| all.get(before))) {
        (this, Some(next), _) => Some(this.start..next.start),
        (this, None, Some(before)) => Some(before.end..this.end),
        (this, None, None) => Some(this.clone()),
    }
}

/// What to cut so that the child of this number goes.
pub(super) fn child_range(text: &str, node: &Node, index: usize) -> Option<Range<usize>> {
    match &node.kind {
        Kind::Seq { flow: true, items } => {
            neighbours(&items.iter().map(|item| item.range.clone()).collect::<Vec<_>>(), index)
        }
        Kind::Map { flow: true, entries } => {
            let all: Vec<_> = entries
                .iter()
                .map(|entry| entry.key_range.start..entry.value.range.end.max(entry.key_range.end))
                .collect();
            neighbours(&all, index)
        }
        Kind::Seq { flow: false, items } => {
            items.get(index).map(|item| lines(text, item.range.start, item.last_byte()))
        }
        Kind::Map { flow: false, entries } => entries.get(index).map(|entry| {
            lines(text, entry.key_range.start, entry.value.last_byte().max(entry.key_range.end))
        }),
        _ => None,
    }
}

/// The same, by key.
pub(super) fn child_of(text: &str, node: &Node, key: &str) -> Option<Range<usize>> {
    let Kind::Map { entries, .. } = &node.kind else { return None };
    child_range(text, node, entries.iter().position(|entry| entry.key == key)?)
}
