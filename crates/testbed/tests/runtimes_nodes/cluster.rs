//! A site with a cluster of one node: the built Ground Control and Satellite, a containerd, and an agent.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use testbed::admin::Wanted;
use testbed::containerd::{self, Containerd};
use testbed::image::{self, Image};
use testbed::ports::Port;
use testbed::process::{Process, wait_for};
use testbed::satellite::{Satellite, Site};
use testbed::world::World;
use testbed::{binaries, command, files};

pub(crate) const LIMIT: Duration = Duration::from_secs(60);
pub(crate) const NODE: &str = "node-1";
const MARK: &str = "io.goharbor.satellite.node-agent";
const PINNED: &str = "io.cri-containerd.pinned";

/// A record of containerd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) digest: String,
    pub(crate) labels: BTreeMap<String, String>,
}

impl Record {
    /// The agent's labels are on it.
    pub(crate) fn is_kept(&self, name: &str) -> bool {
        self.labels.get(PINNED).is_some_and(|value| value == "pinned")
            && self.labels.get(MARK).is_some_and(|value| value.split('#').next() == Some(name))
    }

    /// None of them is.
    pub(crate) fn is_untouched(&self) -> bool {
        !self.labels.contains_key(PINNED) && !self.labels.contains_key(MARK)
    }
}

pub(crate) struct Cluster {
    pub(crate) world: World,
    pub(crate) site: Site,
    pub(crate) satellite: Option<Satellite>,
    pub(crate) containerd: Containerd,
    agent: Option<Process>,
    lan: Port,
    token: PathBuf,
    ca: PathBuf,
}

impl Cluster {
    /// Everything but the agent. The node's runtime asks the satellite for docker.io and quay.io.
    pub(crate) async fn new(programs: Option<PathBuf>) -> Self {
        let world = World::start().await.unwrap();
        let lan = Port::reserve().unwrap();
        let token = world.dir().join("site-token");
        files::write_private(&token, "a-token-of-this-very-site").unwrap();
        let (address, file) = (lan.address(), token.display().to_string());
        let environment = [
            ("LAN_LISTEN", address.as_str()),
            ("LAN_NAME", "127.0.0.1"),
            ("SITE_TOKEN_FILE", file.as_str()),
            ("LOG_LEVEL", "debug"),
        ];
        world.admin.sync_group("edge", &[]).await.unwrap();
        let site = world.site_with("edge-01", &["edge"], None, &environment).await.unwrap();
        let satellite = site.start().await.unwrap();
        let ca = world.dir().join("site-ca.pem");
        let mut export = Command::new(binaries::find("satellite", None).unwrap());
        export.args(["ca", "export", "--config-dir"]).arg(site.config_dir()).arg("--out").arg(&ca);
        command::run(export).await.unwrap();
        let options = containerd::Options { programs, cri: true, ..containerd::Options::default() };
        let containerd = Containerd::start_with(options).await.unwrap();
        let cluster =
            Self { world, site, satellite: Some(satellite), containerd, agent: None, lan, token, ca };
        cluster.mirror_at(&cluster.site.url());
        cluster
    }

    /// Where the node's runtime looks first.
    pub(crate) fn mirror_at(&self, url: &str) {
        for registry in ["docker.io", "quay.io"] {
            self.containerd.mirror(registry, url).unwrap();
        }
    }

    pub(crate) fn start_agent(&mut self) {
        let mut agent = Command::new(binaries::find("satellite", None).unwrap());
        agent.env_clear().arg("node-agent");
        for (flag, value) in [
            ("--site", format!("https://{}", self.lan.address())),
            ("--site-token-file", self.token.display().to_string()),
            ("--site-ca", self.ca.display().to_string()),
            ("--runtime-endpoint", format!("unix://{}", self.containerd.socket().display())),
            ("--node-name", NODE.to_owned()),
            ("--state-dir", self.world.dir().join("agent").display().to_string()),
            ("--interval", "1s".to_owned()),
            ("--log-level", "debug".to_owned()),
        ] {
            agent.arg(flag).arg(value);
        }
        let process = Process::spawn("node-agent", agent, &self.world.dir().join("agent.log")).unwrap();
        self.agent = Some(process.patience(Signal::TERM, Duration::from_secs(10)));
    }

    /// `kill -9`.
    pub(crate) fn kill_agent(&mut self) {
        self.agent.take().unwrap().kill().unwrap();
    }

    /// Asks it to end, and sees that it does.
    pub(crate) async fn stop_agent(&mut self) {
        self.agent.take().unwrap().stop_well(Duration::from_secs(10)).await.unwrap();
    }

    pub(crate) async fn push(&self, repository: &str, seed: u64, layers: &[usize]) -> Image {
        let image = image::random(&self.world.dir().join(format!("image-{seed}")), seed, layers).unwrap();
        self.world.registry().push(repository, "1", &image).await.unwrap();
        image
    }

    /// The group is these, each with its tag `1`; waits until the satellite has them.
    pub(crate) async fn group(&self, images: &[(&str, &Image)]) {
        let wanted: Vec<Wanted> =
            images.iter().map(|(name, image)| Wanted::new(name, "1", image.root.digest)).collect();
        self.world.admin.sync_group("edge", &wanted).await.unwrap();
        for (name, image) in images {
            self.site.wait_for_tag(name, "1", image.root.digest, LIMIT).await.unwrap();
        }
    }

    /// containerd's records in the kubelet's namespace.
    pub(crate) async fn records(&self) -> BTreeMap<String, Record> {
        let listed = self.containerd.ctr(&["--namespace", "k8s.io", "images", "list"]).await.unwrap();
        let record = |line: &str| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let (name, labels) = (words.first()?, words.last()?);
            let digest = words.iter().skip(1).find(|word| word.starts_with("sha256:"))?;
            let labels = labels.split(',').filter_map(|label| label.split_once('='));
            let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
            Some(((*name).to_owned(), Record { digest: (*digest).to_owned(), labels }))
        };
        listed.lines().skip(1).filter_map(record).collect()
    }

    /// Waits until what is listed is as it shall be.
    pub(crate) async fn until(&self, what: &str, holds: impl Fn(&BTreeMap<String, Record>) -> bool) {
        let seen = wait_for(what, LIMIT, async || holds(&self.records().await).then_some(())).await;
        if let Err(error) = seen {
            let log = files::tail(&self.world.dir().join("agent.log"), 40);
            panic!("{error}\n{:#?}\n{log}", self.records().await);
        }
    }

    /// How the satellite says that the node stands, once that is as it shall be.
    pub(crate) async fn node(&self, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        wait_for(what, LIMIT, async || {
            let status = self.site.status().await.ok()?;
            let node = status["satellite"]["nodes"].as_array()?.iter().find(|node| node["name"] == NODE)?;
            holds(node).then(|| node.clone())
        })
        .await
        .unwrap()
    }

    /// Whether the satellite's log tells of a pull.
    pub(crate) fn was_asked_for(&self, repository: &str) -> bool {
        let log = String::from_utf8(files::read(&self.site.log()).unwrap()).unwrap();
        log.lines().any(|line| line.contains("pulled") && line.contains(repository))
    }
}

/// The three records that a pull by CRI makes.
pub(crate) fn records_of(name: &str, image: &Image) -> [String; 3] {
    let (_, manifest) = image.layout.manifest(&image.root).unwrap();
    let id = manifest.config.unwrap().digest.to_string();
    [format!("{name}:1"), format!("{name}@{}", image.root.digest), id]
}
