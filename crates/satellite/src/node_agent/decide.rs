//! What to do with a node's images: a function of what the site plans, what is ours, and what the runtime lists.
//!
//! A pull by CRI makes three records of one image at containerd: the tag, `repository@digest`, and the digest of the
//! image's configuration. The tag goes when the artifact leaves the plan; the other two go with the last tag of that
//! image, whoever made it. What was there before a pull of ours is never labelled and never removed.

use std::collections::{BTreeMap, BTreeSet};

use super::ledger::{Begun, Ledger, Made};

/// One record of containerd, as far as it matters here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record {
    /// Its name.
    pub name: String,
    /// The digest that it points at.
    pub target: String,
    /// When it was made.
    pub made: Made,
    /// Whether the kubelet's collection leaves it alone.
    pub pinned: bool,
    /// What our label holds, if it is there.
    pub mark: Option<String>,
}

impl Record {
    /// What our label holds on this record and on no other: its name and when it was made. A copy of the label on
    /// another name, or on this name when it was made again, says nothing.
    #[must_use]
    pub fn own_mark(&self) -> String {
        format!("{}#{}.{}", self.name, self.made.0, self.made.1)
    }

    /// Whether our label is on it, and meant for it.
    #[must_use]
    pub fn is_marked(&self) -> bool {
        self.mark.as_ref().is_some_and(|mark| *mark == self.own_mark())
    }
}

/// What the runtime lists.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// containerd's records.
    pub records: Vec<Record>,
    /// CRI's images: of each name, the identifier of its image.
    pub images: BTreeMap<String, String>,
}

/// What the site wants on every node: names, each with the digest that it shall have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// By name.
    pub names: BTreeMap<String, Name>,
    /// Whether this is all; only then is anything removed.
    pub whole: bool,
}

/// One name that is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    /// The digest; not known before the site has it.
    pub digest: Option<String>,
    /// Whether the site has it, so that it can be pulled.
    pub local: bool,
}

/// Labels that a record of ours shall have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Labels {
    /// The record.
    pub name: String,
    /// What our label shall hold.
    pub mark: String,
    /// Whether it is pinned.
    pub pinned: bool,
}

/// What is to be done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Decision {
    /// What is ours now: without what somebody else removed, with what says by its label that it is ours.
    pub ours: BTreeMap<String, Made>,
    /// Records whose labels are not as they shall be.
    pub label: Vec<Labels>,
    /// Records of ours to remove, in this order: a tag before what it holds.
    pub remove: Vec<Record>,
    /// Names to pull, in the order of names.
    pub pull: Vec<String>,
}

/// The kinds of records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Tag,
    Digest,
    Id,
}

fn kind(name: &str) -> Kind {
    match name {
        _ if name.contains('@') => Kind::Digest,
        _ if !name.contains('/') && name.starts_with("sha256:") => Kind::Id,
        _ => Kind::Tag,
    }
}

/// `host/repository` of a name with a tag or a digest.
fn repository(name: &str) -> &str {
    if let Some((repository, _)) = name.split_once('@') {
        return repository;
    }
    match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => repository,
        _ => name,
    }
}

impl Seen {
    fn record(&self, name: &str) -> Option<&Record> {
        self.records.iter().find(|record| record.name == name)
    }

    /// The identifier of a record's image, where CRI knows it.
    fn id<'a>(&'a self, record: &'a Record) -> Option<&'a str> {
        match kind(&record.name) {
            Kind::Id => Some(&record.name),
            Kind::Tag | Kind::Digest => self.images.get(&record.name).map(String::as_str),
        }
    }

    /// Whether a name is there, points at `digest`, and is an image that containers can be made of.
    #[must_use]
    pub fn has(&self, name: &str, digest: &str) -> bool {
        self.images.contains_key(name) && self.points_at(name, digest)
    }

    /// Whether a name is there and points at `digest`, which of CRI-O's names may be one of several.
    #[must_use]
    pub fn points_at(&self, name: &str, digest: &str) -> bool {
        self.records.iter().any(|record| record.name == name && record.target == digest)
    }

    /// What a name points at.
    #[must_use]
    pub fn target(&self, name: &str) -> Option<&str> {
        self.record(name).map(|record| record.target.as_str())
    }
}

/// Images, by what their records point at and by their identifiers: an index and the manifest in it are one image.
struct Family<'a> {
    targets: BTreeSet<&'a str>,
    ids: BTreeSet<&'a str>,
}

impl<'a> Family<'a> {
    fn of<'b>(seen: &'a Seen, records: impl Iterator<Item = &'b &'a Record>) -> Self
    where
        'a: 'b,
    {
        let mut family = Self { targets: BTreeSet::new(), ids: BTreeSet::new() };
        for record in records {
            family.targets.insert(&record.target);
            family.ids.extend(seen.id(record));
        }
        family
    }

    fn has(&self, seen: &Seen, record: &Record) -> bool {
        self.targets.contains(record.target.as_str())
            || seen.id(record).is_some_and(|id| self.ids.contains(id))
    }
}

/// Decides.
#[must_use]
pub fn decide(wanted: &Wanted, ledger: &Ledger, seen: &Seen) -> Decision {
    let is_ours =
        |record: &Record| ledger.records.get(&record.name) == Some(&record.made) || record.is_marked();
    let (ours, others): (Vec<&Record>, Vec<&Record>) =
        seen.records.iter().partition(|record| is_ours(record));
    let is_wanted = |record: &Record| wanted.names.contains_key(&record.name);

    // What keeps the other records of its image: tags that stay, and digests that are a name of their own.
    let held = Family::of(
        seen,
        others
            .iter()
            .filter(|record| kind(&record.name) != Kind::Id)
            .chain(ours.iter().filter(|record| is_wanted(record))),
    );
    let digests: BTreeSet<&str> = wanted.names.values().filter_map(|name| name.digest.as_deref()).collect();
    let is_planned = |record: &Record| match wanted.names.get(&record.name) {
        // Until it is known what the name stands for, that is what it points at.
        Some(Name { digest: None, .. }) => true,
        _ => digests.contains(record.target.as_str()),
    };
    let planned = Family::of(seen, ours.iter().chain(&others).filter(|record| is_planned(record)));

    let mut decision = Decision {
        ours: ours.iter().map(|record| (record.name.clone(), record.made)).collect(),
        ..Decision::default()
    };
    for record in &ours {
        let stays = match kind(&record.name) {
            _ if !wanted.whole || is_wanted(record) => true,
            Kind::Tag => false,
            Kind::Digest | Kind::Id => planned.has(seen, record) || held.has(seen, record),
        };
        if !stays {
            decision.remove.push((*record).clone());
            continue;
        }
        let pinned = match kind(&record.name) {
            // A tag that was moved to something else is not kept on it.
            Kind::Tag => match wanted.names.get(&record.name).map(|name| &name.digest) {
                Some(Some(digest)) => *digest == record.target,
                Some(None) => true,
                None => record.pinned,
            },
            Kind::Digest | Kind::Id => planned.has(seen, record) || !wanted.whole && record.pinned,
        };
        if record.pinned != pinned || !record.is_marked() {
            decision.label.push(Labels { name: record.name.clone(), mark: record.own_mark(), pinned });
        }
    }
    decision.remove.sort_by(|one, other| (kind(&one.name), &one.name).cmp(&(kind(&other.name), &other.name)));
    let is_missing = |(name, want): &(&String, &Name)| {
        want.local && want.digest.as_ref().is_some_and(|digest| !seen.has(name, digest))
    };
    let missing = wanted.names.iter().filter(is_missing);
    decision.pull = missing.map(|(name, _)| name.clone()).collect();
    decision
}

/// What has to stand on disk before a name is pulled: what it shall become, and which of the records that the pull may
/// make are there. The identifier is not known yet, so all of them are listed.
#[must_use]
pub fn begin(name: &str, digest: &str, seen: &Seen) -> Begun {
    let repository = repository(name);
    let may_be_made = |record: &&Record| match kind(&record.name) {
        Kind::Id => true,
        Kind::Tag => record.name == name,
        Kind::Digest => self::repository(&record.name) == repository,
    };
    let before = seen.records.iter().filter(may_be_made).map(|record| record.name.clone()).collect();
    Begun { name: name.to_owned(), digest: digest.to_owned(), before }
}

/// The records that a pull made, however it ended and whatever became of its tag since: of the name, of what it points at
/// now, and of what it was to become, those that were absent before.
#[must_use]
pub fn settle(begun: &Begun, seen: &Seen) -> BTreeMap<String, Made> {
    let pulled = seen.record(&begun.name);
    let id = pulled.and_then(|record| seen.id(record));
    let is_target =
        |digest: &str| digest == begun.digest || pulled.is_some_and(|record| record.target == digest);
    let is_made = |record: &&Record| match kind(&record.name) {
        Kind::Tag => record.name == begun.name,
        Kind::Digest => repository(&record.name) == repository(&begun.name) && is_target(&record.target),
        // CRI does not know the identifier of what was broken off; its record points at the same.
        Kind::Id => is_target(&record.target) || Some(record.name.as_str()) == id,
    };
    seen.records
        .iter()
        .filter(is_made)
        .filter(|record| !begun.before.contains(&record.name))
        .map(|record| (record.name.clone(), record.made))
        .collect()
}
