//! Another registry as the central one: Debian's docker-registry with an account that pushes and one that pulls.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, its helpers too")]

#[allow(dead_code, reason = "shared with the tests of the API, which use all of it")]
#[path = "http/spiffe.rs"]
mod spiffe;
#[allow(dead_code, reason = "shared with the tests of the API, which use all of it")]
#[path = "http/support.rs"]
mod support;

#[path = "oci_registry/accounts.rs"]
mod accounts;
#[path = "oci_registry/documents.rs"]
mod documents;
#[path = "oci_registry/following.rs"]
mod following;

use std::path::{Path, PathBuf};

use ground_control::config::{Config, RegistryConfig};
use tempfile::TempDir;
use testbed::docker_registry::{DockerRegistry, Options, PASSWORDS, Password};

/// The registry, and the files with the passwords of its accounts.
pub(crate) struct Elsewhere {
    pub(crate) registry: DockerRegistry,
    dir: TempDir,
}

/// The accounts `push` and `pull` with these passwords.
pub(crate) fn accounts(push: Password, pull: Password) -> Vec<(String, Password)> {
    vec![("push".to_owned(), push), ("pull".to_owned(), pull)]
}

impl Elsewhere {
    pub(crate) async fn start(delete: bool) -> Self {
        Self::start_with(Options { delete, ..Options::default() }).await
    }

    pub(crate) async fn start_with(options: Options) -> Self {
        let accounts = accounts(PASSWORDS[0], PASSWORDS[1]);
        let registry = DockerRegistry::start_with(Options { accounts, ..options }).await.unwrap();
        let elsewhere = Self { registry, dir: tempfile::tempdir().unwrap() };
        elsewhere.write("push", PASSWORDS[0].text);
        elsewhere.write("pull", PASSWORDS[1].text);
        elsewhere
    }

    /// The file with an account's password.
    pub(crate) fn file(&self, account: &str) -> PathBuf {
        self.dir.path().join(account)
    }

    /// Puts another password there, as tools do it: by a rename, with a line end.
    pub(crate) fn write(&self, account: &str, password: &str) {
        let fresh = self.dir.path().join("fresh");
        testbed::files::write(&fresh, format!("{password}\n")).unwrap();
        std::fs::rename(fresh, self.file(account)).unwrap();
    }

    /// What makes it the central registry.
    pub(crate) fn variables(&self) -> Vec<(&'static str, String)> {
        let path = |path: &Path| path.to_str().unwrap().to_owned();
        vec![
            ("REGISTRY_BACKEND", "oci".to_owned()),
            ("OCI_REGISTRY_URL", self.registry.url()),
            ("OCI_PUSH_USERNAME", "push".to_owned()),
            ("OCI_PUSH_PASSWORD_FILE", path(&self.file("push"))),
            ("OCI_PULL_USERNAME", "pull".to_owned()),
            ("OCI_PULL_PASSWORD_FILE", path(&self.file("pull"))),
        ]
    }

    /// The settings that they come to.
    pub(crate) fn config(&self, dir: &TempDir) -> Config {
        let mut variables = self.variables();
        variables.push(("SPIFFE_SERVER_ENABLED", "true".to_owned()));
        let variables: Vec<_> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let config = support::config(dir, &variables);
        assert!(matches!(config.registry, RegistryConfig::Oci(_)));
        config
    }
}
