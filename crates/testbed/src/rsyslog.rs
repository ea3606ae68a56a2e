//! A syslog server: Debian's rsyslog, on a port of its own, writing what it was sent to a file.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::ports::Port;
use crate::process::Process;
use crate::{Error, Result, files};

/// How it is spoken to.
#[derive(Debug, Clone)]
pub enum Protocol {
    /// UDP.
    Udp,
    /// TCP.
    Tcp,
    /// TLS; whoever shows no certificate of this authority is refused.
    Tls {
        /// Authorities of clients (PEM).
        authorities: PathBuf,
        /// Its own certificate (PEM).
        certificate: PathBuf,
        /// The key of it (PEM).
        key: PathBuf,
    },
}

/// A syslog server that can be killed and started again, with its port and its file.
#[derive(Debug)]
pub struct Rsyslog {
    process: Option<Process>,
    protocol: Protocol,
    port: Port,
    dir: TempDir,
}

impl Rsyslog {
    /// Reserves a port; nothing runs yet.
    pub fn new(protocol: Protocol) -> Result<Self> {
        let new = Self { process: None, protocol, port: Port::reserve()?, dir: files::scratch("rsyslog")? };
        files::write(&new.dir.path().join("rsyslog.conf"), new.configuration())?;
        Ok(new)
    }

    /// Runs it, and waits until it listens.
    pub async fn start(&mut self) -> Result<()> {
        let home = self.dir.path();
        // What an earlier one left says nothing about this one.
        let _ = std::fs::remove_file(home.join("pid"));
        let mut command = Command::new("/usr/sbin/rsyslogd");
        command.arg("-n").arg("-f").arg(home.join("rsyslog.conf")).arg("-i").arg(home.join("pid"));
        let mut process = Process::spawn("rsyslogd", command, &home.join("log"))?;
        let (address, udp) = (self.port.address(), matches!(self.protocol, Protocol::Udp));
        process
            .ready("a listener", Duration::from_secs(20), async || {
                if udp {
                    // Nobody else can have the port while it listens.
                    std::net::UdpSocket::bind(&address).is_err()
                } else {
                    tokio::net::TcpStream::connect(&address).await.is_ok()
                }
            })
            .await?;
        self.process = Some(process);
        Ok(())
    }

    /// Kills it at once.
    pub fn kill(&mut self) -> Result<()> {
        match self.process.take() {
            Some(process) => process.kill().map(drop),
            None => Ok(()),
        }
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Its folder, for files that it is to read.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// What it was sent so far: priority, APP-NAME, MSGID, structured data and text of each message, apart by `|`.
    pub fn messages(&self) -> Result<Vec<String>> {
        let path = self.dir.path().join("out.log");
        match std::fs::read_to_string(&path) {
            Ok(text) => Ok(text.lines().map(str::to_owned).collect()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(Error::io(format!("cannot read {}", path.display()))(error)),
        }
    }

    /// The end of its own log.
    pub fn log(&self) -> String {
        files::tail(&self.dir.path().join("log"), 30)
    }

    fn configuration(&self) -> String {
        let (home, port) = (self.dir.path().display(), self.port.number());
        let input = match &self.protocol {
            Protocol::Udp => format!(
                "module(load=\"imudp\")\ninput(type=\"imudp\" address=\"127.0.0.1\" port=\"{port}\")\n"
            ),
            Protocol::Tcp => format!(
                "module(load=\"imtcp\")\ninput(type=\"imtcp\" address=\"127.0.0.1\" port=\"{port}\")\n"
            ),
            Protocol::Tls { authorities, certificate, key } => format!(
                "global(DefaultNetstreamDriver=\"ossl\" DefaultNetstreamDriverCAFile=\"{}\" \
                 DefaultNetstreamDriverCertFile=\"{}\" DefaultNetstreamDriverKeyFile=\"{}\")\n\
                 module(load=\"imtcp\" StreamDriver.Name=\"ossl\" StreamDriver.Mode=\"1\" \
                 StreamDriver.AuthMode=\"x509/certvalid\")\n\
                 input(type=\"imtcp\" address=\"127.0.0.1\" port=\"{port}\")\n",
                authorities.display(),
                certificate.display(),
                key.display()
            ),
        };
        format!(
            "global(workDirectory=\"{home}\" net.enableDNS=\"off\" maxMessageSize=\"64k\")\n{input}\
             template(name=\"parts\" type=\"string\" string=\"%pri%|%app-name%|%msgid%|%structured-data%|%msg%\\n\")\n\
             action(type=\"omfile\" file=\"{home}/out.log\" template=\"parts\")\n"
        )
    }
}
