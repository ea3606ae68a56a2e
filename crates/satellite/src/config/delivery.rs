//! Direct delivery, as flags and documents ask for it.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use fleet_protocol::config::DirectDelivery;

use super::Layer;

/// Archives for a folder from which a runtime imports images.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ImageFolder {
    /// The folder, as the machine names it; those of the installed k3s and RKE2 where there is none.
    pub dir: Option<PathBuf>,
    /// What of an index gets into an archive.
    pub platforms: ImagePlatforms,
}

/// What of an index gets into an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ImagePlatforms {
    /// All platforms that are here; the name means the index.
    #[default]
    All,
    /// This machine's own alone; the name means its manifest.
    Own,
}

impl FromStr for ImagePlatforms {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "all" => Ok(Self::All),
            "own" => Ok(Self::Own),
            _ => Err("must be all or own".to_owned()),
        }
    }
}

/// What the layers together say.
pub(super) fn merged(all: &Layer) -> Option<ImageFolder> {
    (all.direct_delivery == Some(true)).then(|| ImageFolder {
        dir: all.image_dir.clone(),
        platforms: all.image_platforms.unwrap_or_default(),
    })
}

/// What a document says, into its layer. An error begins with the key.
pub(super) fn of_document(delivery: &DirectDelivery, layer: &mut Layer) -> Result<(), String> {
    let said = |text: &Option<String>| text.clone().filter(|text| !text.trim().is_empty());
    layer.direct_delivery = delivery.enabled;
    layer.image_dir = said(&delivery.image_dir)
        .map(|text| image_dir(text.trim()))
        .transpose()
        .map_err(|why| format!("image_dir: {why}"))?;
    layer.image_platforms = said(&delivery.platforms)
        .map(|text| text.trim().parse())
        .transpose()
        .map_err(|why: String| format!("platforms: {why}"))?;
    Ok(())
}

/// The folder's path on the machine.
pub(super) fn image_dir(text: &str) -> Result<PathBuf, String> {
    let path = Path::new(text);
    let plain = path.components().all(|part| !matches!(part, std::path::Component::ParentDir));
    if !path.is_absolute() || !plain || path.parent().is_none() {
        return Err(format!("`{text}` is no folder: write an absolute path without .."));
    }
    Ok(path.components().collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn layer(document: serde_json::Value) -> Result<Layer, String> {
        let mut layer = Layer::default();
        of_document(&serde_json::from_value(document).unwrap(), &mut layer).map(|()| layer)
    }

    #[test]
    fn a_document_asks_for_a_folder() {
        assert_eq!(merged(&layer(json!({})).unwrap()), None);
        assert_eq!(merged(&layer(json!({"enabled": false, "image_dir": "/x"})).unwrap()), None);
        let usual = layer(json!({"enabled": true, "image_dir": ""})).unwrap();
        assert_eq!(merged(&usual), Some(ImageFolder::default()));
        let own = layer(json!({"enabled": true, "image_dir": "/srv/images/", "platforms": "own"})).unwrap();
        let expected = ImageFolder { dir: Some("/srv/images".into()), platforms: ImagePlatforms::Own };
        assert_eq!(merged(&own), Some(expected));
        for (document, key) in [
            (json!({"image_dir": "images"}), "image_dir:"),
            (json!({"image_dir": "/srv/../etc"}), "image_dir:"),
            (json!({"image_dir": "/"}), "image_dir:"),
            (json!({"platforms": "arm"}), "platforms:"),
        ] {
            assert!(layer(document).unwrap_err().starts_with(key));
        }
    }
}
