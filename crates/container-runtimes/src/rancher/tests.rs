use proptest::prelude::*;

use super::*;
use crate::edit::laws;

const OURS: &str = "http://127.0.0.1:8585";

fn ours() -> Vec<MirrorEndpoint> {
    ["docker.io", "quay.io"]
        .iter()
        .map(|host| MirrorEndpoint { registry: (*host).into(), url: OURS.into() })
        .collect()
}

fn edit(text: &str) -> String {
    laws::check(text, |text| apply(Some(text), &ours()), |after| strip(after, &ours(), Some(text))).text
}

#[test]
fn a_new_file() {
    assert_eq!(
        edit(""),
        "mirrors:\n  \"quay.io\":\n    endpoint:\n      - \"http://127.0.0.1:8585\"\n  \"docker.io\":\n    endpoint:\n      - \"http://127.0.0.1:8585\"\n"
    );
}

#[test]
fn every_notation() {
    for (before, part) in [
        (
            "# site\nmirrors:\n  docker.io: # hub\n    endpoint:\n      # first\n      - \"https://m\"\n",
            "- \"http://127.0.0.1:8585\"\n      - \"https://m\"",
        ),
        (
            "mirrors:\n    docker.io:\n        endpoint:\n        - https://m # tight\n",
            "        endpoint:\n        - \"http://127.0.0.1:8585\"\n        - https://m # tight",
        ),
        (
            "mirrors:\n  docker.io:\n    endpoint: [\"https://m\"]\n",
            "endpoint: [\"http://127.0.0.1:8585\", \"https://m\"]",
        ),
        (
            "mirrors: {docker.io: {endpoint: [https://m]}}\n",
            "{endpoint: [\"http://127.0.0.1:8585\", https://m]}",
        ),
        (
            "mirrors:\n  '*':\n    rewrite:\n      \"^a\": \"b\"\nconfigs:\n  \"m:5000\":\n    tls:\n      insecure_skip_verify: true\n",
            "  \"docker.io\":\n    endpoint:\n",
        ),
        ("configs:\n  m:\n    auth: {username: u} # keep\n\n# end\n", "# end\nmirrors:\n"),
        (
            "mirrors:\n  docker.io:\n    rewrite: {}\n",
            "    endpoint:\n      - \"http://127.0.0.1:8585\"\n    rewrite: {}",
        ),
    ] {
        let after = edit(before);
        assert!(after.contains(part), "{after}");
        assert_eq!(mirrors(&after, "docker.io").unwrap()[0], OURS);
        assert_eq!(mirrors(&after, "quay.io").unwrap(), [OURS]);
    }
    for before in [
        "mirrors:\n  docker.io:\n",
        "mirrors:\nconfigs: {}\n",
        "mirrors: {}\n",
        "---\nmirrors: null\n",
        "# only\n",
        "mirrors:\n  docker.io:\n    endpoint: []\n",
    ] {
        let edit = apply(Some(before), &ours()).unwrap();
        assert_eq!(mirrors(&edit.text, "docker.io").unwrap(), [OURS], "{}", edit.text);
        assert_eq!(edit.undo(), before);
        let stripped = strip(&edit.text, &ours(), Some(before)).unwrap().text;
        assert!(mirrors(&stripped, "docker.io").unwrap().is_empty(), "{stripped}");
    }
}

#[test]
fn what_cannot_be_edited_is_refused() {
    for text in [
        "mirrors: &m\n  docker.io:\n    endpoint: [a]\n",
        "mirrors:\n  docker.io: *x\n",
        "a: 1\n---\nmirrors: {}\n",
        "- a\n",
        "mirrors: [\n",
        "mirrors:\n  docker.io:\n    endpoint: https://m\n",
        "mirrors:\n\tdocker.io: {}\n",
    ] {
        assert!(apply(Some(text), &ours()).is_err(), "{text}");
    }
}

#[test]
fn rules_for_names_would_hold_for_ours_too() {
    let refused = |text: &str, key: &str| {
        let refusal = apply(Some(text), &ours()).unwrap_err();
        let told = refusal.to_string();
        assert!(matches!(refusal, Refusal::Conflict { .. }) && told.contains(key), "{told}");
        assert!(told.contains("docker.io") && told.contains(OURS), "{told}");
    };
    refused("mirrors:\n  docker.io:\n    rewrite: {a: b}\n", "mirrors.\"docker.io\".rewrite");
    refused(
        "mirrors:\n  docker.io:\n    endpoint: [https://m]\n    rewrite:\n      '^a/(.*)': b/$1\n",
        "mirrors.\"docker.io\".rewrite",
    );
    refused("mirrors:\n  '*':\n    endpoint: [https://m]\n    rewrite: {a: b}\n", "mirrors.\"*\".rewrite");
    // Whoever wrote ours beside them knows under which names the images are kept.
    let own =
        "mirrors:\n  docker.io:\n    endpoint: ['http://127.0.0.1:8585/', https://m]\n    rewrite: {a: b}\n";
    assert!(edit(own).ends_with(own.split_once('\n').unwrap().1));
    // Rules of others, and those of an entry whose endpoints are not ours to copy, are none of ours.
    edit("mirrors:\n  ghcr.io:\n    rewrite: {a: b}\n  '*':\n    rewrite: {a: b}\n");
    let every =
        "mirrors:\n  '*':\n    endpoint: [https://m]\n    rewrite: {a: b}\n  docker.io:\n  quay.io:\n";
    assert_eq!(mirrors(&apply(Some(every), &ours()).unwrap().text, "docker.io").unwrap(), [OURS]);
}

#[test]
fn a_registry_keeps_the_mirrors_that_it_has_from_the_entry_of_all() {
    for text in [
        "mirrors:\n  '*':\n    endpoint:\n      - https://m\n      - https://n # last\n",
        "mirrors: {'*': {endpoint: [https://m, https://n]}}\n",
    ] {
        let after = edit(text);
        for registry in ["docker.io", "quay.io"] {
            assert_eq!(mirrors(&after, registry).unwrap(), [OURS, "https://m", "https://n"], "{after}");
        }
        assert_eq!(mirrors(&after, "*").unwrap(), ["https://m", "https://n"]);
    }
    let ours_for_all = "mirrors:\n  '*':\n    endpoint: ['http://127.0.0.1:8585']\n";
    assert_eq!(edit(ours_for_all), ours_for_all);
    // Where a person has changed the list since, only ours goes.
    let before = "mirrors:\n  '*':\n    endpoint: [https://m]\n";
    let after = edit(before).replace("- \"https://m\"", "- \"https://other\"");
    let stripped = strip(&after, &ours(), Some(before)).unwrap().text;
    assert_eq!(mirrors(&stripped, "docker.io").unwrap(), ["https://other"], "{stripped}");
}

proptest! {
    #[test]
    fn any_file(
        hosts in proptest::sample::subsequence(vec!["docker.io", "quay.io", "\"*\"", "'x.example:5000'"], 0..4).prop_shuffle(),
        tight: bool, flow: bool, before: bool, after: bool, crlf: bool,
    ) {
        let mut text = String::new();
        if before {
            text += "# c\nconfigs:\n  a:\n    tls: {ca_file: /x}\n";
        }
        if !hosts.is_empty() {
            text += "mirrors: # all\n";
        }
        for host in hosts {
            text += &match (flow, tight) {
                (true, _) => format!("  # h\n  {host}: {{endpoint: [ 'https://m', n ]}}\n"),
                (_, true) => format!("  {host}:\n    endpoint:\n    - https://m\n    - n # o\n\n"),
                _ => format!("  {host}:\n    endpoint:\n      - https://m\n    other:\n      a: b\n"),
            };
        }
        if after {
            text += "other:\n- 1\n# end\n";
        }
        edit(&if crlf { text.replace('\n', "\r\n") } else { text });
    }
}

/// `registries.yaml` as k3s and RKE2 document it; a key of another name is one that they ignore.
mod grammar {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub(super) struct Registries {
        #[serde(default)]
        pub(super) mirrors: Option<BTreeMap<String, Option<Mirror>>>,
        #[serde(default)]
        pub(super) configs: Option<BTreeMap<String, Option<Config>>>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub(super) struct Mirror {
        #[serde(default)]
        pub(super) endpoint: Option<Vec<String>>,
        #[serde(default, rename = "rewrite")]
        _rewrite: Option<BTreeMap<String, String>>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub(super) struct Config {
        pub(super) auth: Option<Auth>,
        pub(super) tls: Option<Tls>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub(super) struct Auth {
        pub(super) username: Option<String>,
        pub(super) password: Option<String>,
        #[serde(rename = "token")]
        _token: Option<String>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub(super) struct Tls {
        pub(super) ca_file: Option<String>,
        pub(super) cert_file: Option<String>,
        pub(super) key_file: Option<String>,
        #[serde(rename = "insecure_skip_verify")]
        _insecure_skip_verify: Option<bool>,
    }
}

fn documented(text: &str) -> grammar::Registries {
    serde_json::from_value(yaml::parse(text).unwrap().data())
        .unwrap_or_else(|error| panic!("{error}\n{text}"))
}

#[test]
fn what_is_written_is_what_is_documented() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/rancher");
    let mut looked_at = 0;
    for file in std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()) {
        let golden = std::fs::read_to_string(&file).unwrap();
        let Some((_, text)) = golden.split_once("---\n").filter(|(head, _)| head.starts_with("edited"))
        else {
            continue;
        };
        let mirrors = documented(text).mirrors.unwrap();
        for registry in ["docker.io", "quay.io"] {
            let mirror = mirrors[registry].as_ref().unwrap();
            assert_eq!(mirror.endpoint.as_ref().unwrap()[0], OURS, "{}", file.display());
        }
        looked_at += 1;
    }
    assert!(looked_at >= 4, "{looked_at}");

    let config = configs::HostConfig {
        host: "10.0.0.2:8585".to_owned(),
        login: Some(("u".to_owned(), crate::secret::Hidden::new("p: \"#"))),
        ca: Some("/ca.pem".to_owned()),
        client: Some(("/c.pem".to_owned(), "/k.pem".to_owned())),
    };
    for before in
        ["", "mirrors: {}\nconfigs: {}\n", "# ours\nconfigs:\n  other:\n    auth:\n      token: t\n"]
    {
        let text = configs::apply(Some(&edit(before)), &config).unwrap().text;
        let mut configs = documented(&text).configs.unwrap();
        let ours = configs.remove("10.0.0.2:8585").unwrap().unwrap();
        let (auth, tls) = (ours.auth.unwrap(), ours.tls.unwrap());
        assert_eq!((auth.username.as_deref(), auth.password.as_deref()), (Some("u"), Some("p: \"#")));
        let files = [&tls.ca_file, &tls.cert_file, &tls.key_file].map(|file| file.as_deref().unwrap());
        assert_eq!(files, ["/ca.pem", "/c.pem", "/k.pem"]);
    }
}
