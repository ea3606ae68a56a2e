//! k3s and RKE2: `registries.yaml`, from which they write their containerd's settings at start. Edited in place: the
//! text's own indentation, comments, order and notation stay.

pub mod configs;
mod yaml;

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::edit::{Edit, Refusal, in_style_of, insert, line_break_before, line_start, next_line, replace};
use yaml::{Entry, Kind, Node};

/// Where k3s reads it.
pub const K3S_REGISTRIES: &str = "/etc/rancher/k3s/registries.yaml";
/// Where RKE2 reads it.
pub const RKE2_REGISTRIES: &str = "/etc/rancher/rke2/registries.yaml";

/// A mirror of a registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MirrorEndpoint {
    /// The registry's host, or `*` for all.
    pub registry: String,
    /// The mirror's URL.
    pub url: String,
}

fn same(a: &str, b: &str) -> bool {
    a.trim_end_matches('/') == b.trim_end_matches('/')
}

fn quoted(value: &str) -> String {
    serde_json::Value::from(value).to_string()
}

fn shape(what: &str) -> Refusal {
    Refusal::Shape(format!("`{what}`"))
}

/// The mirrors of a registry that a file names, in order.
pub fn mirrors(text: &str, registry: &str) -> Result<Vec<String>, Refusal> {
    Ok(endpoints(&yaml::parse(text)?, registry))
}

fn endpoints(root: &Node, registry: &str) -> Vec<String> {
    let endpoints = entry(root, "mirrors")
        .and_then(|mirrors| entry(&mirrors.value, registry))
        .and_then(|host| entry(&host.value, "endpoint"));
    endpoints.map(|entry| scalars(&entry.value)).unwrap_or_default()
}

/// The key of what holds for every registry without an entry of its own.
const EVERY: &str = "*";

/// The mirrors that a registry gets from the entry of all registries: it is read no more once the registry has its own.
fn inherited(root: &Node, registry: &str) -> Vec<String> {
    let all = entry(root, "mirrors");
    let of = |key: &str| all.and_then(|all| entry(&all.value, key));
    if of(registry).is_some() {
        return Vec::new();
    }
    endpoints(root, EVERY)
}

/// Refuses where rules for names would hold for our endpoint, too: k3s applies those of an entry to each endpoint of it, so
/// that the mirror would be asked for what it does not have, or for another image.
fn check_rewrites(root: &Node, mirror: &MirrorEndpoint, inherited: &[String]) -> Result<(), Refusal> {
    let key = if inherited.is_empty() { &mirror.registry } else { EVERY };
    let rules = entry(root, "mirrors")
        .and_then(|all| entry(&all.value, key))
        .and_then(|host| entry(&host.value, "rewrite"));
    let any = rules.is_some_and(|rules| match &rules.value.kind {
        Kind::Null => false,
        Kind::Map { entries, .. } => !entries.is_empty(),
        _ => true,
    });
    if !any {
        return Ok(());
    }
    let (registry, url) = (&mirror.registry, &mirror.url);
    Err(Refusal::Conflict {
        what: format!("mirrors.{}.rewrite", quoted(key)),
        why: format!(
            "its rules would hold for our endpoint, too, which then is asked for other names than those of {registry}; take the rules away, or ask for no mirror of {registry} here, or, if the satellite keeps its images under the rewritten names, write {url} among the endpoints of {registry} yourself"
        ),
    })
}

fn entry<'a>(node: &'a Node, key: &str) -> Option<&'a Entry> {
    match &node.kind {
        Kind::Map { entries, .. } => entries.iter().find(|entry| entry.key == key),
        _ => None,
    }
}

fn scalars(node: &Node) -> Vec<String> {
    match &node.kind {
        Kind::Seq { items, .. } => items
            .iter()
            .filter_map(|item| match &item.kind {
                Kind::Scalar(value) => Some(value.clone()),
                _ => None,
            })
            .collect(),
        _ => Vec::new(),
    }
}

/// Puts mirrors before those that a file names.
pub fn apply(text: Option<&str>, wanted: &[MirrorEndpoint]) -> Result<Edit, Refusal> {
    let before = text.unwrap_or_default();
    let mut after = before.to_owned();
    for mirror in wanted {
        after = apply_one(&after, mirror)?;
    }
    Ok(Edit::between(before, after))
}

/// What is missing below a node, written for block and for flow notation.
struct Missing<'a> {
    keys: &'a [String],
    urls: &'a [String],
}

impl Missing<'_> {
    fn block(&self, indent: usize, step: usize) -> String {
        let mut out = String::new();
        for (depth, key) in self.keys.iter().enumerate() {
            out += &format!("{}{key}:\n", " ".repeat(indent + depth * step));
        }
        for url in self.urls {
            out += &format!("{}- {}\n", " ".repeat(indent + self.keys.len() * step), quoted(url));
        }
        out
    }

    fn flow(&self) -> String {
        let urls: Vec<String> = self.urls.iter().map(|url| quoted(url)).collect();
        let list = format!("[{}]", urls.join(", "));
        self.keys.iter().skip(1).rev().fold(list, |inner, key| format!("{{{key}: {inner}}}"))
    }
}

fn apply_one(text: &str, mirror: &MirrorEndpoint) -> Result<String, Refusal> {
    let root = yaml::parse(text)?;
    let inherited = inherited(&root, &mirror.registry);
    let standing = mirrors(text, &mirror.registry)?;
    if standing.iter().chain(&inherited).any(|have| same(have, &mirror.url)) {
        return Ok(text.to_owned());
    }
    check_rewrites(&root, mirror, &inherited)?;
    let mut urls = vec![mirror.url.clone()];
    urls.extend(inherited);
    let names = ["mirrors".to_owned(), mirror.registry.clone(), "endpoint".to_owned()];
    let keys = [names[0].clone(), quoted(&mirror.registry), names[2].clone()];
    let step = yaml::step(&root).unwrap_or(2);
    let mut node = &root;
    let mut at_key: Option<&Entry> = None;
    let mut depth = 0;
    while let Some(next) = names.get(depth).and_then(|name| entry(node, name)) {
        at_key = Some(next);
        node = &next.value;
        depth += 1;
    }
    let missing = Missing { keys: &keys[depth..], urls: &urls };
    let splice = match (&node.kind, at_key) {
        (Kind::Null, None) => {
            let at = text.len();
            insert(
                at,
                format!("{}{}", line_break_before(text, at), in_style_of(text, &missing.block(0, step))),
            )
        }
        (Kind::Null, Some(_)) if !node.range.is_empty() => {
            let flow =
                format!("{{{}: {}}}", missing.keys.first().cloned().unwrap_or_default(), missing.flow());
            let value = if depth == names.len() { missing.flow() } else { flow };
            replace(text, node.range.clone(), value)
        }
        (Kind::Null, Some(key)) => {
            let at = next_line(text, key.key_range.end);
            let block = in_style_of(text, &missing.block(key.column + step, step));
            insert(at, format!("{}{block}", line_break_before(text, at)))
        }
        (Kind::Map { flow: true, entries }, _) => {
            let key = missing.keys.first().ok_or_else(|| shape("endpoint"))?;
            into_flow(
                text,
                node,
                entries.first().map(|entry| &entry.key_range),
                &format!("{key}: {}", missing.flow()),
            )
        }
        (Kind::Map { flow: false, entries }, _) => {
            let first = entries.first().ok_or_else(|| shape("mirrors"))?;
            if missing.keys.is_empty() {
                return Err(shape("endpoint"));
            }
            if depth == 0 {
                let at = root.range.end.max(text.trim_end().len()).min(text.len());
                let at = if at < text.len() { next_line(text, at) } else { at };
                let block = in_style_of(text, &missing.block(first.column, step));
                insert(at, format!("{}{block}", line_break_before(text, at)))
            } else {
                let at = line_start(text, first.key_range.start);
                insert(at, in_style_of(text, &missing.block(first.column, step)))
            }
        }
        (Kind::Seq { flow, items }, _) if missing.keys.is_empty() => {
            let url = quoted(&mirror.url);
            match (flow, items.first()) {
                (true, first) => into_flow(text, node, first.map(|first| &first.range), &url),
                (false, Some(first)) => {
                    let line = line_start(text, first.range.start);
                    let lead = text.get(line..first.range.start).unwrap_or_default();
                    if lead.trim() != "-" {
                        return Err(shape("endpoint"));
                    }
                    insert(line, in_style_of(text, &format!("{lead}{url}\n")))
                }
                (false, None) => return Err(shape("endpoint")),
            }
        }
        _ => return Err(shape(names.get(depth.saturating_sub(1)).map_or("mirrors", String::as_str))),
    };
    let after = Edit::make(text, vec![splice]).text;
    let mut expected = root.data();
    let mut place = &mut expected;
    for name in &names {
        if place.is_null() {
            *place = serde_json::json!({});
        }
        place = &mut place[name];
    }
    match place.as_array_mut() {
        Some(list) => list.insert(0, mirror.url.as_str().into()),
        None => *place = serde_json::json!(urls),
    }
    match yaml::parse(&after) {
        Ok(read) if read.data() == expected => Ok(after),
        _ => Err(shape(&format!("mirrors.{}", mirror.registry))),
    }
}

fn into_flow(text: &str, node: &Node, first: Option<&Range<usize>>, what: &str) -> crate::Splice {
    match first {
        Some(first) => insert(first.start, format!("{what}, ")),
        None => {
            let inner = node.range.start + 1..node.range.end.saturating_sub(1).max(node.range.start + 1);
            replace(text, inner, what)
        }
    }
}

/// Takes mirrors out of a file that was edited since. What is empty then goes too, unless `base`, the file before us,
/// had it. A text that held nothing else comes back empty.
pub fn strip(text: &str, ours: &[MirrorEndpoint], base: Option<&str>) -> Result<Edit, Refusal> {
    let mut after = text.to_owned();
    let base = yaml::parse(base.unwrap_or_default())?;
    for mirror in ours {
        // What the operator had is the operator's.
        let had = endpoints(&base, &mirror.registry);
        if !had.iter().any(|had| same(had, &mirror.url)) {
            after = strip_one(&after, mirror, &base)?;
        }
    }
    Ok(Edit::between(text, after))
}

fn strip_one(text: &str, mirror: &MirrorEndpoint, base: &Node) -> Result<String, Refusal> {
    let root = yaml::parse(text)?;
    let Some(all) = entry(&root, "mirrors") else { return Ok(text.to_owned()) };
    let Some(host) = entry(&all.value, &mirror.registry) else { return Ok(text.to_owned()) };
    let Some(list) = entry(&host.value, "endpoint") else { return Ok(text.to_owned()) };
    let urls = scalars(&list.value);
    let Some(index) = urls.iter().position(|have| same(have, &mirror.url)) else {
        return Ok(text.to_owned());
    };
    let base_all = entry(base, "mirrors");
    let base_host = base_all.and_then(|all| entry(&all.value, &mirror.registry));
    let base_list = base_host.and_then(|host| entry(&host.value, "endpoint"));
    let mut left = urls.clone();
    left.remove(index);
    // What we wrote after ours, because the registry had it from the entry of all registries, goes with ours.
    let copied = base_host.is_none() && !left.is_empty() && left == inherited(base, &mirror.registry);
    let expected = if copied { Vec::new() } else { left };
    let alone = copied || urls.len() == 1;
    let size = |node: &Node| match &node.kind {
        Kind::Map { entries, .. } => entries.len(),
        Kind::Seq { items, .. } => items.len(),
        _ => 0,
    };
    let mut cut = yaml::child_range(text, &list.value, index);
    if alone && base_list.is_none() {
        cut = yaml::child_of(text, &host.value, "endpoint");
        if size(&host.value) == 1 && base_host.is_none() {
            cut = yaml::child_of(text, &all.value, &mirror.registry);
            if size(&all.value) == 1 && base_all.is_none() {
                cut = yaml::child_of(text, &root, "mirrors");
            }
        }
    }
    let cut = cut.ok_or_else(|| shape("mirrors"))?;
    let after = Edit::make(text, vec![crate::edit::cut(text, cut)]).text;
    let read = yaml::parse(&after).map_err(|_| Refusal::ReadBack("mirrors".to_owned()))?;
    let left = entry(&read, "mirrors")
        .and_then(|all| entry(&all.value, &mirror.registry))
        .and_then(|host| entry(&host.value, "endpoint"))
        .map(|list| scalars(&list.value))
        .unwrap_or_default();
    if left == expected { Ok(after) } else { Err(Refusal::ReadBack("mirrors".to_owned())) }
}

#[cfg(test)]
mod tests;
