//! Podman, CRI-O, buildah and skopeo: `registries.conf` and the drop-in files of `registries.conf.d`
//! (containers-registries.conf(5), version 2). They share them, and a drop-in's entry *replaces* an entry of the same
//! prefix: so a mirror is merged into the entry that stands, in the file where it stands.

use serde::{Deserialize, Serialize};
use serde_json::json;
use toml_edit::{ArrayOfTables, Item, Table};

use crate::edit::{Edit, Refusal, in_style_of, indent_of, insert, line_break_before, line_start};
use crate::toml_text::{data, header, own_end, parse, quoted, sections, with_comments_above, without};

/// The main file.
pub const REGISTRIES_CONF: &str = "/etc/containers/registries.conf";
/// The folder of drop-in files, read in the order of their names after the main file.
pub const REGISTRIES_CONF_D: &str = "/etc/containers/registries.conf.d";
/// What root's Podman, and CRI-O, read instead of the main file and its folder, where it is there.
pub const ROOT_REGISTRIES_CONF: &str = "/root/.config/containers/registries.conf";
/// Root's own drop-in files, read after those of [`REGISTRIES_CONF_D`].
pub const ROOT_REGISTRIES_CONF_D: &str = "/root/.config/containers/registries.conf.d";
/// Our own drop-in file, for prefixes that no other file names.
pub const OWN_FILE: &str = "/etc/containers/registries.conf.d/50-satellite-mirrors.conf";

/// A mirror of the registry or repository that a prefix names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MirrorEntry {
    /// What an image's name begins with: `docker.io`.
    pub prefix: String,
    /// Host and port of the mirror, and a path where it keeps that registry's repositories under one.
    pub location: String,
    /// Whether it is spoken to without TLS.
    pub insecure: bool,
}

fn text_of<'a>(table: &'a Table, key: &str) -> Option<&'a str> {
    table.get(key).and_then(Item::as_str)
}

/// The prefix of an entry: its location, where it names none.
fn prefix_of(table: &Table) -> Option<&str> {
    // They take a slash at the end for none.
    let place = |key| text_of(table, key).map(|place| place.trim_end_matches('/'));
    place("prefix").filter(|prefix| !prefix.is_empty()).or_else(|| place("location"))
}

fn entries(root: &Table) -> Result<Option<&ArrayOfTables>, Refusal> {
    if root.contains_key("registries") {
        return Err(Refusal::Conflict {
            what: "[registries], the first version of this format,".to_owned(),
            why: "it cannot stand beside [[registry]], which mirrors need; convert it first".to_owned(),
        });
    }
    match root.get("registry") {
        None => Ok(None),
        Some(Item::ArrayOfTables(tables)) => Ok(Some(tables)),
        Some(item) if item.as_array().is_some_and(|array| array.is_empty()) => Ok(None),
        Some(_) => Err(Refusal::Shape("`registry`".to_owned())),
    }
}

/// The prefixes that a file has entries of.
pub fn prefixes(text: &str) -> Result<Vec<String>, Refusal> {
    let document = parse(text)?;
    let tables = entries(document.as_table())?;
    Ok(tables.into_iter().flat_map(ArrayOfTables::iter).filter_map(prefix_of).map(str::to_owned).collect())
}

/// The prefix, of these, whose entry stands for a registry without naming it (`*.example.com`, or its host without the
/// port): one that names it takes the place of all that such an entry says.
pub fn covering<'a>(registry: &str, mut prefixes: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let host = registry.split_once(':').map_or(registry, |(host, _)| host);
    prefixes.find(|prefix| match prefix.strip_prefix('*') {
        Some(domain) => domain.starts_with('.') && host.ends_with(domain),
        None => *prefix == host && host != registry,
    })
}

/// Whether a file's entry of this prefix names the mirror already.
pub fn names(text: &str, entry: &MirrorEntry) -> Result<bool, Refusal> {
    let document = parse(text)?;
    let tables = entries(document.as_table())?;
    let mut found = tables.into_iter().flat_map(ArrayOfTables::iter);
    Ok(found.any(|table| {
        prefix_of(table) == Some(&entry.prefix)
            && mirrors(table).is_ok_and(|list| {
                list.iter().any(|mirror| text_of(mirror, "location") == Some(&entry.location))
            })
    }))
}

fn mirrors(table: &Table) -> Result<Vec<&Table>, Refusal> {
    match table.get("mirror") {
        None => Ok(Vec::new()),
        Some(Item::ArrayOfTables(tables)) => Ok(tables.iter().collect()),
        Some(_) => Err(Refusal::Shape("`registry.mirror`".to_owned())),
    }
}

fn mirror_block(entry: &MirrorEntry, indent: &str) -> String {
    let insecure = if entry.insecure { format!("{indent}insecure = true\n") } else { String::new() };
    format!("{indent}[[registry.mirror]]\n{indent}location = {}\n{insecure}", quoted(&entry.location))
}

fn mirror_data(entry: &MirrorEntry) -> serde_json::Value {
    if entry.insecure {
        json!({ "location": entry.location, "insecure": true })
    } else {
        json!({ "location": entry.location })
    }
}

/// Puts each mirror first among the mirrors of its prefix's entry, which is made where there is none.
pub fn apply(text: Option<&str>, wanted: &[MirrorEntry]) -> Result<Edit, Refusal> {
    let before = text.unwrap_or_default();
    let mut after = before.to_owned();
    for entry in wanted {
        after = apply_one(&after, entry)?;
    }
    Ok(Edit::between(before, after))
}

fn apply_one(text: &str, entry: &MirrorEntry) -> Result<String, Refusal> {
    let document = parse(text)?;
    let root = document.as_table();
    let tables = entries(root)?;
    let mut expected = data(root);
    let standing = tables
        .into_iter()
        .flat_map(ArrayOfTables::iter)
        .enumerate()
        .find(|(_, table)| prefix_of(table) == Some(&entry.prefix));
    let splice = match standing {
        Some((index, table)) => {
            if table.get("blocked").and_then(Item::as_bool) == Some(true) {
                return Err(Refusal::Conflict {
                    what: format!("blocked = true of {}", entry.prefix),
                    why: "no image of it may be pulled, from a mirror neither".to_owned(),
                });
            }
            let standing = mirrors(table)?;
            if standing.iter().any(|mirror| text_of(mirror, "location") == Some(&entry.location)) {
                return Ok(text.to_owned());
            }
            let place = &mut expected["registry"][index]["mirror"];
            match place.as_array_mut() {
                Some(list) => list.insert(0, mirror_data(entry)),
                None => *place = json!([mirror_data(entry)]),
            }
            let shape = || Refusal::Shape(format!("the entry of {}", entry.prefix));
            let own = header(text, table).ok_or_else(shape)?;
            let indent = indent_of(text, line_start(text, own.start));
            match standing.first() {
                Some(first) => {
                    let first = header(text, first).ok_or_else(shape)?;
                    let line = line_start(text, first.start);
                    let block = mirror_block(entry, indent_of(text, line));
                    insert(with_comments_above(text, line), in_style_of(text, &format!("{block}\n")))
                }
                None => {
                    let at = own_end(text, table).ok_or_else(shape)?;
                    let block = in_style_of(text, &format!("\n{}", mirror_block(entry, indent)));
                    insert(at, format!("{}{block}", line_break_before(text, at)))
                }
            }
        }
        None => {
            let made =
                json!({ "prefix": entry.prefix, "location": entry.prefix, "mirror": [mirror_data(entry)] });
            match expected["registry"].as_array_mut() {
                Some(list) => list.push(made),
                None => expected["registry"] = json!([made]),
            }
            let prefix = quoted(&entry.prefix);
            let apart = if text.trim().is_empty() { "" } else { "\n" };
            let block = format!(
                "{apart}[[registry]]\nprefix = {prefix}\nlocation = {prefix}\n\n{}",
                mirror_block(entry, "")
            );
            insert(
                text.len(),
                format!("{}{}", line_break_before(text, text.len()), in_style_of(text, &block)),
            )
        }
    };
    let after = Edit::make(text, vec![splice]).text;
    match parse(&after) {
        Ok(document) if data(document.as_table()) == expected => Ok(after),
        _ => Err(Refusal::ReadBack(format!("the entry of {}", entry.prefix))),
    }
}

/// Takes mirrors out of a file that was edited since; an entry that was ours (`made`, by prefix) and holds nothing else
/// goes with its mirror.
pub fn strip(text: &str, ours: &[MirrorEntry], made: &[String]) -> Result<Edit, Refusal> {
    let document = parse(text)?;
    let Some(tables) = entries(document.as_table())? else { return Ok(Edit::unchanged(text)) };
    let mut ranges = Vec::new();
    for table in tables {
        let Some(prefix) = prefix_of(table) else { continue };
        let mirrors = mirrors(table)?;
        let going: Vec<&&Table> = mirrors
            .iter()
            .filter(|mirror| {
                let location = text_of(mirror, "location");
                ours.iter().any(|entry| entry.prefix == prefix && location == Some(&entry.location))
            })
            .collect();
        if going.is_empty() {
            continue;
        }
        let bare = table.iter().all(|(key, item)| match key {
            "mirror" => true,
            "prefix" | "location" => item.as_str().map(|place| place.trim_end_matches('/')) == Some(prefix),
            _ => false,
        });
        if bare && going.len() == mirrors.len() && made.iter().any(|own| own == prefix) {
            sections(text, table, &mut ranges);
        } else {
            going.iter().for_each(|mirror| sections(text, mirror, &mut ranges));
        }
    }
    if ranges.is_empty() {
        return Ok(Edit::unchanged(text));
    }
    let after = without(text, ranges);
    parse(&after).map_err(|_| Refusal::ReadBack("registry".to_owned()))?;
    Ok(Edit::between(text, after))
}

#[cfg(test)]
mod tests;
