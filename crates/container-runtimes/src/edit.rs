//! What an editor answers: the new text, and exactly which bytes make the difference.

use serde::{Deserialize, Serialize};

/// One place where an edit changed a text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Splice {
    /// Byte offset in the text before the edit.
    pub at: usize,
    /// Bytes that stood there and went.
    pub removed: String,
    /// Bytes that stand there now.
    pub inserted: String,
}

/// The outcome of an editor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edit {
    /// The text after the edit.
    pub text: String,
    /// Its changes in ascending order of place; none where nothing was to be done.
    pub splices: Vec<Splice>,
}

/// Why a text is left alone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The runtime itself would not read it either.
    #[error("the file cannot be parsed: {0}; correct it first")]
    Syntax(String),
    /// It is valid, but written so that an insertion is not safe.
    #[error(
        "{0} is written in a form that cannot be edited safely; write it in the usual form, or add the mirror by hand"
    )]
    Shape(String),
    /// What is there and what is wanted exclude each other.
    #[error("{what} stands in the way: {why}")]
    Conflict {
        /// The operator's setting.
        what: String,
        /// What would happen with both, and what to do.
        why: String,
    },
    /// A result did not read back as what was meant; nothing is written.
    #[error("the edited text does not read back as intended ({0}); the file was left as it is")]
    ReadBack(String),
}

impl Edit {
    /// The edit that changes nothing.
    pub fn unchanged(text: &str) -> Self {
        Self { text: text.to_owned(), splices: Vec::new() }
    }

    /// Applies splices to a text; they may come in any order but must not overlap.
    pub(crate) fn make(text: &str, mut splices: Vec<Splice>) -> Self {
        splices.retain(|splice| splice.removed != splice.inserted);
        splices.sort_by_key(|splice| splice.at);
        let mut out = String::with_capacity(text.len() + 256);
        let mut from = 0;
        for splice in &splices {
            out.push_str(text.get(from..splice.at).unwrap_or_default());
            out.push_str(&splice.inserted);
            from = splice.at + splice.removed.len();
        }
        out.push_str(text.get(from..).unwrap_or_default());
        Self { text: out, splices }
    }

    /// The edit that leads from one text to another, as one change of place.
    pub(crate) fn between(before: &str, after: String) -> Self {
        let mut prefix = before.bytes().zip(after.bytes()).take_while(|(a, b)| a == b).count();
        while !before.is_char_boundary(prefix) || !after.is_char_boundary(prefix) {
            prefix -= 1;
        }
        let room = before.len().min(after.len()) - prefix;
        let ends = before.bytes().rev().zip(after.bytes().rev());
        let mut suffix = ends.take(room).take_while(|(a, b)| a == b).count();
        while !before.is_char_boundary(before.len() - suffix) || !after.is_char_boundary(after.len() - suffix)
        {
            suffix -= 1;
        }
        let splice = Splice {
            at: prefix,
            removed: before.get(prefix..before.len() - suffix).unwrap_or_default().to_owned(),
            inserted: after.get(prefix..after.len() - suffix).unwrap_or_default().to_owned(),
        };
        let splices = if splice.removed == splice.inserted { Vec::new() } else { vec![splice] };
        Self { text: after, splices }
    }

    /// Whether anything differs.
    pub fn is_change(&self) -> bool {
        !self.splices.is_empty()
    }

    /// The text before the edit, byte for byte.
    pub fn undo(&self) -> String {
        let mut out = String::with_capacity(self.text.len());
        let (mut from, mut old) = (0, 0);
        for splice in &self.splices {
            let same = splice.at - old;
            out.push_str(self.text.get(from..from + same).unwrap_or_default());
            out.push_str(&splice.removed);
            from += same + splice.inserted.len();
            old = splice.at + splice.removed.len();
        }
        out.push_str(self.text.get(from..).unwrap_or_default());
        out
    }
}

/// An insertion.
pub(crate) fn insert(at: usize, inserted: impl Into<String>) -> Splice {
    Splice { at, removed: String::new(), inserted: inserted.into() }
}

/// A cut.
pub(crate) fn cut(text: &str, range: std::ops::Range<usize>) -> Splice {
    Splice {
        at: range.start,
        removed: text.get(range).unwrap_or_default().to_owned(),
        inserted: String::new(),
    }
}

/// A replacement.
pub(crate) fn replace(text: &str, range: std::ops::Range<usize>, inserted: impl Into<String>) -> Splice {
    Splice { inserted: inserted.into(), ..cut(text, range) }
}

/// The line ending that a text uses.
pub(crate) fn newline(text: &str) -> &'static str {
    if text.contains("\r\n") { "\r\n" } else { "\n" }
}

/// Start of the line that holds a byte.
pub(crate) fn line_start(text: &str, at: usize) -> usize {
    text.get(..at).and_then(|before| before.rfind('\n')).map_or(0, |end| end + 1)
}

/// Start of the line after the one that holds a byte (the end of the text on the last line).
pub(crate) fn next_line(text: &str, at: usize) -> usize {
    text.get(at..).and_then(|rest| rest.find('\n')).map_or(text.len(), |end| at + end + 1)
}

/// The blanks with which a line begins.
pub(crate) fn indent_of(text: &str, line: usize) -> &str {
    let rest = text.get(line..).unwrap_or_default();
    rest.get(..rest.len() - rest.trim_start_matches([' ', '\t']).len()).unwrap_or_default()
}

/// What to put before a block of whole lines at this place so that it begins on a line of its own.
pub(crate) fn line_break_before(text: &str, at: usize) -> &'static str {
    match text.get(..at) {
        Some(before) if !before.is_empty() && !before.ends_with('\n') => newline(text),
        _ => "",
    }
}

/// A block written with `\n`, in the line endings of the text that it goes into.
pub(crate) fn in_style_of(text: &str, block: &str) -> String {
    if newline(text) == "\n" { block.to_owned() } else { block.replace('\n', "\r\n") }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_way_between_two_texts_leads_back(before in ".{0,30}", after in ".{0,30}") {
            let edit = Edit::between(&before, after.clone());
            prop_assert_eq!(&edit.text, &after);
            prop_assert_eq!(edit.undo(), before.clone());
            prop_assert_eq!(edit.is_change(), before != after);
        }

        #[test]
        fn every_edit_can_be_undone(text in "[a-z\n]{0,40}", cuts in proptest::collection::vec((0usize..40, 0usize..5, "[A-Z]{0,6}"), 0..4)) {
            let mut splices: Vec<Splice> = Vec::new();
            let mut free = 0;
            let mut cuts = cuts;
            cuts.sort();
            for (at, length, inserted) in cuts {
                let (start, end) = (at.max(free).min(text.len()), (at.max(free) + length).min(text.len()));
                if start < free || splices.last().is_some_and(|last| last.at == start) {
                    continue;
                }
                splices.push(replace(&text, start..end.max(start), inserted));
                free = end.max(start);
            }
            prop_assert_eq!(Edit::make(&text, splices).undo(), text);
        }
    }
}

/// What holds for every editor and every text.
#[cfg(test)]
pub(crate) mod laws {
    use super::{Edit, Refusal};

    /// Checks idempotence, the exact inverse, that no line of the operator's is lost, and that the inverse for edited
    /// texts leads back to the same text where nothing was edited.
    pub(crate) fn check(
        text: &str,
        apply: impl Fn(&str) -> Result<Edit, Refusal>,
        strip: impl Fn(&str) -> Result<Edit, Refusal>,
    ) -> Edit {
        let edit = apply(text).unwrap_or_else(|e| panic!("{e}\n{text}"));
        assert_eq!(edit.undo(), text, "the exact inverse");
        assert!(!apply(&edit.text).unwrap().is_change(), "twice is once\n{}", edit.text);
        let mut rest = edit.text.as_str();
        for line in text.lines().filter(|line| line.trim_start().starts_with('#')) {
            let at = rest.find(line).unwrap_or_else(|| panic!("{line:?} is lost or moved in\n{}", edit.text));
            rest = &rest[at + line.len()..];
        }
        let stripped = strip(&edit.text).unwrap();
        let lines = |text: &str| -> Vec<String> {
            text.lines().map(|line| line.trim_end().to_owned()).filter(|line| !line.is_empty()).collect()
        };
        assert_eq!(lines(&stripped.text), lines(text), "the inverse of an edited text\n{}", edit.text);
        assert!(!strip(&stripped.text).unwrap().is_change());
        edit
    }
}
