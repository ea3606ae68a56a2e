//! `satellite export`: images as a file.

use std::path::PathBuf;

use clap::Args;
use oci::Platform;

use crate::export::ExportFormat;

/// What is exported, and where to.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Export {
    /// Images, as `satellite images` lists them (REPOSITORY, REPOSITORY:TAG, REPOSITORY@DIGEST) or as runtimes name them
    /// (docker.io/library/busybox:1.36). Without a tag: latest.
    #[arg(value_name = "IMAGE", required = true)]
    pub images: Vec<String>,
    /// File to write, or - for the standard output. It has its name only when it is complete.
    #[arg(long, short, value_name = "FILE")]
    pub output: PathBuf,
    /// oci: an OCI layout with all platforms that are here, for `ctr images import` and the image folders of k3s and RKE2;
    /// docker: a docker-archive of one platform, for `docker load` and `podman load`.
    #[arg(long, value_name = "oci|docker", default_value = "oci", value_parser = format)]
    pub format: ExportFormat,
    /// This platform alone, as linux/arm64. Without it: all that are here, or for docker this machine's own.
    #[arg(long, value_name = "OS/ARCH", value_parser = platform)]
    pub platform: Option<Platform>,
    /// A name for the image in the archive (repeatable) [default: those under which runtimes know it]
    #[arg(long = "name", value_name = "NAME")]
    pub names: Vec<String>,
    /// Where the artifacts are kept, for a satellite that does not run [default: as the satellite's settings say]
    #[arg(long, value_name = "DIR")]
    pub registry_data_dir: Option<PathBuf>,
}

fn format(text: &str) -> Result<ExportFormat, String> {
    text.parse()
}

fn platform(text: &str) -> Result<Platform, String> {
    text.parse::<Platform>().map_err(|error| error.to_string())
}
