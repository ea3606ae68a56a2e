//! PostgreSQL, docker-registry, and the replicas before them.

use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use reqwest::Method;
use serde_json::Value;
use tempfile::TempDir;
use testbed::admin::Admin;
use testbed::docker_registry::{DockerRegistry, Options, PASSWORDS};
use testbed::ground_control::{self, GroundControl, Place};
use testbed::postgres::Postgres;
use testbed::registry::Registry;
use testbed::{Error, files};
use tokio::sync::Mutex;

pub(crate) const REPLICAS: usize = 2;
/// How often a change is tried again while replicas come and go.
const ATTEMPTS: usize = 60;

pub(crate) struct Cloud {
    replicas: Vec<Mutex<Option<GroundControl>>>,
    places: Vec<Place>,
    admins: Vec<Admin>,
    registry: DockerRegistry,
    _postgres: Postgres,
    _dir: TempDir,
}

/// What a replica is started with; the key is what they share beside the database.
fn options(dir: &Path, database_url: &str, environment: Vec<(String, String)>) -> ground_control::Options {
    let key = dir.join("secret.key").to_str().unwrap().to_owned();
    let shared = [("SECRET_KEY_FILE".to_owned(), key)];
    ground_control::Options {
        database_url: Some(database_url.to_owned()),
        spiffe: true,
        environment: environment.into_iter().chain(shared).collect(),
        ..ground_control::Options::default()
    }
}

/// A key as an operator makes it: 32 random bytes, for its owner only.
fn write_key(dir: &Path) {
    let key: [u8; 32] = rand::random();
    let text = base64::engine::general_purpose::STANDARD.encode(key);
    files::write_private(&dir.join("secret.key"), text).unwrap();
}

impl Cloud {
    pub(crate) async fn start(replicas: usize) -> Self {
        let dir = files::scratch("replicas").unwrap();
        write_key(dir.path());
        let accounts = vec![("push".to_owned(), PASSWORDS[0]), ("pull".to_owned(), PASSWORDS[1])];
        let registry = DockerRegistry::start_with(Options { accounts, ..Options::default() }).await.unwrap();
        let file = |account: &str, text: &str| {
            let path = dir.path().join(account);
            files::write_private(&path, text).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let environment = [
            ("REGISTRY_BACKEND", "oci".to_owned()),
            ("OCI_REGISTRY_URL", registry.url()),
            ("OCI_PUSH_USERNAME", "push".to_owned()),
            ("OCI_PUSH_PASSWORD_FILE", file("push", PASSWORDS[0].text)),
            ("OCI_PULL_USERNAME", "pull".to_owned()),
            ("OCI_PULL_PASSWORD_FILE", file("pull", PASSWORDS[1].text)),
        ];
        let environment: Vec<_> = environment.map(|(name, value)| (name.to_owned(), value)).into();
        let postgres = Postgres::start().await.unwrap();
        let url = postgres.create_database("fleet").await.unwrap();

        let (mut places, mut running) = (Vec::new(), Vec::new());
        let mut password = None;
        for number in 0..replicas {
            let folder = dir.path().join(format!("replica-{number}"));
            let mut place = Place::new(&folder, options(dir.path(), &url, environment.clone())).unwrap();
            // The first one makes the administrator.
            let first = password.get_or_insert_with(|| place.password().to_owned()).clone();
            place.set("ADMIN_PASSWORD", first);
            running.push(Mutex::new(Some(place.start().await.unwrap())));
            places.push(place);
        }
        let password = password.unwrap();
        let mut admins = Vec::new();
        for place in &places {
            admins.push(Admin::login(&place.url(), ground_control::ADMIN, &password).await.unwrap());
        }
        Self { replicas: running, places, admins, registry, _postgres: postgres, _dir: dir }
    }

    /// `kill -9`, whatever it is doing, and a new start.
    pub(crate) async fn kill_and_restart(&self, replica: usize) {
        let mut running = self.replicas[replica].lock().await;
        running.take().unwrap().kill().unwrap();
        *running = Some(self.places[replica].start().await.unwrap());
    }

    /// Makes a change at one replica, or at the next one where that was killed, until it is acknowledged. `repeated` are
    /// refusals that say, of a change whose first answer was lost, that it had been made.
    pub(crate) async fn change(
        &self,
        first: usize,
        method: Method,
        path: &str,
        body: Option<&Value>,
        repeated: &[u16],
    ) {
        let mut lost = false;
        for attempt in 0..ATTEMPTS {
            let admin = &self.admins[(first + attempt) % self.admins.len()];
            match admin.call(method.clone(), path, body).await {
                Ok(_) => return,
                Err(Error::Answer { status, .. }) if lost && repeated.contains(&status) => return,
                // Busy or ending: nothing was done, or nothing was said.
                Err(Error::Answer { status: 502..=504, .. } | Error::Request { .. }) => lost = true,
                Err(error) => panic!("{method} {path}: {error}"),
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        panic!("{method} {path} was never acknowledged");
    }

    /// Reads from one replica.
    pub(crate) async fn read(&self, replica: usize, path: &str) -> Result<Value, Error> {
        self.admins[replica].call(Method::GET, path, None).await
    }

    /// The registry, as its satellites see it.
    pub(crate) fn registry(&self) -> Registry {
        self.registry.registry_as("pull", PASSWORDS[1])
    }
}

/// What a replica says that has a registry of its own beside another's.
pub(crate) async fn second_on_builtin() -> String {
    let dir = files::scratch("builtin").unwrap();
    write_key(dir.path());
    let postgres = Postgres::start().await.unwrap();
    let url = postgres.create_database("fleet").await.unwrap();
    let place = |name: &str| {
        let options = ground_control::Options { spiffe: false, ..options(dir.path(), &url, Vec::new()) };
        Place::new(&dir.path().join(name), options).unwrap()
    };
    let (one, other) = (place("one"), place("other"));
    let running = one.start().await.unwrap();
    other.start().await.unwrap_err();
    let log = String::from_utf8(files::read(&other.log()).unwrap()).unwrap();
    // It is the place of the first one, also after that was killed and came back.
    running.kill().unwrap();
    let running = one.start().await.unwrap();
    running.stop().await.unwrap();
    log
}
