//! Content made for tests: blobs, manifests, indexes.

use std::collections::BTreeMap;

use oci::{Digest, media_type};
use serde_json::{Value, json};

/// What an upstream holds: manifests with their types, and blobs.
#[derive(Clone, Default)]
pub(crate) struct Content {
    pub(crate) manifests: BTreeMap<Digest, (String, Vec<u8>)>,
    pub(crate) blobs: BTreeMap<Digest, Vec<u8>>,
    pub(crate) tags: BTreeMap<String, Digest>,
    /// Subject to referrers.
    pub(crate) referrers: BTreeMap<Digest, Vec<Value>>,
}

/// Bytes that repeat nowhere: `seed` makes them different.
pub(crate) fn bytes(seed: u64, size: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}

impl Content {
    pub(crate) fn blob(&mut self, bytes: Vec<u8>) -> Digest {
        let digest = Digest::sha256(&bytes);
        self.blobs.insert(digest, bytes);
        digest
    }

    pub(crate) fn descriptor(&self, digest: &Digest, media_type: &str) -> Value {
        json!({"mediaType": media_type, "digest": digest, "size": self.blobs[digest].len()})
    }

    /// A manifest document as it is; spaces and order are part of it.
    pub(crate) fn manifest(&mut self, media_type: &str, document: &Value) -> Digest {
        // Not what any serialiser would write: whoever writes it anew changes the digest.
        let text = format!(" {}\n", serde_json::to_string_pretty(document).unwrap());
        let digest = Digest::sha256(text.as_bytes());
        self.manifests.insert(digest, (media_type.to_owned(), text.into_bytes()));
        digest
    }

    /// An image of these layers, with a config of its own.
    pub(crate) fn image(&mut self, seed: u64, layers: &[Vec<u8>]) -> Digest {
        let config =
            self.blob(format!(r#"{{"architecture":"amd64","os":"linux","seed":{seed}}}"#).into_bytes());
        let layers: Vec<Value> = layers
            .iter()
            .map(|layer| {
                let digest = self.blob(layer.clone());
                self.descriptor(&digest, media_type::OCI_LAYER_GZIP)
            })
            .collect();
        let document = json!({
            "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST,
            "config": self.descriptor(&config, media_type::OCI_CONFIG), "layers": layers,
        });
        self.manifest(media_type::OCI_MANIFEST, &document)
    }

    /// What names a manifest.
    pub(crate) fn entry(&self, digest: &Digest, platform: Option<&str>) -> Value {
        let (media_type, bytes) = &self.manifests[digest];
        let mut entry = json!({"mediaType": media_type, "digest": digest, "size": bytes.len()});
        if let Some((os, architecture)) = platform.and_then(|p| p.split_once('/')) {
            entry["platform"] = json!({"os": os, "architecture": architecture});
        }
        entry
    }

    pub(crate) fn index(&mut self, children: &[(Digest, Option<&str>)]) -> Digest {
        let manifests: Vec<Value> =
            children.iter().map(|(digest, platform)| self.entry(digest, *platform)).collect();
        let document =
            json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": manifests});
        self.manifest(media_type::OCI_INDEX, &document)
    }

    /// An artifact that refers to `subject`, listed as its referrer.
    pub(crate) fn referrer(&mut self, subject: &Digest, payload: &[u8]) -> Digest {
        let config = self.blob(b"{}".to_vec());
        let layer = self.blob(payload.to_vec());
        let document = json!({
            "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST,
            "artifactType": "application/vnd.example.signature",
            "config": self.descriptor(&config, media_type::OCI_EMPTY),
            "layers": [self.descriptor(&layer, "application/octet-stream")],
            "subject": self.entry(subject, None),
        });
        let digest = self.manifest(media_type::OCI_MANIFEST, &document);
        let entry = self.entry(&digest, None);
        self.referrers.entry(*subject).or_default().push(entry);
        digest
    }

    /// Bytes of everything, each once.
    pub(crate) fn unique_bytes(&self) -> u64 {
        let manifests: usize = self.manifests.values().map(|(_, bytes)| bytes.len()).sum();
        let blobs: usize = self.blobs.values().map(Vec::len).sum();
        (manifests + blobs) as u64
    }
}
