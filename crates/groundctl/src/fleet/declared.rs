//! From the text of fleet files to what they want, or to everything that is wrong with them.

use std::collections::{BTreeMap, BTreeSet};

use fleet_protocol::{Artifact, ConfigName, GroupName, SatelliteName};
use ground_control_domain::label::{self, Labels, Selector};
use ground_control_domain::{config, group};
use serde_json::Value;
use serde_saphyr::Spanned;

use super::file::{self, Document, Entries, GroupEntry, SatelliteEntry, VERSION};
use super::{Kind, Wanted, WantedGroup, WantedSatellite, bare};

/// Names that paths of the API already mean something else by.
const RESERVED: [(Kind, &[&str]); 3] = [
    (Kind::Config, &["satellite"]),
    (Kind::Group, &["sync", "satellite"]),
    (Kind::Satellite, &["active", "stale", "register"]),
];

/// Reads all files, each with the name that people know it by, as one. What is wrong is told with file, line and path.
pub(crate) fn read(files: &[(String, String)]) -> Result<Wanted, Vec<String>> {
    let mut reader = Reader::default();
    for (name, text) in files {
        match file::documents(text) {
            Ok(documents) => documents.into_iter().for_each(|document| reader.document(name, document)),
            Err(reason) => reader.wrong.push(format!("{name}: {reason}")),
        }
    }
    reader.memberships();
    if reader.wrong.is_empty() { Ok(reader.wanted) } else { Err(reader.wrong) }
}

#[derive(Default)]
struct Reader {
    wanted: Wanted,
    /// Where each entry stands.
    places: BTreeMap<(Kind, String), String>,
    wrong: Vec<String>,
}

impl Reader {
    fn document(&mut self, file: &str, document: Document) {
        if let Some(version) = document.version.filter(|version| version.value != VERSION) {
            let line = version.referenced.line();
            self.wrong.push(format!(
                "{file}:{line}: version {}: this groundctl knows version {VERSION} alone",
                version.value
            ));
        }
        let configs = self.section(file, Kind::Config, document.configs, Self::config);
        let groups = self.section(file, Kind::Group, document.groups, Self::group);
        let satellites = self.section(file, Kind::Satellite, document.satellites, Self::satellite);
        merge(&mut self.wanted.configs, configs);
        merge(&mut self.wanted.groups, groups);
        merge(&mut self.wanted.satellites, satellites);
    }

    fn section<T, U>(
        &mut self,
        file: &str,
        kind: Kind,
        entries: Option<Entries<T>>,
        read: fn(&mut Vec<String>, T) -> U,
    ) -> Option<BTreeMap<String, U>> {
        let mut all = BTreeMap::new();
        for (name, Spanned { value, referenced, .. }) in entries? {
            let place = format!("{file}:{}", referenced.line());
            let path = format!("{}.{name}", kind.section());
            let mut wrong = Vec::new();
            if let Err(reason) = check_name(kind, &name) {
                wrong.push(format!(": {reason}"));
            }
            let entry = read(&mut wrong, value);
            self.wrong.extend(wrong.into_iter().map(|reason| format!("{place}: {path}{reason}")));
            if let Some(other) = self.places.insert((kind, name.clone()), place.clone()) {
                self.wrong.push(format!("{place}: {path} is declared in {other} already"));
            }
            all.insert(name, entry);
        }
        Some(all)
    }

    fn config(wrong: &mut Vec<String>, document: Value) -> Value {
        if let Err(reason) = config::check(&document) {
            wrong.push(format!(": {reason}"));
        }
        bare(&document)
    }

    fn group(wrong: &mut Vec<String>, entry: GroupEntry) -> WantedGroup {
        let artifacts: Option<Vec<Artifact>> =
            entry.artifacts.map(|list| list.into_iter().map(Artifact::from).collect());
        if let Some(Err(reason)) = artifacts.as_deref().map(group::check) {
            wrong.push(format!(".artifacts: {reason}"));
        }
        let selector = entry.selector.map(|text| match text.as_deref().map(str::trim) {
            None | Some("") => None,
            Some(text) => {
                let read = text.parse::<Selector>();
                match read.and_then(|selector| group::check_selector(&selector).map(|()| selector)) {
                    Ok(selector) => Some(selector),
                    Err(reason) => {
                        wrong.push(format!(".selector: {reason}"));
                        None
                    }
                }
            }
        });
        let satellites =
            entry.satellites.map(|names| each_once(wrong, ".satellites", Kind::Satellite, names));
        WantedGroup { artifacts, selector, satellites }
    }

    fn satellite(wrong: &mut Vec<String>, entry: SatelliteEntry) -> WantedSatellite {
        if let Some(labels) = &entry.labels {
            let patch = serde_json::to_value(labels).unwrap_or_default();
            if let Err(reason) = label::patched(&Labels::new(), &patch) {
                wrong.push(format!(".labels: {reason}"));
            }
        }
        if let Some(Err(reason)) = entry.config.as_deref().map(|name| check_name(Kind::Config, name)) {
            wrong.push(format!(".config: {reason}"));
        }
        let groups = entry.groups.map(|names| each_once(wrong, ".groups", Kind::Group, names));
        WantedSatellite { labels: entry.labels, config: entry.config, groups }
    }

    /// A satellite's groups and a group's satellites may both be said, and then they have to say the same.
    fn memberships(&mut self) {
        let mut wrong = Vec::new();
        for (satellite, entry) in self.wanted.satellites.iter().flatten() {
            let Some(groups) = &entry.groups else { continue };
            for (group, other) in self.wanted.groups.iter().flatten() {
                let Some(satellites) = &other.satellites else { continue };
                let (here, there) = (groups.contains(group), satellites.contains(satellite));
                if here == there {
                    continue;
                }
                let not = |yes: bool| if yes { "names" } else { "does not name" };
                let place = self.places.get(&(Kind::Satellite, satellite.clone()));
                wrong.push(format!(
                    "{}: satellites.{satellite}.groups {} {group}, and groups.{group}.satellites {} {satellite}: say it in one place",
                    place.map_or("", String::as_str),
                    not(here),
                    not(there),
                ));
            }
        }
        self.wrong.append(&mut wrong);
    }
}

fn merge<T>(into: &mut Option<BTreeMap<String, T>>, section: Option<BTreeMap<String, T>>) {
    if let Some(section) = section {
        into.get_or_insert_default().extend(section);
    }
}

fn check_name(kind: Kind, name: &str) -> Result<(), String> {
    if RESERVED.iter().any(|(of, names)| *of == kind && names.contains(&name)) {
        return Err(format!("the {kind} name `{name}` is reserved"));
    }
    let wrong = match kind {
        Kind::Config => name.parse::<ConfigName>().err(),
        Kind::Group => name.parse::<GroupName>().err(),
        Kind::Satellite => name.parse::<SatelliteName>().err(),
    };
    wrong.map_or(Ok(()), |error| Err(error.to_string()))
}

fn each_once(wrong: &mut Vec<String>, field: &str, kind: Kind, names: Vec<String>) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for name in names {
        if let Err(reason) = check_name(kind, &name) {
            wrong.push(format!("{field}: {reason}"));
        }
        if !all.insert(name.clone()) {
            wrong.push(format!("{field}: {name} stands there twice"));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(text: &str) -> String {
        read(&[("fleet.yaml".to_owned(), text.to_owned())]).unwrap_err().join("\n")
    }

    #[test]
    fn files_and_documents_are_one() {
        let files = [
            ("a.yaml".to_owned(), "version: 1\nconfigs:\n  slow:\n    app_config: {log_level: warn, metrics: null}\n---\ngroups:\n  web:\n    artifacts:\n    - {repository: a/b, tag: [\"1.10\", x]}\n    - {repository: c, match: {semver: ^1.2}, keep: 2, platforms: [linux/arm64]}\n    selector:\n".to_owned()),
            ("b.yaml".to_owned(), "{\"satellites\": {\"edge-01\": {\"labels\": {\"env\": \"prod\", \"rack\": \"7\"}, \"groups\": [\"web\"]}}, \"configs\": {}}".to_owned()),
        ];
        let wanted = read(&files).unwrap();
        let config = serde_json::json!({"app_config": {"log_level": "warn"}});
        assert_eq!(wanted.configs.unwrap()["slow"], config);
        let group = wanted.groups.unwrap().remove("web").unwrap();
        assert_eq!(group.artifacts.as_ref().map(Vec::len), Some(2));
        assert_eq!((group.selector, group.satellites), (Some(None), None));
        let satellite = wanted.satellites.unwrap().remove("edge-01").unwrap();
        assert_eq!(satellite.labels.unwrap()["rack"], "7");
        assert_eq!((satellite.config, satellite.groups), (None, Some(BTreeSet::from(["web".to_owned()]))));
        assert_eq!(read(&[]), Ok(Wanted::default()));
        assert_eq!(read(&[("-".to_owned(), "groups:\n".to_owned())]), Ok(Wanted::default()));
    }

    #[test]
    fn what_is_wrong_is_told_with_line_and_path() {
        for (text, words) in [
            ("groups:\n  shops:\n    artefacts: []\n", ["groups.shops.artefacts", "line 3"].as_slice()),
            (
                "groups:\n  shops:\n    artifacts:\n    - repository: a/b\n      tag: 1.10\n",
                &["groups.shops.artifacts[0].tag", "quotes", "line 5"],
            ),
            (
                "groups:\n  shops:\n    artifacts:\n    - repository: a/b\n      tag: [1.10]\n",
                &["quotes", "line 5"],
            ),
            (
                "groups:\n  shops:\n    artifacts:\n    - repository: ../up\n      tag: t\n",
                &["repository", "line 4"],
            ),
            (
                "groups:\n  shops:\n    artifacts:\n    - repository: a/b\n",
                &["fleet.yaml:3: groups.shops.artifacts", "neither a tag"],
            ),
            (
                "groups:\n  shops: {selector: '!old'}\n",
                &["fleet.yaml:2: groups.shops.selector", "at least one label"],
            ),
            ("groups:\n  shops: {}\n  shops: {}\n", &["duplicate", "line 3"]),
            (
                "groups:\n  shops: {}\n---\ngroups:\n  shops: {}\n",
                &["fleet.yaml:5", "declared in fleet.yaml:2 already"],
            ),
            ("groups:\n  Shops: {}\n", &["fleet.yaml:2: groups.Shops", "no group name"]),
            ("groups:\n  sync: {}\n", &["reserved"]),
            ("groups:\n  web: {satellites: [a, a]}\n", &["groups.web.satellites", "twice"]),
            (
                "groups:\n  web: {satellites: [a]}\nsatellites:\n  a: {groups: []}\n",
                &["fleet.yaml:4", "one place"],
            ),
            ("satellites:\n  a: {labels: {no good: x}}\n", &["satellites.a.labels", "no good"]),
            ("satellites:\n  a: {config: ../up}\n", &["satellites.a.config"]),
            ("configs:\n  c: {app_config: {log_level: loud}}\n", &["fleet.yaml:2: configs.c", "log_level"]),
            ("configs:\n  c: {state_config: {auth: {password: hunter2}}}\n", &["configs.c", "secret"]),
            ("version: 2\n", &["fleet.yaml:1", "version 1"]),
            ("users: {}\n", &["unknown field `users`", "line 1"]),
            ("- a\n", &["line 1"]),
            ("a: [", &["fleet.yaml"]),
        ] {
            let said = wrong(text);
            for word in words {
                assert!(said.contains(word), "{text}\n{said}");
            }
            assert!(!said.contains("hunter2"), "{said}");
        }
    }

    #[test]
    fn everything_that_is_wrong_is_told_at_once() {
        let said = wrong("groups:\n  A: {}\n  b: {selector: ','}\nconfigs:\n  c: []\n");
        assert_eq!(said.lines().count(), 3, "{said}");
    }
}
