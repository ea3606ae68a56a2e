//! Debian packages on a throw-away copy of this system: dpkg and the packages' own scripts really run there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use testbed::packages::Packages;
use testbed::ports::Port;
use testbed::process::{Process, wait_for};
use testbed::throwaway::{SHARED, Throwaway};
use testbed::{command, files, registry};

use crate::settings;

/// The most that `systemd-analyze security` may say of a unit that serves strangers (0 is a closed box, 10 has no walls).
const EXPOSURE: f64 = 2.0;

/// A package in the copy.
struct Installed {
    copy: Throwaway,
    package: &'static str,
    /// Accounts and changed files before it was installed.
    before: (Vec<String>, BTreeSet<String>),
}

impl Installed {
    async fn new(package: &'static str) -> Self {
        let packages = Packages::find().unwrap();
        let copy = Throwaway::start(packages.dir()).await.unwrap();
        // What this machine may have of it is not what is tested.
        let clear = format!("dpkg --purge {package} 2>/dev/null || true; rm -rf /var/lib/harbor-satellite");
        copy.sh(&clear).await.unwrap();
        // Only the copy gets systemd where this machine has none: it judges units, and runs nothing.
        let get = "apt-get -qq -o Acquire::Retries=3";
        let systemd = format!("{get} install -y --no-install-recommends systemd >/dev/null");
        let judge = format!("command -v systemd-analyze || {systemd} || ({get} update && {systemd})");
        copy.sh(&judge).await.unwrap();
        let changes = copy.changes().await.unwrap().into_iter().collect();
        let before = (accounts(&copy).await, changes);
        let installed = Self { copy, package, before };
        installed.install().await;
        installed
    }

    async fn install(&self) -> String {
        let file = Packages::find().unwrap().deb(self.package).unwrap();
        self.copy.run(&["dpkg", "--install", &format!("{SHARED}/{file}")]).await.unwrap()
    }

    /// `owner:group mode` of a path.
    async fn owner(&self, path: &str) -> String {
        self.copy.run(&["stat", "--format", "%U:%G %a", path]).await.unwrap().trim().to_owned()
    }

    /// The settings of a unit, by the names of the keys; of those that stand several times all lines.
    async fn unit(&self, unit: &str) -> BTreeMap<String, Vec<String>> {
        let text = self.copy.run(&["cat", &format!("/lib/systemd/system/{unit}")]).await.unwrap();
        let mut settings = BTreeMap::<String, Vec<String>>::new();
        for (key, value) in
            text.lines().filter(|line| !line.starts_with('#')).filter_map(|l| l.split_once('='))
        {
            settings.entry(key.to_owned()).or_default().push(value.to_owned());
        }
        settings
    }

    /// systemd takes the unit without a word, and finds it closed.
    async fn verify(&self, unit: &str, exposure: f64) {
        let path = format!("/lib/systemd/system/{unit}");
        let mut verify = self.copy.command("systemd-analyze");
        verify.args(["verify", "--man=no", &path]);
        let output = command::output(verify).await.unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{unit}: {said}");
        assert!(!said.contains(unit), "{unit}: {said}");
        let security = ["systemd-analyze", "security", "--offline=true", "--no-pager", &path];
        let said = self.copy.run(&security).await.unwrap();
        let level = said.lines().last().unwrap_or_default();
        let found: f64 = level
            .rsplit_once("service: ")
            .and_then(|(_, rest)| rest.split(' ').next()?.parse().ok())
            .unwrap_or_else(|| panic!("{said}"));
        assert!(found <= exposure, "{unit}: {found}\n{said}");
    }

    /// The command of the unit as its user, with no capability and with its variables: those of its file of settings, too.
    async fn start(&self, unit: &str, log: &Path) -> Process {
        let settings = self.unit(unit).await;
        let only = |key: &str| settings[key].last().unwrap().clone();
        let mut environment: Vec<String> = settings["Environment"].clone();
        for file in &settings["EnvironmentFile"] {
            let text = self.copy.run(&["cat", file.trim_start_matches('-')]).await.unwrap();
            environment
                .extend(text.lines().filter(|l| l.contains('=') && !l.starts_with('#')).map(str::to_owned));
        }
        let mut start = self.copy.command("setpriv");
        start.args(["--reuid", &only("User"), "--regid", &only("Group"), "--init-groups", "--no-new-privs"]);
        start.args(["--bounding-set=-all", "--inh-caps=-all", "env", "-i", "PATH=/usr/bin:/bin"]);
        start.args(environment).args(only("ExecStart").split(' '));
        Process::spawn(self.package, start, log).unwrap().patience(Signal::TERM, Duration::from_secs(10))
    }

    /// Gone, with everything that it made: the accounts are as they were, and so is every file but dpkg's own records.
    async fn purge(&self) {
        self.copy.run(&["dpkg", "--purge", self.package]).await.unwrap();
        assert_eq!(accounts(&self.copy).await, self.before.0);
        let records = [
            "/var/lib/dpkg/",
            "/var/log/",
            "/var/cache/",
            "/var/backups/",
            "/etc/.pwd.lock",
            // Podman's own, who was asked what it thinks of its configuration.
            "/var/lib/containers/",
            "/etc/containers/networks/",
        ];
        // A file of accounts is another one, with the same in it.
        let accounts = ["passwd", "group", "shadow", "gshadow", "subuid", "subgid"];
        let left: Vec<String> = self
            .copy
            .changes()
            .await
            .unwrap()
            .into_iter()
            .filter(|path| !self.before.1.contains(path))
            .filter(|path| !path.ends_with('/') || path.contains(self.package))
            .filter(|path| !records.iter().any(|record| path.starts_with(record)))
            .filter(|path| !accounts.iter().any(|file| path.trim_end_matches('-') == format!("/etc/{file}")))
            .collect();
        // A whiteout is what an overlay keeps of a file that never was below it.
        let left: Vec<_> = left.iter().filter(|path| !is_nothing(path)).collect();
        assert!(left.is_empty(), "{} left {left:?}", self.package);
    }
}

/// Whether a change is the removal of what this machine does not have either.
fn is_nothing(change: &str) -> bool {
    change.strip_prefix('-').is_some_and(|path| !is_here(path))
}

fn is_here(path: &str) -> bool {
    Path::new(path).try_exists().unwrap()
}

async fn accounts(copy: &Throwaway) -> Vec<String> {
    let text = copy.sh("getent passwd; getent group").await.unwrap();
    text.lines().map(str::to_owned).collect()
}

/// Waits until somebody answers on this machine's loopback.
async fn answers(what: &str, url: &str, log: &Path) {
    let client = registry::http_client();
    let answered = wait_for(what, Duration::from_secs(30), async || {
        client.get(url).send().await.is_ok_and(|answer| answer.status().is_success()).then_some(())
    });
    if let Err(error) = answered.await {
        panic!("{error}: {}", files::tail(log, 30));
    }
}

#[tokio::test]
async fn a_copy_of_the_system_is_not_the_system() {
    let packages = Packages::find().unwrap();
    let copy = Throwaway::start(packages.dir()).await.unwrap();
    copy.sh("echo made > /etc/made-by-a-test; rm /etc/debian_version").await.unwrap();
    let changes = copy.changes().await.unwrap();
    assert!(changes.contains(&"/etc/made-by-a-test".to_owned()), "{changes:?}");
    assert!(changes.contains(&"-/etc/debian_version".to_owned()), "{changes:?}");
    assert!(!is_here("/etc/made-by-a-test") && is_here("/etc/debian_version"));
}

#[tokio::test]
async fn the_satellite_is_installed_serves_as_its_user_and_is_purged() {
    let installed = Installed::new("satellite").await;
    let copy = &installed.copy;
    assert_eq!(installed.owner("/var/lib/satellite").await, "satellite:satellite 700");
    assert_eq!(installed.owner("/etc/satellite").await, "root:satellite 750");
    assert_eq!(installed.owner("/etc/satellite/satellite.env").await, "root:satellite 640");
    let account = copy.run(&["getent", "passwd", "satellite"]).await.unwrap();
    assert!(account.trim().ends_with(":/var/lib/satellite:/usr/sbin/nologin"), "{account}");
    installed.verify("satellite.service", EXPOSURE).await;
    // It writes the configuration of container runtimes: systemd can take little from it.
    installed.verify("satellite-mirrors.service", 7.0).await;
    let known = settings::known("satellite").await;
    let text = copy.run(&["cat", "/etc/satellite/satellite.env"]).await.unwrap();
    let given = settings::of_file(&text);
    assert!(given.len() > 4, "{text}");
    settings::all_known("satellite.env", given.iter().map(|(name, _)| name.as_str()), &known);
    let unit = installed.unit("satellite.service").await;
    let set = unit["Environment"].iter().map(|line| line.split_once('=').unwrap().0);
    settings::all_known("satellite.service", set, &known);

    let port = Port::reserve().unwrap();
    copy.sh(&format!("echo REGISTRY_LISTEN={} >> /etc/satellite/satellite.env", port.address()))
        .await
        .unwrap();
    let logs = files::scratch("satellite-log").unwrap();
    let log = logs.path().join("log");
    let process = installed.start("satellite.service", &log).await;
    answers("the packaged satellite", &format!("http://{}/v2/", port.address()), &log).await;
    let uid = copy.run(&["id", "-u", "satellite"]).await.unwrap();
    let status = files::read(format!("/proc/{}/status", process.id()).as_ref()).unwrap();
    let status = String::from_utf8(status).unwrap();
    let uids = format!("Uid:\t{0}\t{0}\t{0}\t{0}\n", uid.trim());
    assert!(status.contains(&uids) && status.contains("CapEff:\t0000000000000000\n"), "{status}");
    // A person of the machine asks it, as operations.md says.
    let told =
        copy.run(&["satellite", "status", "--json", "--config-dir", "/var/lib/satellite"]).await.unwrap();
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["registry"]["address"], port.address());
    process.stop_well(Duration::from_secs(20)).await.unwrap();

    // The same again is an upgrade: what the administrator set stays.
    copy.sh("chmod 0600 /etc/satellite/satellite.env").await.unwrap();
    installed.install().await;
    assert_eq!(installed.owner("/etc/satellite/satellite.env").await, "root:satellite 600");
    let kept = copy.run(&["cat", "/etc/satellite/satellite.env"]).await.unwrap();
    assert!(kept.contains(&port.address()));

    // The unit of the mirrors does what it says, and removing the package takes the mirrors out again.
    let unit = installed.unit("satellite-mirrors.service").await;
    let program = unit["ExecStart"][0].replace(" $MIRRORS_ARGUMENTS", "");
    assert_eq!(program, "/usr/bin/satellite mirrors apply");
    let podman = "/etc/containers";
    let before = copy.sh(&format!("find {podman} -type f | sort | xargs -r sha256sum")).await.unwrap();
    copy.sh(&format!("{program} --mirrors=podman:docker.io")).await.unwrap();
    let during = copy.sh(&format!("find {podman} -type f | sort | xargs -r sha256sum")).await.unwrap();
    assert_ne!(before, during);
    copy.sh("systemctl --root=/ enable satellite.service satellite-mirrors.service").await.unwrap();
    copy.run(&["dpkg", "--remove", "satellite"]).await.unwrap();
    let after = copy.sh(&format!("find {podman} -type f | sort | xargs -r sha256sum")).await.unwrap();
    assert_eq!(before, after);
    copy.sh("test -f /etc/satellite/satellite.env; test -d /var/lib/satellite; ! test -e /usr/bin/satellite")
        .await
        .unwrap();
    installed.purge().await;
}

#[tokio::test]
async fn ground_control_is_installed_serves_as_its_user_and_is_purged() {
    let installed = Installed::new("ground-control").await;
    let copy = &installed.copy;
    assert_eq!(installed.owner("/var/lib/ground-control").await, "ground-control:ground-control 700");
    assert_eq!(installed.owner("/etc/ground-control").await, "root:ground-control 750");
    assert_eq!(installed.owner("/etc/ground-control/ground-control.env").await, "root:ground-control 640");
    installed.verify("ground-control.service", EXPOSURE).await;
    let known = settings::known("ground-control").await;
    let text = copy.run(&["cat", "/etc/ground-control/ground-control.env"]).await.unwrap();
    let given = settings::of_file(&text);
    assert!(given.len() > 8, "{text}");
    settings::all_known("ground-control.env", given.iter().map(|(name, _)| name.as_str()), &known);

    let port = Port::reserve().unwrap();
    let settings = format!("LISTEN={}\nADMIN_PASSWORD=Correct-Horse-7\nADMIN_LISTEN=off\n", port.address());
    let mut write = copy.command("sh");
    write.args(["-ec", "printf %s \"$1\" >> /etc/ground-control/ground-control.env", "sh", &settings]);
    command::run(write).await.unwrap();
    let logs = files::scratch("ground-control-log").unwrap();
    let log = logs.path().join("log");
    let process = installed.start("ground-control.service", &log).await;
    answers("the packaged Ground Control", &format!("http://{}/health/ready", port.address()), &log).await;
    assert_eq!(
        installed.owner("/var/lib/ground-control/secret.key").await,
        "ground-control:ground-control 600"
    );
    process.stop_well(Duration::from_secs(40)).await.unwrap();
    installed.install().await;
    copy.sh("systemctl --root=/ enable ground-control.service").await.unwrap();
    copy.run(&["dpkg", "--remove", "ground-control"]).await.unwrap();
    copy.sh("test -f /var/lib/ground-control/secret.key; test -f /etc/ground-control/ground-control.env")
        .await
        .unwrap();
    installed.purge().await;
}

#[tokio::test]
async fn the_command_line_is_installed_and_purged() {
    let installed = Installed::new("groundctl").await;
    let said = installed.copy.run(&["groundctl", "--version"]).await.unwrap();
    assert!(said.starts_with("groundctl "), "{said}");
    installed.purge().await;
}

#[tokio::test]
async fn dpkg_finds_nothing_to_say_about_the_packages() {
    let packages = Packages::find().unwrap();
    for package in ["satellite", "ground-control", "groundctl"] {
        let path = packages.dir().join(packages.deb(package).unwrap());
        let mut contents = Command::new("dpkg-deb");
        contents.arg("--contents").arg(&path);
        let contents = command::run(contents).await.unwrap();
        assert!(contents.lines().all(|line| line.contains(" root/root ")), "{contents}");
        assert!(contents.contains(&format!(" ./usr/bin/{package}\n")), "{contents}");
        let mut field = Command::new("dpkg-deb");
        field.arg("--field").arg(&path).args(["Package", "Architecture", "Maintainer", "Description"]);
        let fields = command::run(field).await.unwrap();
        assert!(fields.contains(&format!("Package: {package}\nArchitecture: amd64\n")), "{fields}");
    }
}
