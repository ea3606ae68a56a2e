//! The settings of the registry towards the site's own network, and the commands that go with them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use crate::config::lan::{LocalNamespaces, names};

/// The settings.
#[derive(Debug, Clone, Args)]
pub struct LanFlags {
    /// Allow --registry-listen beyond loopback, where it is plain HTTP and open: everybody who reaches it pulls. For a
    /// container whose port is published on loopback only; for other machines there is --lan-listen.
    #[arg(long, value_name = "BOOL", value_parser = super::boolean, num_args = 0..=1, require_equals = true, default_missing_value = "true", help_heading = "Local registry")]
    pub registry_listen_unsecure: Option<bool>,
    /// Beginnings of repositories' names that are the site's own, as dev,ci: people push into them (on this machine; over
    /// the LAN with an account), and nothing is replicated into them.
    #[arg(long, value_name = "LIST", value_parser = local_namespaces, help_heading = "Local registry")]
    pub local_namespaces: Option<LocalNamespaces>,
    /// Address and port of a further listener on which Docker finds docker.io and nothing else; it runs where Docker has
    /// mirrors and docker.io shares the registry with other contents (MIRROR_PATH, LOCAL_NAMESPACES), or where this is
    /// given [default: 127.0.0.1:8586]
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = super::listen, help_heading = "Local registry")]
    pub docker_mirror_listen: Option<SocketAddr>,

    /// Address and port on which other machines reach the registry, over TLS and with credentials, as 0.0.0.0:8443
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = super::listen, help_heading = "LAN")]
    pub lan_listen: Option<SocketAddr>,
    /// Name or address by which other machines reach it, for its certificate (repeatable, or between commas) [default:
    /// this machine's host name and addresses]
    #[arg(long, value_name = "NAME", value_parser = names, help_heading = "LAN")]
    pub lan_name: Vec<String>,
    /// PEM file of the site's own certificate chain for it, read again when it changes [default: a certificate of the
    /// satellite's own authority, which `satellite ca export` prints]
    #[arg(long, value_name = "FILE", help_heading = "LAN")]
    pub lan_tls_cert_file: Option<PathBuf>,
    /// PEM file of that certificate's key.
    #[arg(long, value_name = "FILE", help_heading = "LAN")]
    pub lan_tls_key_file: Option<PathBuf>,
    /// File of accounts, a line each as `satellite accounts hash` prints it, read again when it changes. Certificates of
    /// `satellite ca issue` need none.
    #[arg(long, value_name = "FILE", help_heading = "LAN")]
    pub lan_accounts_file: Option<PathBuf>,
    /// File with the token that node agents (`satellite node-agent`) show on that listener. It opens what nodes ask and
    /// tell, and no image.
    #[arg(long, value_name = "FILE", help_heading = "LAN")]
    pub site_token_file: Option<PathBuf>,
}

/// What to do with the local authority.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum CaAction {
    /// Print the certificate of this satellite's own authority (PEM), by which other machines know its registry; during a
    /// change (`rotate`) the old one's and the new one's.
    ///
    /// It is made where there is none yet; the satellite need not run. Exit code 0: here it is; 1: it cannot be read or
    /// made.
    Export {
        /// Write it to this file instead.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Make a new authority beside the old one, before that one ends or where its key got into other hands.
    ///
    /// From then on `export` prints both, and certificates of either get in; the registry shows one of the old authority,
    /// which every node knows, until that ends or the change is finished. A satellite that runs follows within seconds.
    /// Exit code 0: done; 1: it cannot be.
    Rotate {
        /// Every node has both: the old authority goes, and what knows nothing else is shut out.
        #[arg(long)]
        finish: bool,
    },
    /// Make a certificate by which the registry knows a node, for what cannot log in to a mirror (Docker).
    ///
    /// Writes NAME.crt, NAME.key (0600) and ca.crt. An account line `NAME:!` locks it out. Exit code 0: done; 1: it cannot
    /// be made.
    Issue {
        /// The node.
        #[arg(long)]
        name: String,
        /// Folder for the files.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// How long it is good.
        #[arg(long, value_name = "DURATION", default_value = "8760h", value_parser = super::duration)]
        life: Duration,
    },
}

/// What to do with accounts.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum AccountsAction {
    /// Print the line of an account for --lan-accounts-file. The password is read from the standard input.
    ///
    /// Exit code 0: here it is; 1: the password is not taken.
    Hash {
        /// The account's name.
        name: String,
    },
}

fn local_namespaces(text: &str) -> Result<LocalNamespaces, String> {
    text.parse()
}
