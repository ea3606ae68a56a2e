//! nginx with one worker over a folder of files: the ceiling that a server on this machine is compared with.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::ports::Port;
use crate::process::Process;
use crate::{Result, command, files};

/// A running nginx that serves [`Nginx::root`].
#[derive(Debug)]
pub struct Nginx {
    _process: Process,
    port: Port,
    dir: TempDir,
}

impl Nginx {
    /// Starts it and waits until it answers.
    pub async fn start() -> Result<Self> {
        let program = command::need("nginx", "nginx-light")?;
        let dir = files::scratch("nginx")?;
        let port = Port::reserve()?;
        let root = dir.path();
        files::create_dir(&root.join("www"))?;
        let user = if command::is_root() { "user root;" } else { "" };
        let config = format!(
            "{user} worker_processes 1; pid {d}/pid; error_log {d}/error.log; daemon off;\n\
             events {{ worker_connections 1024; }}\n\
             http {{ access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000; types {{ }}\n\
             default_type application/octet-stream; open_file_cache max=1000;\n\
             client_body_temp_path {d}/b; proxy_temp_path {d}/p; fastcgi_temp_path {d}/f; uwsgi_temp_path {d}/u; scgi_temp_path {d}/s;\n\
             server {{ listen {address}; root {d}/www; }} }}\n",
            d = root.display(),
            address = port.address()
        );
        let config_file = root.join("nginx.conf");
        files::write(&config_file, config)?;
        let mut serve = Command::new(program);
        serve.arg("-c").arg(&config_file).arg("-p").arg(root);
        let mut process =
            Process::spawn("nginx", serve, &root.join("log"))?.patience(Signal::TERM, Duration::from_secs(5));
        let address = port.address();
        process
            .ready("the first connection", Duration::from_secs(10), async || {
                tokio::net::TcpStream::connect(&address).await.is_ok()
            })
            .await?;
        Ok(Self { _process: process, port, dir })
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.port.address())
    }

    /// The folder that it serves.
    pub fn root(&self) -> PathBuf {
        self.dir.path().join("www")
    }

    /// Puts a file below the root.
    pub fn put(&self, path: impl AsRef<Path>, content: &[u8]) -> Result<()> {
        files::write(&self.root().join(path), content)
    }
}
