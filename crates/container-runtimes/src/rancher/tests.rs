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
            "mirrors:\n  docker.io:\n    rewrite: {a: b}\n",
            "    endpoint:\n      - \"http://127.0.0.1:8585\"\n    rewrite: {a: b}",
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
                _ => format!("  {host}:\n    endpoint:\n      - https://m\n    rewrite:\n      a: b\n"),
            };
        }
        if after {
            text += "other:\n- 1\n# end\n";
        }
        edit(&if crlf { text.replace('\n', "\r\n") } else { text });
    }
}
