//! A stand-in for the registries of the web, docker.io and quay.io among them: Debian's docker-registry under their names
//! with certificates of the test's authority, and the proxy through which a runtime gets there.
//!
//! A program that has [`Upstream::environment`] reaches them by name where there is no network at all.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};

use crate::authority::ServerCertificate;
use crate::docker_registry::{DockerRegistry, Options};
use crate::image::Image;
use crate::registry::Registry;
use crate::{Error, Result, files};

/// The names that it answers under.
const HOSTS: [&str; 4] = ["docker.io", "registry-1.docker.io", "index.docker.io", "quay.io"];
/// The longest line of a request that is read.
const LINE: u64 = 4096;

type Asked = Arc<Mutex<Vec<String>>>;

/// It, and the way there.
#[derive(Debug)]
pub struct Upstream {
    registry: DockerRegistry,
    ca_file: PathBuf,
    _folder: tempfile::TempDir,
    address: String,
    asked: Asked,
    task: AbortHandle,
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Upstream {
    /// Starts registry and proxy.
    ///
    /// # Errors
    /// Where one of them does not start.
    pub async fn start() -> Result<Self> {
        let mut names = HOSTS.to_vec();
        names.push("127.0.0.1");
        let certificate = ServerCertificate::new(&names)?;
        let folder = files::scratch("upstream")?;
        let ca_file = folder.path().join("ca.pem");
        files::write(&ca_file, &certificate.authority)?;
        let tls = Some((certificate.certificate, certificate.key));
        let registry = DockerRegistry::start_with(Options { tls, ..Options::default() }).await?;
        let listener =
            TcpListener::bind("127.0.0.1:0").await.map_err(Error::io("cannot listen for the proxy"))?;
        let address = listener.local_addr().map_err(Error::io("the proxy has no address"))?.to_string();
        let asked = Asked::default();
        let task = tokio::spawn(accept(listener, registry.address(), Arc::clone(&asked))).abort_handle();
        Ok(Self { registry, ca_file, _folder: folder, address, asked, task })
    }

    /// Puts an image there: `library/app` is docker.io's, any other repository is whose name is asked.
    ///
    /// # Errors
    /// Where it is not taken.
    pub async fn push(&self, repository: &str, tag: &str, image: &Image) -> Result<()> {
        let registry = Registry::anonymous(&self.registry.url()).trusting(Some(&self.ca_file))?;
        registry.push(repository, tag, image).await
    }

    /// What a runtime needs to get there.
    pub fn environment(&self) -> BTreeMap<String, String> {
        BTreeMap::from([
            ("HTTPS_PROXY".to_owned(), format!("http://{}", self.address)),
            ("SSL_CERT_FILE".to_owned(), self.ca_file.display().to_string()),
        ])
    }

    /// The hosts that were asked for since the last question, one for each connection.
    pub fn take_asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

async fn accept(listener: TcpListener, registry: String, asked: Asked) {
    // Connections end with the proxy: the set aborts them when this future is dropped.
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        while connections.try_join_next().is_some() {}
        let (registry, asked) = (registry.clone(), Arc::clone(&asked));
        connections.spawn(async move {
            // A client that breaks off is no trouble of the proxy's.
            let _ = tunnel(stream, &registry, &asked).await;
        });
    }
}

/// CONNECT (RFC 9110, section 9.3.6), to the registry whatever its name.
async fn tunnel(stream: TcpStream, registry: &str, asked: &Asked) -> std::io::Result<()> {
    use tokio::io::AsyncReadExt as _;
    let mut client = BufReader::new(stream);
    let mut target = None;
    loop {
        let mut line = String::new();
        if (&mut client).take(LINE).read_line(&mut line).await? == 0 {
            return Ok(());
        }
        if line.trim().is_empty() {
            break;
        }
        if let Some(rest) = line.strip_prefix("CONNECT ") {
            target = rest.split_whitespace().next().map(str::to_owned);
        }
    }
    let host = target.as_deref().map(|target| target.split(':').next().unwrap_or_default().to_owned());
    asked
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(host.clone().unwrap_or_else(|| "no host".to_owned()));
    if !host.is_some_and(|host| HOSTS.contains(&host.as_str())) {
        return client.write_all(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n").await;
    }
    let mut server = TcpStream::connect(registry).await?;
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
    tokio::io::copy_bidirectional(&mut client, &mut server).await.map(drop)
}
