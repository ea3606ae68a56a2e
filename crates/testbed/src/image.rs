//! Images that are made on the spot, without the internet where possible.

use std::path::{Path, PathBuf};
use std::process::Command;

use oci::{Descriptor, media_type};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

use crate::archive::{self, Entry, Layer};
use crate::layout::Layout;
use crate::{Error, Result, command, files};

/// The artifact type of the referrers that are made here.
pub const SIGNATURE_TYPE: &str = "application/vnd.example.signature.v1";

/// An image in a layout of its own.
#[derive(Clone, Debug)]
pub struct Image {
    /// Where its content is.
    pub layout: Layout,
    /// The index or manifest that a tag points at.
    pub root: Descriptor,
    /// Artifacts that refer to it.
    pub referrers: Vec<Descriptor>,
}

/// Adds one image manifest to a layout.
pub fn manifest(
    layout: &Layout,
    architecture: &str,
    layers: &[Layer],
    runtime: &Value,
) -> Result<Descriptor> {
    let config = json!({
        "created": "1970-01-01T00:00:00Z",
        "architecture": architecture,
        "os": "linux",
        "config": runtime,
        "rootfs": {"type": "layers", "diff_ids": layers.iter().map(|l| l.diff_id).collect::<Vec<_>>()},
        "history": layers.iter().map(|_| json!({"created": "1970-01-01T00:00:00Z"})).collect::<Vec<_>>(),
    });
    let config = layout.add_json(media_type::OCI_CONFIG, &config)?;
    let layers = layers
        .iter()
        .map(|layer| layout.add(media_type::OCI_LAYER_GZIP, &layer.bytes))
        .collect::<Result<Vec<_>>>()?;
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": media_type::OCI_MANIFEST,
        "config": config,
        "layers": layers,
    });
    let mut descriptor = layout.add_json(media_type::OCI_MANIFEST, &manifest)?;
    descriptor.platform = serde_json::from_value(json!({"architecture": architecture, "os": "linux"})).ok();
    Ok(descriptor)
}

/// Adds an index over manifests to a layout.
pub fn index(layout: &Layout, children: &[Descriptor]) -> Result<Descriptor> {
    let index = json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": children});
    layout.add_json(media_type::OCI_INDEX, &index)
}

/// Adds an artifact that refers to `subject` (OCI image-spec, manifest.md, "Guidelines for Artifact Usage").
pub fn referrer(layout: &Layout, subject: &Descriptor, kind: &str, content: &[u8]) -> Result<Descriptor> {
    let empty = layout.add(media_type::OCI_EMPTY, b"{}")?;
    let blob = layout.add(kind, content)?;
    let subject = Descriptor::new(subject.media_type.clone(), subject.digest, subject.size);
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": media_type::OCI_MANIFEST,
        "artifactType": kind,
        "config": empty,
        "layers": [blob],
        "subject": subject,
        "annotations": {"org.opencontainers.image.created": "1970-01-01T00:00:00Z"},
    });
    layout.add_json(media_type::OCI_MANIFEST, &manifest)
}

/// An image of random content: one layer for each size in bytes. The same seed makes the same image.
pub fn random(dir: &Path, seed: u64, sizes: &[usize]) -> Result<Image> {
    let layers = sizes
        .iter()
        .enumerate()
        .map(|(number, size)| random_layer(seed.wrapping_mul(1000).wrapping_add(number as u64), *size))
        .collect::<Result<Vec<_>>>()?;
    of_layers(dir, seed, &layers)
}

/// A layer with one file of random content.
pub fn random_layer(seed: u64, size: usize) -> Result<Layer> {
    let mut content = vec![0; size];
    StdRng::seed_from_u64(seed).fill_bytes(&mut content);
    archive::layer(&[Entry::File(format!("data-{seed}"), 0o644, content)], 0)
}

/// An image of given layers. `label` stands in its config, so that images of the same layers differ.
pub fn of_layers(dir: &Path, label: u64, layers: &[Layer]) -> Result<Image> {
    let layout = Layout::create(dir)?;
    let runtime = json!({"Labels": {"testbed": label.to_string()}});
    let root = manifest(&layout, architecture(), layers, &runtime)?;
    layout.add_root(&root, Some("image"))?;
    Ok(Image { layout, root, referrers: Vec::new() })
}

/// A multi-architecture image that runs: Debian's static busybox for amd64 and for arm64, and a signature-like artifact
/// that refers to the index.
pub async fn busybox(dir: &Path) -> Result<Image> {
    let layout = Layout::create(dir)?;
    let mut children = Vec::new();
    for architecture in ["amd64", "arm64"] {
        let program = busybox_program(architecture).await?;
        let entries = [
            Entry::Folder("tmp".into()),
            Entry::Folder("bin".into()),
            Entry::File("bin/busybox".into(), 0o755, files::read(&program)?),
            Entry::Link("bin/sh".into(), "busybox".into()),
            Entry::Link("bin/echo".into(), "busybox".into()),
        ];
        let layers = [
            archive::layer(&entries, 6)?,
            archive::layer(&[Entry::File("etc/arch".into(), 0o644, architecture.into())], 6)?,
        ];
        let runtime = json!({"Env": ["PATH=/bin"], "Cmd": ["/bin/sh"]});
        children.push(manifest(&layout, architecture, &layers, &runtime)?);
    }
    let root = index(&layout, &children)?;
    layout.add_root(&root, Some("image"))?;
    let referrer = referrer(&layout, &root, SIGNATURE_TYPE, b"a signature, so to speak")?;
    layout.add_root(&referrer, None)?;
    Ok(Image { layout, root, referrers: vec![referrer] })
}

/// The name that the OCI specifications give this machine's processor.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// The same as a platform.
pub fn platform() -> &'static str {
    match architecture() {
        "arm64" => "linux/arm64",
        _ => "linux/amd64",
    }
}

/// A static busybox: the installed one for this machine, else out of Debian's package, downloaded once with an apt state
/// of its own, so that the machine's apt stays as it is.
async fn busybox_program(architecture: &str) -> Result<PathBuf> {
    if architecture == self::architecture()
        && let Some(installed) = command::find("busybox")
    {
        return Ok(installed);
    }
    let apt_get = command::need("apt-get", "apt")?;
    let cache = std::env::temp_dir().join("testbed-busybox");
    files::create_dir(&cache)?;
    let program = cache.join(architecture);
    let lock = std::fs::File::create(cache.join(format!("{architecture}.lock")))
        .map_err(Error::io("cannot create a lock"))?;
    lock.lock().map_err(Error::io("cannot take the lock of the download"))?;
    if program.is_file() {
        return Ok(program);
    }
    let work = files::scratch("apt")?;
    let dir = work.path();
    for folder in ["state/lists/partial", "cache/archives/partial", "unpacked"] {
        files::create_dir(&dir.join(folder))?;
    }
    files::write(&dir.join("status"), "")?;
    let apt = |arguments: &[&str]| {
        let mut command = Command::new(&apt_get);
        for option in [
            format!("APT::Architecture={architecture}"),
            format!("APT::Architectures={architecture}"),
            format!("Dir::State={}/state", dir.display()),
            format!("Dir::State::status={}/status", dir.display()),
            format!("Dir::Cache={}/cache", dir.display()),
            "Acquire::Languages=none".into(),
            "APT::Sandbox::User=root".into(),
            "Acquire::Retries=3".into(),
        ] {
            command.arg("-o").arg(option);
        }
        command.arg("-qq").args(arguments).current_dir(dir);
        command
    };
    command::run(apt(&["update"])).await?;
    command::run(apt(&["download", &format!("busybox-static:{architecture}")])).await?;
    let package = files::walk(dir)
        .into_iter()
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .ok_or_else(|| Error::Content("apt-get downloaded no package".into()))?;
    let mut unpack = Command::new("dpkg-deb");
    unpack.arg("-x").arg(package).arg(dir.join("unpacked"));
    command::run(unpack).await?;
    let unpacked = files::walk(&dir.join("unpacked"))
        .into_iter()
        .find(|path| path.ends_with("bin/busybox"))
        .ok_or_else(|| Error::Content("the package busybox-static holds no busybox".into()))?;
    let fresh = cache.join(format!("{architecture}.new"));
    std::fs::copy(&unpacked, &fresh)
        .and_then(|_| std::fs::rename(&fresh, &program))
        .map_err(Error::io("cannot keep the downloaded busybox"))?;
    Ok(program)
}
