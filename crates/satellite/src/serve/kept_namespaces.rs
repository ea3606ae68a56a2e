//! The site's own namespaces, remembered for as long as something is in them: what people pushed must not be taken for
//! something that nobody wants any more because a start lacked a variable.

use std::collections::BTreeSet;
use std::path::Path;

use blob_store::{Store, StoreError, durable};
use oci::RepositoryName;

use crate::config::LocalNamespaces;

const FILE: &str = "local-namespaces.json";
const MOST: usize = 1000;

/// The namespaces that are configured, and those of earlier runs that are not empty. Blocks.
#[must_use]
pub fn remember(config_dir: &Path, configured: &LocalNamespaces, store: &Store) -> LocalNamespaces {
    let path = config_dir.join(FILE);
    let before = std::fs::read(&path).ok();
    let known: Vec<RepositoryName> =
        before.as_deref().and_then(|bytes| serde_json::from_slice(bytes).ok()).unwrap_or_default();
    let mut kept = configured.clone();
    for namespace in known.into_iter().take(MOST) {
        if kept.names().any(|name| name == namespace.as_str()) {
            continue;
        }
        match holds_something(store, &namespace) {
            Ok(false) => {}
            // What cannot be looked at may be full.
            Ok(true) | Err(_) => {
                tracing::warn!(%namespace, "namespace is no longer in LOCAL_NAMESPACES, what was pushed into it stays");
                kept = kept.with([namespace]);
            }
        }
    }
    let names: BTreeSet<&str> = kept.names().collect();
    let written = serde_json::to_vec(&names).map_err(std::io::Error::other).and_then(|bytes| {
        let nothing = names.is_empty() && before.is_none();
        if nothing || before.as_deref() == Some(bytes.as_slice()) {
            return Ok(());
        }
        durable::write_file(&path, &bytes, durable::PRIVATE_FILE)
    });
    if let Err(error) = written {
        tracing::warn!(path = %path.display(), %error, "the site's own namespaces not remembered");
    }
    kept
}

fn holds_something(store: &Store, namespace: &RepositoryName) -> Result<bool, StoreError> {
    let one = LocalNamespaces::default().with([namespace.clone()]);
    let mut last: Option<RepositoryName> = None;
    loop {
        let page = store.repositories(last.as_ref().map(RepositoryName::as_str), 500)?;
        if page.items.iter().any(|repository| one.holds(repository)) {
            return Ok(true);
        }
        match page.items.into_iter().next_back().filter(|_| page.more) {
            Some(repository) => last = Some(repository),
            None => return Ok(false),
        }
    }
}

#[cfg(test)]
mod tests {
    use blob_store::{Completeness, PutManifest};
    use oci::Digest;

    use super::*;

    #[tokio::test]
    async fn a_namespace_is_remembered_until_it_is_empty() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().join("registry"), blob_store::Options::default()).unwrap();
        let remember = |configured: &str| {
            let kept = remember(folder.path(), &configured.parse().unwrap(), &store);
            kept.names().map(str::to_owned).collect::<Vec<_>>()
        };
        assert!(remember("").is_empty());
        assert!(!folder.path().join(FILE).try_exists().unwrap());
        assert_eq!(remember("dev,ci"), ["ci", "dev"]);
        let bytes: &[u8] =
            br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;
        let repository: RepositoryName = "dev/app".parse().unwrap();
        let put = PutManifest {
            repository: repository.clone(),
            digest: Digest::sha256(bytes),
            media_type: None,
            bytes: bytes.into(),
            tags: Vec::new(),
            completeness: Completeness::VisibleHere,
        };
        store.put_manifest(put).await.unwrap();
        assert_eq!(remember(""), ["dev"], "one variable forgotten is nothing lost");
        assert_eq!(remember("team"), ["dev", "team"]);
        store.delete_manifest(&repository, &Digest::sha256(bytes)).await.unwrap();
        assert!(remember("").is_empty());
    }
}
