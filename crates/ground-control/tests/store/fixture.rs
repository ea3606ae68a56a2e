//! A database per case, on either engine, and short words for what cases do to it.

use std::net::IpAddr;
use std::str::FromStr as _;

use fleet_protocol::api::AttestationMethod;
use ground_control::domain::Page;
use ground_control::domain::SatelliteId;
use ground_control::domain::desired::Written;
use ground_control::domain::document::{Claimed, DocumentKey, Published};
use ground_control::domain::group::Artifact;
use ground_control::domain::heartbeat::{HeartbeatOutcome, HeartbeatRecord, Report};
use ground_control::domain::identity::{
    AttestAttempt, IdentityRecord, IssueGrant, IssueRefusal, NameRecord, NewRegistration, RenewAttempt,
};
use ground_control::domain::satellite::{NewSatellite, Satellite};
use ground_control::domain::secret::{HashKey, Hashed, Purpose};
use ground_control::domain::ztr::{ClaimAttempt, ClaimGrant, ClaimRefusal, Claimant};
use ground_control::store::{self, Location, SharedStore};
use jiff::{SignedDuration, Timestamp};
use secrecy::ExposeSecret as _;
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection as _};
use tempfile::TempDir;
use testbed::postgres::Postgres;

/// An administrator's URL of a server to use instead of a private one.
const SERVER: &str = "TEST_POSTGRES_URL";
/// Why this run goes without PostgreSQL.
const SKIP: &str = "SATELLITE_TEST_SKIP_POSTGRES";

/// A PostgreSQL server for the time of a test.
pub(crate) enum Server {
    Private(Box<Postgres>),
    Given(String),
}

impl Server {
    /// The server, or `None` where the environment says why there is none.
    pub(crate) async fn start() -> Option<Self> {
        if let Some(reason) = std::env::var(SKIP).ok().filter(|reason| !reason.is_empty()) {
            eprintln!("the store is not tested on PostgreSQL: {reason}");
            return None;
        }
        match std::env::var(SERVER) {
            Ok(url) if !url.is_empty() => Some(Self::Given(url)),
            _ => {
                let server = Postgres::start().await.unwrap_or_else(|error| {
                    panic!("PostgreSQL cannot be started ({error}); {SKIP}=<reason> leaves it out")
                });
                Some(Self::Private(Box::new(server)))
            }
        }
    }

    /// An empty database.
    pub(crate) async fn database(&self) -> Fixture {
        let name = format!("store_{}", uuid::Uuid::now_v7().simple());
        self.administer(format!("CREATE DATABASE {name}")).await;
        let mut url = url::Url::parse(&self.administrator()).unwrap();
        url.set_path(&name);
        Fixture { location: Location::from_str(url.as_str()).unwrap(), dir: tempfile::tempdir().unwrap() }
    }
}

impl Server {
    /// Removes a database that [`Server::database`] made, whoever is still connected.
    pub(crate) async fn remove(&self, location: &Location) {
        if let Location::Postgres { url } = location {
            let url = url::Url::parse(url.expose_secret()).unwrap();
            let name = url.path().trim_start_matches('/');
            self.administer(format!("DROP DATABASE {name} WITH (FORCE)")).await;
        }
    }

    fn administrator(&self) -> String {
        match self {
            Self::Private(server) => server.url("postgres"),
            Self::Given(url) => url.clone(),
        }
    }

    async fn administer(&self, sql: String) {
        let mut connection = sqlx::PgConnection::connect(&self.administrator()).await.unwrap();
        sqlx::query(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    }
}

/// A database that is not there yet, and a folder beside it.
pub(crate) struct Fixture {
    pub(crate) location: Location,
    pub(crate) dir: TempDir,
}

impl Fixture {
    pub(crate) fn sqlite() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let location = Location::Sqlite { file: dir.path().join("ground-control.db") };
        Self { location, dir }
    }

    /// Opens the database: again where it was open before, as another replica or after a restart.
    pub(crate) async fn open(&self) -> SharedStore {
        store::open(&self.location).await.unwrap()
    }

    /// Runs one statement that no method of the store would.
    pub(crate) async fn execute(&self, sql: &'static str) {
        match &self.location {
            Location::Sqlite { file } => {
                let url = format!("sqlite://{}", file.display());
                let mut connection = sqlx::SqliteConnection::connect(&url).await.unwrap();
                sqlx::query(sql).execute(&mut connection).await.unwrap();
            }
            Location::Postgres { url } => {
                let mut connection = sqlx::PgConnection::connect(url.expose_secret()).await.unwrap();
                sqlx::query(sql).execute(&mut connection).await.unwrap();
            }
        }
    }

    /// An open database with the configuration `default`, of which nothing waits to be published.
    pub(crate) async fn ready(&self) -> SharedStore {
        let store = self.open().await;
        assert!(store.ensure_default_config(at(0)).await.unwrap());
        published(&store, at(0)).await;
        store
    }
}

/// `seconds` after the moment at which most cases begin.
pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + seconds).unwrap()
}

/// The hash of a text, standing for a secret.
pub(crate) fn hashed(text: &str) -> Hashed {
    HashKey::new([7; 32]).hash(Purpose::Robot, text)
}

/// A satellite to be created whose token is called like itself.
pub(crate) fn new_satellite(name: &str, groups: &[&str]) -> NewSatellite {
    NewSatellite {
        name: name.into(),
        region: "default".into(),
        groups: groups.iter().map(|g| (*g).into()).collect(),
        config_name: "default".into(),
        token: hashed(&format!("token of {name}")),
        token_expires_at: at(24 * 3600),
    }
}

pub(crate) async fn satellite(store: &SharedStore, name: &str, groups: &[&str]) -> Satellite {
    store.create_satellite(new_satellite(name, groups), at(1)).await.unwrap()
}

pub(crate) fn by_nonce(nonce: &str) -> Claimant {
    Claimant::Nonce(hashed(nonce))
}

pub(crate) fn by_source(address: &str) -> Claimant {
    Claimant::Source(IpAddr::from_str(address).unwrap())
}

/// Claims the token of the satellite called `name`; the robot's secret becomes `secret`.
pub(crate) async fn claim(
    store: &SharedStore,
    name: &str,
    claimant: Claimant,
    secret: &str,
    now: Timestamp,
) -> Result<ClaimGrant, ClaimRefusal> {
    let attempt =
        ClaimAttempt { token: hashed(&format!("token of {name}")), claimant, new_secret: hashed(secret) };
    store.claim_token(attempt, now).await.unwrap()
}

pub(crate) fn artifacts(list: Value) -> Vec<Artifact> {
    serde_json::from_value(list).unwrap()
}

/// A group of one image.
pub(crate) async fn group(store: &SharedStore, name: &str, repository: &str) {
    let list = artifacts(serde_json::json!([{"repository": repository, "tag": ["latest"]}]));
    store.sync_group(name, list, "ann", at(1)).await.unwrap();
}

/// Claims all that is due at `now` and gives the documents' names, sorted as claimed.
pub(crate) async fn due(store: &SharedStore, now: Timestamp) -> Vec<Claimed> {
    store.claim_documents(1000, now, now + SignedDuration::from_secs(60)).await.unwrap()
}

/// Writes down that all that is due at `now` was published.
pub(crate) async fn published(store: &SharedStore, now: Timestamp) -> Vec<String> {
    let claimed = due(store, now).await;
    for claimed in &claimed {
        let digest = oci::Digest::sha256(format!("{claimed:?}").as_bytes());
        written(store, claimed, digest, now, now).await;
    }
    claimed.iter().map(|c| c.document.to_string()).collect()
}

/// Writes down that a document was published as the records say, with this digest.
pub(crate) async fn written(
    store: &SharedStore,
    claimed: &Claimed,
    digest: oci::Digest,
    now: Timestamp,
    remove_at: Timestamp,
) -> Published {
    let source = store.document_source(&claimed.document).await.unwrap();
    let written = Written { digest, found: None, remove_at };
    store.document_published(claimed, &source, written, now).await.unwrap()
}

/// The keys of documents, as text.
pub(crate) fn keys<'a>(documents: impl IntoIterator<Item = &'a DocumentKey>) -> Vec<String> {
    documents.into_iter().map(ToString::to_string).collect()
}

pub(crate) fn page(number: u32, size: u32) -> Page {
    Page::new(number, size)
}

/// A registration with a join token of ten minutes.
pub(crate) fn registration(name: &str, token: &str, now: i64) -> NewRegistration {
    NewRegistration {
        name: name.into(),
        region: "default".into(),
        groups: Vec::new(),
        config_name: None,
        method: AttestationMethod::JoinToken,
        parent_id: agent_of(name),
        selectors: vec!["unix:uid:0".into()],
        join_token: Some((hashed(token), at(now + 600))),
    }
}

/// The agent that serves a satellite unless another is named.
pub(crate) fn agent_of(name: &str) -> String {
    format!("spiffe://harbor-satellite.local/agent/{name}")
}

/// Registers a satellite; its join token is called like `token`.
pub(crate) async fn enrolled(store: &SharedStore, name: &str, token: &str, now: i64) -> Satellite {
    store.register_identity(registration(name, token, now), at(now)).await.unwrap().0
}

/// Attests with a join token; the SVID lives for a day.
pub(crate) async fn attest(
    store: &SharedStore,
    token: &str,
    key: &str,
    now: i64,
) -> Result<IssueGrant, IssueRefusal> {
    let attempt = AttestAttempt {
        token: hashed(token),
        public_key: key.into(),
        expires_at: at(now) + DAY,
        agent: None,
    };
    store.attest(attempt, at(now)).await.unwrap()
}

/// Renews with a nonce of its own, with a day's SVIDs and a grace of ten days.
pub(crate) async fn renew(
    store: &SharedStore,
    satellite: &SatelliteId,
    (old_key, new_key): (&str, &str),
    now: i64,
) -> Result<IssueGrant, IssueRefusal> {
    let nonce = hashed(&uuid::Uuid::now_v7().to_string());
    store.keep_nonce(&nonce, at(now + 300), at(now)).await.unwrap();
    store.renew(renewal(satellite, nonce, (old_key, new_key), now), at(now)).await.unwrap()
}

pub(crate) fn renewal(
    satellite: &SatelliteId,
    nonce: Hashed,
    (old_key, new_key): (&str, &str),
    now: i64,
) -> RenewAttempt {
    RenewAttempt {
        satellite: satellite.clone(),
        nonce,
        old_key: old_key.into(),
        new_key: new_key.into(),
        expires_at: at(now) + DAY,
        grace: SignedDuration::from_hours(10 * 24),
    }
}

/// How long SVIDs live here.
pub(crate) const DAY: SignedDuration = SignedDuration::from_hours(24);

/// What is known of a satellite that is there.
pub(crate) async fn known(store: &SharedStore, name: &str) -> IdentityRecord {
    match store.name_record(name).await.unwrap() {
        NameRecord::Known(record) => record,
        other => panic!("{name} is {other:?}"),
    }
}

/// A report that says how often the satellite reports.
pub(crate) async fn report(
    store: &SharedStore,
    satellite: &SatelliteId,
    interval: &str,
    now: i64,
) -> HeartbeatOutcome {
    let report = Report { state_report_interval: interval.into(), ..Report::default() };
    let record = HeartbeatRecord { satellite: satellite.clone(), received_at: at(now), report };
    store.record_heartbeats(&[record]).await.unwrap()[0]
}
