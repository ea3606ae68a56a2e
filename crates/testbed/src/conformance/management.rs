//! Deleting tags, manifests and blobs.

use oci::{Algorithm, Digest};
use serde_json::Value;

use super::blobs;
use super::content::{self, random};
use super::manifests::{is_absent, is_there};
use super::session::{Failure, Session, ensure};
use super::{Check, checks};

pub(super) const CHECKS: &[Check] = checks! {
    once "delete: a tag, and only the tag" => tag,
    each "delete: a manifest with its tags" => manifest,
    once "delete: an unknown tag" => unknown_tag,
    each "delete: an unknown manifest" => unknown_manifest,
    each "delete: a blob" => blob,
    each "delete: an unknown blob" => unknown_blob,
    each "delete: a blob that a manifest names" => blob_in_use,
    each "delete: a blob after its manifest" => blob_after_manifest,
    each "delete: a manifest, then push it again" => push_again,
    each "delete: a child of an index" => child,
    each "delete: a manifest in one repository only" => one_repository,
};

async fn tag(session: &Session, algorithm: Algorithm) -> Result<(), Failure> {
    let repository = session.repository();
    let image = content::image(session, &repository, algorithm).await?;
    image.push_as(session, &repository, "one").await?;
    image.push_as(session, &repository, "two").await?;
    session.delete(&format!("/v2/{repository}/manifests/one")).send().await?.status(202)?;
    is_absent(session, &repository, "one").await?;
    is_there(session, &repository, "two", &image).await?;
    is_there(session, &repository, &image.digest.to_string(), &image).await?;
    session.delete(&format!("/v2/{repository}/manifests/two")).send().await?.status(202)?;
    is_there(session, &repository, &image.digest.to_string(), &image).await
}

async fn manifest(session: &Session, algorithm: Algorithm) -> Result<(), Failure> {
    let repository = session.repository();
    let image = content::image(session, &repository, algorithm).await?;
    let reference = format!("{}?tag=one&tag=two", image.digest);
    session.put_manifest(&repository, &reference, &image.media_type, &image.bytes).await?;
    session.delete(&format!("/v2/{repository}/manifests/{}", image.digest)).send().await?.status(202)?;
    for gone in ["one", "two", &image.digest.to_string()] {
        is_absent(session, &repository, gone).await?;
    }
    let list = session.get(&format!("/v2/{repository}/tags/list")).send().await?;
    let tags = list.json()?["tags"].clone();
    ensure(list.status.as_u16() == 404 || tags.as_array().is_some_and(Vec::is_empty), || {
        format!("tags: {tags}")
    })
}

async fn unknown_tag(session: &Session, algorithm: Algorithm) -> Result<(), Failure> {
    let repository = session.repository();
    let image = content::image(session, &repository, algorithm).await?;
    image.push(session, &repository).await?;
    for tag in ["missing", ".no-tag"] {
        session
            .delete(&format!("/v2/{repository}/manifests/{tag}"))
            .send()
            .await?
            .error(404, "MANIFEST_UNKNOWN")?;
    }
    Ok(())
}

async fn unknown_manifest(session: &Session, algorithm: Algorithm) -> Result<(), Failure> {
    let digest = Digest::of(algorithm, &random(8));
    let path = format!("/v2/{}/manifests/{digest}", session.repository());
    session.delete(&path).send().await?.error(404, "MANIFEST_UNKNOWN")?;
    Ok(())
}

async fn blob(session: &Session, algorithm: Algorithm) -> Result<(), Failure> {
    let repository = session.repository();
    let content = random(100);
    let digest = session.push_blob(&repository, algorithm, &content).await?;
    let path = format!("/v2/{repository}/blobs/{digest}");
    session.delete(&path).send().await?.status(202)?;
    blobs::is_absent(session, &repository, &digest).await?;
    session.delete(&path).send().await?.error(404, "BLOB_UNKNOWN")?;
    session.push_blob(&repository, algorithm, &content).await?;
    blobs::is_there(session, &repository, &digest, &content).await
}

async fn unknown_blob(session: &Session, algorithm: Algorithm) -> Result<(), Failure> {
    let digest = Digest::of(algorithm, &random(8));
    let path = format!("/v2/{}/blobs/{digest}", session.repository());
    session.delete(&path).send().await?.error(404, "BLOB_UNKNOWN")?;
    Ok(())
}

/// The digests of config and layers.
fn named(manifest: &content::Manifest) -> Vec<Digest> {
    let document: Value = serde_json::from_slice(&manifest.bytes).unwrap_or_default();
    std::iter::once(&document["config"])
        .chain(document["layers"].as_array().into_iter().flatten())
        .filter_map(|descriptor| descriptor["digest"].as_str()?.parse().ok())
        .collect()
}

async fn blob_in_use(session: &Session, algorithm: Algorithm) -> Result<(), Failure> {
    let repository = session.repository();
    let image = content::image(session, &repository, algorithm).await?;
    image.push(session, &repository).await?;
    for digest in named(&image) {
        let path = format!("/v2/{repository}/blobs/{digest}");
        session.delete(&path).send().await?.error(405, "DENIED")?;
        session.get(&path).send().await?.status(200)?;
    }
    is_there(session, &repository, &image.digest.to_string(), &image).await
}

async fn blob_after_manifest(session: &Session, algorithm: Algorithm) -> Result<(), Failure> {
    let repository = session.repository();
    let image = content::image(session, &repository, algorithm).await?;
    image.push(session, &repository).await?;
    session.delete(&format!("/v2/{repository}/manifests/{}", image.digest)).send().await?.status(202)?;
    for digest in named(&image) {
        session.delete(&format!("/v2/{repository}/blobs/{digest}")).send().await?.status(202)?;
        blobs::is_absent(session, &repository, &digest).await?;
    }
    Ok(())
}

async fn push_again(session: &Session, algorithm: Algorithm) -> Result<(), Failure> {
    let repository = session.repository();
    let image = content::image(session, &repository, algorithm).await?;
    for _ in 0..2 {
        image.push(session, &repository).await?;
        session.delete(&format!("/v2/{repository}/manifests/{}", image.digest)).send().await?.status(202)?;
        is_absent(session, &repository, &image.digest.to_string()).await?;
    }
    image.push(session, &repository).await?;
    is_there(session, &repository, &image.digest.to_string(), &image).await
}

async fn child(session: &Session, algorithm: Algorithm) -> Result<(), Failure> {
    let repository = session.repository();
    let image = content::image(session, &repository, algorithm).await?;
    image.push(session, &repository).await?;
    let index = content::index(algorithm, &[&image]);
    index.push(session, &repository).await?;
    session.delete(&format!("/v2/{repository}/manifests/{}", image.digest)).send().await?.status(202)?;
    is_absent(session, &repository, &image.digest.to_string()).await?;
    is_there(session, &repository, &index.digest.to_string(), &index).await
}

async fn one_repository(session: &Session, algorithm: Algorithm) -> Result<(), Failure> {
    let (one, other) = (session.repository(), session.repository());
    let image = content::image(session, &one, algorithm).await?;
    image.push(session, &one).await?;
    for digest in named(&image) {
        session
            .post(&format!("/v2/{other}/blobs/uploads/?mount={digest}&from={one}"))
            .body("")
            .send()
            .await?
            .status(201)?;
    }
    image.push(session, &other).await?;
    session.delete(&format!("/v2/{one}/manifests/{}", image.digest)).send().await?.status(202)?;
    is_absent(session, &one, &image.digest.to_string()).await?;
    is_there(session, &other, &image.digest.to_string(), &image).await?;
    for digest in named(&image) {
        session.get(&format!("/v2/{other}/blobs/{digest}")).send().await?.status(200)?;
    }
    Ok(())
}
