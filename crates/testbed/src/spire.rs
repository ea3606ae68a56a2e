//! A real SPIRE: `spire-server` and `spire-agent` from `SPIRE_BIN_DIR` or `PATH`, each with a folder, a port and a
//! socket of its own, short lives for what it issues, and no limit on the rate of attestations.

mod agent;
mod server;

use std::path::PathBuf;
use std::process::Command;

use crate::{Error, Result, command, files};

pub use agent::{Agent, Attestation};
pub use server::{Server, ServerOptions, own_selector};

/// Names the folder of the programs, where they are not in `PATH`.
pub const BIN_DIR: &str = "SPIRE_BIN_DIR";

/// One of SPIRE's programs.
pub fn find(program: &str) -> Result<PathBuf> {
    let folder = std::env::var_os(BIN_DIR).map(PathBuf::from);
    folder
        .map(|folder| folder.join(program))
        .filter(|path| path.is_file())
        .or_else(|| command::find(program))
        .ok_or_else(|| Error::Missing {
            what: format!("the program {program}"),
            remedy: format!("put SPIRE 1.12 or later into PATH, or name its folder in {BIN_DIR}"),
        })
}

/// The version that is used.
pub async fn version() -> Result<String> {
    let mut version = Command::new(find("spire-server")?);
    version.arg("--version");
    let output = command::output(version).await?;
    // It says so on its standard error.
    let text =
        String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    Ok(text.trim().to_owned())
}

/// An SSH host key with a certificate of an authority that is made for it: what the node attestor `sshpop` asks for.
#[derive(Clone, Debug)]
pub struct SshHost {
    /// The authority's public key, as a line of `authorized_keys`.
    pub authority: String,
    /// The file of the host key.
    pub key: PathBuf,
    /// The file of the host certificate.
    pub certificate: PathBuf,
}

impl SshHost {
    /// Makes the authority, the key and the certificate for `name` below a folder.
    pub async fn new(dir: &std::path::Path, name: &str) -> Result<Self> {
        let keygen = command::need("ssh-keygen", "openssh-client")?;
        files::create_dir(dir)?;
        let (authority, key) = (dir.join("ssh_ca"), dir.join("ssh_host_key"));
        for file in [&authority, &key] {
            let mut generate = Command::new(&keygen);
            generate.args(["-q", "-t", "ed25519", "-N", "", "-C", name, "-f"]).arg(file);
            command::run(generate).await?;
        }
        let mut sign = Command::new(&keygen);
        sign.arg("-q").arg("-s").arg(&authority).args(["-I", name, "-h", "-n", name, "-V", "-5m:+1d"]);
        sign.arg(dir.join("ssh_host_key.pub"));
        command::run(sign).await?;
        let authority = files::read(&dir.join("ssh_ca.pub"))?;
        Ok(Self {
            authority: String::from_utf8_lossy(&authority).into_owned(),
            key,
            certificate: dir.join("ssh_host_key-cert.pub"),
        })
    }
}
