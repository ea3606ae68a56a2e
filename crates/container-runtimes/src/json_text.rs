//! Places in a JSON text that is known to be valid: no parser, a walk along its tokens.

use std::ops::Range;

/// A member of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    /// Its name, unescaped.
    pub(crate) name: String,
    /// From the name's quote to the value's end.
    pub(crate) whole: Range<usize>,
    /// The value.
    pub(crate) value: Range<usize>,
}

fn skip_blanks(bytes: &[u8], mut at: usize) -> usize {
    while bytes.get(at).is_some_and(u8::is_ascii_whitespace) {
        at += 1;
    }
    at
}

fn end_of_string(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

fn end_of_value(bytes: &[u8], start: usize) -> usize {
    let (mut at, mut depth) = (start, 0usize);
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => {
                at = end_of_string(bytes, at);
                if depth == 0 {
                    return at;
                }
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth <= 1 => return if depth == 1 { at + 1 } else { at },
            b'}' | b']' => depth -= 1,
            b',' if depth == 0 => return at,
            byte if depth == 0 && byte.is_ascii_whitespace() => return at,
            _ => {}
        }
        at += 1;
    }
    bytes.len()
}

/// The members of the object that is the text.
pub(crate) fn members(text: &str) -> Vec<Member> {
    text.find('{').map_or_else(Vec::new, |open| members_at(text, open))
}

/// The members of the object that begins here.
pub(crate) fn members_at(text: &str, open: usize) -> Vec<Member> {
    let bytes = text.as_bytes();
    let mut found = Vec::new();
    if bytes.get(open) != Some(&b'{') {
        return found;
    }
    let mut at = skip_blanks(bytes, open + 1);
    while bytes.get(at) == Some(&b'"') {
        let name_end = end_of_string(bytes, at);
        let colon = skip_blanks(bytes, name_end);
        let value = skip_blanks(bytes, colon + 1);
        let end = end_of_value(bytes, value);
        let name =
            text.get(at..name_end).and_then(|name| serde_json::from_str(name).ok()).unwrap_or_default();
        found.push(Member { name, whole: at..end, value: value..end });
        at = skip_blanks(bytes, end);
        if bytes.get(at) != Some(&b',') {
            break;
        }
        at = skip_blanks(bytes, at + 1);
    }
    found
}

/// The elements of the array that begins here.
pub(crate) fn array_items(text: &str, open: usize) -> Vec<Range<usize>> {
    let bytes = text.as_bytes();
    let mut found = Vec::new();
    if bytes.get(open) != Some(&b'[') {
        return found;
    }
    let mut at = skip_blanks(bytes, open + 1);
    while bytes.get(at).is_some_and(|byte| *byte != b']') {
        let end = end_of_value(bytes, at);
        found.push(at..end);
        at = skip_blanks(bytes, end);
        if bytes.get(at) != Some(&b',') {
            break;
        }
        at = skip_blanks(bytes, at + 1);
    }
    found
}

/// What to cut so that one of several neighbours goes with one comma and its blanks.
pub(crate) fn with_comma(all: &[Range<usize>], index: usize) -> Range<usize> {
    match (all.get(index), all.get(index + 1), index.checked_sub(1).and_then(|before| all.get(before))) {
        (Some(this), Some(next), _) => this.start..next.start,
        (Some(this), None, Some(before)) => before.end..this.end,
        (Some(this), None, None) => this.clone(),
        (None, ..) => 0..0,
    }
}
