//! What a manifest names (OCI image-spec, manifest.md and image-index.md; Docker distribution, schema 2).

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::descriptor::Descriptor;
use crate::media_type;

/// What kind of document a manifest is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Names a config and layers.
    Image,
    /// Names other manifests.
    Index,
    /// A type that this crate does not know: kept and served as it is, it names nothing.
    Opaque,
}

/// Why some bytes are no manifest.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Not the JSON of a manifest.
    #[error("the manifest does not parse: {0}")]
    Json(#[from] serde_json::Error),
    /// The `Content-Type` and the document's own `mediaType` differ.
    #[error("the manifest says it is `{document}` and was sent as `{header}`: both have to be the same")]
    MediaType {
        /// What came with the bytes.
        header: String,
        /// What stands in them.
        document: String,
    },
    /// Neither the bytes nor what came with them tells a type.
    #[error("the manifest has no media type: send it as Content-Type or as `mediaType`")]
    NoMediaType,
    /// A field is missing or stands where it may not.
    #[error("the manifest is not valid: {0}")]
    Invalid(&'static str),
}

/// A manifest as far as a registry has to understand it. The bytes stay with whoever holds them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// What kind of document it is.
    pub kind: Kind,
    /// Its media type.
    pub media_type: String,
    /// `artifactType` as it stands in the document.
    pub artifact_type: Option<String>,
    /// Annotations of the document.
    pub annotations: Option<BTreeMap<String, String>>,
    /// The manifest that this one refers to.
    pub subject: Option<Descriptor>,
    /// The config of an image.
    pub config: Option<Descriptor>,
    /// The layers of an image.
    pub layers: Vec<Descriptor>,
    /// The children of an index.
    pub manifests: Vec<Descriptor>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    schema_version: Option<u64>,
    media_type: Option<String>,
    artifact_type: Option<String>,
    annotations: Option<BTreeMap<String, String>>,
    subject: Option<Descriptor>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
}

impl Manifest {
    /// Reads what `bytes` names. `content_type` is the type that came with them; without one the document's `mediaType`
    /// decides, and without that its shape.
    pub fn parse(content_type: Option<&str>, bytes: &[u8]) -> Result<Self, ManifestError> {
        let content_type = content_type.map(media_type::essence).filter(|t| !t.is_empty());
        if let Some(media_type) = content_type
            && !media_type::is_image(media_type)
            && !media_type::is_index(media_type)
        {
            return Ok(Self::opaque(media_type, bytes));
        }
        let document: Document = serde_json::from_slice(bytes)?;
        let own = document.media_type.as_deref().filter(|t| !t.is_empty());
        let media_type = match (content_type, own) {
            (Some(header), Some(document)) if header != document => {
                return Err(ManifestError::MediaType {
                    header: header.to_owned(),
                    document: crate::digest::shorten(document),
                });
            }
            (Some(media_type), _) | (None, Some(media_type)) => media_type,
            (None, None) if document.manifests.is_some() => media_type::OCI_INDEX,
            (None, None) if document.config.is_some() => media_type::OCI_MANIFEST,
            (None, None) => return Err(ManifestError::NoMediaType),
        };
        if document.schema_version != Some(2) {
            return Err(ManifestError::Invalid("`schemaVersion` has to be 2"));
        }
        let kind = match media_type {
            t if media_type::is_index(t) => Kind::Index,
            t if media_type::is_image(t) => Kind::Image,
            t => return Ok(Self::opaque(t, bytes)),
        };
        match kind {
            Kind::Index if document.config.is_some() || document.layers.is_some() => {
                return Err(ManifestError::Invalid("an index has no `config` and no `layers`"));
            }
            Kind::Image if document.manifests.is_some() => {
                return Err(ManifestError::Invalid("an image manifest has no `manifests`"));
            }
            Kind::Image if document.config.is_none() => {
                return Err(ManifestError::Invalid("an image manifest needs a `config`"));
            }
            _ => {}
        }
        Ok(Self {
            kind,
            media_type: media_type.to_owned(),
            artifact_type: document.artifact_type.filter(|t| !t.is_empty()),
            annotations: document.annotations,
            subject: document.subject,
            config: document.config,
            layers: document.layers.unwrap_or_default(),
            manifests: document.manifests.unwrap_or_default(),
        })
    }

    fn opaque(media_type: &str, bytes: &[u8]) -> Self {
        // A type that nobody knows may still be one of the newer artifact manifests: what it refers to is read where it is readable.
        let document: Option<Document> = serde_json::from_slice(bytes).ok();
        let (artifact_type, annotations, subject) =
            document.map_or((None, None, None), |d| (d.artifact_type, d.annotations, d.subject));
        Self {
            kind: Kind::Opaque,
            media_type: media_type.to_owned(),
            artifact_type,
            annotations,
            subject,
            config: None,
            layers: Vec::new(),
            manifests: Vec::new(),
        }
    }

    /// Config and layers: the blobs that this manifest names itself.
    pub fn blobs(&self) -> impl Iterator<Item = &Descriptor> {
        self.config.iter().chain(&self.layers)
    }

    /// The artifact type that a list of referrers shows: `artifactType`, for an image without one its config's type
    /// (OCI distribution-spec, "Listing Referrers").
    pub fn effective_artifact_type(&self) -> Option<&str> {
        self.artifact_type
            .as_deref()
            .or_else(|| self.config.as_ref().map(|config| config.media_type.as_str()))
            .filter(|t| !t.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn image(media_type: &str) -> String {
        format!(
            r#"{{"schemaVersion":2,"mediaType":"{media_type}","config":{{"mediaType":"c/t","digest":"{DIGEST}","size":2}},
               "layers":[{{"mediaType":"l/t","digest":"{DIGEST}","size":3}}],"subject":{{"mediaType":"m","digest":"{DIGEST}","size":4}}}}"#
        )
    }

    #[test]
    fn image_of_both_families() {
        for media_type in [media_type::OCI_MANIFEST, media_type::DOCKER_MANIFEST] {
            let manifest = Manifest::parse(Some(media_type), image(media_type).as_bytes()).unwrap();
            assert_eq!(manifest.kind, Kind::Image);
            assert_eq!(manifest.blobs().count(), 2);
            assert_eq!(manifest.subject.as_ref().unwrap().size, 4);
            assert_eq!(manifest.effective_artifact_type(), Some("c/t"));
        }
    }

    #[test]
    fn type_by_shape() {
        let text = format!(
            r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"m","digest":"{DIGEST}","size":1}}]}}"#
        );
        assert_eq!(Manifest::parse(None, text.as_bytes()).unwrap().kind, Kind::Index);
        assert!(matches!(Manifest::parse(None, br#"{"schemaVersion":2}"#), Err(ManifestError::NoMediaType)));
    }

    #[test]
    fn refuses() {
        let other = image(media_type::DOCKER_MANIFEST);
        let wrong_digest = image(media_type::OCI_MANIFEST).replace("sha256:e3", "sha256:zz");
        for text in [
            "",
            "{}",
            "[]",
            r#"{"schemaVersion":1}"#,
            r#"{"schemaVersion":2}"#,
            r#"{"schemaVersion":2,"config":null,"manifests":[]}"#,
            other.as_str(),
            wrong_digest.as_str(),
        ] {
            assert!(Manifest::parse(Some(media_type::OCI_MANIFEST), text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn unknown_types_are_kept() {
        let manifest =
            Manifest::parse(Some("application/vnd.example+json; charset=utf-8"), b"whatever").unwrap();
        assert_eq!(manifest.kind, Kind::Opaque);
        assert_eq!(manifest.media_type, "application/vnd.example+json");
    }

    proptest! {
        #[test]
        fn never_panics(bytes: Vec<u8>) {
            let _ = Manifest::parse(None, &bytes);
            let _ = Manifest::parse(Some(media_type::OCI_INDEX), &bytes);
        }
    }
}
