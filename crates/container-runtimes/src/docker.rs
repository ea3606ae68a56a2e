//! Docker Engine: `registry-mirrors` in `daemon.json`, for docker.io alone. An insertion; every other byte stays.

use crate::edit::{Edit, Refusal, Splice, cut, insert, newline, replace};
use crate::json_text::{self, Member, array_items, members};

pub mod engine;

/// Where Docker Engine is configured.
pub const DAEMON_JSON: &str = "/etc/docker/daemon.json";
const KEY: &str = "registry-mirrors";

/// Docker writes a slash behind a mirror's URL by itself.
fn same(a: &str, b: &str) -> bool {
    a.trim_end_matches('/') == b.trim_end_matches('/')
}

/// The member itself, of a text that is known to be an object.
fn member(text: &str) -> Result<Option<Member>, Refusal> {
    let value: serde_json::Value = serde_json::from_str(text).map_err(|e| Refusal::Syntax(e.to_string()))?;
    if !value.is_object() {
        return Err(Refusal::Syntax("it is no JSON object".to_owned()));
    }
    let mut found: Vec<Member> =
        members(text).into_iter().filter(|member| member.name.eq_ignore_ascii_case(KEY)).collect();
    match found.len() {
        0 => Ok(None),
        // Go takes a key whatever its case, and the last of several.
        1 if found[0].name == KEY => Ok(found.pop()),
        _ => Err(Refusal::Shape(format!("`{KEY}`, which stands there more than once or in capitals,"))),
    }
}

/// The mirrors that a file names.
pub fn mirrors(text: &str) -> Result<Vec<String>, Refusal> {
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    let Some(member) = member(text)? else { return Ok(Vec::new()) };
    match serde_json::from_str(text.get(member.value).unwrap_or_default()) {
        Ok(serde_json::Value::Null) => Ok(Vec::new()),
        Ok(value) => serde_json::from_value(value)
            .map_err(|_| Refusal::Shape(format!("`{KEY}`, which is no list of strings,"))),
        Err(e) => Err(Refusal::Syntax(e.to_string())),
    }
}

fn quoted(value: &str) -> String {
    serde_json::Value::from(value).to_string()
}

/// Where an engine listens for its clients unless it is told otherwise.
pub(crate) const SOCKET: &str = "/var/run/docker.sock";

/// Puts mirrors before those that a file names.
pub fn apply(text: Option<&str>, wanted: &[String]) -> Result<Edit, Refusal> {
    let text = text.unwrap_or_default();
    let there = mirrors(text)?;
    let new: Vec<&String> = wanted.iter().filter(|url| !there.iter().any(|have| same(have, url))).collect();
    if new.is_empty() {
        return Ok(Edit::unchanged(text));
    }
    let list = new.iter().map(|url| quoted(url)).collect::<Vec<_>>();
    let standing = if text.trim().is_empty() { None } else { member(text)? };
    let splice = if let Some(member) = standing {
        let value = text.get(member.value.clone()).unwrap_or_default();
        if value == "null" {
            replace(text, member.value, format!("[{}]", list.join(", ")))
        } else {
            let open = member.value.start + 1;
            match array_items(text, member.value.start).first() {
                Some(first) => {
                    let gap = text.get(open..first.start).unwrap_or_default();
                    let gap = if gap.is_empty() { " " } else { gap };
                    insert(first.start, list.iter().map(|url| format!("{url},{gap}")).collect::<String>())
                }
                None => insert(open, list.join(", ")),
            }
        }
    } else {
        key(text, &list.join(", "))
    };
    let edit = Edit::make(text, vec![splice]);
    let mut expected = if text.trim().is_empty() { serde_json::json!({}) } else { parse(text)? };
    expected[KEY] = new.iter().map(|url| url.as_str()).chain(there.iter().map(String::as_str)).collect();
    if parse(&edit.text)? == expected { Ok(edit) } else { Err(Refusal::ReadBack(KEY.to_owned())) }
}

/// Puts the key, which is not there, with these elements into a text: an object, or nothing yet.
fn key(text: &str, list: &str) -> Splice {
    let nl = newline(text);
    if text.trim().is_empty() {
        return insert(text.len(), format!("{{{nl}  \"{KEY}\": [{list}]{nl}}}{nl}"));
    }
    let open = text.find('{').map_or(0, |at| at + 1);
    match members(text).first() {
        Some(first) => {
            let gap = text.get(open..first.whole.start).unwrap_or_default();
            let colon = if gap.is_empty() { ":" } else { ": " };
            insert(first.whole.start, format!("\"{KEY}\"{colon}[{list}],{gap}"))
        }
        None => {
            let close = text.rfind('}').unwrap_or(open);
            replace(text, open..close, format!("{nl}  \"{KEY}\": [{list}]{nl}"))
        }
    }
}

/// A text with an empty list, where it has no list: a reload takes over only the keys that are there, so that an engine
/// keeps its mirrors when their key goes.
pub fn with_empty_list(text: Option<&str>) -> Result<Edit, Refusal> {
    let text = text.unwrap_or_default();
    if !text.trim().is_empty() && member(text)?.is_some() {
        return Ok(Edit::unchanged(text));
    }
    let edit = Edit::make(text, vec![key(text, "")]);
    if mirrors(&edit.text)?.is_empty() { Ok(edit) } else { Err(Refusal::ReadBack(KEY.to_owned())) }
}

/// Whether two lists name the same mirrors.
pub(crate) fn same_mirrors(a: &[String], b: &[String]) -> bool {
    let all_in = |a: &[String], b: &[String]| a.iter().all(|one| b.iter().any(|other| same(one, other)));
    all_in(a, b) && all_in(b, a)
}

/// Where the engine listens for its clients, as its file says (`hosts`); the first Unix socket.
pub(crate) fn socket(text: &str) -> Option<String> {
    let value: serde_json::Value = serde_json::from_str(text).ok()?;
    let hosts = value.get("hosts")?.as_array()?;
    hosts.iter().find_map(|host| host.as_str()?.strip_prefix("unix://").map(str::to_owned))
}

fn parse(text: &str) -> Result<serde_json::Value, Refusal> {
    serde_json::from_str(text).map_err(|e| Refusal::Syntax(e.to_string()))
}

/// Takes mirrors out of a file that was edited since; a list that is empty then goes with its key where `key_was_ours`.
/// A text that held nothing else comes back empty.
pub fn strip(text: &str, urls: &[String], key_was_ours: bool) -> Result<Edit, Refusal> {
    if text.trim().is_empty() {
        return Ok(Edit::unchanged(text));
    }
    let Some(member) = member(text)? else { return Ok(Edit::unchanged(text)) };
    let there = mirrors(text)?;
    let items = array_items(text, member.value.start);
    let ours = |index: &usize| there.get(*index).is_some_and(|have| urls.iter().any(|url| same(have, url)));
    let going: Vec<usize> = (0..items.len()).filter(ours).collect();
    if going.is_empty() && !(items.is_empty() && key_was_ours) {
        return Ok(Edit::unchanged(text));
    }
    let edit = if going.len() == items.len() && key_was_ours {
        let all = members(text);
        if all.len() == 1 {
            return Ok(Edit::between(text, String::new()));
        }
        let whole: Vec<_> = all.iter().map(|member| member.whole.clone()).collect();
        let index = all.iter().position(|other| other.name == KEY).unwrap_or_default();
        Edit::make(text, vec![cut(text, json_text::with_comma(&whole, index))])
    } else if going.len() == items.len() {
        let end = items.last().map_or(member.value.start + 1, |last| last.end);
        Edit::make(text, vec![cut(text, items[0].start..end)])
    } else {
        let mut edit = Edit::unchanged(text);
        for index in going.into_iter().rev() {
            let items = array_items(&edit.text, member.value.start);
            let range = json_text::with_comma(&items, index);
            edit = Edit::between(text, Edit::make(&edit.text, vec![cut(&edit.text, range)]).text);
        }
        edit
    };
    parse(&edit.text).map_err(|_| Refusal::ReadBack(KEY.to_owned()))?;
    Ok(edit)
}

#[cfg(test)]
mod tests;
