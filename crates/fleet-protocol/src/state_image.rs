//! State documents as OCI images.
//!
//! A document travels as an ordinary image: a manifest, a config and one gzipped tar layer with the single entry
//! `artifacts.json`, in Docker schema 2's media types, which any registry and every deployed satellite takes. The same
//! document gives the same bytes and so the same digest: an unchanged document is never pushed again.

use std::io::{Read, Write};

use flate2::{Compression, GzBuilder, read::MultiGzDecoder};
use oci::{Descriptor, Digest, Manifest, media_type};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// The one entry of the layer.
pub const ENTRY: &str = "artifacts.json";
/// The most bytes of a document, unpacked.
pub const MAX_DOCUMENT: usize = 16 << 20;

/// A document ready to be pushed.
#[derive(Clone, Debug)]
pub struct StateImage {
    /// The manifest's bytes.
    pub manifest: Vec<u8>,
    /// The manifest's digest.
    pub digest: Digest,
    /// The manifest's media type.
    pub media_type: &'static str,
    /// The config's bytes.
    pub config: Vec<u8>,
    /// Descriptor of the config.
    pub config_descriptor: Descriptor,
    /// The layer's bytes.
    pub layer: Vec<u8>,
    /// Descriptor of the layer.
    pub layer_descriptor: Descriptor,
}

/// Why a document could not be packed or unpacked.
#[derive(Debug, thiserror::Error)]
pub enum StateImageError {
    /// The document's JSON.
    #[error("the state document is not valid: {0}")]
    Json(#[from] serde_json::Error),
    /// The layer's archive.
    #[error("the layer of the state document cannot be unpacked: {0}")]
    Archive(#[from] std::io::Error),
    /// The layer has other entries only.
    #[error("no layer of the state document holds `{ENTRY}`")]
    Missing,
    /// The document is too large.
    #[error("the state document has more than {MAX_DOCUMENT} bytes")]
    TooLarge,
}

impl StateImage {
    /// Packs a document. Keys are sorted and times fixed, so that equal documents give equal bytes.
    pub fn encode<T: Serialize>(document: &T) -> Result<Self, StateImageError> {
        // `Value`'s map is sorted by key: the order of fields and of maps in `T` does not show.
        let bytes = serde_json::to_vec(&serde_json::to_value(document)?)?;
        if bytes.len() > MAX_DOCUMENT {
            return Err(StateImageError::TooLarge);
        }
        let archive = pack(&bytes)?;
        let mut gzip = GzBuilder::new().mtime(0).operating_system(255).write(Vec::new(), Compression::new(6));
        gzip.write_all(&archive)?;
        let layer = gzip.finish()?;
        let layer_descriptor =
            Descriptor::new(media_type::DOCKER_LAYER_GZIP, Digest::sha256(&layer), layer.len() as u64);
        let config = serde_json::to_vec(&json!({
            "architecture": "amd64",
            "config": {},
            "created": "1970-01-01T00:00:00Z",
            "history": [{"created": "1970-01-01T00:00:00Z", "created_by": "ground-control"}],
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": [Digest::sha256(&archive)]},
        }))?;
        let config_descriptor =
            Descriptor::new(media_type::DOCKER_CONFIG, Digest::sha256(&config), config.len() as u64);
        let manifest = serde_json::to_vec(&json!({
            "schemaVersion": 2,
            "mediaType": media_type::DOCKER_MANIFEST,
            "config": config_descriptor,
            "layers": [layer_descriptor],
        }))?;
        Ok(Self {
            digest: Digest::sha256(&manifest),
            manifest,
            media_type: media_type::DOCKER_MANIFEST,
            config,
            config_descriptor,
            layer,
            layer_descriptor,
        })
    }
}

/// The layers of a manifest that can hold the document, the last first: a later layer hides an earlier one.
pub fn candidate_layers(manifest: &Manifest) -> impl Iterator<Item = &Descriptor> {
    manifest.layers.iter().rev()
}

/// Unpacks a layer, gzipped or plain. `Missing` where it holds other entries only.
pub fn decode_layer(layer: &[u8]) -> Result<Value, StateImageError> {
    let bytes = match layer.starts_with(&[0x1f, 0x8b]) {
        true => find_entry(MultiGzDecoder::new(layer))?,
        false => find_entry(layer)?,
    };
    Ok(serde_json::from_slice(&bytes)?)
}

/// Unpacks a layer into a typed document.
pub fn decode<T: DeserializeOwned>(layer: &[u8]) -> Result<T, StateImageError> {
    Ok(serde_json::from_value(decode_layer(layer)?)?)
}

fn pack(document: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut header = tar::Header::new_ustar();
    header.set_path(ENTRY)?;
    header.set_size(document.len() as u64);
    header.set_mode(0o644);
    header.set_mtime(0);
    header.set_entry_type(tar::EntryType::Regular);
    header.set_cksum();
    let mut archive = tar::Builder::new(Vec::new());
    archive.append(&header, document)?;
    archive.into_inner()
}

fn find_entry(reader: impl Read) -> Result<Vec<u8>, StateImageError> {
    // A hostile layer may unpack without end: what is read of the archive in all is bounded.
    let limit = 2 * MAX_DOCUMENT as u64;
    let mut archive = tar::Archive::new(reader.take(limit));
    for entry in archive.entries()? {
        let entry = entry?;
        let path = entry.path()?;
        if path.strip_prefix("./").unwrap_or(&path) != std::path::Path::new(ENTRY) {
            continue;
        }
        let mut bytes = Vec::new();
        entry.take(MAX_DOCUMENT as u64 + 1).read_to_end(&mut bytes)?;
        return if bytes.len() > MAX_DOCUMENT { Err(StateImageError::TooLarge) } else { Ok(bytes) };
    }
    Err(StateImageError::Missing)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::state::{GroupState, SatelliteState};

    #[test]
    fn round_trip_and_same_bytes() {
        let state =
            SatelliteState { states: vec!["https://h/g:latest".into()], config: "https://h/c:latest".into() };
        let image = StateImage::encode(&state).unwrap();
        assert_eq!(image.digest, StateImage::encode(&state).unwrap().digest);
        assert_eq!(decode::<SatelliteState>(&image.layer).unwrap(), state);
        let manifest = Manifest::parse(Some(image.media_type), &image.manifest).unwrap();
        assert_eq!(candidate_layers(&manifest).next(), Some(&image.layer_descriptor));
        // Other bytes for the same document would publish every document of every fleet again.
        assert_eq!(
            image.digest.to_string(),
            StateImage::encode(&json!({"config": "https://h/c:latest", "states": ["https://h/g:latest"]}))
                .unwrap()
                .digest
                .to_string()
        );
    }

    #[test]
    fn plain_archives_and_other_entries() {
        let archive = pack(br#"{"group":"g"}"#).unwrap();
        assert_eq!(decode::<GroupState>(&archive).unwrap().group, "g");
        let empty = tar::Builder::new(Vec::new()).into_inner().unwrap();
        assert!(matches!(decode_layer(&empty), Err(StateImageError::Missing)));
    }

    #[test]
    fn a_bomb_is_refused() {
        let archive = pack(&vec![b' '; MAX_DOCUMENT + 1]).unwrap();
        let mut gzip = GzBuilder::new().write(Vec::new(), Compression::fast());
        gzip.write_all(&archive).unwrap();
        assert!(matches!(decode_layer(&gzip.finish().unwrap()), Err(StateImageError::TooLarge)));
    }

    proptest! {
        #[test]
        fn never_panics(bytes: Vec<u8>) {
            let _ = decode_layer(&bytes);
        }
    }
}
