//! Whatever the site, the kubelet and people do, and wherever the agent is killed: what was there before stays as it was,
//! what is wanted is there and pinned, and what left is gone with all that only it held.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use futures_util::FutureExt as _;
use proptest::prelude::*;

use super::decide::{self, Name, Record, Seen, Wanted};
use super::ledger::{Ledger, LedgerFile, Made};
use super::model::{Maker, Model, id_of};
use super::round::Agent;

const NAMES: [&str; 5] = ["d.io/l/a:1", "d.io/l/a:2", "d.io/l/b:1", "q.io/l/a:1", "q.io/c:1"];
const DIGESTS: u32 = 4;

fn digest(number: u32) -> String {
    format!("sha256:{:064}", number % DIGESTS + 2)
}

#[derive(Debug, Clone)]
enum Step {
    /// The site's plan is these names, with the digests that the registry has.
    Plan {
        names: BTreeSet<usize>,
        whole: bool,
    },
    /// The satellite was restarted, and has not looked at everything yet.
    Unsure,
    /// A tag moves; the plan follows with its next change.
    Move {
        name: usize,
        to: u32,
    },
    KubeletPulls(usize),
    KubeletRemoves(usize),
    PersonTags {
        from: usize,
        to: usize,
    },
    PersonRemoves {
        name: usize,
        which: u8,
    },
    Round,
    /// A round that ends after so many steps of its first pull.
    Killed(u32),
}

fn step() -> impl Strategy<Value = Step> {
    let name = || 0..NAMES.len();
    prop_oneof![
        3 => (prop::collection::btree_set(name(), 0..4), prop::bool::weighted(0.8))
            .prop_map(|(names, whole)| Step::Plan { names, whole }),
        1 => Just(Step::Unsure),
        1 => (name(), 0..DIGESTS).prop_map(|(name, to)| Step::Move { name, to }),
        2 => name().prop_map(Step::KubeletPulls),
        1 => name().prop_map(Step::KubeletRemoves),
        1 => (name(), name()).prop_map(|(from, to)| Step::PersonTags { from, to }),
        1 => (name(), 0..3_u8).prop_map(|(name, which)| Step::PersonRemoves { name, which }),
        4 => Just(Step::Round),
        1 => (0..4_u32).prop_map(Step::Killed),
    ]
}

/// A round to its end, or to where the agent is killed: whether it came to its end.
fn round(agent: &mut Agent<&Model>, wanted: &Wanted) -> bool {
    let whole = async {
        let (_, missing) = agent.tidy(wanted).await.unwrap();
        for name in &missing {
            agent.pull(name, wanted).await.unwrap();
        }
        agent.tidy(wanted).await.unwrap();
    };
    // Nothing in the model waits but a pull that is broken off.
    whole.now_or_never().is_some()
}

fn check(model: &Model, wanted: &Wanted, before: &[Record]) {
    let state = model.state();
    let is_tag = |name: &str| name.contains('/') && !name.contains('@');
    let ours = || state.entries.values().filter(|entry| entry.maker == Maker::Agent);
    for (name, want) in &wanted.names {
        let Some(digest) = &want.digest else { continue };
        let entry = &state.entries[name];
        assert_eq!(&entry.record.target, digest);
        assert!(entry.whole, "{name}");
        for entry in ours().filter(|entry| {
            entry.record.name == *name || entry.record.target == *digest && !is_tag(&entry.record.name)
        }) {
            assert!(entry.record.pinned && entry.record.is_marked());
        }
    }
    for record in before.iter().filter(|record| wanted.names.contains_key(&record.name)) {
        let entry = &state.entries[&record.name];
        assert!(!record.pinned || entry.record.pinned || entry.maker != Maker::Agent, "{}", record.name);
    }
    if !wanted.whole {
        for record in before {
            assert!(state.entries.contains_key(&record.name), "{} is gone", record.name);
        }
        return;
    }
    for entry in ours() {
        let record = &entry.record;
        if is_tag(&record.name) {
            assert!(wanted.names.contains_key(&record.name), "{} is still there", record.name);
        } else {
            let same = |other: &Record| {
                other.target == record.target || id_of(&other.target) == id_of(&record.target)
            };
            let held = state.entries.values().any(|other| {
                same(&other.record)
                    && (is_tag(&other.record.name)
                        || other.record.name.contains('@') && other.maker != Maker::Agent)
            });
            assert!(held, "{} is held by nothing", record.name);
        }
    }
    // An image that still has a tag has what else it had.
    for record in before.iter().filter(|record| !is_tag(&record.name)) {
        let tagged = state
            .entries
            .values()
            .any(|entry| is_tag(&entry.record.name) && entry.record.target == record.target);
        assert!(!tagged || state.entries.contains_key(&record.name), "{} is gone", record.name);
    }
}

fn run(steps: Vec<Step>) {
    let folder = tempfile::tempdir().unwrap();
    let file = LedgerFile::new(folder.path());
    let model = Model::default();
    for (number, name) in (0..).zip(NAMES) {
        model.state().registry.insert(name.to_owned(), digest(number));
    }
    let mut agent = Agent::new(&model, file.clone()).unwrap();
    let mut wanted = Wanted { whole: true, ..Wanted::default() };
    let other = |model: &Model| if model.state().broken_off { Maker::Nobody } else { Maker::Other };
    for step in steps {
        match step {
            Step::Plan { names, whole } => {
                let names = names.into_iter().map(|name| {
                    let name = NAMES[name].to_owned();
                    let digest = model.state().registry[&name].clone();
                    (name, Name { digest: Some(digest), local: true })
                });
                wanted = Wanted { names: names.collect(), whole };
            }
            Step::Unsure => {
                for want in wanted.names.values_mut() {
                    *want = Name { digest: None, local: false };
                }
            }
            Step::Move { name, to } => {
                model.state().registry.insert(NAMES[name].to_owned(), digest(to));
                if let Some(want) = wanted.names.get_mut(NAMES[name]) {
                    want.digest = want.digest.as_ref().map(|_| digest(to));
                }
            }
            Step::KubeletPulls(name) => {
                let maker = other(&model);
                model.state().pull(NAMES[name], maker, None);
            }
            Step::KubeletRemoves(name) => model.state().remove_image(NAMES[name]),
            Step::PersonTags { from, to } => {
                let maker = other(&model);
                let mut state = model.state();
                let new = !state.entries.contains_key(NAMES[to]);
                state.tag(NAMES[from], NAMES[to]);
                if let Some(entry) = state.entries.get_mut(NAMES[to]).filter(|_| new) {
                    entry.maker = maker;
                }
            }
            Step::PersonRemoves { name, which } => {
                let mut state = model.state();
                let Some(entry) = state.entries.get(NAMES[name]) else { continue };
                let target = entry.record.target.clone();
                let (repository, _) = NAMES[name].rsplit_once(':').unwrap();
                let gone = match which {
                    0 => NAMES[name].to_owned(),
                    1 => format!("{repository}@{target}"),
                    _ => id_of(&target),
                };
                state.entries.remove(&gone);
            }
            Step::Round => {
                let before: Vec<Record> =
                    model.state().entries.values().map(|entry| entry.record.clone()).collect();
                model.state().kill_after = None;
                assert!(round(&mut agent, &wanted));
                model.state().broken_off = false;
                check(&model, &wanted, &before);
                model.state().acts = 0;
                assert!(round(&mut agent, &wanted));
                assert_eq!(model.state().acts, 0, "a second round finds nothing to do");
            }
            Step::Killed(after) => {
                model.state().kill_after = Some(after);
                round(&mut agent, &wanted);
                agent = Agent::new(&model, file.clone()).unwrap();
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn what_was_there_stays_what_is_wanted_is_pinned_and_what_left_is_gone(
        steps in prop::collection::vec(step(), 1..24),
    ) {
        run(steps);
    }
}

fn record(name: &str, target: &str, made: i64) -> Record {
    Record { name: name.to_owned(), target: target.to_owned(), made: Made(made, 0), ..Record::default() }
}

fn seen(records: &[Record]) -> Seen {
    let images = records.iter().filter(|record| record.name.contains('/'));
    Seen {
        images: images.map(|record| (record.name.clone(), id_of(&record.target))).collect(),
        records: records.to_vec(),
    }
}

#[test]
fn a_name_that_was_made_again_is_no_longer_ours() {
    let d = digest(0);
    let mut ledger = Ledger::default();
    ledger.records.insert("q.io/a:1".to_owned(), Made(1, 0));
    let wanted = Wanted { whole: true, ..Wanted::default() };
    let ours = decide::decide(&wanted, &ledger, &seen(&[record("q.io/a:1", &d, 1)]));
    assert_eq!(ours.remove.len(), 1);
    let theirs = decide::decide(&wanted, &ledger, &seen(&[record("q.io/a:1", &d, 2)]));
    assert!(theirs.remove.is_empty() && theirs.ours.is_empty() && theirs.label.is_empty());
}

#[test]
fn without_its_list_it_knows_its_own_by_their_label_and_nothing_by_a_copied_one() {
    let d = digest(0);
    let marked = |name: &str, mark: &str| Record { mark: Some(mark.to_owned()), ..record(name, &d, 1) };
    let records = [
        marked("q.io/a:1", "q.io/a:1#1.0"),
        marked("q.io/a:copy", "q.io/a:1#1.0"),
        marked("q.io/a:again", "q.io/a:again#0.0"),
        record("q.io/b:1", &d, 1),
    ];
    let wanted = Wanted { whole: true, ..Wanted::default() };
    let decision = decide::decide(&wanted, &Ledger::default(), &seen(&records));
    let removed: Vec<&str> = decision.remove.iter().map(|record| record.name.as_str()).collect();
    assert_eq!(removed, ["q.io/a:1"]);
}

#[test]
fn what_the_site_does_not_have_yet_is_not_asked_for() {
    let name = |local| Name { digest: Some(digest(0)), local };
    let names = BTreeMap::from([("q.io/a:1".to_owned(), name(false)), ("q.io/b:1".to_owned(), name(true))]);
    let decision = decide::decide(&Wanted { names, whole: true }, &Ledger::default(), &Seen::default());
    assert_eq!(decision.pull, ["q.io/b:1"]);
}

#[test]
fn another_digest_than_the_plans_is_told_not_pinned_and_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    let model = Model::default();
    model.state().registry.insert("q.io/a:1".to_owned(), digest(2));
    let names = BTreeMap::from([("q.io/a:1".to_owned(), Name { digest: Some(digest(0)), local: true })]);
    let wanted = Wanted { names, whole: true };
    let mut agent = Agent::new(&model, LedgerFile::new(folder.path())).unwrap();
    assert!(round(&mut agent, &wanted));
    let (seen, missing) = agent.tidy(&wanted).now_or_never().unwrap().unwrap();
    assert_eq!(missing, ["q.io/a:1"]);
    assert_eq!(agent.next(&missing, Instant::now()), None, "not at once");
    let told = agent.presence(&wanted, &seen, None);
    assert!(told[0].reason.as_ref().unwrap().contains(&digest(2)), "{told:?}");
    assert!(model.state().entries.values().all(|entry| !entry.record.pinned));
    // It was brought by us, so it goes with the artifact.
    assert!(round(&mut agent, &Wanted { whole: true, ..Wanted::default() }));
    assert!(model.state().entries.is_empty());
}
