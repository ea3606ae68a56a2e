//! Which images a person means, and the archive of them: the decisions of `satellite export`, the same whether the running
//! satellite answers or the store is opened without one.

use std::collections::BTreeMap;

use blob_store::Store;
use oci::{Digest, ImageReference, Platform, Reference, RepositoryName, Tag, media_type};
use registry_server::Namespaces;
use serde::{Deserialize, Serialize};

use crate::archive::{self, Archive, ArchiveError, Choice, Format, Image};
use crate::config::LocalNamespaces;
use crate::delivery::folders::own_platform;
use crate::names::Naming;
use crate::serve::namespaces;

/// The most images of one archive.
const MOST_IMAGES: usize = 256;
/// A config larger than this is none.
const LARGEST_CONFIG: u64 = 8 * 1024 * 1024;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportRequest {
    /// The images, as a person writes them.
    pub images: Vec<String>,
    /// `oci` or `docker`.
    pub format: ExportFormat,
    /// One platform of an index; absent: all that are here, or for Docker this machine's own.
    #[serde(default)]
    pub platform: Option<Platform>,
    /// Names in place of the usual ones, of the one image.
    #[serde(default)]
    pub names: Vec<String>,
}

/// The form of the archive.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ExportFormat {
    /// An OCI layout, for containerd.
    #[default]
    Oci,
    /// A docker-archive, for Docker and Podman.
    Docker,
}

impl std::str::FromStr for ExportFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "oci" => Ok(Self::Oci),
            "docker" => Ok(Self::Docker),
            _ => Err("must be oci or docker".to_owned()),
        }
    }
}

/// By what names and images are told apart.
#[derive(Debug, Clone, Default)]
pub struct Places {
    /// Hosts of the central registry.
    pub central: Vec<String>,
    /// Places of upstream hosts that the configuration names.
    pub explicit: BTreeMap<String, String>,
}

/// Why there is nothing to export.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// It is not written as an image.
    #[error(
        "`{0}` names no image: write REPOSITORY[:TAG] or REPOSITORY@DIGEST, as `satellite images` lists them"
    )]
    Form(String),
    /// It is not here.
    #[error("{0} is not here: `satellite images` lists what is")]
    Unknown(String),
    /// Names were given that cannot be.
    #[error("{0}")]
    Names(String),
    /// More than one archive should hold.
    #[error("{0} images at once are too many; {MOST_IMAGES} is the most")]
    TooMany(usize),
    /// There is no archive of it.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
}

impl From<blob_store::StoreError> for ExportError {
    fn from(error: blob_store::StoreError) -> Self {
        Self::Archive(error.into())
    }
}

/// What is wrong with a request by itself, whatever is here.
///
/// # Errors
/// [`ExportError`].
pub fn check(request: &ExportRequest) -> Result<(), ExportError> {
    if request.images.len() > MOST_IMAGES {
        return Err(ExportError::TooMany(request.images.len()));
    }
    if !request.names.is_empty() && request.images.len() != 1 {
        return Err(ExportError::Names("names can be given to one image only".to_owned()));
    }
    for name in &request.names {
        whole_name(name)?;
    }
    for text in &request.images {
        if listed(text).is_none() && named(text).is_none() {
            return Err(ExportError::Form(text.clone()));
        }
    }
    Ok(())
}

/// Plans the archive. Blocks.
///
/// # Errors
/// [`ExportError`].
pub fn plan(store: &Store, places: &Places, request: &ExportRequest) -> Result<Archive, ExportError> {
    check(request)?;
    let naming = Naming::new(&places.central, &places.explicit);
    let hosts = Namespaces::default();
    // The site's own namespaces are found as they are listed.
    hosts.map(namespaces::answered(&places.central, &places.explicit, &LocalNamespaces::default()));
    let given = request.names.iter().map(|name| whole_name(name)).collect::<Result<Vec<_>, _>>()?;
    let mut images = Vec::new();
    for text in &request.images {
        let (repository, reference, digest) = find(store, &hosts, text)?;
        let names = naming.of(&repository);
        let names = match &reference {
            Reference::Tag(tag) if names.is_empty() => vec![format!("{repository}:{tag}")],
            Reference::Tag(tag) => names.iter().map(|name| name.tagged(tag)).collect(),
            Reference::Digest(digest) => names.iter().map(|name| name.digested(digest)).collect(),
        };
        let names = if given.is_empty() { names } else { given.clone() };
        if let Some(platform) = &request.platform {
            check_platform(store, &repository, &digest, platform)?;
        }
        images.push(Image { repository, digest, names });
    }
    let (choice, format) = match (request.format, &request.platform) {
        (ExportFormat::Oci, None) => (Choice::Here, Format::Oci),
        (ExportFormat::Oci, Some(platform)) => (Choice::One(platform.clone()), Format::Oci),
        (ExportFormat::Docker, None) => (Choice::One(own_platform()), Format::Docker),
        (ExportFormat::Docker, Some(platform)) => (Choice::One(platform.clone()), Format::Docker),
    };
    Ok(Archive::plan(store, &images, &choice, format)?)
}

/// An image as the satellite lists it: without a host, which a reference needs.
fn listed(text: &str) -> Option<ImageReference> {
    format!("here/{text}").parse().ok()
}

/// An image by a name with its host.
fn named(text: &str) -> Option<ImageReference> {
    text.parse::<ImageReference>().ok().filter(|named| named.scheme.is_none())
}

/// The image that a person means: as the satellite lists it, or by a name under which runtimes know it.
fn find(
    store: &Store,
    hosts: &Namespaces,
    text: &str,
) -> Result<(RepositoryName, Reference, Digest), ExportError> {
    let by_name = named(text);
    let by_name = by_name.and_then(|named| {
        let repository = hosts.place(&named.host, &named.repository)?;
        Some(ImageReference { repository, ..named })
    });
    for reading in listed(text).into_iter().chain(by_name) {
        let latest = || "latest".parse::<Tag>().ok().map(Reference::Tag);
        let Some(reference) = reading.reference().or_else(latest) else { continue };
        let digest = match &reference {
            Reference::Tag(tag) => store.resolve_tag(&reading.repository, tag)?,
            Reference::Digest(digest) => store.manifest(&reading.repository, &reference)?.map(|_| *digest),
        };
        if let Some(digest) = digest {
            return Ok((reading.repository, reference, digest));
        }
    }
    Err(ExportError::Unknown(text.to_owned()))
}

/// An image without an index has its platform in its config.
fn check_platform(
    store: &Store,
    repository: &RepositoryName,
    digest: &Digest,
    wanted: &Platform,
) -> Result<(), ExportError> {
    let Some(stored) = store.manifest(repository, &Reference::Digest(*digest))? else { return Ok(()) };
    let unreadable =
        |why: String| ExportError::Archive(ArchiveError::Unreadable(repository.clone(), *digest, why));
    let manifest = oci::Manifest::parse(Some(&stored.media_type), &stored.bytes)
        .map_err(|error| unreadable(error.to_string()))?;
    let Some(config) = manifest.config.filter(|config| {
        matches!(config.media_type.as_str(), media_type::OCI_CONFIG | media_type::DOCKER_CONFIG)
    }) else {
        return Ok(());
    };
    let Some(blob) = store.blob(repository, &config.digest)?.filter(|blob| blob.size() <= LARGEST_CONFIG)
    else {
        return Ok(());
    };
    let bytes = archive::read_blob(blob).map_err(|error| unreadable(error.to_string()))?;
    let platform: Platform = serde_json::from_slice(&bytes).map_err(|error| unreadable(error.to_string()))?;
    let mut descriptor = oci::Descriptor::new("", *digest, 0);
    let here = platform.to_string();
    descriptor.platform = Some(platform);
    if oci::PlatformFilter::all().narrowed([wanted.clone()]).selects(&descriptor) {
        return Ok(());
    }
    Err(ArchiveError::NoPlatform { repository: repository.clone(), platform: Box::new(wanted.clone()), here }
        .into())
}

/// A name that a person gave, with the tag that it means.
fn whole_name(name: &str) -> Result<String, ExportError> {
    let wrong =
        || ExportError::Names(format!("`{name}` is no name for an image: write [HOST/]REPOSITORY[:TAG]"));
    // The first part may be a host, or not.
    let readings = [name.parse::<ImageReference>(), format!("here/{name}").parse()];
    let reading =
        readings.into_iter().flatten().find(|reading| reading.scheme.is_none()).ok_or_else(wrong)?;
    match (reading.tag, reading.digest) {
        (_, Some(_)) => Err(wrong()),
        (Some(_), None) => Ok(name.to_owned()),
        (None, None) => Ok(format!("{name}:latest")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::tests::{Stocked, files};

    fn places() -> Places {
        Places { central: vec!["h.example:8443".to_owned()], explicit: BTreeMap::new() }
    }

    fn request(image: &str, format: ExportFormat) -> ExportRequest {
        ExportRequest { images: vec![image.to_owned()], format, platform: None, names: Vec::new() }
    }

    /// `RepoTags`, or the names of a layout.
    async fn names(stocked: &Stocked, request: &ExportRequest) -> Result<Vec<String>, String> {
        let (store, request) = (stocked.store.clone(), request.clone());
        let done = tokio::task::spawn_blocking(move || {
            let archive = plan(&store, &places(), &request).map_err(|error| error.to_string())?;
            let mut bytes = Vec::new();
            archive.write(&store, &mut bytes, |_| Ok(())).unwrap();
            let files = files(&bytes);
            let read = |path: &str| -> serde_json::Value { serde_json::from_slice(&files[path]).unwrap() };
            let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
            Ok(match request.format {
                ExportFormat::Docker => {
                    read("manifest.json")[0]["RepoTags"].as_array().unwrap().iter().map(text).collect()
                }
                ExportFormat::Oci => read("index.json")["manifests"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|root| text(&root["annotations"]["io.containerd.image.name"]))
                    .collect(),
            })
        });
        done.await.unwrap()
    }

    #[tokio::test]
    async fn an_image_is_found_as_it_is_listed_and_as_runtimes_name_it() {
        let stocked = Stocked::new();
        let (digest, _) = stocked.image("library/busybox", b"one", &["1", "latest"]).await;
        stocked.image("quay.io/a/b", b"two", &["x"]).await;
        for (image, expected) in [
            (
                "library/busybox",
                vec!["h.example:8443/library/busybox:latest", "docker.io/library/busybox:latest"],
            ),
            (
                "docker.io/library/busybox:1",
                vec!["h.example:8443/library/busybox:1", "docker.io/library/busybox:1"],
            ),
            (
                "h.example:8443/library/busybox:1",
                vec!["h.example:8443/library/busybox:1", "docker.io/library/busybox:1"],
            ),
            ("quay.io/a/b:x", vec!["h.example:8443/quay.io/a/b:x", "quay.io/a/b:x"]),
        ] {
            for format in [ExportFormat::Oci, ExportFormat::Docker] {
                assert_eq!(names(&stocked, &request(image, format)).await.unwrap(), expected, "{image}");
            }
        }
        let by_digest = request(&format!("library/busybox@{digest}"), ExportFormat::Docker);
        assert_eq!(names(&stocked, &by_digest).await.unwrap(), Vec::<String>::new());
        for (image, why) in [
            ("library/busybox:2", "not here"),
            ("ghcr.io/library/busybox:1", "not here"),
            ("UPPER", "names no image"),
            ("https://h.example/a", "names no image"),
        ] {
            let error = names(&stocked, &request(image, ExportFormat::Oci)).await.unwrap_err();
            assert!(error.contains(why), "{image}: {error}");
        }
    }

    #[tokio::test]
    async fn names_can_be_given() {
        let stocked = Stocked::new();
        stocked.image("library/busybox", b"one", &["1"]).await;
        let with = |names: &[&str]| ExportRequest {
            names: names.iter().map(|&name| name.to_owned()).collect(),
            ..request("library/busybox:1", ExportFormat::Docker)
        };
        let given = names(&stocked, &with(&["app", "localhost:5000/app:2"])).await.unwrap();
        assert_eq!(given, ["app:latest", "localhost:5000/app:2"]);
        for wrong in ["", "App", "app:", "app@sha256:00", "https://app"] {
            assert!(names(&stocked, &with(&[wrong])).await.is_err(), "{wrong}");
        }
        let two = ExportRequest { images: vec!["a".into(), "b".into()], ..with(&["app"]) };
        assert!(names(&stocked, &two).await.unwrap_err().contains("one image only"));
    }

    #[tokio::test]
    async fn the_platform_of_a_single_image_is_checked() {
        let stocked = Stocked::new();
        stocked.image("a/b", b"one", &["1"]).await;
        let on = |platform: &str| ExportRequest {
            platform: Some(platform.parse().unwrap()),
            ..request("a/b:1", ExportFormat::Docker)
        };
        assert_eq!(names(&stocked, &on("linux/amd64")).await.unwrap().len(), 2);
        let error = names(&stocked, &on("linux/arm64")).await.unwrap_err();
        assert_eq!(error, "a/b has no linux/arm64 here, only linux/amd64");
        // Nothing was asked for: it is what it is.
        assert_eq!(names(&stocked, &request("a/b:1", ExportFormat::Docker)).await.unwrap().len(), 2);
    }
}
