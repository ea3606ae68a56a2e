//! `configs` of `registries.yaml`: how a mirror is logged in to, and by what its certificate is checked.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::yaml::{self, Entry, Kind, Node};
use super::{entry, into_flow, quoted, shape};
use crate::edit::{
    Edit, Refusal, cut, in_style_of, insert, line_break_before, line_start, next_line, replace,
};
use crate::secret::Hidden;

const KEY: &str = "configs";

/// What one mirror needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostConfig {
    /// Host and port, as in the mirror's URL.
    pub host: String,
    /// The account.
    pub login: Option<(String, Hidden)>,
    /// CA certificates, a file.
    pub ca: Option<String>,
    /// Client certificate and key, files.
    pub client: Option<(String, String)>,
}

impl HostConfig {
    /// Sections with their keys and values, in order.
    fn sections(&self) -> Vec<(&'static str, Vec<(&'static str, &str)>)> {
        let mut sections = Vec::new();
        if let Some((username, password)) = &self.login {
            sections.push(("auth", vec![("username", username.as_str()), ("password", password.reveal())]));
        }
        let mut tls: Vec<(&'static str, &str)> = Vec::new();
        tls.extend(self.client.iter().flat_map(|(certificate, key)| {
            [("cert_file", certificate.as_str()), ("key_file", key.as_str())]
        }));
        tls.extend(self.ca.iter().map(|ca| ("ca_file", ca.as_str())));
        if !tls.is_empty() {
            sections.push(("tls", tls));
        }
        sections
    }

    fn data(&self) -> Value {
        let section = |keys: Vec<(&'static str, &str)>| -> Value {
            keys.into_iter()
                .map(|(key, value)| (key.to_owned(), Value::from(value)))
                .collect::<Map<_, _>>()
                .into()
        };
        let sections = self.sections().into_iter().map(|(name, keys)| (name.to_owned(), section(keys)));
        sections.collect::<Map<_, _>>().into()
    }

    fn flow(&self) -> String {
        // JSON is YAML's flow notation.
        format!("{}: {}", quoted(&self.host), self.data())
    }

    fn block(&self, indent: usize, step: usize) -> String {
        let at = |depth: usize| " ".repeat(indent + depth * step);
        let mut out = format!("{}{}:\n", at(0), quoted(&self.host));
        for (section, keys) in self.sections() {
            out += &format!("{}{section}:\n", at(1));
            for (key, value) in keys {
                out += &format!("{}{key}: {}\n", at(2), quoted(value));
            }
        }
        out
    }
}

/// Adds what a mirror needs. Where the operator has an entry of that host, it has to be the same.
pub fn apply(text: Option<&str>, config: &HostConfig) -> Result<Edit, Refusal> {
    let text = text.unwrap_or_default();
    let root = yaml::parse(text)?;
    let all = entry(&root, KEY);
    if let Some(standing) = all.and_then(|all| entry(&all.value, &config.host)) {
        if standing.value.data() == config.data() {
            return Ok(Edit::unchanged(text));
        }
        return Err(Refusal::Conflict {
            what: format!("{KEY}.{}", config.host),
            why: "it says otherwise how the mirror is spoken to; correct it, or take it out".to_owned(),
        });
    }
    let splice = place(text, &root, all, config)?;
    let after = Edit::make(text, vec![splice]).text;
    let mut expected = root.data();
    if expected.is_null() {
        expected = Value::Object(Map::new());
    }
    if expected[KEY].is_null() {
        expected[KEY] = Value::Object(Map::new());
    }
    expected[KEY][&config.host] = config.data();
    match yaml::parse(&after) {
        Ok(read) if read.data() == expected => Ok(Edit::between(text, after)),
        _ => Err(shape(KEY)),
    }
}

fn place(
    text: &str,
    root: &Node,
    all: Option<&Entry>,
    config: &HostConfig,
) -> Result<crate::Splice, Refusal> {
    let step = yaml::step(root).unwrap_or(2);
    let Some(all) = all else {
        return Ok(match &root.kind {
            Kind::Map { flow: true, entries } => {
                let first = entries.first().map(|entry| &entry.key_range);
                into_flow(text, root, first, &format!("{KEY}: {{{}}}", config.flow()))
            }
            Kind::Map { flow: false, entries } => {
                let column = entries.first().map_or(0, |entry| entry.column);
                let at = root.range.end.max(text.trim_end().len()).min(text.len());
                let at = if at < text.len() { next_line(text, at) } else { at };
                section(text, at, column, step, config)
            }
            _ => section(text, text.len(), 0, step, config),
        });
    };
    match &all.value.kind {
        Kind::Null if !all.value.range.is_empty() => {
            Ok(replace(text, all.value.range.clone(), format!("{{{}}}", config.flow())))
        }
        Kind::Null => {
            let at = next_line(text, all.key_range.end);
            let block = in_style_of(text, &config.block(all.column + step, step));
            Ok(insert(at, format!("{}{block}", line_break_before(text, at))))
        }
        Kind::Map { flow: true, entries } => {
            let first = entries.first().map(|entry| &entry.key_range);
            Ok(into_flow(text, &all.value, first, &config.flow()))
        }
        Kind::Map { flow: false, entries } => {
            let first = entries.first().ok_or_else(|| shape(KEY))?;
            let at = line_start(text, first.key_range.start);
            Ok(insert(at, in_style_of(text, &config.block(first.column, step))))
        }
        _ => Err(shape(KEY)),
    }
}

/// The whole of `configs`, on lines of its own.
fn section(text: &str, at: usize, column: usize, step: usize, config: &HostConfig) -> crate::Splice {
    let block = format!("{}{KEY}:\n{}", " ".repeat(column), config.block(column + step, step));
    insert(at, format!("{}{}", line_break_before(text, at), in_style_of(text, &block)))
}

/// Takes it out of a file that was edited since; `configs` goes with it where `base`, the file before us, had none.
pub fn strip(text: &str, host: &str, base: Option<&str>) -> Result<Edit, Refusal> {
    let (root, base) = (yaml::parse(text)?, yaml::parse(base.unwrap_or_default())?);
    let base_all = entry(&base, KEY);
    if base_all.is_some_and(|all| entry(&all.value, host).is_some()) {
        return Ok(Edit::unchanged(text));
    }
    let Some(all) = entry(&root, KEY).filter(|all| entry(&all.value, host).is_some()) else {
        return Ok(Edit::unchanged(text));
    };
    let alone = matches!(&all.value.kind, Kind::Map { entries, .. } if entries.len() == 1);
    let range = if alone && base_all.is_none() {
        yaml::child_of(text, &root, KEY)
    } else {
        yaml::child_of(text, &all.value, host)
    };
    let range = range.ok_or_else(|| shape(KEY))?;
    let after = Edit::make(text, vec![cut(text, range)]).text;
    let read = yaml::parse(&after).map_err(|_| Refusal::ReadBack(KEY.to_owned()))?;
    match entry(&read, KEY).and_then(|all| entry(&all.value, host)) {
        None => Ok(Edit::between(text, after)),
        Some(_) => Err(Refusal::ReadBack(KEY.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edit::laws;

    fn config() -> HostConfig {
        HostConfig {
            host: "10.0.0.2:8585".to_owned(),
            login: Some(("u".to_owned(), Hidden::new("p\"w"))),
            ca: Some("/etc/rancher/k3s/satellite-mirror.crt".to_owned()),
            client: None,
        }
    }

    fn edit(text: &str) -> String {
        let config = config();
        laws::check(text, |text| apply(Some(text), &config), |after| strip(after, &config.host, Some(text)))
            .text
    }

    #[test]
    fn every_notation() {
        let block = "  \"10.0.0.2:8585\":\n    auth:\n      username: \"u\"\n      password: \"p\\\"w\"\n    tls:\n      ca_file: \"/etc/rancher/k3s/satellite-mirror.crt\"\n";
        assert_eq!(edit(""), format!("configs:\n{block}"));
        assert_eq!(edit("# site\nmirrors:\n"), format!("# site\nmirrors:\nconfigs:\n{block}"));
        assert_eq!(
            edit("configs: # all\n  \"r:1\": # one\n    tls: {}\nmirrors: {}\n"),
            format!("configs: # all\n{block}  \"r:1\": # one\n    tls: {{}}\nmirrors: {{}}\n")
        );
        assert!(edit("configs: {}\n").starts_with("configs: {\"10.0.0.2:8585\": {"));
        let edited = apply(Some("configs: ~ # none\n"), &config()).unwrap();
        assert!(edited.text.ends_with("} # none\n") && edited.undo() == "configs: ~ # none\n");
        assert!(edit("{mirrors: {}}\n").starts_with("{configs: {\"10.0.0.2:8585\""));
    }

    #[test]
    fn an_operator_s_own_entry_has_to_be_the_same() {
        let own = "configs:\n  10.0.0.2:8585:\n    auth:\n      username: other\n";
        assert!(matches!(apply(Some(own), &config()), Err(Refusal::Conflict { .. })));
        let same = edit("");
        assert!(!strip(&same, "10.0.0.2:8585", Some(&same)).unwrap().is_change());
    }
}
