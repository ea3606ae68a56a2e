//! skopeo, with no configuration of the machine's own.

use std::path::Path;
use std::process::Command;

use crate::{Result, command, files};

/// Runs `skopeo` with these arguments.
pub async fn skopeo(arguments: &[&str]) -> Result<String> {
    let program = command::need("skopeo", "skopeo")?;
    let dir = files::scratch("skopeo")?;
    files::write(&dir.path().join("registries.conf"), "unqualified-search-registries = []\n")?;
    files::write(&dir.path().join("auth.json"), "{}")?;
    let mut command = Command::new(program);
    command
        .arg("--insecure-policy")
        .arg("--registries-conf")
        .arg(dir.path().join("registries.conf"))
        .env("REGISTRY_AUTH_FILE", dir.path().join("auth.json"))
        .args(arguments);
    command::run(command).await
}

/// Pushes an OCI layout with every platform to `registry` (`host:port`), in plain HTTP, as `user:password`.
pub async fn push(layout: &Path, registry: &str, image: &str, credentials: &str) -> Result<()> {
    let source = format!("oci:{}", layout.display());
    let target = format!("docker://{registry}/{image}");
    let arguments = [
        "copy",
        "--all",
        "--dest-tls-verify=false",
        "--dest-creds",
        credentials,
        "--quiet",
        &source,
        &target,
    ];
    skopeo(&arguments).await.map(drop)
}
