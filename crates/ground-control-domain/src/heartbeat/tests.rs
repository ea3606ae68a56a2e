use proptest::prelude::*;

use super::*;

fn record(references: &[(&str, u64)]) -> HeartbeatRecord {
    let cached_images = references
        .iter()
        .map(|(reference, size_bytes)| CachedImage {
            reference: (*reference).into(),
            size_bytes: *size_bytes,
        })
        .collect();
    HeartbeatRecord {
        satellite: SatelliteId::generate(),
        received_at: Timestamp::UNIX_EPOCH,
        report: Report { cached_images, ..Report::default() },
    }
}

#[test]
fn images_are_kept_once_and_in_order() {
    let record = record(&[("b@sha256:1", 1), ("a", 2), ("b@sha256:1", 3), ("", 4), ("nul\0", 5)]);
    let images: Vec<_> = record.images().into_iter().map(|(r, i)| (r, i.size_bytes)).collect();
    assert_eq!(images, [("a", 2), ("b@sha256:1", 3)]);
    assert_eq!(digest_of("b@sha256:1"), "sha256:1");
    assert_eq!(digest_of("a"), "");
}

#[test]
fn a_fingerprint_depends_on_the_images_and_not_on_their_order() {
    let (a, b) = (record(&[("a", 1), ("b", 2)]), record(&[("b", 2), ("a", 1)]));
    assert_eq!(fingerprint(&a.images()), fingerprint(&b.images()));
    assert_ne!(fingerprint(&a.images()), fingerprint(&record(&[("a", 1), ("b", 3)]).images()));
    assert_ne!(fingerprint(&a.images()), fingerprint(&record(&[]).images()));
}

#[test]
fn only_what_says_something_is_news() {
    let mut record = record(&[("a@sha256:1", 1)]);
    let content = record.content();
    record.report.cpu_percent = 3.0;
    record.report.memory_used_bytes = 9;
    record.report.cached_images.clear();
    assert_eq!(record.content(), content);
    record.report.activity = "fetching".into();
    assert_ne!(record.content(), content);
}

#[test]
fn a_list_that_did_not_change_need_not_come() {
    let mut record = record(&[("a@sha256:1", 1)]);
    assert_eq!(record.listed("anything"), Listed::Here, "others always list");
    let digest = fleet_protocol::inventory::digest(&record.report.cached_images);
    record.report.inventory_digest = digest.clone();
    assert_eq!(record.listed(""), Listed::Here);
    assert_eq!(record.listed(&digest), Listed::AsBefore);
    record.report.cached_images.clear();
    assert_eq!(record.listed(&digest), Listed::AsBefore);
    assert_eq!(record.listed("sha256:other"), Listed::Missing);
    record.report.inventory_digest = "x".repeat(1000);
    assert_eq!(record.listed("sha256:other"), Listed::Missing);
}

fn node(name: &str, present: u64) -> NodePresence {
    NodePresence { name: name.into(), present, ..NodePresence::default() }
}

#[test]
fn nodes_are_news_when_their_list_is_another() {
    let list = vec![node("n1", 1), node("n2", 1)];
    let whole = Report::default().with_nodes(list.clone(), None);
    let name = whole.nodes_digest.clone();
    let of = |report: &Report| HeartbeatRecord { report: report.clone(), ..record(&[]) };
    let (short, unnamed) = (
        Report { nodes: Vec::new(), ..whole.clone() },
        Report { nodes_digest: String::new(), ..whole.clone() },
    );
    for same in [&short, &unnamed] {
        assert_eq!(of(same).content(), of(&whole).content());
    }
    assert_ne!(of(&whole).content(), of(&Report::default()).content());
    assert_eq!(of(&whole).summary().nodes, [], "they are kept beside the report");
    // What is said of them, where that list is kept, where another one is, and where none is.
    let kept = |report: &Report, kept: &str| {
        let record = of(report);
        let (digest, list) = record.nodes(kept);
        (digest, list.map(<[_]>::len), record.renames_nodes(kept))
    };
    for report in [&whole, &unnamed] {
        assert_eq!(kept(report, &name), (name.clone(), Some(2), false));
        assert_eq!(kept(report, "another"), (name.clone(), Some(2), true));
        assert_eq!(kept(report, ""), (name.clone(), Some(2), true));
    }
    assert_eq!(kept(&short, &name), (name.clone(), None, false));
    assert_eq!(kept(&short, "another"), ("another".to_owned(), None, false));
    assert_eq!(kept(&Report::default(), &name), (String::new(), Some(0), true));
    assert_eq!(kept(&Report::default(), ""), (String::new(), None, false));
    let many = Report::default().with_nodes(vec![node("n", 1); MAX_NODES + 1], None);
    assert_eq!(kept(&many, "").1, Some(MAX_NODES));
}

/// What Ground Control keeps of nodes.
#[derive(Debug, Clone, Default)]
struct Desk {
    digest: String,
    list: Vec<NodePresence>,
    /// As an older program writes them.
    within_report: Vec<NodePresence>,
}

impl Desk {
    /// Takes a report; the digest in the answer.
    fn take(&mut self, report: Report) -> Option<String> {
        let record = HeartbeatRecord { report, ..record(&[]) };
        let (digest, list) = record.nodes(&self.digest);
        if let Some(list) = list {
            self.list = list.to_vec();
        }
        self.digest.clone_from(&digest);
        self.within_report.clear();
        (!record.report.nodes_digest.is_empty()).then_some(digest)
    }

    fn shown(&self) -> &[NodePresence] {
        if self.within_report.is_empty() { &self.list } else { &self.within_report }
    }
}

#[derive(Debug, Clone, Copy)]
enum Step {
    /// A node stands otherwise, or comes, or goes.
    Change(usize, Option<u64>),
    /// A heartbeat and its answer.
    Beat,
    LostAnswer,
    /// The request is given up, and may arrive yet.
    LostRequest,
    /// One that was given up arrives.
    Arrives,
    /// It reaches a program that knows no digests of nodes.
    OlderGroundControl,
    /// The satellite was put back to a program that knows none, for one heartbeat.
    OlderSatellite,
    SatelliteRestarts,
    Backup,
    Restore,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..4_usize, proptest::option::of(0..3_u64)).prop_map(|(node, present)| Step::Change(node, present)),
        4 => Just(Step::Beat),
        1 => Just(Step::LostAnswer),
        1 => Just(Step::LostRequest),
        1 => Just(Step::Arrives),
        1 => Just(Step::OlderGroundControl),
        1 => Just(Step::OlderSatellite),
        1 => Just(Step::SatelliteRestarts),
        1 => Just(Step::Backup),
        1 => Just(Step::Restore),
    ]
}

proptest! {
    /// Whatever is lost, comes late, restarts or is put back: once a heartbeat is answered with the satellite's own digest,
    /// Ground Control shows exactly its list; and that is so with the second one that is answered.
    #[test]
    fn the_list_of_nodes_is_the_sites_after_an_answered_heartbeat(steps in proptest::collection::vec(step(), 0..60)) {
        let (mut site, mut known) = (BTreeMap::<usize, u64>::new(), None::<String>);
        let (mut desk, mut backup, mut late) = (Desk::default(), Desk::default(), Vec::<Report>::new());
        for step in steps {
            let list: Vec<_> = site.iter().map(|(node_, present)| node(&format!("n{node_}"), *present)).collect();
            let report = Report::default().with_nodes(list.clone(), known.as_deref());
            match step {
                Step::Change(name, present) => match present {
                    Some(present) => drop(site.insert(name, present)),
                    None => drop(site.remove(&name)),
                },
                Step::Beat => {
                    known = desk.take(report.clone());
                    if known.as_deref().unwrap_or_default() == report.nodes_digest {
                        prop_assert_eq!(desk.shown(), &list[..]);
                    }
                }
                Step::LostAnswer => drop(desk.take(report)),
                Step::LostRequest => late.push(report),
                Step::Arrives => drop(late.pop().map(|report| desk.take(report))),
                Step::OlderGroundControl => {
                    desk.within_report = report.nodes;
                    known = None;
                }
                Step::OlderSatellite => {
                    known = desk.take(Report { nodes: list.clone(), ..Report::default() });
                    prop_assert_eq!(desk.shown(), &list[..]);
                }
                Step::SatelliteRestarts => known = None,
                Step::Backup => backup = desk.clone(),
                Step::Restore => desk = backup.clone(),
            }
        }
        let list: Vec<_> = site.iter().map(|(node_, present)| node(&format!("n{node_}"), *present)).collect();
        for _ in 0..2 {
            known = desk.take(Report::default().with_nodes(list.clone(), known.as_deref()));
        }
        prop_assert_eq!(desk.shown(), &list[..]);
        let quiet = Report::default().with_nodes(list, known.as_deref());
        prop_assert_eq!(quiet.nodes.len(), 0, "and nothing is told again");
    }
}
