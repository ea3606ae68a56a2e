//! `config.toml`: where its registry settings are, which folder it names, what stands in the way of naming one.
//!
//! The plugin's key follows the file's own `version` (1: `cri`, 2: `io.containerd.grpc.v1.cri`, 3:
//! `io.containerd.cri.v1.images`), whatever the version of containerd: it migrates the file in memory.

use serde_json::{Value, json};
use toml_edit::{Item, Table};

use super::{CERTS_D, Version};
use crate::edit::{
    Edit, Refusal, in_style_of, indent_of, insert, line_break_before, line_start, next_line, replace,
};
use crate::toml_text::{data, header, own_end, parse, quoted, table_at, whole_end, without};

mod legacy;

pub use legacy::{LegacyHost, LegacyRegistry};

/// What 2.x takes where nothing is set.
const DEFAULT_2X: &str = "/etc/containerd/certs.d:/etc/docker/certs.d";

/// What a configuration says of registries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The file's `version`; 1 where it names none.
    pub version: u32,
    /// `config_path` where it is set and not empty.
    pub config_path: Option<String>,
    /// `registry.mirrors` and `registry.configs.*.tls`, which exclude `config_path`.
    pub legacy: Vec<LegacyRegistry>,
    /// Files that this one pulls in.
    pub imports: Vec<String>,
    /// Whether the CRI plugin is off, so that nothing reads these settings.
    pub cri_disabled: bool,
}

/// What to do with an operator's settings that exclude `config_path`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Legacy {
    /// Leave the file alone and say why.
    Refuse,
    /// Take them out; they are answered as [`Applied::moved`], to be written into hosts.toml.
    Move,
}

/// An edit of `config.toml`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// The text; no change where the folder was set before.
    pub edit: Edit,
    /// The folder that containerd reads hosts.toml from, after the edit.
    pub folder: String,
    /// Folders that were read before and are not any more: their entries are to be copied into [`Self::folder`].
    pub copy_from: Vec<String>,
    /// Settings that were taken out and belong into hosts.toml now.
    pub moved: Vec<LegacyRegistry>,
}

/// The path of the registry settings in a file of this version.
fn registry_path(version: u32) -> Result<[&'static str; 3], Refusal> {
    let plugin = match version {
        0 | 1 => "cri",
        2 => "io.containerd.grpc.v1.cri",
        3 => "io.containerd.cri.v1.images",
        other => return Err(Refusal::Shape(format!("a configuration of version {other}"))),
    };
    Ok(["plugins", plugin, "registry"])
}

fn version_of(root: &Table) -> Result<u32, Refusal> {
    match root.get("version") {
        None => Ok(1),
        Some(item) => item
            .as_integer()
            .and_then(|version| u32::try_from(version).ok())
            .ok_or_else(|| Refusal::Shape("`version`".to_owned())),
    }
}

fn strings(item: Option<&Item>) -> Vec<String> {
    let array = item.and_then(Item::as_array);
    array.into_iter().flatten().filter_map(|value| value.as_str().map(str::to_owned)).collect()
}

/// Reads a configuration: a file, or what `containerd config dump` prints.
pub fn inspect(text: &str) -> Result<Found, Refusal> {
    let document = parse(text)?;
    let root = document.as_table();
    let version = version_of(root)?;
    let registry = table_at(root, &registry_path(version)?)?;
    let config_path = registry
        .and_then(|registry| registry.get("config_path"))
        .and_then(Item::as_str)
        .filter(|path| !path.is_empty())
        .map(str::to_owned);
    let cri = ["cri", "io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images"];
    Ok(Found {
        version,
        config_path,
        legacy: registry.map(legacy::read).transpose()?.unwrap_or_default(),
        imports: strings(root.get("imports")),
        cri_disabled: strings(root.get("disabled_plugins")).iter().any(|name| cri.contains(&name.as_str())),
    })
}

/// The socket that a configuration names.
pub(crate) fn address(text: &str) -> Option<String> {
    let document = parse(text).ok()?;
    let grpc = table_at(document.as_table(), &["grpc"]).ok()??;
    grpc.get("address").and_then(Item::as_str).filter(|address| !address.is_empty()).map(str::to_owned)
}

/// Sees to it that a configuration names one folder of registry hosts.
///
/// `effective` is what `config dump` says of the present configuration with all its imports, where it is known.
pub fn apply(
    text: Option<&str>,
    engine: Version,
    legacy: Legacy,
    effective: Option<&Found>,
) -> Result<Applied, Refusal> {
    let text = text.unwrap_or_default();
    let found = inspect(text)?;
    if let Some(effective) = effective
        && found.legacy.is_empty()
        && let Some(first) = effective.legacy.first()
    {
        return Err(legacy::conflict(&first.registry, "an imported file"));
    }
    if legacy == Legacy::Refuse
        && let Some(first) = found.legacy.first()
    {
        return Err(legacy::conflict(&first.registry, "config.toml"));
    }
    let imported = effective
        .and_then(|effective| effective.config_path.clone())
        .filter(|path| path != DEFAULT_2X || found.config_path.is_some());
    let set = found.config_path.clone().or(imported);
    let listed = match (&set, engine.major) {
        (Some(set), _) => set.clone(),
        (None, 2..) => DEFAULT_2X.to_owned(),
        (None, _) => CERTS_D.to_owned(),
    };
    let listed: Vec<&str> = listed.split(':').filter(|folder| !folder.is_empty()).collect();
    let kept = match listed.as_slice() {
        _ if set.is_none() => None,
        [one] => Some((*one).to_owned()),
        [first, ..] if engine.splits_folders() => Some((*first).to_owned()),
        _ => None,
    };
    let mut edit = Edit::unchanged(text);
    if legacy == Legacy::Move && !found.legacy.is_empty() {
        edit = Edit::between(text, legacy::take_out(text, &registry_path(found.version)?)?);
    }
    let (folder, copy_from) = match kept {
        Some(folder) => (folder, Vec::new()),
        None => {
            let after = set_folder(&edit.text, engine, CERTS_D)?;
            edit = Edit::between(text, after);
            let others = listed.iter().filter(|folder| **folder != CERTS_D);
            (CERTS_D.to_owned(), others.map(|folder| (*folder).to_owned()).collect())
        }
    };
    Ok(Applied { edit, folder, copy_from, moved: found.legacy })
}

/// Writes `config_path` at the one right place, and proves that nothing else reads differently.
fn set_folder(text: &str, engine: Version, folder: &str) -> Result<String, Refusal> {
    let document = parse(text)?;
    let root = document.as_table();
    let mut expected = data(root);
    let mut version = version_of(root)?;
    let mut head = String::new();
    if root.is_empty() {
        version = engine.config_version();
        head = format!("version = {version}\n\n");
        expected = json!({ "version": version });
    }
    let path = registry_path(version)?;
    let splice = match table_at(root, &path)? {
        Some(registry) => match (registry.get("config_path"), header(text, registry)) {
            (Some(item), _) => {
                let span = item.span().ok_or_else(|| Refusal::Shape("`config_path`".to_owned()))?;
                replace(text, span, quoted(folder))
            }
            (None, Some(header)) => {
                let indent = indent_of(text, line_start(text, header.start));
                let at = next_line(text, header.end.saturating_sub(1));
                let block = format!("{indent}  config_path = {}\n", quoted(folder));
                insert(at, format!("{}{}", line_break_before(text, at), in_style_of(text, &block)))
            }
            (None, None) => new_section(text, root, &path, &head, folder)?,
        },
        None => new_section(text, root, &path, &head, folder)?,
    };
    let after = Edit::make(text, vec![splice]).text;
    let mut place = &mut expected;
    for key in path {
        place = &mut place[key];
    }
    place["config_path"] = Value::from(folder);
    match parse(&after) {
        Ok(document) if data(document.as_table()) == expected => Ok(after),
        _ => Err(Refusal::Shape(format!("`{}`", path.join(".")))),
    }
}

fn new_section(
    text: &str,
    root: &Table,
    path: &[&'static str; 3],
    head: &str,
    folder: &str,
) -> Result<crate::Splice, Refusal> {
    let plugin = table_at(root, &path[..2])?;
    let at = plugin.and_then(|plugin| whole_end(text, plugin)).unwrap_or(text.len());
    let indent = plugin
        .and_then(|plugin| header(text, plugin))
        .map(|header| format!("{}  ", indent_of(text, line_start(text, header.start))))
        .unwrap_or_default();
    let name = if path[1] == "cri" { "cri".to_owned() } else { quoted(path[1]) };
    let apart = if text.trim().is_empty() || at < text.len() && plugin.is_none() { "" } else { "\n" };
    let block = format!(
        "{apart}{head}{indent}[plugins.{name}.registry]\n{indent}  config_path = {}\n",
        quoted(folder)
    );
    Ok(insert(at, format!("{}{}", line_break_before(text, at), in_style_of(text, &block))))
}

/// Takes `config_path` out of a text that was edited since, where it still names our folder; with it go the header and
/// the `version` that `base`, the text before us, had not. A text that held nothing else comes back empty.
///
/// Settings that were moved do not come back this way: see [`Applied::moved`].
pub fn strip(text: &str, folder: &str, base: Option<&str>) -> Result<Edit, Refusal> {
    let document = parse(text)?;
    let root = document.as_table();
    let path = registry_path(version_of(root)?)?;
    let Some(registry) = table_at(root, &path)? else { return Ok(Edit::unchanged(text)) };
    let Some(item) = registry.get("config_path").filter(|item| item.as_str() == Some(folder)) else {
        return Ok(Edit::unchanged(text));
    };
    let span = item.span().ok_or_else(|| Refusal::Shape("`config_path`".to_owned()))?;
    let base = base.unwrap_or_default();
    let before = parse(base)?;
    let before = before.as_table();
    let had_header = table_at(before, &path)?.is_some_and(|registry| header(base, registry).is_some());
    let own_values = registry.iter().filter(|(_, item)| item.is_value()).count();
    let range = match (header(text, registry), own_end(text, registry)) {
        (Some(header), Some(end)) if !had_header && own_values == 1 => line_start(text, header.start)..end,
        _ => line_start(text, span.start)..next_line(text, span.end),
    };
    let mut ranges = vec![range];
    if before.is_empty()
        && root.len() <= 2
        && let Some(version) = root.get("version").and_then(Item::span)
    {
        ranges.push(line_start(text, version.start)..next_line(text, version.end));
    }
    let mut after = without(text, ranges);
    if after.trim().is_empty() {
        after = base.to_owned();
    }
    parse(&after).map_err(|_| Refusal::ReadBack("config_path".to_owned()))?;
    Ok(Edit::between(text, after))
}

/// Puts settings that were moved into hosts.toml back, behind a text that was edited since.
pub fn put_back(text: &str, base: &str) -> Result<String, Refusal> {
    let path = registry_path(inspect(base)?.version)?;
    let tables = legacy::tables(base, &path)?;
    let after = format!("{text}{}{}", line_break_before(text, text.len()), in_style_of(text, &tables));
    let conflict = || Refusal::Conflict {
        what: "an edit of config.toml since its mirrors were moved into hosts.toml".to_owned(),
        why: "they cannot be put back beside it; do that by hand".to_owned(),
    };
    match inspect(&after) {
        Ok(found) if found.legacy == inspect(base)?.legacy => Ok(after),
        _ => Err(conflict()),
    }
}

#[cfg(test)]
mod tests;
