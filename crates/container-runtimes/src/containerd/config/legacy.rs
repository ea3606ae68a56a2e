//! `registry.mirrors` and `registry.configs.*.tls`: the older way to name mirrors. Beside a `config_path` they stop the
//! CRI plugin from loading, so the two never stand in one configuration.

use serde::{Deserialize, Serialize};
use toml_edit::{Item, Table};

use crate::edit::Refusal;
use crate::toml_text::{parse, sections, table_at, without};

/// What the older settings say of one registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LegacyRegistry {
    /// The registry's host, or `_default` for all (`*`).
    pub registry: String,
    /// Its mirrors, in order.
    pub mirrors: Vec<LegacyHost>,
    /// TLS settings of the registry itself.
    pub itself: Option<LegacyHost>,
}

/// A host and how it is spoken to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LegacyHost {
    /// Its URL.
    pub url: String,
    /// CA certificates, a file.
    pub ca: Option<String>,
    /// Client certificate and key, files.
    pub client: Option<(String, String)>,
    /// Whether any certificate is taken.
    pub skip_verify: bool,
}

pub(super) fn conflict(registry: &str, place: &str) -> Refusal {
    Refusal::Conflict {
        what: format!("registry.mirrors or registry.configs.*.tls ({registry}) in {place}"),
        why: "together with config_path it stops containerd's CRI plugin from loading; move it into hosts.toml, or have it moved"
            .to_owned(),
    }
}

fn shape(key: &str) -> Refusal {
    Refusal::Shape(format!("`{key}`"))
}

fn children<'a>(registry: &'a Table, key: &str) -> Result<Vec<(&'a str, &'a Item)>, Refusal> {
    match registry.get(key) {
        None => Ok(Vec::new()),
        Some(Item::Table(table)) => Ok(table.iter().collect()),
        Some(item) if item.as_inline_table().is_some_and(|table| table.is_empty()) => Ok(Vec::new()),
        Some(_) => Err(shape(key)),
    }
}

fn tls_of(host: &str, item: &Item) -> Result<Option<LegacyHost>, Refusal> {
    let tls = match item {
        Item::Table(config) => config.get("tls"),
        _ => return Err(shape(&format!("configs.{host}"))),
    };
    let Some(tls) = tls else { return Ok(None) };
    let tls = tls.as_table().ok_or_else(|| shape(&format!("configs.{host}.tls")))?;
    let text =
        |key: &str| tls.get(key).and_then(Item::as_str).filter(|value| !value.is_empty()).map(str::to_owned);
    Ok(Some(LegacyHost {
        url: format!("https://{host}"),
        ca: text("ca_file"),
        client: text("cert_file").zip(text("key_file")),
        skip_verify: tls.get("insecure_skip_verify").and_then(Item::as_bool).unwrap_or(false),
    }))
}

/// The host and port of a URL.
fn host_of(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split('/').next().unwrap_or(rest)
}

/// Reads them; a TLS setting goes to the mirrors at its host, and else to the registry of that name.
pub(super) fn read(registry: &Table) -> Result<Vec<LegacyRegistry>, Refusal> {
    let mut tls = Vec::new();
    for (host, item) in children(registry, "configs")? {
        if let Some(settings) = tls_of(host, item)? {
            tls.push((host.to_owned(), settings, false));
        }
    }
    let mut found: Vec<LegacyRegistry> = Vec::new();
    for (host, item) in children(registry, "mirrors")? {
        let endpoints = match item {
            Item::Table(table) => table.get("endpoint").and_then(Item::as_array),
            _ => return Err(shape(&format!("mirrors.{host}"))),
        };
        let mut mirrors = Vec::new();
        for url in endpoints.into_iter().flatten().filter_map(toml_edit::Value::as_str) {
            let mut mirror = LegacyHost { url: url.to_owned(), ..LegacyHost::default() };
            for (_, settings, used) in tls.iter_mut().filter(|(host, ..)| host == host_of(url)) {
                *used = true;
                mirror = LegacyHost { url: url.to_owned(), ..settings.clone() };
            }
            mirrors.push(mirror);
        }
        let registry = if host == "*" { "_default".to_owned() } else { host.to_owned() };
        found.push(LegacyRegistry { registry, mirrors, itself: None });
    }
    for (host, settings, used) in tls {
        match found.iter_mut().find(|registry| registry.registry == host) {
            Some(registry) => registry.itself = Some(settings),
            None if used => {}
            None => {
                found.push(LegacyRegistry { registry: host, mirrors: Vec::new(), itself: Some(settings) })
            }
        }
    }
    Ok(found)
}

/// The tables that hold them.
fn ranges(text: &str, path: &[&str]) -> Result<Vec<std::ops::Range<usize>>, Refusal> {
    let document = parse(text)?;
    let mut ranges = Vec::new();
    let Some(registry) = table_at(document.as_table(), path)? else { return Ok(ranges) };
    if let Some(mirrors) = registry.get("mirrors").and_then(Item::as_table) {
        sections(text, mirrors, &mut ranges);
    }
    for (host, item) in children(registry, "configs")? {
        let Some(config) = item.as_table() else { return Err(shape(&format!("configs.{host}"))) };
        if let Some(tls) = config.get("tls").and_then(Item::as_table) {
            sections(text, if config.len() == 1 { config } else { tls }, &mut ranges);
        }
    }
    ranges.sort_by_key(|range| range.start);
    Ok(ranges)
}

/// Their text.
pub(super) fn tables(text: &str, path: &[&str]) -> Result<String, Refusal> {
    let ranges = ranges(text, path)?;
    let mut out = String::new();
    for range in ranges {
        out.push_str(text.get(range).unwrap_or_default());
        if !out.ends_with('\n') {
            out.push('\n');
        }
    }
    Ok(out)
}

/// The text without them; `configs.*.auth` stays, it goes along with `config_path`.
pub(super) fn take_out(text: &str, path: &[&str]) -> Result<String, Refusal> {
    let after = without(text, ranges(text, path)?);
    let left = parse(&after)?;
    let left = table_at(left.as_table(), path)?.map(read).transpose()?.unwrap_or_default();
    if left.is_empty() { Ok(after) } else { Err(shape("registry.mirrors")) }
}
