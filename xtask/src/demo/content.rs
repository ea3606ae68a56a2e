//! The image of the demo: made here from real content, or given.

use std::path::{Path, PathBuf};

use oci::ImageReference;
use serde_json::json;
use testbed::archive::{self, Entry, Layer};
use testbed::files;
use testbed::image::{self, Image};
use testbed::layout::Layout;

use super::upstream;
use crate::build;
use crate::error::Result;

/// An image and the name under which it is pushed.
#[derive(Debug)]
pub(crate) struct Named {
    /// The image.
    pub(crate) image: Image,
    /// Repository.
    pub(crate) repository: String,
    /// Tag.
    pub(crate) tag: String,
}

/// Where an image of somebody's own is.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// A folder in OCI layout.
    Layout(PathBuf),
    /// In a registry.
    Registry(Box<ImageReference>),
}

impl Source {
    /// Reads `oci:DIR` or `docker://REF`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("oci:") {
            return Ok(Self::Layout(path.into()));
        }
        let Some(reference) = text.strip_prefix("docker://") else {
            return Err("it has to begin with `oci:` or `docker://`".into());
        };
        reference
            .parse()
            .map(|reference| Self::Registry(Box::new(reference)))
            .map_err(|error: oci::ReferenceError| error.to_string())
    }
}

/// Makes the image in `dir`, or takes the one that is given.
pub(crate) async fn image(given: Option<&Source>, dir: &Path, programs: &Path) -> Result<Named> {
    match given {
        None => make(dir, programs),
        Some(Source::Layout(path)) => open(path),
        Some(Source::Registry(reference)) => upstream::copy(reference, dir).await,
    }
}

fn open(dir: &Path) -> Result<Named> {
    let layout = Layout::open(dir)?;
    let (root, referrers) = layout.image()?;
    let annotations = root.annotations.clone().unwrap_or_default();
    let tag = annotations.get("org.opencontainers.image.ref.name").map(String::as_str);
    // The annotation may hold a whole reference; the tag is what follows its last colon.
    let tag = tag.map(|name| name.rsplit_once(':').map_or(name, |(_, tag)| tag));
    let tag = tag.filter(|tag| tag.parse::<oci::Tag>().is_ok()).unwrap_or("latest").to_owned();
    let folder = dir.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_lowercase();
    let repository = format!("demo/{folder}");
    let repository = repository.parse::<oci::RepositoryName>().map_or("demo/image".into(), |_| repository);
    Ok(Named { image: Image { layout, root, referrers }, repository, tag })
}

/// An index of two platforms: for this machine's the Satellite itself, for the other the documentation and licences;
/// and an artifact that refers to the index.
fn make(dir: &Path, programs: &Path) -> Result<Named> {
    let layout = Layout::create(dir)?;
    let own = image::architecture();
    let other = if own == "amd64" { "arm64" } else { "amd64" };
    let program = Entry::File("bin/satellite".into(), 0o755, files::read(&programs.join("satellite"))?);
    let runtime = json!({"Entrypoint": ["/bin/satellite"]});
    let children = [
        image::manifest(&layout, own, &[archive::layer(&[program], 1)?], &runtime)?,
        image::manifest(&layout, other, &documents()?, &json!({}))?,
    ];
    let root = image::index(&layout, &children)?;
    let claim = json!({"image": root.digest, "made_by": "cargo xtask demo"}).to_string();
    let referrer = image::referrer(&layout, &root, image::SIGNATURE_TYPE, claim.as_bytes())?;
    layout.add_root(&root, Some("1.0"))?;
    layout.add_root(&referrer, None)?;
    let image = Image { layout, root, referrers: vec![referrer] };
    Ok(Named { image, repository: "demo/satellite".into(), tag: "1.0".into() })
}

/// One layer of documentation, one of licences.
fn documents() -> Result<Vec<Layer>> {
    let workspace = build::workspace();
    let mut paths: Vec<PathBuf> =
        ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"].map(|name| workspace.join(name)).to_vec();
    paths.extend(files::walk(&workspace.join("docs")));
    let entry = |path: &PathBuf| {
        let name = path.strip_prefix(workspace).unwrap_or(path);
        let content = files::read(path).ok()?;
        Some(Entry::File(format!("usr/share/doc/satellite/{}", name.display()), 0o644, content))
    };
    let documentation: Vec<Entry> = paths.iter().filter_map(entry).collect();
    let licences: Vec<Entry> =
        ["LICENSE", "NOTICE"].iter().filter_map(|name| entry(&workspace.join(name))).collect();
    Ok(vec![archive::layer(&documentation, 6)?, archive::layer(&licences, 6)?])
}
