//! An identity from files: renewed by somebody else, read when they change.

use std::path::Path;
use std::time::Duration;

use identity::files::{Files, FilesError, follow, load};
use identity::{Current, Identity, identity};
use tempfile::TempDir;

use crate::ca::{Ca, EDGE, EXPIRED, Issued, Spec, Validity, bundle, domain};

struct Folder {
    folder: TempDir,
    files: Files,
}

impl Folder {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let files = Files {
            certificate: path("svid.pem"),
            key: path("svid.key"),
            bundle: path("bundle.pem"),
            trust_domain: domain(),
        };
        Self { folder, files }
    }

    fn put(&self, issued: &Issued, roots: &[&Ca]) {
        put(&self.files.certificate, &issued.chain_pem());
        put(&self.files.key, &issued.key.serialize_pem());
        put(&self.files.bundle, &bundle(roots).to_pem());
    }
}

fn put(path: &Path, text: &str) {
    use std::io::Write as _;
    let mut file = std::fs::File::create(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

async fn until(identity: &mut Identity, is_so: impl Fn(Option<&Current>) -> bool) {
    while !is_so(identity.current().as_deref()) {
        tokio::time::timeout(Duration::from_secs(60), identity.changed()).await.expect("it never became so");
    }
}

#[tokio::test]
async fn a_start_fails_on_files_that_are_wrong_and_names_them() {
    let (folder, ca) = (Folder::new(), Ca::root());
    let files = &folder.files;
    let fails = async |file: &Path| {
        let error = load(files).await.unwrap_err();
        assert!(error.to_string().contains(file.to_str().unwrap()), "{error}");
        error
    };
    assert!(matches!(fails(&files.certificate).await, FilesError::Read { .. }));
    let good = ca.issue(&Spec::of(&[EDGE]));
    folder.put(&good, &[&ca]);
    let (svid, authorities) = load(files).await.unwrap();
    assert_eq!((svid.id().to_string().as_str(), authorities), (EDGE, bundle(&[&ca])));
    put(&files.key, &ca.issue(&Spec::of(&[EDGE])).key.serialize_pem());
    fails(&files.key).await;
    put(&files.key, "");
    fails(&files.key).await;
    folder.put(&good, &[&ca]);
    put(&files.bundle, "");
    fails(&files.bundle).await;
    folder.put(&ca.issue(&Spec::of(&["spiffe://elsewhere.example/a"])), &[&ca]);
    fails(&files.certificate).await;
    folder.put(&ca.issue(&Spec { validity: EXPIRED, ..Spec::of(&[EDGE]) }), &[&ca]);
    assert!(matches!(fails(&files.certificate).await, FilesError::Expired { .. }));
    drop(folder.folder);
}

/// With the clock paused it moves on whenever all there is to do is wait.
#[tokio::test(start_paused = true)]
async fn new_files_are_taken_and_bad_ones_change_nothing() {
    let (folder, old, new) = (Folder::new(), Ca::root(), Ca::root());
    let (keeper, mut handle) = identity();
    let task = tokio::spawn(follow(keeper, folder.files.clone()));
    // They may come after the start.
    folder.put(&old.issue(&Spec::of(&[EDGE])), &[&old]);
    until(&mut handle, |current| current.is_some()).await;
    let first = handle.current().unwrap();

    put(&folder.files.certificate, "half of a file");
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(handle.current().unwrap().svid.chain(), first.svid.chain(), "the last good one stays");

    let next = new.issue(&Spec::of(&[EDGE]));
    folder.put(&next, &[&old, &new]);
    until(&mut handle, |current| current.unwrap().svid.chain() == next.chain).await;
    assert_eq!(handle.current().unwrap().bundle, bundle(&[&old, &new]));

    put(&folder.files.bundle, &bundle(&[&new]).to_pem());
    until(&mut handle, |current| current.unwrap().bundle == bundle(&[&new])).await;
    task.abort();
}

#[tokio::test]
async fn what_is_not_renewed_ends_when_it_expires() {
    let (folder, ca) = (Folder::new(), Ca::root());
    folder.put(&ca.issue(&Spec { validity: Validity(-60, 3), ..Spec::of(&[EDGE]) }), &[&ca]);
    let (keeper, mut handle) = identity();
    let task = tokio::spawn(follow(keeper, folder.files.clone()));
    until(&mut handle, |current| current.is_some()).await;
    let held = handle.current().unwrap();
    until(&mut handle, |current| current.is_none()).await;
    assert!(held.svid.leaf().is_expired(jiff::Timestamp::now()));
    task.abort();
}
