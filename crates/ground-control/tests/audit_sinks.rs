//! The audit on its way: to a real rsyslog (UDP, TCP, TLS with client certificates), to a socket, a file and a collector of
//! OpenTelemetry; away and back.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, its helpers too")]

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Once};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::routing::post;
use ground_control::audit::SinkStatus;
use ground_control::config::Config;
use ground_control::domain::audit::{Action, Actor, Entry, Event, Refusal};
use ground_control::server::{self, Running};
use http::StatusCode;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use prost::Message as _;
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use tempfile::TempDir;
use testbed::rsyslog::{Protocol, Rsyslog};

/// How long what has to come may take: a retry waits for some seconds.
const PATIENCE: Duration = Duration::from_secs(60);

struct Server {
    running: Running,
    dir: TempDir,
}

async fn start(dir: TempDir, more: &[(&str, &str)]) -> Server {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    });
    let mut variables: BTreeMap<String, String> = [
        ("LISTEN", "127.0.0.1:0"),
        ("ADMIN_LISTEN", "off"),
        ("DATA_DIR", dir.path().to_str().unwrap()),
        ("ADMIN_PASSWORD", "Harbor12345"),
        ("SHUTDOWN_TIMEOUT", "1s"),
        ("AUDIT_LOG_ENABLED", "true"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    variables.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    let config = Config::parse([], &variables, &BTreeMap::new()).unwrap();
    Server { running: server::start(&config).await.unwrap(), dir }
}

impl Server {
    /// So many more rows.
    async fn rows(&self, count: u64) {
        let rows: Vec<Refusal> = (0..count)
            .map(|n| Refusal {
                actor: Actor::system(),
                event: Event::on(Action::Requested, &format!("row {n}")),
                count: 1,
            })
            .collect();
        self.running.state.store.record_refusals(&rows).await.unwrap();
    }

    async fn end(&self) -> u64 {
        self.running.state.store.audit_end().await.unwrap()
    }

    fn status(&self) -> SinkStatus {
        self.running.state.sinks.all().remove(0)
    }

    async fn until(&self, what: &str, met: impl Fn(&SinkStatus) -> bool) -> SinkStatus {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let status = self.status();
            if met(&status) {
                return status;
            }
            assert!(tokio::time::Instant::now() < deadline, "{what}: {status:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// The numbers of the rows in these messages, in the order in which they came.
fn sequences(messages: &[String]) -> Vec<u64> {
    messages
        .iter()
        .map(|message| {
            let json = message.split_at(message.find('{').unwrap()).1;
            serde_json::from_str::<Entry>(json).unwrap_or_else(|error| panic!("{error}: {message}")).sequence
        })
        .collect()
}

/// Waits until every row up to this one has come; nothing is missing before it.
async fn came(messages: impl Fn() -> Vec<String>, end: u64) -> Vec<u64> {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let seen = sequences(&messages());
        if seen.contains(&end) {
            let mut all = seen.clone();
            all.sort_unstable();
            all.dedup();
            assert_eq!(all, (1..=end).collect::<Vec<_>>(), "nothing is missing");
            return seen;
        }
        assert!(tokio::time::Instant::now() < deadline, "row {end} has not come: {seen:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Waits until this row is in the files, and then reads them: what is read while they are moved may be half of it.
async fn written(read: impl Fn() -> Vec<String>, end: u64) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while sequences(&read()).last() != Some(&end) {
        assert!(tokio::time::Instant::now() < deadline, "row {end} has not come");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(sequences(&read()), (1..=end).collect::<Vec<_>>());
}

async fn to(rsyslog: &Rsyslog, end: u64) -> Vec<u64> {
    came(|| rsyslog.messages().unwrap(), end).await
}

fn network(rsyslog: &Rsyslog, network: &'static str) -> Vec<(&'static str, String)> {
    vec![
        ("AUDIT_SYSLOG_TARGET", "network".to_owned()),
        ("AUDIT_SYSLOG_NETWORK", network.to_owned()),
        ("AUDIT_SYSLOG_ADDRESS", format!("localhost:{}", rsyslog.port())),
    ]
}

fn borrowed<'a>(settings: &'a [(&'a str, String)]) -> Vec<(&'a str, &'a str)> {
    settings.iter().map(|(name, value)| (*name, value.as_str())).collect()
}

/// An authority with a certificate for `localhost` and one for a client, in files.
struct Certificates {
    authorities: PathBuf,
    server: (PathBuf, PathBuf),
    client: (PathBuf, PathBuf),
}

fn write(path: &Path, text: &str) {
    use std::io::Write as _;
    std::fs::File::create(path).unwrap().write_all(text.as_bytes()).unwrap();
}

fn certificates(dir: &Path) -> Certificates {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "authority");
    let authority = params.self_signed(&key).unwrap();
    let issuer = Issuer::new(params, key);
    let path = |name: &str| dir.join(name);
    write(&path("ca.pem"), &authority.pem());
    let issue = |name: &str, host: &str, usage: ExtendedKeyUsagePurpose| {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        params.extended_key_usages = vec![usage];
        // OpenSSL takes one with its issuer's name for self-signed.
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.signed_by(&key, &issuer).unwrap();
        let (to, key_to) = (path(&format!("{name}.pem")), path(&format!("{name}.key")));
        write(&to, &certificate.pem());
        write(&key_to, &key.serialize_pem());
        (to, key_to)
    };
    Certificates {
        authorities: path("ca.pem"),
        server: issue("server", "localhost", ExtendedKeyUsagePurpose::ServerAuth),
        client: issue("client", "ground-control", ExtendedKeyUsagePurpose::ClientAuth),
    }
}

fn tls_server(certificates: &Certificates) -> Rsyslog {
    let (certificate, key) = certificates.server.clone();
    Rsyslog::new(Protocol::Tls { authorities: certificates.authorities.clone(), certificate, key }).unwrap()
}

fn tls(
    rsyslog: &Rsyslog,
    authorities: &Path,
    client: Option<&(PathBuf, PathBuf)>,
) -> Vec<(&'static str, String)> {
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let mut settings = network(rsyslog, "tls");
    settings.push(("AUDIT_SYSLOG_TLS_CA_FILE", text(authorities)));
    if let Some((certificate, key)) = client {
        settings.push(("AUDIT_SYSLOG_TLS_CERT_FILE", text(certificate)));
        settings.push(("AUDIT_SYSLOG_TLS_KEY_FILE", text(key)));
    }
    settings
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn udp_brings_messages_of_the_standard() {
    let mut rsyslog = Rsyslog::new(Protocol::Udp).unwrap();
    rsyslog.start().await.unwrap();
    let settings = network(&rsyslog, "udp");
    let server = start(tempfile::tempdir().unwrap(), &borrowed(&settings)).await;
    let end = server.end().await;
    assert!(end >= 2, "the first account and the default config are changes, too");
    to(&rsyslog, end).await;
    let first = &rsyslog.messages().unwrap()[0];
    let parts: Vec<&str> = first.splitn(5, '|').collect();
    assert_eq!(parts[..4], ["109", "harbor-audit", "user.created", "[meta sequenceId=\"1\"]"], "{first}");
    server.running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tcp_goes_on_after_a_restart_of_either_side() {
    let mut rsyslog = Rsyslog::new(Protocol::Tcp).unwrap();
    rsyslog.start().await.unwrap();
    let settings = network(&rsyslog, "tcp");
    let server = start(tempfile::tempdir().unwrap(), &borrowed(&settings)).await;
    to(&rsyslog, server.end().await).await;
    rsyslog.kill().unwrap();
    server.rows(100).await;
    server.until("it is away", |status| !status.ok && status.lag >= 100).await;
    rsyslog.start().await.unwrap();
    to(&rsyslog, server.end().await).await;
    server.until("it is back", |status| status.ok && status.lag == 0 && status.lost == 0).await;
    let Server { running, dir } = server;
    running.stop().await;
    let server = start(dir, &borrowed(&settings)).await;
    server.rows(10).await;
    to(&rsyslog, server.end().await).await;
    server.running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_tls_nothing_is_lost_while_the_server_is_away() {
    let files = tempfile::tempdir().unwrap();
    let certificates = certificates(files.path());
    let mut rsyslog = tls_server(&certificates);
    rsyslog.start().await.unwrap();
    let settings = tls(&rsyslog, &certificates.authorities, Some(&certificates.client));
    let server = start(tempfile::tempdir().unwrap(), &borrowed(&settings)).await;
    to(&rsyslog, server.end().await).await;
    // It is killed while rows are on their way to it.
    for _ in 0..3 {
        server.rows(300).await;
        rsyslog.kill().unwrap();
        server.rows(300).await;
        server.until("it is away", |status| !status.ok).await;
        rsyslog.start().await.unwrap();
        to(&rsyslog, server.end().await).await;
    }
    assert_eq!(server.status().lost, 0);
    server.running.stop().await;
}

/// Under TLS 1.3 the refusal comes after the first write, which seems to succeed: nothing may count as sent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_is_refused_says_so_and_loses_nothing() {
    let (files, others) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (good, foreign) = (certificates(files.path()), certificates(others.path()));
    let mut rsyslog = tls_server(&good);
    rsyslog.start().await.unwrap();
    for client in [None, Some(&foreign.client)] {
        let settings = tls(&rsyslog, &good.authorities, client);
        let server = start(tempfile::tempdir().unwrap(), &borrowed(&settings)).await;
        let end = server.end().await;
        let status = server.until("it is refused", |status| !status.ok && status.lag > 0).await;
        assert_eq!((status.lag, status.lost), (end, 0));
        assert_eq!(rsyslog.messages().unwrap(), [""; 0], "{}", rsyslog.log());
        if client.is_some() {
            // The files are read again: a certificate that is put right needs no restart.
            for (from, to) in [(&good.client.0, &foreign.client.0), (&good.client.1, &foreign.client.1)] {
                std::fs::copy(from, to).unwrap();
            }
            to(&rsyslog, end).await;
        }
        server.running.stop().await;
    }
    // And a server that is not the one that is meant is told nothing.
    let settings = tls(&rsyslog, &foreign.authorities, Some(&good.client));
    let server = start(tempfile::tempdir().unwrap(), &borrowed(&settings)).await;
    server.until("the server is not trusted", |status| !status.ok && status.lag > 0).await;
    server.running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_is_bounded_and_what_is_lost_is_counted() {
    let mut rsyslog = Rsyslog::new(Protocol::Tcp).unwrap();
    let mut settings = network(&rsyslog, "tcp");
    settings.push(("AUDIT_SINK_BACKLOG", "1000".to_owned()));
    let server = start(tempfile::tempdir().unwrap(), &borrowed(&settings)).await;
    server.rows(1500).await;
    let end = server.end().await;
    server.until("rows are given up", |status| status.lost == end - 1000 && status.lag == 1000).await;
    rsyslog.start().await.unwrap();
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !sequences(&rsyslog.messages().unwrap()).contains(&end) {
        assert!(tokio::time::Instant::now() < deadline, "{:?}", server.status());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let seen = sequences(&rsyslog.messages().unwrap());
    assert_eq!(seen, (end - 999..=end).collect::<Vec<_>>());
    server.until("the count stays", |status| status.ok && status.lost == end - 1000).await;
    server.running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_is_rotated_and_holds_every_row_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.log");
    let settings = [
        ("AUDIT_SYSLOG_TARGET", "file"),
        ("AUDIT_SYSLOG_FILE_PATH", path.to_str().unwrap()),
        ("AUDIT_SYSLOG_FILE_MAX_SIZE_MB", "1"),
    ];
    let read = || {
        let mut text = String::new();
        for number in (1..10).rev() {
            let earlier = dir.path().join(format!("audit.log.{number}.gz"));
            if let Ok(file) = std::fs::File::open(earlier) {
                flate2::read::GzDecoder::new(file).take(10_000_000).read_to_string(&mut text).unwrap();
            }
        }
        text.push_str(&std::fs::read_to_string(&path).unwrap_or_default());
        text.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let server = start(tempfile::tempdir().unwrap(), &settings).await;
    server.rows(5000).await;
    let end = server.end().await;
    written(read, end).await;
    assert!(dir.path().join("audit.log.1.gz").try_exists().unwrap());
    // Another start goes on where this one ended.
    let Server { running, dir: data } = server;
    running.stop().await;
    let server = start(data, &settings).await;
    server.rows(3).await;
    let end = server.end().await;
    written(read, end).await;
    server.running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_that_comes_back_is_written_to_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let settings = [("AUDIT_SYSLOG_TARGET", "socket"), ("AUDIT_SYSLOG_SOCKET_PATH", path.to_str().unwrap())];
    let server = start(tempfile::tempdir().unwrap(), &settings).await;
    server.until("there is no daemon yet", |status| !status.ok).await;
    let mut seen: Vec<String> = Vec::new();
    for _ in 0..2 {
        let daemon = tokio::net::UnixDatagram::bind(&path).unwrap();
        server.rows(5).await;
        let end = server.end().await;
        let mut buffer = vec![0; 65_536];
        while sequences(&seen).last() != Some(&end) {
            let length = tokio::time::timeout(PATIENCE, daemon.recv(&mut buffer)).await.unwrap().unwrap();
            seen.push(String::from_utf8(buffer[..length].to_vec()).unwrap());
        }
        assert_eq!(sequences(&seen), (1..=end).collect::<Vec<_>>());
        drop(daemon);
        std::fs::remove_file(&path).unwrap();
    }
    server.running.stop().await;
}

/// A collector that can be away.
#[derive(Clone, Default)]
struct Collector {
    away: Arc<AtomicBool>,
    bodies: Arc<Mutex<Vec<String>>>,
}

async fn logs(State(collector): State<Collector>, body: Bytes) -> StatusCode {
    if collector.away.load(Ordering::SeqCst) {
        return StatusCode::SERVICE_UNAVAILABLE;
    }
    let request = ExportLogsServiceRequest::decode(body).unwrap();
    for resource in request.resource_logs {
        let attributes = resource.resource.unwrap().attributes;
        assert!(attributes.iter().any(|attribute| attribute.key == "service.name"));
        for record in resource.scope_logs.into_iter().flat_map(|scope| scope.log_records) {
            use opentelemetry_proto::tonic::common::v1::any_value::Value::StringValue;
            let Some(StringValue(text)) = record.body.unwrap().value else { panic!("no text") };
            assert!(record.event_name.starts_with("audit.") && record.time_unix_nano > 1 << 60);
            assert!(record.attributes.iter().any(|attribute| attribute.key == "audit.action"));
            collector.bodies.lock().unwrap().push(text);
        }
    }
    StatusCode::OK
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_gets_every_row_as_a_log_record() {
    let collector = Collector::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let routes = Router::new().route("/v1/logs", post(logs)).with_state(collector.clone());
    let serving = tokio::spawn(async move { axum_serve(listener, routes).await });
    let settings = [("AUDIT_SYSLOG_ENABLED", "false"), ("AUDIT_OTEL_ENDPOINT", endpoint.as_str())];
    let server = start(tempfile::tempdir().unwrap(), &settings).await;
    let bodies = || collector.bodies.lock().unwrap().clone();
    came(bodies, server.end().await).await;
    collector.away.store(true, Ordering::SeqCst);
    server.rows(600).await;
    server.until("it is away", |status| !status.ok && status.lag >= 600).await;
    collector.away.store(false, Ordering::SeqCst);
    came(bodies, server.end().await).await;
    assert_eq!(server.until("it is back", |status| status.ok && status.lag == 0).await.lost, 0);
    server.running.stop().await;
    serving.abort();
}

async fn axum_serve(listener: tokio::net::TcpListener, routes: Router) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let service = hyper_util::service::TowerToHyperService::new(routes.clone());
        tokio::spawn(async move {
            let io = hyper_util::rt::TokioIo::new(stream);
            let builder = hyper_util::server::conn::auto::Builder::new(hyper_util::rt::TokioExecutor::new());
            let _ = builder.serve_connection(io, service).await;
        });
    }
}
