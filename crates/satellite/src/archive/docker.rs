//! docker-archive: what `docker save` writes, with the layers as they are in the store. Docker and Podman unpack gzip while
//! they load, so that no byte has to be changed and the image's id, its config's digest, stays.

use std::collections::BTreeMap;

use blob_store::Store;
use bytes::Bytes;
use serde_json::json;

use super::{Archive, ArchiveError, Choice, Content, Image, Root, gather, layout_path};

pub(super) fn plan(store: &Store, images: &[Image], choice: &Choice) -> Result<Archive, ArchiveError> {
    let mut blobs = BTreeMap::new();
    let mut list = Vec::new();
    for image in images {
        let root = Root::find(store, image, choice)?;
        gather(store, &image.repository, &root, &mut blobs)?;
        // Its own manifest has no place here.
        blobs.remove(&root.digest);
        let Some(config) = &root.manifest.config else {
            return Err(ArchiveError::NoImage(image.repository.clone(), image.digest));
        };
        if let Some(missing) = root.manifest.layers.iter().find(|layer| !blobs.contains_key(&layer.digest)) {
            return Err(ArchiveError::NotWhole(image.repository.clone(), missing.digest));
        }
        let layers: Vec<String> =
            root.manifest.layers.iter().map(|layer| layout_path(&layer.digest)).collect();
        // Docker takes tags only; an image without one is known by its id.
        let tags: Vec<&String> = image.names.iter().filter(|name| !name.contains('@')).collect();
        list.push(json!({"Config": layout_path(&config.digest), "RepoTags": tags, "Layers": layers}));
    }
    let manifest = Content::Bytes(Bytes::from(serde_json::Value::Array(list).to_string()));
    let contents = blobs.keys().copied().collect();
    let mut members = vec![("manifest.json".to_owned(), manifest)];
    members.extend(blobs.into_iter().map(|(digest, content)| (layout_path(&digest), content)));
    Ok(Archive { members, contents })
}
