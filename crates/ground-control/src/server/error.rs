//! Why a server does not start, told to whoever started it.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::auth::{KeyError, LoginError};
use crate::backup::BackupError;
use crate::central::{HarborLoginError, PasswordFileError};
use crate::domain::StoreError;
use crate::identity::builtin::AuthorityError;
use crate::tls::TlsError;

/// Why the server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data folder cannot be made.
    #[error("DATA_DIR: cannot make {path}: {source}")]
    DataDir {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A restore works in the data folder, or cannot be carried on.
    #[error("DATA_DIR: {0}")]
    Folder(#[from] BackupError),
    /// The server key cannot be had.
    #[error("SECRET_KEY_FILE: {0}")]
    Key(#[from] KeyError),
    /// The database cannot be opened or brought up to date.
    #[error("DATABASE_URL: cannot open the database: {}", chain(.0))]
    Database(#[source] StoreError),
    /// The database was opened and then failed.
    #[error("{}", chain(.0))]
    Store(#[from] StoreError),
    /// The built-in registry's folder cannot be opened.
    #[error("cannot open the registry in {path}: {source}")]
    Registry {
        /// The folder.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<blob_store::StoreError>,
    },
    /// Another server has the built-in registry that goes with the database.
    #[error(
        "REGISTRY_BACKEND: another server of this database has its built-in registry (at least until {until}); \
         several replicas need REGISTRY_BACKEND=harbor or oci, which they share"
    )]
    SecondBuiltin {
        /// When its lease ends, if it does not take it again.
        until: jiff::Timestamp,
    },
    /// A file that is to hold a password does not.
    #[error(transparent)]
    Password(#[from] PasswordFileError),
    /// Who is given the pull account would have the other one, too.
    #[error(
        "OCI_PULL_PASSWORD_FILE: holds the same password as OCI_PUSH_PASSWORD_FILE; every satellite is given it, so that the \
         account that pushes must have another one"
    )]
    SamePassword,
    /// Harbor cannot be asked with these settings.
    #[error("HARBOR_URL: {}", chain(.0))]
    Harbor(#[source] HarborLoginError),
    /// There is no client of the registry.
    #[error("OCI_CA_FILE: {0}")]
    OciRegistry(#[source] registry_client::Error),
    /// There is no client of the identity provider.
    #[error("OIDC_CA_FILE: {0}")]
    Oidc(String),
    /// The name of this replica cannot be kept.
    #[error("DATA_DIR: cannot keep the name of this replica in {path}: {source}")]
    Replica {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// There is no client of the collector.
    #[error("AUDIT_OTEL_ENDPOINT: {0}")]
    Collector(#[source] reqwest::Error),
    /// The first administrator's password is none.
    #[error("ADMIN_PASSWORD_FILE: {0}")]
    FirstPassword(String),
    /// The first administrator cannot be made.
    #[error("cannot make the first administrator: {0}")]
    Bootstrap(#[source] LoginError),
    /// The address is taken or not ours.
    #[error("{variable}: cannot listen on {address}: {source}")]
    Listen {
        /// The setting that named it.
        variable: &'static str,
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// A republication that does not know under which address the server will be reached.
    #[error("PUBLIC_REGISTRY_URL: needed to republish, because documents hold it and LISTEN names no port")]
    UnknownUrl,
    /// The certificate files are unusable.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// There is no TLS with our own identity.
    #[error("cannot show the SVID: {0}")]
    Svid(#[from] identity::tls::TlsError),
    /// The built-in authority cannot work.
    #[error("SPIFFE_PROVIDER=builtin: {}", chain(.0))]
    Authority(#[from] AuthorityError),
    /// Our own identity cannot be followed as the settings say.
    #[error("{variable}: {cause}")]
    Identity {
        /// The setting.
        variable: &'static str,
        /// What is wrong.
        cause: String,
    },
}

/// An error and all its causes in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
