use proptest::prelude::*;

use super::*;

fn name(text: &str) -> RepositoryName {
    text.parse().unwrap()
}

fn pairs(all: &[(&str, &str)]) -> Vec<(String, String)> {
    all.iter().map(|(host, prefix)| ((*host).to_owned(), (*prefix).to_owned())).collect()
}

#[test]
fn only_listed_hosts_are_accepted() {
    let namespaces = Namespaces::new(["Harbor.example.com", "127.0.0.1:5000", "docker.io"]);
    for (host, accepted) in [
        ("harbor.example.com", true),
        ("HARBOR.example.com", true),
        ("127.0.0.1:5000", true),
        ("127.0.0.1", false),
        ("registry-1.docker.io", true),
        ("quay.io", false),
        ("", false),
    ] {
        assert_eq!(namespaces.accepts(host), accepted, "{host}");
    }
    let shared = namespaces.clone();
    shared.replace(["quay.io"]);
    assert!(namespaces.accepts("quay.io"));
    assert!(!namespaces.accepts("docker.io"));
}

/// A satellite's registry, with what a site may say beside what is usual.
fn site() -> Namespaces {
    let namespaces = Namespaces::default();
    namespaces.map(Places {
        whole: vec!["Harbor.example.com".to_owned(), "harbor.example.com:8443".to_owned()],
        prefixes: pairs(&[
            ("docker.io", ""),
            ("Gcr.io", "mirror"),
            ("ghcr.io", "mirror/ghcr/"),
            ("reg.example:5000", "team"),
            ("twin.example", "team"),
        ]),
        others: true,
        reserved: vec!["dev".to_owned(), "team/ci".to_owned()],
    });
    namespaces
}

#[test]
fn nothing_of_another_host_is_answered_with_ours() {
    let namespaces = site();
    for (host, repository, place) in [
        // The central registry's names are all its own, those of projects that are named like hosts too.
        ("harbor.example.com", "library/nginx", Some("library/nginx")),
        ("HARBOR.example.com:8443", "quay.io/org/app", Some("quay.io/org/app")),
        ("harbor.example.com", "mirror/ghcr/app", Some("mirror/ghcr/app")),
        ("harbor.example.com:444", "library/nginx", None),
        // docker.io has the same paths, but not what lies there of others.
        ("docker.io", "library/nginx", Some("library/nginx")),
        ("Registry-1.docker.io", "org/app", Some("org/app")),
        ("docker.io", "mirrored/app", Some("mirrored/app")),
        ("docker.io", "quay.io/org/app", None),
        ("docker.io", "harbor.example.com/library/nginx", None),
        ("docker.io", "mirror/app", None),
        ("docker.io", "mirror/ghcr/app", None),
        ("docker.io", "team/app", None),
        // A prefix within another's.
        ("gcr.io", "app", Some("mirror/app")),
        ("gcr.io", "ghcr/app", None),
        ("gcr.io", "ghcrx/app", Some("mirror/ghcrx/app")),
        ("ghcr.io", "org/app", Some("mirror/ghcr/org/app")),
        // The site said that these two are the same.
        ("reg.example:5000", "app", Some("team/app")),
        ("twin.example", "app", Some("team/app")),
        // Everybody else is below the own name, and has no port.
        ("quay.io", "org/app", Some("quay.io/org/app")),
        ("QUAY.io", "org/app", Some("quay.io/org/app")),
        ("quay.io:443", "org/app", None),
        ("reg.example", "app", Some("reg.example/app")),
        ("10.0.0.7", "app", Some("10.0.0.7/app")),
        // What is no host.
        ("", "org/app", None),
        ("library", "nginx", None),
        ("localhost", "app", Some("localhost/app")),
        ("docker.io", "localhost/app", None),
        ("dev", "app", None),
        ("..", "app", None),
        ("quay.io.", "app", None),
        ("quay.io/org", "app", None),
        ("quay.io%2forg", "app", None),
        ("quay.io\0", "app", None),
        (" quay.io", "app", None),
        ("[::1]", "app", None),
        // What is the site's own is nobody's upstream.
        ("docker.io", "dev/app", None),
        ("docker.io", "dev", None),
        ("docker.io", "devil/app", Some("devil/app")),
        ("harbor.example.com", "dev/app", None),
        ("twin.example", "ci/app", None),
        ("twin.example", "cid/app", Some("team/cid/app")),
    ] {
        let found = namespaces.place(host, &name(repository));
        assert_eq!(found.as_ref().map(RepositoryName::as_str), place, "{host} {repository}");
    }
    assert!(!namespaces.is_whole("harbor.example.com"), "the site's own is there, too");
    assert!(Namespaces::new(["h"]).is_whole("H") && !site().is_whole("docker.io"));
}

#[test]
fn what_a_site_says_comes_before_what_is_usual() {
    let namespaces = Namespaces::default();
    let prefixes = pairs(&[("docker.io", ""), ("docker.io", "hub"), ("h.example", "central")]);
    namespaces.map(Places { whole: vec!["h.example".to_owned()], prefixes, ..Places::default() });
    assert_eq!(namespaces.place("docker.io", &name("library/x")), Some(name("hub/library/x")));
    assert_eq!(namespaces.place("h.example", &name("library/x")), Some(name("central/library/x")));
    assert!(!namespaces.is_whole("h.example"));
}

const HOSTS: &[&str] = &[
    "docker.io",
    "quay.io",
    "ghcr.io",
    "gcr.io",
    "a.b",
    "b.a:5000",
    "h.example",
    "library",
    "localhost",
    "dev",
];

fn places() -> impl Strategy<Value = Places> {
    let prefix = prop_oneof![Just(""), Just("a"), Just("a/b"), Just("quay.io"), Just("dev"), Just("mirror")];
    let prefixes = proptest::collection::btree_map(proptest::sample::select(HOSTS), prefix, 0..4);
    let reserved = proptest::sample::subsequence(vec!["dev", "a/b", "library"], 0..3);
    (prefixes, any::<bool>(), reserved).prop_map(|(prefixes, others, reserved)| Places {
        whole: vec!["h.example".to_owned()],
        prefixes: prefixes.into_iter().map(|(host, prefix)| (host.to_owned(), prefix.to_owned())).collect(),
        others,
        reserved: reserved.into_iter().map(str::to_owned).collect(),
    })
}

proptest! {
    /// Where two hosts reach one repository, one of them is what the registry is filled from, or the site gave both one prefix.
    #[test]
    fn a_place_is_one_hosts(places in places(), repository in "(a|b|dev|quay\\.io|library|mirror|x)(/(a|b|x)){0,2}",
        one in proptest::sample::select(HOSTS), other in proptest::sample::select(HOSTS)) {
        let namespaces = Namespaces::default();
        namespaces.map(places.clone());
        let prefix = |host: &str| places.prefixes.iter().find(|(listed, _)| listed == host).map(|(_, prefix)| prefix.clone());
        let Some(place) = namespaces.place(one, &name(&repository)) else { return Ok(()) };
        for reserved in &places.reserved {
            prop_assert!(!is_below(place.as_str(), reserved));
        }
        if one == other || [one, other].contains(&"h.example") || prefix(one) == prefix(other) && prefix(one).is_some() {
            return Ok(());
        }
        // Every name that the other one could ask for.
        let path = place.as_str();
        let ways = std::iter::once(path).chain(path.match_indices('/').map(|(at, _)| &path[at + 1..]));
        for way in ways {
            let theirs = namespaces.place(other, &name(way));
            // The operator may hand a host's name to another; what is usual never does.
            let said = prefix(one).is_some_and(|prefix| is_host(&prefix)) || prefix(other).is_some_and(|prefix| is_host(&prefix));
            prop_assert!(said || theirs.as_ref() != Some(&place), "{one} and {other} both reach {place} in {places:?}");
        }
    }
}
