use oci::Digest;
use proptest::prelude::*;
use rustix::io::Errno;

use super::*;
use crate::durable::fault::{Operation, inject};
use crate::record::Record;

fn batch(n: u64) -> Batch {
    let digest = Digest::sha256(&n.to_le_bytes());
    Batch { at: n, records: vec![Record::Content { digest, size: n, at: n }] }
}

fn journal(dir: &Path, n: u64) -> Journal {
    let mut journal = Journal::create(&dir.join("journal"), Header::fresh(), |_| Ok(())).unwrap();
    for i in 0..n {
        journal.append(&batch(i)).unwrap();
    }
    journal
}

fn reopen(dir: &Path) -> Journal {
    match Journal::open(&dir.join("journal")).unwrap() {
        Found::Journal(journal) | Found::Headless(journal) => journal,
        Found::Nothing => panic!("there is a journal"),
    }
}

fn read(journal: &Journal) -> (Vec<u64>, u64, usize) {
    let mut scan = journal.scan(FIRST);
    let batches = scan.by_ref().map(|(_, batch)| batch.at).collect();
    (batches, scan.end(), scan.damaged().len())
}

fn overwrite(journal: &Journal, offset: u64, bytes: &[u8]) {
    DurableFile::open(journal.path()).unwrap().write_at(bytes, offset).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_tail_torn_anywhere_loses_only_the_last_batch(n in 1_u64..6, cut in 1_u64..60) {
        let dir = tempfile::tempdir().unwrap();
        let whole = journal(dir.path(), n);
        let before_last = {
            let mut scan = whole.scan(FIRST);
            scan.by_ref().take(usize::try_from(n).unwrap() - 1).for_each(drop);
            scan.end()
        };
        let cut = cut.min(whole.end() - before_last);
        DurableFile::open(whole.path()).unwrap().set_len(whole.end() - cut).unwrap();
        let torn = reopen(dir.path());
        let (batches, end, damaged) = read(&torn);
        prop_assert_eq!(batches, (0..n - 1).collect::<Vec<_>>());
        prop_assert_eq!(end, before_last);
        prop_assert_eq!(damaged, 0);
    }

    #[test]
    fn one_damaged_byte_costs_one_batch_at_most(n in 2_u64..8, place in any::<prop::sample::Index>(), flip in 1_u8..) {
        let dir = tempfile::tempdir().unwrap();
        let whole = journal(dir.path(), n);
        let offset = FIRST + place.index(usize::try_from(whole.end() - FIRST).unwrap()) as u64;
        let mut byte = [0];
        whole.file.read_exact_at(&mut byte, offset).unwrap();
        overwrite(&whole, offset, &[byte[0] ^ flip]);
        let (batches, _, _) = read(&reopen(dir.path()));
        prop_assert_eq!(batches.len() as u64, n - 1);
    }
}

#[test]
fn damage_in_the_middle_is_stepped_over_and_reported() {
    let dir = tempfile::tempdir().unwrap();
    let whole = journal(dir.path(), 5);
    overwrite(&whole, FIRST + 20, &[0xff; 70]);
    let (batches, end, damaged) = read(&reopen(dir.path()));
    assert_eq!(batches, [2, 3, 4]);
    assert_eq!((end, damaged), (whole.end(), 1));
}

#[test]
fn a_damaged_header_leaves_the_batches_readable() {
    let dir = tempfile::tempdir().unwrap();
    let whole = journal(dir.path(), 3);
    overwrite(&whole, 0, &[0; 30]);
    let Found::Headless(headless) = Journal::open(whole.path()).unwrap() else { panic!("header is damaged") };
    assert_eq!(read(&headless).0, [0, 1, 2]);
}

#[test]
fn a_newer_version_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let whole = journal(dir.path(), 1);
    overwrite(&whole, 8, &7_u32.to_le_bytes());
    assert!(matches!(Journal::open(whole.path()), Err(StoreError::Version { found: 7, .. })));
}

#[test]
fn a_failed_append_is_taken_back_and_the_next_one_works() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = journal(dir.path(), 1);
    for operation in [Operation::Write, Operation::Truncate] {
        let _full = inject(dir.path(), operation, Errno::NOSPC);
        let result = journal.append(&batch(9));
        assert_eq!(result.is_err(), operation == Operation::Write);
    }
    assert_eq!(read(&reopen(dir.path())).0, [0, 9]);
}

#[test]
fn an_append_that_cannot_be_taken_back_ends_writing() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = journal(dir.path(), 1);
    {
        let _sync = inject(dir.path(), Operation::Sync, Errno::IO);
        journal.append(&batch(1)).unwrap_err();
    }
    assert!(matches!(journal.append(&batch(2)), Err(StoreError::ReadOnly { .. })));
}

#[test]
fn a_successor_holds_the_snapshot_and_what_came_since() {
    let dir = tempfile::tempdir().unwrap();
    let mut old = journal(dir.path(), 3);
    let offset = old.end();
    let mut draft = Draft::begin(old.path()).unwrap();
    draft.append(&batch(100)).unwrap();
    old.append(&batch(3)).unwrap();
    let new = old.succeed(draft, offset).unwrap();
    assert_eq!(read(&new).0, [100, 3]);
    assert_eq!(new.header().predecessor, old.header().id);
    let continued = new.header().continue_from(offset).unwrap();
    assert_eq!(new.scan(continued).map(|(_, b)| b.at).collect::<Vec<_>>(), [3]);
    assert_eq!(new.header().continue_from(offset - 1), None);
    assert_eq!(read(&reopen(dir.path())).0, [100, 3]);
}
