//! An image out of any registry, whole and by digest, with what refers to it.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use oci::{Descriptor, Hasher, ImageReference, Kind, Manifest, Reference, RepositoryName};
use registry_client::{Client, ClientOptions, Endpoint, Scheme};
use testbed::files;
use testbed::image::Image;
use testbed::layout::Layout;

use super::content::Named;
use crate::error::{Error, Result};

/// Copies an image into a layout in `dir`. Anonymous; plain HTTP for loopback only.
pub(crate) async fn copy(reference: &ImageReference, dir: &Path) -> Result<Named> {
    let host = match reference.host.as_str() {
        "docker.io" => "registry-1.docker.io",
        host => host,
    };
    let local = host.starts_with("127.") || host.starts_with("localhost") || host.starts_with("[::1]");
    let plain = reference.scheme.as_deref().map_or(local, |scheme| scheme == "http");
    let scheme = if plain { Scheme::Http } else { Scheme::Https };
    let endpoint = Endpoint::new(scheme, host).map_err(|error| Error::Other(error.to_string()))?;
    let client = Client::new(endpoint, ClientOptions::default())?;
    let layout = Layout::create(dir)?;
    let repository = &reference.repository;
    let latest = || "latest".parse().map_err(|error: oci::ReferenceError| Error::Other(error.to_string()));
    let wanted = reference.reference().map_or_else(latest, Ok)?;
    let copy = Copy { client: &client, repository, layout: &layout };
    let root = copy.manifest(&wanted).await?;
    let tag = reference.tag.as_ref().map_or("latest", |tag| tag.as_str()).to_owned();
    layout.add_root(&root, Some(&tag))?;
    let mut referrers = Vec::new();
    for referrer in client.referrers(repository, &root.digest, None).await?.descriptors {
        let referrer = copy.manifest(&Reference::Digest(referrer.digest)).await?;
        layout.add_root(&referrer, None)?;
        referrers.push(referrer);
    }
    Ok(Named { image: Image { layout, root, referrers }, repository: repository.to_string(), tag })
}

struct Copy<'a> {
    client: &'a Client,
    repository: &'a RepositoryName,
    layout: &'a Layout,
}

impl Copy<'_> {
    /// Copies a manifest and everything below it.
    async fn manifest(&self, wanted: &Reference) -> Result<Descriptor> {
        let mut open = vec![wanted.clone()];
        let mut first = None;
        while let Some(wanted) = open.pop() {
            let fetched = self.client.manifest(self.repository, &wanted).await?;
            let manifest = Manifest::parse(Some(&fetched.media_type), &fetched.bytes)
                .map_err(|error| Error::Other(format!("{}: {error}", fetched.digest)))?;
            files::write(&self.layout.path(&fetched.digest), &fetched.bytes)?;
            if manifest.kind == Kind::Index {
                open.extend(manifest.manifests.iter().map(|child| Reference::Digest(child.digest)));
            }
            for blob in manifest.blobs().filter(|blob| !blob.is_non_distributable()) {
                self.blob(blob).await?;
            }
            let size = fetched.bytes.len() as u64;
            first.get_or_insert_with(|| Descriptor::new(fetched.media_type.clone(), fetched.digest, size));
        }
        first.ok_or_else(|| Error::Other("nothing was copied".into()))
    }

    async fn blob(&self, blob: &Descriptor) -> Result<()> {
        let path = self.layout.path(&blob.digest);
        if path.is_file() {
            return Ok(());
        }
        let failed =
            |error: std::io::Error| Error::Other(format!("cannot write {}: {error}", path.display()));
        if let Some(parent) = path.parent() {
            files::create_dir(parent)?;
        }
        let fresh = path.with_extension("new");
        let mut file = File::create(&fresh).map_err(failed)?;
        let mut hasher = Hasher::new(blob.digest.algorithm());
        let mut body = self.client.blob(self.repository, &blob.digest, 0).await?;
        while let Some(chunk) = body.chunk().await? {
            hasher.update(&chunk);
            file.write_all(&chunk).map_err(failed)?;
        }
        let found = hasher.finish();
        if found != blob.digest {
            return Err(Error::Other(format!(
                "the registry sent {found} where {} was asked for",
                blob.digest
            )));
        }
        std::fs::rename(&fresh, &path).map_err(failed)
    }
}
