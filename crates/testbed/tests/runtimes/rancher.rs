//! k3s and RKE2, judged by the reader that they have of `registries.yaml`, which is also RKE2's own puller.

use std::path::Path;

use serde_json::{Value, json};
use testbed::docker_registry::{Options, PASSWORDS};
use testbed::rancher::Reader;
use testbed::{files, machine};

use crate::lan_node::{Mirror, remove};

const OURS: &str = "http://127.0.0.1:8585";
const CORPUS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../container-runtimes/tests/corpus/rancher");

/// The mirrors that a registry has, in the order in which they are asked.
fn endpoints(read: &Value, registry: &str) -> Vec<String> {
    let all = &read["mirrors"];
    let mirror = all.get(registry).or_else(|| all.get("*"));
    let list = mirror.and_then(|mirror| mirror["endpoint"].as_array());
    list.into_iter().flatten().map(|url| url.as_str().unwrap().to_owned()).collect()
}

/// What a file says besides mirrors of the two registries.
fn others(read: &Value) -> Value {
    let mut rest = read.clone();
    if let Some(mirrors) = rest["mirrors"].as_object_mut() {
        mirrors.retain(|registry, _| !["docker.io", "quay.io"].contains(&registry.as_str()));
    }
    if rest["mirrors"].is_null() {
        rest["mirrors"] = json!({});
    }
    rest
}

#[tokio::test]
async fn every_file_of_the_corpus_is_read_with_ours_first_and_all_else_as_it_was() {
    let reader = Reader::build().await.unwrap();
    let folder = files::scratch("registries").unwrap();
    let mut edited = 0;
    for file in std::fs::read_dir(CORPUS).unwrap().map(|entry| entry.unwrap().path()) {
        if file.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        let golden = std::fs::read_to_string(format!("{}.golden", file.display())).unwrap();
        let Some((_, text)) = golden.split_once("---\n").filter(|(head, _)| head.starts_with("edited"))
        else {
            assert!(golden.starts_with("refused"), "{}", file.display());
            continue;
        };
        let after = folder.path().join("registries.yaml");
        files::write(&after, text).unwrap();
        let (before, after) = (reader.read(&file).await.unwrap(), reader.read(&after).await.unwrap());
        for registry in ["docker.io", "quay.io"] {
            let mut expected = endpoints(&before, registry);
            if !expected.iter().any(|url| url == OURS) {
                expected.insert(0, OURS.to_owned());
                let rules = &after["mirrors"][registry]["rewrite"];
                assert!(
                    rules.as_object().is_none_or(|rules| rules.is_empty()),
                    "{}: {rules}",
                    file.display()
                );
            }
            assert_eq!(endpoints(&after, registry), expected, "{}", file.display());
        }
        assert_eq!(others(&before), others(&after), "{}", file.display());
        edited += 1;
    }
    assert!(edited >= 6, "{edited}");
    assert!(reader.read(&Path::new(CORPUS).join("broken.yaml")).await.is_err(), "a broken file is noticed");
}

/// The mirror is on the LAN, over TLS and with an account: nothing of that is lost on the way to the puller.
#[tokio::test]
async fn what_is_written_is_pulled_with() {
    let reader = Reader::build().await.unwrap();
    let name = "rancher::what_is_written_is_pulled_with";
    let result = tokio::task::spawn_blocking(move || {
        machine::alone(name, async |machine| {
            let options = Options { accounts: vec![("node".to_owned(), PASSWORDS[0])], ..Options::default() };
            let mirror = Mirror::start(options).await;
            mirror.push().await;
            let kept = "# of the site\nmirrors:\n  ghcr.io:\n";
            let file = Path::new("/etc/rancher/rke2/registries.yaml");
            files::write_private(file, kept).unwrap();
            files::create_dir("/var/lib/rancher/rke2/agent".as_ref()).unwrap();
            let before = machine.configuration();
            let password = mirror.file("password");
            let words = ["--username=node", "--password-file", &password, "--mirrors=rke2:docker.io,quay.io"];
            let (code, said) = mirror.apply(&words).await;
            assert_eq!(code, Some(0), "{said}");
            let digest = mirror.image.root.digest.to_string();
            for name in ["docker.io/library/app:1", "quay.io/acme/tool:1"] {
                assert_eq!(reader.pull(file, name).await.unwrap(), digest, "{name}");
            }
            remove(&[]).await;
            assert_eq!(before.differences(&machine.configuration()), Vec::<String>::new());
            reader.pull(file, "docker.io/library/app:1").await.unwrap_err();
        })
    });
    result.await.unwrap().unwrap_or_else(|error| panic!("{error}"));
}
