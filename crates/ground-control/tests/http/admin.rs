//! The operators' listener: what a scrape holds, when the server is ready, and the log's level while it runs.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use ground_control::config::AdminListener;
use ground_control::server::{self, StartError};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::program::{Program, program};
use crate::support::{ADMIN_PASSWORD, As, Server, answer, client, config, provider};

const ADMIN_LISTEN: (&str, &str) = ("ADMIN_LISTEN", "127.0.0.1:0");

async fn started(more: &[(&str, &str)]) -> (Server, String) {
    let mut variables = vec![ADMIN_LISTEN];
    variables.extend(more);
    let server = Server::start_in(tempfile::tempdir().unwrap(), &variables).await;
    let url = format!("http://{}", server.running.admin.unwrap());
    (server, url)
}

/// A sample of a scrape: name, labels, value.
#[derive(Debug)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

/// A scrape, read as the specification of OpenMetrics 1.0 has it, as far as we use it.
#[derive(Debug)]
struct Scrape {
    text: String,
    /// Kinds by the name of the family.
    families: BTreeMap<String, String>,
    samples: Vec<Sample>,
}

impl Scrape {
    async fn of(url: &str) -> Self {
        let answer = client().get(format!("{url}/metrics")).send().await.unwrap().error_for_status().unwrap();
        let kind = answer.headers()["content-type"].to_str().unwrap().to_owned();
        assert!(kind.starts_with("application/openmetrics-text; version=1.0.0"), "{kind}");
        Self::read(answer.text().await.unwrap())
    }

    fn read(text: String) -> Self {
        let body = text.strip_suffix("# EOF\n").unwrap();
        let (mut families, mut samples) = (BTreeMap::new(), Vec::new());
        let mut family = String::new();
        for line in body.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                assert!(families.insert(name.to_owned(), kind.to_owned()).is_none(), "{name} is there twice");
                family = name.to_owned();
            } else if !line.starts_with("# HELP ") {
                let sample = Sample::read(line);
                let suffixes: &[&str] = match families[&family].as_str() {
                    "counter" => &["_total"],
                    "gauge" => &[""],
                    "info" => &["_info"],
                    "histogram" => &["_bucket", "_count", "_sum"],
                    other => panic!("{other}"),
                };
                let suffix = sample.name.strip_prefix(&family).unwrap();
                assert!(suffixes.contains(&suffix), "{line} in the family {family}");
                samples.push(sample);
            }
        }
        Self { text, families, samples }
    }

    /// The value of the one sample with this name and at least these labels.
    #[track_caller]
    fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let has = |sample: &&Sample| {
            sample.name == name
                && labels.iter().all(|(key, value)| sample.labels.get(*key).is_some_and(|v| v == value))
        };
        let found: Vec<&Sample> = self.samples.iter().filter(has).collect();
        assert_eq!(found.len(), 1, "{name} {labels:?}: {found:?}");
        found[0].value
    }
}

impl Sample {
    fn read(line: &str) -> Self {
        let (head, value) = line.rsplit_once(' ').unwrap();
        let (name, labels) = match head.split_once('{') {
            None => (head, ""),
            Some((name, labels)) => (name, labels.strip_suffix('}').unwrap()),
        };
        let mut rest = labels;
        let mut labels = BTreeMap::new();
        while !rest.is_empty() {
            let (key, tail) = rest.split_once("=\"").unwrap();
            let (text, tail) = tail.split_once('"').unwrap();
            assert!(labels.insert(key.to_owned(), text.to_owned()).is_none(), "{line}");
            rest = tail.strip_prefix(',').unwrap_or(tail);
        }
        Self { name: name.to_owned(), labels, value: value.parse().unwrap() }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scrape_tells_what_happened_and_no_secret() {
    let (server, url) = started(&[]).await;
    let token = server.satellite("edge-01", &[]).await;
    let ztr = format!("/satellites/ztr/{token}");
    let granted = server.send(As::Nobody, "GET", &ztr, None).await.expect(200);
    let text = |name: &str| granted.body["auth"][name].as_str().unwrap().to_owned();
    let (robot, secret) = (text("username"), text("password"));
    server.satellite("edge-02", &[]).await;
    let robot = As::Basic(&robot, &secret);
    server.send(robot, "POST", "/satellites/sync", Some(json!({}))).await.expect(200);
    server.send(As::Nobody, "GET", "/api/satellites", None).await.expect(401);
    server.send(As::Nobody, "GET", "/a/path/of/a/stranger", None).await.expect(404);
    server.published().await;
    // What the publisher knows of itself is as of the end of its round.
    let mut publisher = server.running.state.publisher.clone();
    publisher.wait_for(|status| status.lag.waiting == 0 && status.published > 0).await.unwrap();

    let scrape = Scrape::of(&url).await;
    let route = [("route", "/satellites/ztr/{token}"), ("method", "GET"), ("status", "2xx")];
    assert_eq!(scrape.value("ground_control_requests_total", &route), 1.0);
    assert_eq!(scrape.value("ground_control_request_duration_seconds_count", &route[..2]), 1.0);
    let missing = [("route", "(no such route)"), ("status", "4xx")];
    assert_eq!(scrape.value("ground_control_requests_total", &missing), 1.0);
    let refused = [("audience", "people"), ("status", "401")];
    assert_eq!(scrape.value("ground_control_refusals_total", &refused), 1.0);
    assert_eq!(scrape.value("ground_control_requests_under_way", &[]), 0.0);
    assert_eq!(scrape.value("ground_control_heartbeats_total", &[]), 1.0);
    assert_eq!(scrape.value("ground_control_heartbeat_batch_size_sum", &[]), 1.0);
    assert_eq!(scrape.value("ground_control_satellites", &[("state", "online")]), 1.0);
    assert_eq!(scrape.value("ground_control_satellites", &[("state", "pending")]), 1.0);
    assert_eq!(scrape.value("ground_control_satellites", &[("state", "revoked")]), 0.0);
    assert!(scrape.value("ground_control_documents_total", &[("outcome", "published")]) >= 1.0);
    assert_eq!(scrape.value("ground_control_documents_waiting", &[]), 0.0);
    assert_eq!(scrape.value("ground_control_publication_lag_seconds", &[]), 0.0);
    let job = [("job", "publisher")];
    assert!(scrape.value("ground_control_job_runs_total", &job) >= 1.0);
    assert_eq!(scrape.value("ground_control_job_failures_total", &job), 0.0);
    assert!(scrape.value("process_resident_memory_bytes", &[]) > 1e6);
    assert!(scrape.value("process_cpu_seconds_total", &[]) > 0.0);

    // Nothing is told that the catalogue, and with it the documentation, does not have.
    for metric in server.running.state.metrics.catalogue() {
        let family = metric.name.strip_suffix("_total").or(metric.name.strip_suffix("_info"));
        let family = family.unwrap_or(&metric.name);
        for sample in scrape.samples.iter().filter(|sample| sample.name.starts_with(family)) {
            if sample.name.trim_end_matches("_bucket") == family || sample.name == metric.name {
                let labels: Vec<&str> =
                    sample.labels.keys().map(String::as_str).filter(|label| *label != "le").collect();
                assert_eq!(labels, metric.labels, "{sample:?}");
            }
        }
        if let Some(kind) = scrape.families.get(family) {
            assert_eq!(*kind, metric.kind, "{family}");
        }
    }
    let known: Vec<&str> = server.running.state.metrics.catalogue().iter().map(|m| m.name.as_str()).collect();
    for family in scrape.families.keys() {
        let names = [family.clone(), format!("{family}_total"), format!("{family}_info")];
        assert!(names.iter().any(|name| known.contains(&name.as_str())), "{family}");
    }
    for hidden in [&token, &secret, &server.admin, "edge-01", "stranger", ADMIN_PASSWORD] {
        assert!(!scrape.text.contains(hidden), "{hidden} in {}", scrape.text);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_own_svid_is_told() {
    let spiffe =
        [("SPIFFE_SERVER_ENABLED", "true"), ("WEB_LISTEN", "127.0.0.1:0"), ("SPIRE_SERVER_PORT", "0")];
    let (_server, url) = started(&spiffe).await;
    let scrape = Scrape::of(&url).await;
    let left = scrape.value("ground_control_svid_remaining_seconds", &[("provider", "builtin")]);
    assert!(left > 3600.0 && left <= 86_400.0, "{left}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_listener_has_its_own_routes() {
    let (server, url) = started(&[]).await;
    // Ready is who has looked once whether there is something to publish.
    server.running.state.publisher.clone().wait_for(|status| status.rounds > 0).await.unwrap();
    for path in ["/metrics", "/ready", "/live", "/log-level"] {
        server.send(As::Nobody, "GET", path, None).await.expect(404);
        client().get(format!("{url}{path}")).send().await.unwrap().error_for_status().unwrap();
    }
    for path in ["/", "/api/satellites", "/v2/", "/health", "/openapi.json"] {
        let answer = client().get(format!("{url}{path}")).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), 404, "{path}");
    }
    // A page in a browser of this machine is told nothing and changes nothing.
    let page = client().put(format!("{url}/log-level")).header("origin", "http://127.0.0.1:9090");
    assert_eq!(page.body("trace").send().await.unwrap().status().as_u16(), 403);
    // This server's log belongs to the test.
    let fixed = client().put(format!("{url}/log-level")).body("debug").send().await.unwrap();
    assert_eq!(fixed.status().as_u16(), 409);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_taken_address_ends_only_a_start_that_asked_for_it() {
    provider();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = taken.local_addr().unwrap();
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let with = |asked_for| {
        let mut config = config(&dirs[usize::from(asked_for)], &[]);
        config.admin = Some(AdminListener { listen, asked_for });
        config
    };
    match server::start(&with(true)).await {
        Err(StartError::Listen { variable: "ADMIN_LISTEN", address, .. }) => assert_eq!(address, listen),
        other => panic!("{other:?}"),
    }
    let running = server::start(&with(false)).await.unwrap();
    assert_eq!(running.admin, None);
    running.stop().await;
}

async fn ready(url: &str) -> (u16, Value) {
    let answer = answer(client().get(format!("{url}/ready")).send().await.unwrap()).await;
    (answer.status.as_u16(), answer.body)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_drains_is_not_ready_and_answers_what_is_under_way() {
    let (server, url) = started(&[("SHUTDOWN_TIMEOUT", "30s")]).await;
    let mut publisher = server.running.state.publisher.clone();
    publisher.wait_for(|status| status.rounds > 0).await.unwrap();
    let (status, body) = ready(&url).await;
    assert_eq!((status, &body["status"]), (200, &json!("ready")));
    let public = server.send(As::Nobody, "GET", "/health/ready", None).await.expect(200);
    assert_eq!(body["database"], public.body["database"]);

    let address: SocketAddr = server.running.address;
    let login = json!({"username": "admin", "password": ADMIN_PASSWORD}).to_string();
    let mut half = tokio::net::TcpStream::connect(address).await.unwrap();
    let head = format!("POST /login HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", login.len());
    half.write_all(head.as_bytes()).await.unwrap();
    until(async || Scrape::of(&url).await.value("ground_control_requests_under_way", &[]) == 1.0).await;

    let Server { running, dir, .. } = server;
    let stopping = tokio::spawn(running.stop());
    until(async || ready(&url).await.0 == 503).await;
    assert_eq!(ready(&url).await.1["status"], json!("draining"));
    until(async || tokio::net::TcpStream::connect(address).await.is_err()).await;
    assert_eq!(ready(&url).await.0, 503, "shown for as long as answers are under way");
    assert!(!stopping.is_finished());
    half.write_all(login.as_bytes()).await.unwrap();
    let mut text = String::new();
    half.read_to_string(&mut text).await.unwrap();
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    stopping.await.unwrap();
    assert!(client().get(format!("{url}/ready")).send().await.is_err());
    drop(dir);
}

async fn until(mut condition: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while !condition().await {
        assert!(tokio::time::Instant::now() < deadline, "it did not come");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_level_changes_while_the_program_runs() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = program(dir.path());
    command.env("ADMIN_LISTEN", "127.0.0.1:0").env("ADMIN_PASSWORD", ADMIN_PASSWORD);
    let program = Program::start(command);
    let (listening, _) = program.until("listening");
    let url = format!("http://{}", listening["admin"].as_str().unwrap());
    let server = format!("http://{}", listening["address"].as_str().unwrap());
    let client = client();
    let level = async |method: reqwest::Method, body: &'static str| {
        answer(client.request(method, format!("{url}/log-level")).body(body).send().await.unwrap()).await
    };
    let (get, put, delete) = (reqwest::Method::GET, reqwest::Method::PUT, reqwest::Method::DELETE);
    // What machines ask all day long is told at `debug`; a route that is not there at `info`.
    let ask = async |path: &str| {
        client.get(format!("{server}{path}")).send().await.unwrap();
    };
    let pinged = |lines: &[String]| lines.iter().any(|line| line.contains("\"/ping\""));

    ask("/ping").await;
    ask("/nothing").await;
    let (line, before) = program.until("answered");
    assert_eq!(line["span"]["route"], json!("(no such route)"), "{before:?}");

    for (bad, named) in [("debgu", "debgu"), ("hyper=trace", "hyper"), ("", "level"), ("a[b]=info", "a[b]")] {
        let answer = level(put.clone(), bad).await.expect(400);
        assert!(answer.body["message"].as_str().unwrap().contains(named), "{answer:?}");
    }
    let shown = level(get.clone(), "").await.expect(200).body;
    assert_eq!(shown, json!({"filter": "info", "start": "info"}));

    let changed = level(put.clone(), "ground_control=debug\n").await.expect(200).body;
    assert_eq!(changed, json!({"filter": "info,ground_control=debug", "start": "info"}));
    program.until("log level changed");
    ask("/ping").await;
    let (line, _) = program.until("answered");
    assert_eq!(line["span"]["route"], json!("/ping"));

    // At every level secrets stay out of the log.
    level(put.clone(), "trace").await.expect(200);
    let login = json!({"username": "admin", "password": ADMIN_PASSWORD});
    let session = answer(client.post(format!("{server}/login")).json(&login).send().await.unwrap()).await;
    let session = session.expect(200).body["token"].as_str().unwrap().to_owned();
    let list = client.get(format!("{server}/api/satellites")).bearer_auth(&session).send().await.unwrap();
    assert_eq!(list.status().as_u16(), 200);

    level(delete, "").await.expect(200);
    let (_, all) = program.until("log level reset");
    for line in &all {
        assert!(!line.contains(ADMIN_PASSWORD) && !line.contains(&session), "a secret in the log: {line}");
    }
    assert!(all.len() > 2, "{all:?}");
    ask("/ping").await;
    ask("/nothing").await;
    let (line, before) = program.until("answered");
    assert_eq!(line["span"]["route"], json!("(no such route)"));
    assert!(!pinged(&before), "{before:?}");
}
