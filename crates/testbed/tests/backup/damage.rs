//! Archives that are damaged, made by somebody else, or made to harm: nothing is changed.

use std::io::{Cursor, Read as _};
use std::path::Path;

use tar::{EntryType, Header};
use testbed::files;
use testbed::ground_control::{self, Place};
use testbed::world::World;

use crate::support::{done, passphrase, refused, text, tree, wanted};

/// One entry of an archive.
#[derive(Clone)]
struct Entry {
    name: String,
    kind: EntryType,
    link: Option<String>,
    content: Vec<u8>,
}

impl Entry {
    fn new(name: &str, content: &[u8]) -> Self {
        Self { name: name.to_owned(), kind: EntryType::Regular, link: None, content: content.to_vec() }
    }
}

fn read(archive: &[u8]) -> Vec<Entry> {
    let mut archive = tar::Archive::new(Cursor::new(archive));
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().to_str().unwrap().to_owned();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        Entry::new(&name, &content)
    });
    entries.collect()
}

fn write(entries: &[Entry]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for entry in entries {
        let mut header = Header::new_ustar();
        // Names that a library would refuse to write.
        header.as_old_mut().name[..entry.name.len()].copy_from_slice(entry.name.as_bytes());
        if let Some(link) = &entry.link {
            header.set_link_name(link).unwrap();
        }
        header.set_size(entry.content.len() as u64);
        header.set_mode(0o600);
        header.set_entry_type(entry.kind);
        header.set_cksum();
        archive.append(&header, entry.content.as_slice()).unwrap();
    }
    archive.into_inner().unwrap()
}

/// The sums as they have to be for these entries: whoever makes a hostile archive can count, too.
fn summed(mut entries: Vec<Entry>) -> Vec<Entry> {
    entries.retain(|entry| entry.name != "SHA256SUMS");
    let sums: String = entries
        .iter()
        .map(|entry| format!("{}  {}\n", oci::Digest::sha256(&entry.content).hex(), entry.name))
        .collect();
    entries.push(Entry::new("SHA256SUMS", sums.as_bytes()));
    entries
}

#[tokio::test]
async fn a_bad_archive_changes_nothing() {
    let world = World::start().await.unwrap();
    let dir = world.dir();
    let (phrase, file) = (passphrase(dir), dir.join("backup.tar"));
    wanted(&world.admin, &world.registry(), dir, "one", 1).await;
    let with_key = ["backup", "--to", text(&file), "--key-passphrase-file", text(&phrase)];
    done(&world.place, &with_key).await;
    let good = std::fs::read(&file).unwrap();
    let entries = read(&good);
    let names: Vec<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
    assert_eq!(names.first(), Some(&"backup.json"));
    assert!(names.contains(&"database.sqlite") && names.contains(&"registry/journal"), "{names:?}");
    assert!(names.contains(&"server-key.json") && names.last() == Some(&"SHA256SUMS"), "{names:?}");
    assert_eq!(
        write(&summed(entries.clone())).len(),
        write(&entries).len(),
        "the sums are those of sha256sum"
    );

    let target = Place::new(&dir.join("target"), ground_control::Options::default()).unwrap();
    files::create_dir(&target.data_dir()).unwrap();
    let other = dir.join("other.tar");
    files::write(&other, &good).unwrap();
    let restore = ["restore", "--from", text(&other), "--key-passphrase-file", text(&phrase)];
    // The good one goes there, and then nothing may change it.
    done(&target, &restore).await;
    let before = tree(&target.data_dir());
    let replace: Vec<&str> = restore.iter().copied().chain(["--replace"]).collect();

    let mut bad: Vec<(String, Vec<u8>)> =
        vec![("nothing at all".into(), Vec::new()), ("no archive".into(), b"something else".repeat(100))];
    let position = |name: &str| entries.iter().position(|entry| entry.name == name).unwrap();
    for (number, entry) in entries.iter().enumerate() {
        let name = &entry.name;
        if !entry.content.is_empty() {
            let mut changed = entries.clone();
            let middle = entry.content.len() / 2;
            changed[number].content[middle] ^= 1;
            bad.push((format!("one bit of {name}"), write(&changed)));
        }
        // The list of damaged content is two bytes long and says what the rest shows.
        let mut missing = entries.clone();
        missing.remove(number);
        bad.push((format!("without {name}"), write(&missing)));
        if name != "server-key.json" {
            bad.push((format!("without {name}, sums made anew"), write(&summed(missing))));
        }
        let mut twice = entries.clone();
        twice.insert(number, entry.clone());
        bad.push((format!("{name} twice"), write(&summed(twice))));
        bad.push((format!("cut before {name}"), write(&entries[..number])));
    }
    bad.retain(|(what, _)| what != "without SHA256SUMS, sums made anew" && what != "SHA256SUMS twice");
    bad.push(("cut in the middle".into(), good[..good.len() / 2].to_vec()));
    let mut more = entries.clone();
    more.push(Entry::new("behind", b"its end"));
    bad.push(("something behind its end".into(), write(&more)));
    for name in
        ["../../escaped", "/tmp/escaped", "registry/blobs/sha256/../../../escaped", "registry/index.redb"]
    {
        for kind in [EntryType::Regular, EntryType::Symlink, EntryType::Link, EntryType::Directory] {
            let mut hostile = entries.clone();
            let entry = Entry { kind, link: Some("/etc/passwd".into()), ..Entry::new(name, b"") };
            hostile.insert(position("registry/damaged.json"), entry);
            bad.push((format!("{name} as {kind:?}"), write(&summed(hostile))));
        }
    }
    let mut link = entries.clone();
    link[position("database.sqlite")].kind = EntryType::Symlink;
    link[position("database.sqlite")].link = Some("/etc/passwd".into());
    link[position("database.sqlite")].content.clear();
    bad.push(("a database that is a link".into(), write(&summed(link))));
    for (what, from, to) in [
        ("a newer format", "\"format\": 1", "\"format\": 2"),
        ("newer tables", "\"schema\": ", "\"schema\": 9"),
        ("another epoch", "\"epoch\": 0", "\"epoch\": 7"),
        ("another registry", "\"registry\": true", "\"registry\": false"),
        ("another database", "\"sqlite\"", "\"postgresql\""),
        ("another key", "\"key_check\": \"", "\"key_check\": \"0"),
    ] {
        let mut changed = entries.clone();
        let head = String::from_utf8(changed[0].content.clone()).unwrap();
        assert!(head.contains(from), "{head}");
        changed[0].content = head.replace(from, to).into_bytes();
        bad.push((what.into(), write(&summed(changed))));
    }
    // Another database than the one it says, with sums that are right.
    let mut broken = entries.clone();
    let database = &mut broken[position("database.sqlite")].content;
    let length = database.len();
    database[length / 2..].fill(0);
    bad.push(("a damaged database with right sums".into(), write(&summed(broken))));
    // It says that it is larger than any disk.
    let mut bomb = good[..512 * 2].to_vec();
    let mut header = Header::new_ustar();
    header.set_path("database.sqlite").unwrap();
    header.set_size(1 << 60);
    header.set_entry_type(EntryType::Regular);
    header.set_cksum();
    bomb.extend_from_slice(header.as_bytes());
    bomb.extend_from_slice(&[0; 4096]);
    bad.push(("larger than any disk".into(), bomb));

    assert!(bad.len() > 40, "{}", bad.len());
    for (what, bytes) in &bad {
        files::write(&other, bytes).unwrap();
        let said = refused(&target, &replace).await;
        assert!(!said.contains("panicked"), "{what}: {said}");
        assert_eq!(tree(&target.data_dir()), before, "{what}: {said}");
    }
    assert!(!Path::new("/tmp/escaped").try_exists().unwrap());
    // A passphrase that is not the one, where the key is needed.
    let empty = Place::new(&dir.join("empty"), ground_control::Options::default()).unwrap();
    files::create_dir(&empty.data_dir()).unwrap();
    files::write(&other, &good).unwrap();
    files::write_private(&phrase, "something else entirely\n").unwrap();
    let said = refused(&empty, &restore).await;
    assert!(said.contains("does not open the server key"), "{said}");
    // And the good one is still good.
    done(&target, &["backup", "verify", text(&other)]).await;
    target.start().await.unwrap().stop().await.unwrap();
}
