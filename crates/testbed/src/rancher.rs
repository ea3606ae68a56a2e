//! k3s's and RKE2's own reader of `registries.yaml` (rancher/wharfie, in `go-registries/`), which is also what RKE2 pulls the
//! images of its control plane with.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::{Error, Result, command, go_build};

/// The reader, built.
#[derive(Clone, Debug)]
pub struct Reader {
    program: PathBuf,
}

impl Reader {
    /// Builds it where it is not built: before a test goes onto a machine of its own, where there is no network.
    ///
    /// # Errors
    /// Where Go is not there, or fails.
    pub async fn build() -> Result<Self> {
        Ok(Self { program: go_build::build("go-registries", "registries").await? })
    }

    /// What a file says: `mirrors` with `endpoint` and `rewrite`, `configs`.
    ///
    /// # Errors
    /// Where k3s would not start with it.
    pub async fn read(&self, file: &Path) -> Result<Value> {
        let said = self.run(&["read", &file.display().to_string()]).await?;
        serde_json::from_str(&said)
            .map_err(|error| Error::Content(format!("the reader said `{said}`: {error}")))
    }

    /// Pulls an image of this machine's platform, whole, as the file says; gives its manifest's digest.
    ///
    /// # Errors
    /// Where no endpoint has it.
    pub async fn pull(&self, file: &Path, reference: &str) -> Result<String> {
        let said = self.run(&["pull", &file.display().to_string(), reference]).await?;
        Ok(said.trim().to_owned())
    }

    async fn run(&self, words: &[&str]) -> Result<String> {
        let mut reader = Command::new(&self.program);
        reader.args(words);
        command::run(reader).await
    }
}
