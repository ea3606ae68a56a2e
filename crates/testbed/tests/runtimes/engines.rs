//! The runtimes as an operator has them: at their usual places, with what their packages configure.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use testbed::cri::Cri;
use testbed::machine::{Machine, Service};
use testbed::process::wait_for;
use testbed::{Result, command};

/// Far more than any of them takes to start.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) trait Engine: Sized {
    /// What is asked for.
    const MIRRORS: &'static str;
    /// The registries that it can mirror.
    const HOSTS: &'static [&'static str];

    /// Starts it with these variables, and waits until it answers.
    async fn start(machine: &Machine, environment: BTreeMap<String, String>) -> Self;
    /// What it says of its version.
    async fn version(&self) -> String;
    /// Further words for `satellite mirrors apply` and `remove`.
    fn words(&self) -> Vec<String>;
    /// Pulls an image.
    async fn pull(&self, reference: &str) -> Result<()>;
    /// Forgets every image, so that the next pull is a whole one.
    async fn forget(&self);
    /// What happened to it since its start, in the service script's words.
    fn asked(&self) -> Vec<String>;
    /// Its process, where it has one.
    fn id(&self) -> Option<u32>;
}

/// containerd with its CRI plugin, used as a kubelet does.
pub(crate) struct Containerd {
    service: Service,
    cri: Cri,
}

impl Engine for Containerd {
    const MIRRORS: &'static str = "--mirrors=containerd:docker.io,quay.io";
    const HOSTS: &'static [&'static str] = &["docker.io", "quay.io"];

    async fn start(machine: &Machine, environment: BTreeMap<String, String>) -> Self {
        let service = machine.service("containerd", &["/usr/bin/containerd"], &environment).unwrap();
        service.start().await.unwrap();
        let cri = Cri::new(Path::new("/run/containerd/containerd.sock"));
        let answers = async || cri.answers().await.then_some(());
        wait_for("containerd's CRI", PATIENCE, answers)
            .await
            .unwrap_or_else(|error| panic!("{error}\n{}", service.log()));
        Self { service, cri }
    }

    async fn version(&self) -> String {
        let mut version = Command::new("/usr/bin/containerd");
        version.arg("--version");
        command::run(version).await.unwrap()
    }

    fn words(&self) -> Vec<String> {
        vec!["--restart-command".to_owned(), self.service.restart_command()]
    }

    async fn pull(&self, reference: &str) -> Result<()> {
        self.cri.pull(reference).await.map(drop)
    }

    async fn forget(&self) {
        for image in self.cri.images().await.unwrap() {
            self.cri.remove(&image.id).await.unwrap();
        }
        // Its content goes with the collection, which is later: without it a pull asks for no blob.
        let mut ctr = Command::new("ctr");
        ctr.args(["--namespace", "k8s.io", "content", "prune", "references"]);
        drop(command::output(ctr).await);
    }

    fn asked(&self) -> Vec<String> {
        self.service.asked()
    }

    fn id(&self) -> Option<u32> {
        self.service.id()
    }
}

/// Docker Engine without a `daemon.json`: what an operator wants of it stands in its command line.
pub(crate) struct Docker {
    service: Service,
}

impl Docker {
    async fn docker(words: &[&str]) -> Result<String> {
        let mut docker = Command::new(command::need("docker", "docker.io")?);
        docker
            .env("DOCKER_CONFIG", "/run/docker-client")
            .env_remove("DOCKER_CONTEXT")
            .env_remove("DOCKER_HOST");
        docker.args(words);
        command::run(docker).await
    }

    /// Starts it with further words on its command line.
    pub(crate) async fn start_with(
        machine: &Machine,
        mut environment: BTreeMap<String, String>,
        further: &[&str],
    ) -> Self {
        // Debian's client is older than what a newer engine takes by itself.
        environment.insert("DOCKER_MIN_API_VERSION".to_owned(), "1.24".to_owned());
        let mut words = vec!["/usr/sbin/dockerd", "--bridge=none", "--iptables=false", "--ip-forward=false"];
        words.push("--ip-masq=false");
        words.extend(further);
        let service = machine.service("docker", &words, &environment).unwrap();
        service.start().await.unwrap();
        let answers = async || Self::docker(&["version"]).await.ok();
        wait_for("the Docker Engine", PATIENCE, answers)
            .await
            .unwrap_or_else(|error| panic!("{error}\n{}", service.log()));
        Self { service }
    }

    /// The end of its log.
    pub(crate) fn log(&self) -> String {
        self.service.log()
    }

    /// The mirrors that the engine uses now.
    pub(crate) async fn mirrors(&self) -> String {
        Self::docker(&["info", "--format", "{{.RegistryConfig.Mirrors}}"]).await.unwrap()
    }
}

impl Engine for Docker {
    const MIRRORS: &'static str = "--mirrors=docker:docker.io";
    const HOSTS: &'static [&'static str] = &["docker.io"];

    async fn start(machine: &Machine, environment: BTreeMap<String, String>) -> Self {
        Self::start_with(machine, environment, &[]).await
    }

    async fn version(&self) -> String {
        Self::docker(&["version", "--format", "{{.Server.Version}}"]).await.unwrap()
    }

    fn words(&self) -> Vec<String> {
        // A signal suffices.
        Vec::new()
    }

    async fn pull(&self, reference: &str) -> Result<()> {
        Self::docker(&["pull", "--quiet", reference]).await.map(drop)
    }

    async fn forget(&self) {
        Self::docker(&["system", "prune", "--all", "--force"]).await.unwrap();
    }

    fn asked(&self) -> Vec<String> {
        self.service.asked()
    }

    fn id(&self) -> Option<u32> {
        self.service.id()
    }
}

/// Podman, which reads its files at every call.
pub(crate) struct Podman {
    environment: BTreeMap<String, String>,
}

impl Podman {
    pub(crate) async fn podman(&self, words: &[&str]) -> Result<String> {
        let mut podman = Command::new(command::need("podman", "podman")?);
        podman.envs(&self.environment).args(words);
        command::run(podman).await
    }
}

impl Engine for Podman {
    const MIRRORS: &'static str = "--mirrors=podman:docker.io,quay.io";
    const HOSTS: &'static [&'static str] = &["docker.io", "quay.io"];

    async fn start(_machine: &Machine, environment: BTreeMap<String, String>) -> Self {
        let podman = Self { environment };
        podman.podman(&["info"]).await.unwrap();
        podman
    }

    async fn version(&self) -> String {
        self.podman(&["--version"]).await.unwrap()
    }

    fn words(&self) -> Vec<String> {
        Vec::new()
    }

    async fn pull(&self, reference: &str) -> Result<()> {
        self.podman(&["pull", "--quiet", reference]).await.map(drop)
    }

    async fn forget(&self) {
        self.podman(&["image", "rm", "--all", "--force"]).await.unwrap();
    }

    fn asked(&self) -> Vec<String> {
        Vec::new()
    }

    fn id(&self) -> Option<u32> {
        None
    }
}
