use super::*;

fn digest(seed: &str) -> Digest {
    Digest::sha256(seed.as_bytes())
}

fn repository(name: &str) -> RepositoryName {
    name.parse().unwrap()
}

fn tag(name: &str) -> Tag {
    name.parse().unwrap()
}

fn entry(group: &str, name: &str, tags: &[&str], seed: Option<&str>) -> Entry {
    Entry {
        group: group.to_owned(),
        registry: "https://h".to_owned(),
        repository: repository(name),
        tags: tags.iter().map(|name| tag(name)).collect(),
        digest: seed.map(digest),
        deleted: false,
        platforms: Vec::new(),
        referrers: None,
    }
}

fn deleted(entry: Entry) -> Entry {
    Entry { deleted: true, ..entry }
}

/// Whole single manifests, each with its tags.
fn present(name: &str, manifests: &[(&str, &[&str])]) -> Present {
    let mut held = Held::default();
    for (seed, tags) in manifests {
        held.manifests.insert(digest(seed), Node { whole: true, ..Node::default() });
        held.tags.extend(tags.iter().map(|name| (tag(name), digest(seed))));
    }
    Present { repositories: [(repository(name), held)].into() }
}

struct World {
    entries: Vec<Entry>,
    present: Present,
    complete: bool,
    ours: Option<Ours>,
    resolved: BTreeMap<OpenTag, Digest>,
    protected: BTreeSet<RepositoryName>,
}

impl World {
    fn new(entries: Vec<Entry>, present: Present) -> Self {
        let (resolved, protected) = Default::default();
        Self { entries, present, complete: true, ours: None, resolved, protected }
    }

    fn plan(&self) -> Plan {
        let none = BTreeSet::new();
        plan(&Input {
            entries: &self.entries,
            complete: self.complete,
            resolved: &self.resolved,
            present: &self.present,
            arriving: &BTreeMap::new(),
            busy: &BTreeSet::new(),
            protected: &self.protected,
            ownership: self.ours.as_ref().map_or(Ownership::Everything, Ownership::Recorded),
            waiting: &none,
            refresh: &none,
        })
    }
}

#[test]
fn an_update_is_made_first_and_the_old_version_goes_only_when_its_tag_has_moved() {
    let entries = vec![entry("g", "library/nginx", &["latest"], Some("new"))];
    let mut world = World::new(entries, present("library/nginx", &[("old", &["latest"])]));
    let first = world.plan();
    assert_eq!(first.make.len(), 1);
    assert_eq!(first.make[0].fetch, Fetch::Graph);
    assert_eq!(first.make[0].tags, [tag("latest")]);
    assert_eq!(first.remove, [], "the old version is served until the new one is whole");

    world.present = present("library/nginx", &[("old", &[]), ("new", &["latest"])]);
    let second = world.plan();
    assert_eq!(second.make, []);
    let old = Artifact { repository: repository("library/nginx"), digest: digest("old") };
    assert_eq!(second.remove, [Removal::Manifest(old)]);
}

#[test]
fn what_left_the_groups_goes_and_what_another_group_wants_stays() {
    let here = present("library/redis", &[("a", &["6"]), ("b", &["7"])]);
    let world = World::new(vec![entry("g2", "library/redis", &["7"], Some("b"))], here);
    let plan = world.plan();
    assert_eq!(plan.make, []);
    let removed: Vec<String> = plan.remove.iter().map(Removal::to_string).collect();
    let of = digest("a");
    assert_eq!(removed, ["removal of library/redis:6".to_owned(), format!("removal of library/redis@{of}")]);
}

#[test]
fn a_want_beats_deleted_and_deleted_alone_removes() {
    let here = || present("a/b", &[("x", &["1"])]);
    let wanted = entry("g1", "a/b", &["1"], Some("x"));
    let world = World::new(vec![wanted.clone(), deleted(wanted.clone())], here());
    assert_eq!(world.plan().remove, []);
    assert_eq!(World::new(vec![deleted(wanted)], here()).plan().remove.len(), 2);
}

#[test]
fn two_digests_for_one_tag_keep_the_tag_and_both_digests() {
    let claims = vec![entry("g1", "a/b", &["1"], Some("x")), entry("g2", "a/b", &["1"], Some("y"))];
    let world = World::new(claims.clone(), present("a/b", &[("z", &["1"])]));
    let plan = world.plan();
    assert_eq!(plan.conflicts.len(), 1);
    assert_eq!(plan.conflicts[0].kept, Some(digest("z")));
    assert!(plan.make.iter().all(|make| make.tags.is_empty()), "{:?}", plan.make);
    assert_eq!(plan.make.len(), 2);
    assert_eq!(plan.remove, []);

    let nothing = World::new(claims, Present::default()).plan();
    assert_eq!(nothing.make.len(), 2);
    assert!(nothing.make.iter().all(|make| make.tags.is_empty()), "without a present tag it is not set");
    assert_eq!(nothing.conflicts[0].kept, None);
}

#[test]
fn the_same_name_in_another_project_is_another_artifact() {
    let entries = vec![entry("g", "team-a/app", &["1"], Some("x"))];
    let world = World::new(entries, present("team-b/app", &[("x", &["1"])]));
    let plan = world.plan();
    assert_eq!(plan.make.len(), 1);
    assert_eq!(plan.make[0].artifact.repository, repository("team-a/app"));
    assert_eq!(plan.remove.len(), 2);
    assert!(plan.remove.iter().all(|removal| *removal.repository() == repository("team-b/app")));
}

#[test]
fn an_entry_without_a_tag_is_kept_by_digest() {
    let entries = vec![entry("g", "a/b", &[], Some("x"))];
    let mut world = World::new(entries, Present::default());
    assert_eq!(world.plan().make.len(), 1);
    world.present = present("a/b", &[("x", &[])]);
    assert_eq!(world.plan(), Plan { wanted: world.plan().wanted, ..Plan::default() });
}

#[test]
fn a_tag_that_cannot_be_resolved_stays() {
    let entries = vec![entry("g", "a/b", &["edge"], None)];
    let mut world = World::new(entries, present("a/b", &[("x", &["edge"])]));
    assert_eq!(open_tags(&world.entries).len(), 1);
    let plan = world.plan();
    assert_eq!((plan.make.len(), plan.remove.len(), plan.conflicts.len()), (0, 0, 0));
    let open = open_tags(&world.entries).pop_first().unwrap();
    world.resolved.insert(open, digest("y"));
    assert_eq!(world.plan().make[0].artifact.digest, digest("y"));
}

#[test]
fn a_pinned_tag_is_not_asked_about() {
    let entries = vec![entry("g1", "a/b", &["1"], None), entry("g2", "a/b", &["1"], Some("x"))];
    assert!(open_tags(&entries).is_empty());
    let plan = World::new(entries, Present::default()).plan();
    assert!(plan.conflicts.is_empty());
    assert_eq!(plan.make[0].tags, [tag("1")]);
}

#[test]
fn nothing_goes_while_the_desired_state_is_not_known() {
    let mut world = World::new(Vec::new(), present("a/b", &[("x", &["1"])]));
    world.complete = false;
    let plan = world.plan();
    assert_eq!((plan.remove.len(), plan.held_back), (0, 2));
    world.complete = true;
    world.protected.insert(repository("a/b"));
    assert_eq!(world.plan().remove, []);
}

#[test]
fn what_has_arrived_of_something_unfinished_stays() {
    let entries = vec![entry("g", "a/b", &["1"], Some("index")), entry("g", "a/b", &["0"], Some("x"))];
    let here = present("a/b", &[("child", &[]), ("old", &[]), ("x", &["0"])]);
    let none = BTreeSet::new();
    let arriving = BTreeMap::from([(repository("a/b"), BTreeSet::from([digest("child")]))]);
    let input = Input {
        entries: &entries,
        complete: true,
        resolved: &BTreeMap::new(),
        present: &here,
        arriving: &arriving,
        busy: &BTreeSet::new(),
        protected: &BTreeSet::new(),
        ownership: Ownership::Everything,
        waiting: &none,
        refresh: &none,
    };
    let old = Artifact { repository: repository("a/b"), digest: digest("old") };
    assert_eq!(plan(&input).remove, [Removal::Manifest(old)]);
    let busy = BTreeSet::from([repository("a/b")]);
    assert_eq!(plan(&Input { busy: &busy, ..input }).remove, []);
}

#[test]
fn an_index_goes_with_its_children_and_referrers_parents_first() {
    let mut held = Held::default();
    let node = |children: &[&str], subject: Option<&str>| Node {
        whole: true,
        children: children.iter().map(|seed| digest(seed)).collect(),
        subject: subject.map(digest),
    };
    held.manifests.insert(digest("index"), node(&["amd64", "arm64"], None));
    held.manifests.insert(digest("amd64"), node(&[], None));
    held.manifests.insert(digest("arm64"), node(&[], None));
    held.manifests.insert(digest("signature"), node(&[], Some("index")));
    held.manifests.insert(digest("of-signature"), node(&[], Some("signature")));
    held.tags.insert(tag("1"), digest("index"));
    let signature_tag: Tag = format!("sha256-{}.sig", digest("index").hex()).parse().unwrap();
    held.manifests.insert(digest("cosign"), node(&[], None));
    held.tags.insert(signature_tag.clone(), digest("cosign"));
    let present = Present { repositories: [(repository("a/b"), held)].into() };

    let kept = World::new(vec![entry("g", "a/b", &["1"], Some("index"))], present.clone()).plan();
    assert_eq!(kept.remove, [], "children, referrers and signature tags live with their image");

    let arm = World::new(vec![entry("g", "a/b", &[], Some("arm64"))], present.clone()).plan();
    let kept: Vec<&Removal> = arm
        .remove
        .iter()
        .filter(|removal| removal.to_string().contains(&digest("arm64").to_string()))
        .collect();
    assert!(kept.is_empty(), "another entry wants this child by itself");

    let gone = World::new(Vec::new(), present).plan();
    let place = |seed: &str| {
        let artifact = Artifact { repository: repository("a/b"), digest: digest(seed) };
        gone.remove.iter().position(|removal| *removal == Removal::Manifest(artifact.clone())).unwrap()
    };
    assert!(place("index") < place("amd64") && place("index") < place("arm64"));
    assert!(place("of-signature") < place("signature") && place("signature") < place("index"));
    assert!(
        gone.remove
            .iter()
            .any(|removal| matches!(removal, Removal::Tag { tag, .. } if *tag == signature_tag))
    );
    assert_eq!(gone.remove.len(), 8);
}

#[test]
fn in_a_registry_of_the_sites_own_only_what_we_brought_goes() {
    let mut world = World::new(Vec::new(), present("a/b", &[("ours", &["1"]), ("theirs", &["2"])]));
    let mut ours = OursIn::default();
    ours.manifests.insert(digest("ours"), Node::default());
    ours.tags.insert(tag("1"), [digest("ours")].into());
    world.ours = Some(Ours { repositories: [(repository("a/b"), ours.clone())].into() });
    let removed: Vec<String> = world.plan().remove.iter().map(Removal::to_string).collect();
    assert_eq!(removed.len(), 2);
    assert!(removed.iter().all(|removal| !removal.contains(&digest("theirs").to_string())));

    // Somebody moved our tag to their own image, and put a tag of theirs at ours.
    world.present = present("a/b", &[("ours", &["keep"]), ("theirs", &["1", "2"])]);
    assert_eq!(world.plan().remove, []);
}

#[test]
fn what_was_interrupted_looks_for_referrers_before_its_tags_move() {
    let entries = vec![entry("g", "a/b", &["1"], Some("x"))];
    let here = present("a/b", &[("x", &[])]);
    let artifact = Artifact { repository: repository("a/b"), digest: digest("x") };
    let (none, due) = (BTreeSet::new(), BTreeSet::from([artifact]));
    let input = Input {
        entries: &entries,
        complete: true,
        resolved: &BTreeMap::new(),
        present: &here,
        arriving: &BTreeMap::new(),
        busy: &BTreeSet::new(),
        protected: &BTreeSet::new(),
        ownership: Ownership::Everything,
        waiting: &none,
        refresh: &due,
    };
    assert_eq!(plan(&input).make[0].fetch, Fetch::Referrers);
    assert_eq!(plan(&Input { refresh: &none, ..input }).make[0].fetch, Fetch::Nothing);
    assert_eq!(plan(&Input { waiting: &due, ..input }).make, []);
}

#[test]
fn platforms_are_those_of_all_that_want_it() {
    let narrow = |group: &str, platform: &str| Entry {
        platforms: vec![platform.parse().unwrap()],
        ..entry(group, "library/multi", &["1"], Some("index"))
    };
    let site: oci::PlatformFilter = "linux/amd64,linux/arm64".parse().unwrap();
    let of = |entries: Vec<Entry>| {
        let world = World::new(entries, Present::default());
        let made = world.plan().make.remove(0).platforms.within(&site);
        let asked = asked(&world.entries, &BTreeMap::new());
        let artifact = artifact(&repository("library/multi"), digest("index"));
        assert_eq!(asked.platforms(&artifact, [], &site), made, "what is fetched is what makes it whole");
        made
    };
    let arm = of(vec![narrow("g1", "linux/arm64")]);
    assert_eq!(arm.to_string(), "linux/arm64 within linux/amd64,linux/arm64");
    let both = of(vec![narrow("g1", "linux/arm64"), narrow("g2", "linux/s390x")]);
    assert_eq!(both.to_string(), "linux/arm64,linux/s390x within linux/amd64,linux/arm64");
    assert_eq!(of(vec![narrow("g1", "linux/arm64"), entry("g2", "library/multi", &[], Some("index"))]), site);
}
