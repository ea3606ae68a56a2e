//! `hosts.toml`, one for each registry, read by containerd at every pull. Broken TOML is no error to it: it pulls from
//! the upstream with a line in its log. So a text is parsed back before anybody writes it.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use toml_edit::{Item, Table};

use super::config::{LegacyHost, LegacyRegistry};
use crate::edit::{Edit, Refusal, in_style_of, insert, line_break_before, line_start};
use crate::secret::Hidden;
use crate::toml_text::{data, parse, quoted, sections, whole_end, with_comments_above, without};

/// The folder of what holds for every registry without one of its own.
pub const EVERY: &str = "_default";

/// A mirror of one registry.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MirrorHost {
    /// Scheme, host and port.
    pub url: String,
    /// CA certificates that its certificate is checked by, a file.
    pub ca: Option<String>,
    /// Client certificate and key, files.
    pub client: Option<(String, String)>,
    /// Whether any certificate is taken; only ever an operator's own setting that was moved here.
    pub skip_verify: bool,
    /// Whether the URL's path stands instead of `/v2`.
    pub override_path: bool,
    /// Whether it is asked for digests alone, and what a tag means is asked of the next: what it serves is right, and may be
    /// of yesterday.
    #[serde(default)]
    pub by_digest: bool,
    /// How long a connection may take, in milliseconds; containerd 2.1 and later only.
    pub dial_timeout: Option<u32>,
    /// Header lines sent with every request. They hold credentials: such a file is made with mode 0600.
    pub headers: Vec<(String, Hidden)>,
}

impl MirrorHost {
    /// A mirror without any settings.
    pub fn new(url: impl Into<String>) -> Self {
        Self { url: url.into(), ..Self::default() }
    }

    fn of_legacy(host: &LegacyHost) -> Self {
        let path = host
            .url
            .split_once("://")
            .map_or("", |(_, rest)| rest)
            .split_once('/')
            .map_or("", |(_, path)| path);
        Self {
            url: host.url.clone(),
            ca: host.ca.clone(),
            client: host.client.clone(),
            skip_verify: host.skip_verify,
            override_path: !path.trim_matches('/').is_empty(),
            ..Self::default()
        }
    }

    fn capabilities(&self) -> &'static [&'static str] {
        if self.by_digest { &["pull"] } else { &["pull", "resolve"] }
    }

    fn data(&self) -> Value {
        let mut data = json!({ "capabilities": self.capabilities() });
        if let Some(ca) = &self.ca {
            data["ca"] = json!(ca);
        }
        if let Some((certificate, key)) = &self.client {
            data["client"] = json!([[certificate, key]]);
        }
        if self.skip_verify {
            data["skip_verify"] = json!(true);
        }
        if self.override_path {
            data["override_path"] = json!(true);
        }
        if let Some(timeout) = self.dial_timeout {
            data["dial_timeout"] = json!(format!("{timeout}ms"));
        }
        for (name, value) in &self.headers {
            data["header"][name] = json!([value.reveal()]);
        }
        data
    }

    fn block(&self) -> String {
        let url = quoted(&self.url);
        let capabilities: Vec<String> = self.capabilities().iter().map(|name| quoted(name)).collect();
        let capabilities = capabilities.join(", ");
        let mut block = format!("[host.{url}]\n  capabilities = [{capabilities}]\n");
        if let Some(ca) = &self.ca {
            block += &format!("  ca = {}\n", quoted(ca));
        }
        if let Some((certificate, key)) = &self.client {
            block += &format!("  client = [[{}, {}]]\n", quoted(certificate), quoted(key));
        }
        if self.skip_verify {
            block += "  skip_verify = true\n";
        }
        if self.override_path {
            block += "  override_path = true\n";
        }
        if let Some(timeout) = self.dial_timeout {
            block += &format!("  dial_timeout = \"{timeout}ms\"\n");
        }
        if !self.headers.is_empty() {
            block += &format!("  [host.{url}.header]\n");
        }
        for (name, value) in &self.headers {
            block += &format!("    {} = [{}]\n", quoted(name), quoted(value.reveal()));
        }
        block
    }
}

/// Where a registry is, if none of its mirrors has an image.
fn server_of(registry: &str) -> Option<String> {
    let host = registry.rsplit_once(':').map_or(registry, |(host, _)| host);
    match registry {
        "docker.io" => Some("https://registry-1.docker.io".to_owned()),
        // containerd itself knows how to speak to what is on loopback, and which registry a default stands for.
        EVERY => None,
        _ if host == "localhost" || host.starts_with("127.") => None,
        _ => Some(format!("https://{registry}")),
    }
}

/// A file that says what a folder of certificates without `hosts.toml` says (`*.crt` are CAs, `*.cert` and `*.key` the
/// client's): containerd looks at the certificates no more once there is a `hosts.toml`. None where `names` holds none.
pub fn of_certificates(registry: &str, folder: &str, names: &[String]) -> Option<String> {
    let path = |name: &str| quoted(&format!("{folder}/{name}"));
    let ca: Vec<String> = names.iter().filter(|name| name.ends_with(".crt")).map(|name| path(name)).collect();
    let pairs = names.iter().filter_map(|name| {
        let key = format!("{}.key", name.strip_suffix(".cert")?);
        names.contains(&key).then(|| format!("[{}, {}]", path(name), path(&key)))
    });
    let pairs: Vec<String> = pairs.collect();
    if ca.is_empty() && pairs.is_empty() {
        return None;
    }
    let mut text =
        server_of(registry).map(|server| format!("server = {}\n", quoted(&server))).unwrap_or_default();
    if !ca.is_empty() {
        text += &format!("ca = [{}]\n", ca.join(", "));
    }
    if !pairs.is_empty() {
        text += &format!("client = [{}]\n", pairs.join(", "));
    }
    Some(text)
}

fn hosts(root: &Table) -> Result<Option<&Table>, Refusal> {
    match root.get("host") {
        None => Ok(None),
        Some(Item::Table(hosts)) => Ok(Some(hosts)),
        Some(_) => Err(Refusal::Shape("`host`".to_owned())),
    }
}

/// Whether a file names a host already.
pub fn names(text: &str, url: &str) -> Result<bool, Refusal> {
    let document = parse(text)?;
    Ok(hosts(document.as_table())?.is_some_and(|hosts| hosts.contains_key(url)))
}

/// Whether it names certificates or keys by paths that hold beside it only.
pub fn has_relative_paths(text: &str) -> bool {
    fn relative(value: &Value) -> bool {
        match value {
            Value::String(path) => !path.is_empty() && !path.starts_with('/'),
            Value::Array(all) => all.iter().any(relative),
            _ => false,
        }
    }
    let Ok(document) = parse(text) else { return false };
    let root = data(document.as_table());
    let of_hosts = root["host"].as_object().into_iter().flat_map(|hosts| hosts.values());
    std::iter::once(&root).chain(of_hosts).any(|table| relative(&table["ca"]) || relative(&table["client"]))
}

/// Puts mirrors before all hosts of a file, in their order. One that the file names already stays as it is.
pub fn apply(text: Option<&str>, registry: &str, mirrors: &[MirrorHost]) -> Result<Edit, Refusal> {
    let text = text.unwrap_or_default();
    let document = parse(text)?;
    let root = document.as_table();
    let existing = hosts(root)?;
    let new: Vec<&MirrorHost> = mirrors
        .iter()
        .filter(|mirror| !existing.is_some_and(|hosts| hosts.contains_key(&mirror.url)))
        .collect();
    if new.is_empty() {
        return Ok(Edit::unchanged(text));
    }
    let mut expected = data(root);
    for mirror in &new {
        expected["host"][&mirror.url] = mirror.data();
    }
    let blocks = new.iter().map(|mirror| mirror.block()).collect::<Vec<_>>().join("\n");
    let mut tables = Vec::new();
    if let Some(existing) = existing {
        sections(text, existing, &mut tables);
    }
    let splice = match tables.iter().map(|range| range.start).min() {
        Some(first) => insert(with_comments_above(text, first), in_style_of(text, &format!("{blocks}\n"))),
        None if root.is_empty() && existing.is_none() => {
            let server = server_of(registry);
            if let Some(server) = &server {
                expected["server"] = json!(server);
            }
            let server = server.map(|server| format!("server = {}\n\n", quoted(&server))).unwrap_or_default();
            let block = in_style_of(text, &format!("{server}{blocks}"));
            insert(text.len(), format!("{}{block}", line_break_before(text, text.len())))
        }
        None => {
            let at = whole_end(text, root).unwrap_or(text.len()).max(text.trim_end().len()).min(text.len());
            let at = if at < text.len() { crate::edit::next_line(text, at) } else { at };
            insert(
                at,
                format!("{}{}", line_break_before(text, at), in_style_of(text, &format!("\n{blocks}"))),
            )
        }
    };
    let after = Edit::make(text, vec![splice]).text;
    let read = parse(&after).map_err(|_| Refusal::Shape("`host`".to_owned()))?;
    if data(read.as_table()) != expected || !in_front(&after, read.as_table(), &new) {
        return Err(Refusal::Shape("`host`".to_owned()));
    }
    Ok(Edit::between(text, after))
}

/// Whether the mirrors stand before every other host: containerd tries hosts in the order of the file.
fn in_front(text: &str, root: &Table, mirrors: &[&MirrorHost]) -> bool {
    let start = |table: &Table| {
        let mut ranges = Vec::new();
        sections(text, table, &mut ranges);
        ranges.iter().map(|range| range.start).min().unwrap_or(usize::MAX)
    };
    let mut order: Vec<(usize, &str)> = root
        .get("host")
        .and_then(Item::as_table)
        .into_iter()
        .flat_map(Table::iter)
        .filter_map(|(url, item)| Some((start(item.as_table()?), url)))
        .collect();
    order.sort_unstable();
    order.iter().zip(mirrors).all(|((_, url), mirror)| *url == mirror.url)
}

/// Writes settings that were taken out of `config.toml` behind what is there already.
pub fn adopt(text: Option<&str>, moved: &LegacyRegistry) -> Result<Edit, Refusal> {
    let before = text.unwrap_or_default();
    let mirrors: Vec<MirrorHost> = moved.mirrors.iter().map(MirrorHost::of_legacy).collect();
    let mut after = String::new();
    if let Some(itself) = &moved.itself {
        if !before.trim().is_empty() {
            return Err(Refusal::Conflict {
                what: format!("the hosts.toml of {}", moved.registry),
                why: "TLS settings of the registry itself would have to be merged into it; do that by hand"
                    .to_owned(),
            });
        }
        let host = MirrorHost::of_legacy(itself);
        after += &format!("server = {}\n", quoted(&host.url));
        if let Some(ca) = &host.ca {
            after += &format!("ca = {}\n", quoted(ca));
        }
        if let Some((certificate, key)) = &host.client {
            after += &format!("client = [[{}, {}]]\n", quoted(certificate), quoted(key));
        }
        if host.skip_verify {
            after += "skip_verify = true\n";
        }
    } else {
        after += before;
    }
    let mut text = after;
    for mirror in mirrors {
        if names(&text, &mirror.url)? {
            continue;
        }
        if text.trim().is_empty() {
            text = apply(Some(&text), &moved.registry, &[mirror])?.text;
        } else {
            text = format!("{text}{}\n{}", line_break_before(&text, text.len()), mirror.block());
        }
    }
    parse(&text).map_err(|_| Refusal::ReadBack("hosts.toml".to_owned()))?;
    Ok(Edit::between(before, text))
}

/// Takes mirrors out of a file that was edited since. A text that held nothing else comes back empty.
pub fn strip(text: &str, registry: &str, urls: &[String]) -> Result<Edit, Refusal> {
    let document = parse(text)?;
    let root = document.as_table();
    let Some(existing) = hosts(root)? else { return Ok(Edit::unchanged(text)) };
    let mut ranges = Vec::new();
    for url in urls {
        if let Some(Item::Table(host)) = existing.get(url) {
            sections(text, host, &mut ranges);
        }
    }
    if ranges.is_empty() {
        return Ok(Edit::unchanged(text));
    }
    for range in &mut ranges {
        range.start = line_start(text, range.start);
    }
    let mut after = without(text, ranges);
    let left = parse(&after).map_err(|_| Refusal::ReadBack("hosts.toml".to_owned()))?;
    let bare = data(left.as_table()) == json!({ "server": server_of(registry) }) && !after.contains('#');
    if bare {
        after = String::new();
    }
    Ok(Edit::between(text, after))
}

#[cfg(test)]
mod tests;
