//! Container images as OCI layouts: one binary from scratch, for each platform, under one index.

use std::path::Path;

use oci::{Descriptor, media_type};
use serde_json::{Map, Value, json};
use testbed::layout::Layout;

use super::Platform;
use super::archive::{self, Entry};
use super::stamp::Stamp;
use crate::error::{Error, Result};

/// User and group that a container runs as. The number is usual for images without accounts, and every runtime can check
/// that it is not root's.
const USER: u64 = 65532;

/// A program and what its image says about it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Image {
    /// The program and the image's name.
    pub(crate) program: &'static str,
    title: &'static str,
    description: &'static str,
    /// The one folder that it writes, a volume.
    state: &'static str,
    environment: &'static [(&'static str, &'static str)],
    ports: &'static [&'static str],
}

/// All images.
pub(crate) const IMAGES: [Image; 2] = [
    Image {
        program: "satellite",
        title: "Harbor Satellite",
        description: "Container images at the edge, whole and on time",
        state: "var/lib/satellite",
        environment: &[("CONFIG_DIR", "/var/lib/satellite"), ("JSON_LOGGING", "true")],
        ports: &["8585/tcp"],
    },
    Image {
        program: "ground-control",
        title: "Ground Control",
        description: "Control plane of Harbor Satellite",
        state: "var/lib/ground-control",
        // Loopback would be the container's own. The URL under which it is reached has to be said, or it does not start.
        environment: &[
            ("DATA_DIR", "/var/lib/ground-control"),
            ("LISTEN", "0.0.0.0:8080"),
            ("JSON_LOGGING", "true"),
        ],
        ports: &["8080/tcp", "9090/tcp"],
    },
];

impl Image {
    /// Writes a layout with these platforms, each with the content of its program.
    pub(crate) fn write(
        &self,
        folder: &Path,
        programs: &[(Platform, Vec<u8>)],
        stamp: &Stamp,
    ) -> Result<Descriptor> {
        let layout = Layout::create(folder)?;
        let mut children = Vec::new();
        for (platform, program) in programs {
            children.push(self.platform(&layout, *platform, program, stamp)?);
        }
        let index = json!({
            "schemaVersion": 2,
            "mediaType": media_type::OCI_INDEX,
            "manifests": children,
            "annotations": self.annotations(stamp),
        });
        let root = layout.add_json(media_type::OCI_INDEX, &index)?;
        layout.add_root(&root, Some(stamp.version))?;
        Ok(root)
    }

    fn platform(
        &self,
        layout: &Layout,
        platform: Platform,
        program: &[u8],
        stamp: &Stamp,
    ) -> Result<Descriptor> {
        let layer = archive::pack(&self.entries(program), "", stamp.time)
            .map_err(|error| Error::Other(format!("cannot pack the image of {}: {error}", self.program)))?;
        let config = layout.add_json(media_type::OCI_CONFIG, &self.config(platform, &layer, stamp))?;
        let layer = layout.add(media_type::OCI_LAYER_GZIP, &layer.bytes)?;
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": media_type::OCI_MANIFEST,
            "config": config,
            "layers": [layer],
            "annotations": self.annotations(stamp),
        });
        let mut descriptor = layout.add_json(media_type::OCI_MANIFEST, &manifest)?;
        descriptor.platform = serde_json::from_value(platform.oci()).ok();
        Ok(descriptor)
    }

    fn entries(&self, program: &[u8]) -> Vec<Entry> {
        let mut entries = vec![Entry::folder("usr", 0o755), Entry::folder("usr/bin", 0o755)];
        entries.push(Entry::file(format!("usr/bin/{}", self.program), 0o755, program));
        entries.extend([Entry::folder("var", 0o755), Entry::folder("var/lib", 0o755)]);
        // A volume that an engine makes is a copy of this folder, with its owner.
        entries.push(Entry::folder(self.state, 0o700).owned_by(USER));
        entries
    }

    fn config(&self, platform: Platform, layer: &archive::Packed, stamp: &Stamp) -> Value {
        let path = ("PATH", "/usr/bin");
        let environment =
            std::iter::once(&path).chain(self.environment).map(|(name, value)| format!("{name}={value}"));
        let set = |keys: &[String]| {
            Value::Object(keys.iter().map(|key| (key.clone(), json!({}))).collect::<Map<_, _>>())
        };
        let ports: Vec<String> = self.ports.iter().map(|port| (*port).to_owned()).collect();
        let mut config = platform.oci();
        config["created"] = json!(stamp.time_text());
        config["config"] = json!({
            "User": format!("{USER}:{USER}"),
            "ExposedPorts": set(&ports),
            "Env": environment.collect::<Vec<_>>(),
            "Entrypoint": [format!("/usr/bin/{}", self.program)],
            "Volumes": set(&[format!("/{}", self.state)]),
            "WorkingDir": "/",
            "Labels": self.annotations(stamp),
            "StopSignal": "SIGTERM",
        });
        config["rootfs"] = json!({"type": "layers", "diff_ids": [layer.plain]});
        config["history"] = json!([{"created": stamp.time_text(), "created_by": "cargo xtask dist"}]);
        config
    }

    /// Annotations of manifests and index, and labels of the config (OCI image-spec, annotations.md).
    fn annotations(&self, stamp: &Stamp) -> Value {
        let mut annotations = json!({
            "org.opencontainers.image.created": stamp.time_text(),
            "org.opencontainers.image.title": self.title,
            "org.opencontainers.image.description": self.description,
            "org.opencontainers.image.version": stamp.version,
            "org.opencontainers.image.licenses": env!("CARGO_PKG_LICENSE"),
            "org.opencontainers.image.source": env!("CARGO_PKG_REPOSITORY"),
            "org.opencontainers.image.url": env!("CARGO_PKG_REPOSITORY"),
            "org.opencontainers.image.vendor": "Harbor Satellite",
        });
        if let Some(revision) = &stamp.revision {
            annotations["org.opencontainers.image.revision"] = json!(revision);
        }
        annotations
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_programs_give_the_same_image_and_another_one_another() {
        let stamp = Stamp { version: "1.2.3", time: 1_700_000_000, revision: Some("abc".into()) };
        let write = |amd64: &[u8]| {
            let folder = tempfile::tempdir().unwrap();
            let programs = [(Platform::Amd64, amd64.to_vec()), (Platform::Armv7, b"seven".to_vec())];
            let root = IMAGES[0].write(folder.path(), &programs, &stamp).unwrap();
            let layout = Layout::open(folder.path()).unwrap();
            let graph = layout.graph(&root).unwrap();
            assert_eq!((graph.manifests.len(), graph.blobs.len()), (3, 4));
            root
        };
        assert_eq!(write(b"one").digest, write(b"one").digest);
        assert_ne!(write(b"one").digest, write(b"two").digest);
    }
}
