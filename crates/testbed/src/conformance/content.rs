//! Content that checks push: random blobs, and the manifests of every kind over them.

use oci::{Algorithm, Descriptor, Digest, media_type};
use rand::Rng as _;
use serde_json::{Value, json};

use super::session::{Failure, Session};

/// The type that stands for somebody's own kind of artifact; its plus sign has to survive a query.
pub(super) const ARTIFACT: &str = "application/vnd.example.thing.v1+json";
/// Another one.
pub(super) const OTHER_ARTIFACT: &str = "application/vnd.example.other.v1";

/// A manifest with what it is put under.
#[derive(Debug, Clone)]
pub(super) struct Manifest {
    pub(super) media_type: String,
    pub(super) bytes: Vec<u8>,
    pub(super) digest: Digest,
}

impl Manifest {
    /// The document in the bytes of a pretty printer, so that a registry that writes JSON anew is caught.
    pub(super) fn new(algorithm: Algorithm, media_type: &str, document: &Value) -> Self {
        let bytes = format!("{document:#}\n").into_bytes();
        Manifest { media_type: media_type.to_owned(), digest: Digest::of(algorithm, &bytes), bytes }
    }

    pub(super) fn descriptor(&self) -> Value {
        json!({"mediaType": self.media_type, "digest": self.digest, "size": self.bytes.len()})
    }

    pub(super) async fn push(&self, session: &Session, repository: &str) -> Result<(), Failure> {
        let answer =
            session.put_manifest(repository, &self.digest.to_string(), &self.media_type, &self.bytes).await?;
        answer.header("docker-content-digest", &self.digest.to_string())?;
        Ok(())
    }

    pub(super) async fn push_as(
        &self,
        session: &Session,
        repository: &str,
        tag: &str,
    ) -> Result<(), Failure> {
        session.put_manifest(repository, tag, &self.media_type, &self.bytes).await?;
        Ok(())
    }
}

/// Bytes that nobody has seen.
pub(super) fn random(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    rand::rng().fill_bytes(&mut bytes);
    bytes
}

/// A descriptor as JSON.
pub(super) fn descriptor(media_type: &str, digest: &Digest, size: usize) -> Value {
    serde_json::to_value(Descriptor::new(media_type, *digest, size as u64)).unwrap_or_default()
}

/// Pushes a config and two layers, and returns an image manifest over them that is not pushed yet.
pub(super) async fn image(
    session: &Session,
    repository: &str,
    algorithm: Algorithm,
) -> Result<Manifest, Failure> {
    let document = image_document(session, repository, algorithm).await?;
    Ok(Manifest::new(algorithm, media_type::OCI_MANIFEST, &document))
}

/// The document of [`image`], to be changed by a check.
pub(super) async fn image_document(
    session: &Session,
    repository: &str,
    algorithm: Algorithm,
) -> Result<Value, Failure> {
    let config = json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []},
        "nonce": format!("{:x}", rand::random::<u128>())})
    .to_string()
    .into_bytes();
    let config_digest = session.push_blob(repository, algorithm, &config).await?;
    let mut layers = Vec::new();
    for _ in 0..2 {
        let layer = random(700);
        let digest = session.push_blob(repository, algorithm, &layer).await?;
        layers.push(descriptor(media_type::OCI_LAYER_GZIP, &digest, layer.len()));
    }
    Ok(json!({
        "schemaVersion": 2,
        "mediaType": media_type::OCI_MANIFEST,
        "config": descriptor(media_type::OCI_CONFIG, &config_digest, config.len()),
        "layers": layers,
    }))
}

/// Pushes the empty JSON object and returns an artifact manifest with it as config and only layer.
pub(super) async fn artifact(
    session: &Session,
    repository: &str,
    algorithm: Algorithm,
    artifact_type: &str,
    subject: Option<Value>,
) -> Result<Manifest, Failure> {
    let empty = session.push_blob(repository, algorithm, b"{}").await?;
    let empty = descriptor(media_type::OCI_EMPTY, &empty, 2);
    let mut document = json!({
        "schemaVersion": 2,
        "mediaType": media_type::OCI_MANIFEST,
        "artifactType": artifact_type,
        "config": empty,
        "layers": [empty],
        "annotations": {"org.example.nonce": format!("{:x}", rand::random::<u128>())},
    });
    if let Some(subject) = subject {
        document["subject"] = subject;
    }
    Ok(Manifest::new(algorithm, media_type::OCI_MANIFEST, &document))
}

/// An index over these children, not pushed yet.
pub(super) fn index(algorithm: Algorithm, children: &[&Manifest]) -> Manifest {
    Manifest::new(algorithm, media_type::OCI_INDEX, &index_document(children))
}

/// The document of [`index`], to be changed by a check.
pub(super) fn index_document(children: &[&Manifest]) -> Value {
    let manifests: Vec<Value> = children
        .iter()
        .enumerate()
        .map(|(number, child)| {
            let mut descriptor = child.descriptor();
            descriptor["platform"] =
                json!({"os": "linux", "architecture": if number % 2 == 0 { "amd64" } else { "arm64" }});
            descriptor
        })
        .collect();
    json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": manifests})
}
