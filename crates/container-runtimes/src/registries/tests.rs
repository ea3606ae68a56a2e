use proptest::prelude::*;

use super::*;
use crate::edit::laws;

fn ours(prefix: &str) -> MirrorEntry {
    MirrorEntry { prefix: prefix.into(), location: "127.0.0.1:8585".into(), insecure: true }
}

fn edit(text: &str) -> String {
    let wanted = [ours("docker.io"), ours("quay.io")];
    let had = prefixes(text).unwrap();
    let made: Vec<String> =
        wanted.iter().map(|entry| entry.prefix.clone()).filter(|prefix| !had.contains(prefix)).collect();
    laws::check(text, |text| apply(Some(text), &wanted), |text| strip(text, &wanted, &made)).text
}

#[test]
fn a_new_file() {
    assert_eq!(
        apply(None, &[ours("docker.io")]).unwrap().text,
        "[[registry]]\nprefix = \"docker.io\"\nlocation = \"docker.io\"\n\n[[registry.mirror]]\nlocation = \"127.0.0.1:8585\"\ninsecure = true\n"
    );
}

#[test]
fn merged_into_the_entry_that_stands() {
    let text = "unqualified-search-registries = [\"docker.io\"]\n\n[[registry]]\nlocation = \"docker.io\" # no prefix\nunknown = 1\n\n# the old one\n[[registry.mirror]]\nlocation = \"m.example\"\n\n[[registry]]\nlocation = \"z.example\"\n";
    let after = edit(text);
    assert!(
        after.contains("unknown = 1\n\n[[registry.mirror]]\nlocation = \"127.0.0.1:8585\"\ninsecure = true\n\n# the old one\n"),
        "{after}"
    );
    assert_eq!(prefixes(&after).unwrap(), ["docker.io", "z.example", "quay.io"]);
    let bare = edit(
        "[[registry]]\n  prefix = \"quay.io\"\n  location = \"quay.io\"\n  [[registry.mirror]]\n    location = \"a\"\n",
    );
    assert!(bare.contains("  [[registry.mirror]]\n  location = \"127.0.0.1:8585\""), "{bare}");
}

#[test]
fn a_slash_at_the_end_is_none() {
    let text = "[[registry]]\nprefix = \"docker.io/\"\nlocation = \"docker.io/\"\n\n[[registry]]\nlocation = \"quay.io/\"\n";
    let after = edit(text);
    assert_eq!(prefixes(&after).unwrap(), ["docker.io", "quay.io"], "{after}");
    assert_eq!(after.matches("[[registry]]").count(), 2, "{after}");
}

#[test]
fn an_entry_may_stand_for_a_registry_that_it_does_not_name() {
    let covering = |registry: &str| {
        covering(registry, ["*.example.com", "host.example", "docker.io/library"].into_iter())
            .map(str::to_owned)
    };
    assert_eq!(covering("a.b.example.com:5000").as_deref(), Some("*.example.com"));
    assert_eq!(covering("host.example:5000").as_deref(), Some("host.example"));
    for free in ["example.com", "an-example.com", "host.example", "docker.io", "a.host.example:1"] {
        assert_eq!(covering(free), None, "{free}");
    }
}

#[test]
fn what_cannot_be_edited_is_refused() {
    for text in [
        "[registries.search]\nregistries = ['docker.io']\n",
        "registry = [{ location = \"docker.io\" }]\n",
        "[[registry]]\nprefix = \"docker.io\"\nlocation = \"docker.io\"\nblocked = true\n",
        "[[registry]]\nlocation = \"docker.io\"\nmirror = [{ location = \"x\" }]\n",
        "[[registry]\n",
    ] {
        assert!(apply(Some(text), &[ours("docker.io")]).is_err(), "{text}");
    }
}

proptest! {
    #[test]
    fn any_file(
        parts in proptest::sample::subsequence(vec![
            "[[registry]]\nlocation = \"docker.io\"\n",
            "[[registry]]\nprefix = \"quay.io\"\nlocation = \"q.example\"\n# m\n[[registry.mirror]]\nlocation = \"m\"\n\n",
            "# note\n[[registry]]\nprefix = \"*.example.com\"\n",
            "[[registry]]\nlocation = \"x.example\"\n[[registry.mirror]]\nlocation = \"m\"\n[[registry.mirror]]\nlocation = \"n\"\n",
            "[aliases]\n\"a\" = \"docker.io/library/a\"\n",
        ], 0..5).prop_shuffle(),
        crlf: bool,
    ) {
        let text = format!("# top\nunqualified-search-registries = ['docker.io']\n{}", parts.concat());
        edit(&if crlf { text.replace('\n', "\r\n") } else { text });
    }
}
