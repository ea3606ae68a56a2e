//! An identity from files that somebody else renews (an SPIFFE helper, a secret mounted by an orchestrator).

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aws_lc_rs::digest::{Context, Digest, SHA256};
use jiff::Timestamp;
use tokio::io::AsyncReadExt as _;
use zeroize::Zeroizing;

use crate::expiry;
use crate::id::TrustDomain;
use crate::source::IdentityKeeper;
use crate::svid::{Leaf, Svid, SvidError, TrustBundle};

/// How often the files are read. A renewed certificate is valid long before the old one ends.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// The longest file that is read: far above any chain or bundle that is taken.
const MAX_FILE: u64 = 1024 * 1024;

/// The files that hold an identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// The SVID's chain in PEM, leaf first.
    pub certificate: PathBuf,
    /// Its private key in PEM.
    pub key: PathBuf,
    /// The authorities of the trust domain in PEM.
    pub bundle: PathBuf,
    /// The trust domain; the SVID must be of it.
    pub trust_domain: TrustDomain,
}

/// Why there is no identity in these files.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// A file cannot be read.
    #[error("cannot read {path}: {cause}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        cause: std::io::Error,
    },
    /// A file does not hold what it should.
    #[error("{path}: {cause}")]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        cause: SvidError,
    },
    /// The SVID's time is over.
    #[error("{path}: the SVID expired at {not_after}; put a new one there")]
    Expired {
        /// The file.
        path: PathBuf,
        /// When it expired.
        not_after: Timestamp,
    },
}

/// Reads an identity once: for a start that is to fail on files that are wrong.
///
/// # Errors
/// [`FilesError`] naming the file.
pub async fn load(files: &Files) -> Result<(Svid, TrustBundle), FilesError> {
    Contents::read(files).await?.parse(files)
}

/// Keeps an identity as the files say, for ever: what a whole, good set of files holds is good from the next handshake
/// on; a set that is not is logged and changes nothing, until what is held expires. Ends only where the future is dropped.
pub async fn follow(keeper: IdentityKeeper, files: Files) -> Infallible {
    tokio::join!(reload(&keeper, &files), expiry::withdraw_expired(&keeper)).0
}

async fn reload(keeper: &IdentityKeeper, files: &Files) -> Infallible {
    let mut taken = None;
    let mut complained = None;
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    loop {
        ticks.tick().await;
        let outcome = match Contents::read(files).await {
            Ok(contents) => {
                let digest = contents.digest();
                if taken.as_deref() == Some(digest.as_ref()) {
                    complained = None;
                    continue;
                }
                contents.parse(files).map(|set| (set, digest))
            }
            Err(error) => Err(error),
        };
        match outcome {
            Ok(((svid, bundle), digest)) => {
                let Leaf { id, not_after, .. } = svid.leaf().clone();
                if keeper.update(svid, bundle) {
                    tracing::info!(%id, %not_after, "svid read from files");
                }
                taken = Some(digest.as_ref().to_vec());
                complained = None;
            }
            // Perhaps only half of the set is there yet: it is read again at the next tick. Said once.
            Err(error) => {
                let text = error.to_string();
                if complained.as_ref() != Some(&text) {
                    tracing::warn!(%error, held = keeper.current().is_some(), "svid not read from files");
                    complained = Some(text);
                }
            }
        }
    }
}

struct Contents {
    certificate: String,
    key: Zeroizing<String>,
    bundle: String,
}

impl Contents {
    async fn read(files: &Files) -> Result<Self, FilesError> {
        Ok(Self {
            certificate: read(&files.certificate).await?,
            key: Zeroizing::new(read(&files.key).await?),
            bundle: read(&files.bundle).await?,
        })
    }

    fn digest(&self) -> Digest {
        let mut context = Context::new(&SHA256);
        for part in [&self.certificate, &*self.key, &self.bundle] {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part.as_bytes());
        }
        context.finish()
    }

    fn parse(&self, files: &Files) -> Result<(Svid, TrustBundle), FilesError> {
        let of = |path: &Path| {
            let path = path.to_owned();
            |cause| FilesError::Content { path, cause }
        };
        let bundle =
            TrustBundle::from_pem(files.trust_domain.clone(), &self.bundle).map_err(of(&files.bundle))?;
        let svid = Svid::from_pem(&self.certificate, &self.key).map_err(|cause| match cause {
            SvidError::Key(_) | SvidError::Pem { what: "private key", .. } => of(&files.key)(cause),
            _ => of(&files.certificate)(cause),
        })?;
        svid.check_domain(&bundle).map_err(of(&files.certificate))?;
        if svid.leaf().is_expired(Timestamp::now()) {
            return Err(FilesError::Expired {
                path: files.certificate.clone(),
                not_after: svid.leaf().not_after,
            });
        }
        Ok((svid, bundle))
    }
}

async fn read(path: &Path) -> Result<String, FilesError> {
    let fail = |cause| FilesError::Read { path: path.to_owned(), cause };
    let mut text = String::new();
    let file = tokio::fs::File::open(path).await.map_err(fail)?;
    file.take(MAX_FILE).read_to_string(&mut text).await.map_err(fail)?;
    Ok(text)
}
