//! A node where no Satellite runs: its runtimes pull from a mirror elsewhere on the LAN, over TLS and with an account.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use testbed::authority::{MachineCertificate, ServerCertificate};
use testbed::docker_registry::{DockerRegistry, Options, PASSWORDS};
use testbed::image::{self, Image};
use testbed::machine::{self, Machine};
use testbed::{binaries, command, files};

use crate::engines::{Containerd, Docker, Engine, Podman};

const SITE: &str = "site.example";
/// Where that is. Of what is on 127.0.0.0/8 Docker checks no certificate, and shows none there.
const ADDRESS: &str = "10.77.0.2";

/// A mirror at `https://site.example:PORT`, and the files that a person has of it.
pub(crate) struct Mirror {
    registry: DockerRegistry,
    folder: tempfile::TempDir,
    pub(crate) image: Image,
}

impl Mirror {
    pub(crate) async fn start(mut options: Options) -> Self {
        let folder = files::scratch("mirror").unwrap();
        let certificate = ServerCertificate::new(&[SITE, "127.0.0.1"]).unwrap();
        options.everywhere = true;
        let mut address = Command::new("busybox");
        // A second one of the same test is refused, and is there.
        drop(address.args(["ip", "address", "add", &format!("{ADDRESS}/32"), "dev", "lo"]).output());
        options.tls = Some((certificate.certificate, certificate.key));
        files::write(&folder.path().join("ca.pem"), &certificate.authority).unwrap();
        files::write(&folder.path().join("password"), format!("{}\n", PASSWORDS[0].text)).unwrap();
        files::write("/etc/hosts".as_ref(), format!("127.0.0.1 localhost\n{ADDRESS} {SITE}\n")).unwrap();
        let image = image::random(&folder.path().join("image"), 7, &[20_000]).unwrap();
        Self { registry: DockerRegistry::start_with(options).await.unwrap(), folder, image }
    }

    pub(crate) fn file(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    pub(crate) async fn push(&self) {
        let registry = self.registry.registry_as("node", PASSWORDS[0]);
        let registry = registry.trusting(Some(self.file("ca.pem").as_ref())).unwrap();
        for repository in ["library/app", "acme/tool", "quay.io/acme/tool"] {
            registry.push(repository, "1", &self.image).await.unwrap();
        }
    }

    /// `satellite mirrors apply` with these words besides the mirror's: its exit code, and what it printed.
    pub(crate) async fn apply(&self, words: &[&str]) -> (Option<i32>, String) {
        let port = self.registry.address().rsplit(':').next().unwrap().to_owned();
        let mut apply = Command::new(binaries::find("satellite", None).unwrap());
        apply.args(["mirrors", "apply", "--allow-slow-fallback", "--endpoint"]);
        apply.arg(format!("https://{SITE}:{port}")).args(["--ca", &self.file("ca.pem")]).args(words);
        let said = command::output(apply).await.unwrap();
        (said.status.code(), String::from_utf8_lossy(&said.stdout).into_owned())
    }
}

pub(crate) async fn remove(further: &[String]) {
    let mut remove = Command::new(binaries::find("satellite", None).unwrap());
    remove.args(["mirrors", "remove"]).args(further);
    command::run(remove).await.unwrap();
}

async fn with_an_account(machine: Machine) {
    let options = Options { accounts: vec![("node".to_owned(), PASSWORDS[0])], ..Options::default() };
    let mirror = Mirror::start(options).await;
    mirror.push().await;
    let containerd = Containerd::start(&machine, BTreeMap::new()).await;
    let docker = Docker::start(&machine, BTreeMap::new()).await;
    let podman = Podman::start(&machine, BTreeMap::new()).await;
    let before = machine.configuration();
    let password = mirror.file("password");
    let further = containerd.words();
    let mut words = vec!["--username=node", "--password-file", &password];
    words.extend(["--mirrors=containerd:docker.io,quay.io", "--mirrors=podman:docker.io,quay.io"]);
    words.extend(further.iter().map(String::as_str));
    let (code, said) = mirror.apply(&words).await;
    assert_eq!(code, Some(0), "{said}");
    for name in ["docker.io/library/app:1", "quay.io/acme/tool:1"] {
        containerd.pull(name).await.unwrap();
        podman.pull(name).await.unwrap();
    }
    for file in ["/etc/containerd/certs.d/docker.io/hosts.toml", "/root/.config/containers/auth.json"] {
        let mode = Path::new(file).metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{file}");
    }
    // Docker cannot log in to a mirror.
    words.push("--mirrors=docker:true");
    let (code, said) = mirror.apply(&words).await;
    assert!(code == Some(1) && said.contains("client certificate"), "{said}");
    assert_eq!(docker.mirrors().await.trim(), "[]");
    remove(&further).await;
    assert_eq!(before.differences(&machine.configuration()), Vec::<String>::new());
}

#[test]
fn containerd_and_podman_log_in() {
    let result = machine::alone("lan_node::containerd_and_podman_log_in", with_an_account);
    result.unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn docker_shows_a_certificate() {
    let result = machine::alone("lan_node::docker_shows_a_certificate", async |machine| {
        let node = MachineCertificate::new("node-1").unwrap();
        let client_authority = Some(node.authority.clone());
        // Filled before it asks for certificates: what pushes here has none.
        let open = Mirror::start(Options::default()).await;
        open.push().await;
        let mirror = Mirror::start(Options {
            client_authority,
            data: Some(open.registry.data()),
            ..Options::default()
        })
        .await;
        files::write(mirror.file("node.pem").as_ref(), &node.certificate).unwrap();
        files::write_private(mirror.file("node.key").as_ref(), &node.key).unwrap();
        let docker = Docker::start(&machine, BTreeMap::new()).await;
        let before = machine.configuration();
        let (certificate, key) = (mirror.file("node.pem"), mirror.file("node.key"));
        let (code, said) = mirror.apply(&["--mirrors=docker:true"]).await;
        assert_eq!(code, Some(0), "{said}");
        docker.pull("docker.io/library/app:1").await.unwrap_err();
        let words = ["--mirrors=docker:true", "--client-cert", &certificate, "--client-key", &key];
        let (code, said) = mirror.apply(&words).await;
        assert_eq!(code, Some(0), "{said}");
        let pulled = docker.pull("docker.io/library/app:1").await;
        pulled.unwrap_or_else(|error| panic!("{error}\n{}", docker.log()));
        remove(&[]).await;
        assert_eq!(before.differences(&machine.configuration()), Vec::<String>::new());
        assert_eq!(docker.mirrors().await.trim(), "[]");
    });
    result.unwrap_or_else(|error| panic!("{error}"));
}
