//! Spans of the built program at a collector, and how they are joined with those of the caller and with the log.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, its helpers too")]

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, Once};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use serde_json::{Value, json};

const PASSWORD: &str = "Harbor12345";
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";
const TOKEN: &str = "0123456789abcdef0123456789abcdef";

#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<Bytes>>>);

impl Collector {
    async fn start(&self) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let take = async |State(collector): State<Self>, body: Bytes| {
            collector.0.lock().unwrap().push(body);
        };
        let routes = Router::new().route("/v1/traces", post(take)).with_state(self.clone());
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let service = hyper_util::service::TowerToHyperService::new(routes.clone());
                tokio::spawn(async move {
                    let io = hyper_util::rt::TokioIo::new(stream);
                    let executor = hyper_util::rt::TokioExecutor::new();
                    let builder = hyper_util::server::conn::auto::Builder::new(executor);
                    let _ = builder.serve_connection(io, service).await;
                });
            }
        });
        endpoint
    }

    fn spans(&self) -> Vec<Span> {
        let bodies = self.0.lock().unwrap().clone();
        bodies
            .into_iter()
            .flat_map(|body| ExportTraceServiceRequest::decode(body).unwrap().resource_spans)
            .flat_map(|resource| resource.scope_spans)
            .flat_map(|scope| scope.spans)
            .collect()
    }

    async fn until(&self, what: &str, found: impl Fn(&Span) -> bool) -> Span {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
        loop {
            let spans = self.spans();
            if let Some(span) = spans.iter().find(|span| found(span)) {
                return span.clone();
            }
            assert!(tokio::time::Instant::now() < deadline, "{what}: {spans:#?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// The running program; its log is kept.
struct Program {
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Program {
    fn start(dir: &std::path::Path, collector: &str) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ground-control"));
        command.env_clear().current_dir(dir).stderr(Stdio::piped()).stdout(Stdio::null());
        let variables = [
            ("DATA_DIR", dir.join("data").to_str().unwrap().to_owned()),
            ("LISTEN", "127.0.0.1:0".to_owned()),
            ("ADMIN_LISTEN", "off".to_owned()),
            ("ADMIN_PASSWORD", PASSWORD.to_owned()),
            ("JSON_LOGGING", "true".to_owned()),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.to_owned()),
            // A log that says little is no reason for a trace with holes.
            ("LOG_LEVEL", "info".to_owned()),
        ];
        let mut child = command.envs(variables).spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap());
        let log = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&log);
        std::thread::spawn(move || {
            lines.lines().map_while(Result::ok).for_each(|line| kept.lock().unwrap().push(line));
        });
        Self { child, log }
    }

    /// The first line of the log for which this holds.
    async fn line(&self, what: &str, found: impl Fn(&Value) -> bool) -> Value {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
        loop {
            let lines = self.log.lock().unwrap().clone();
            let parsed = lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            if let Some(line) = parsed.into_iter().find(|line| found(line)) {
                return line;
            }
            assert!(tokio::time::Instant::now() < deadline, "{what}: {lines:#?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

fn attribute(span: &Span, name: &str) -> Option<String> {
    let value = span.attributes.iter().find(|attribute| attribute.key == name)?.value.clone()?.value?;
    match value {
        Any::StringValue(text) => Some(text),
        Any::IntValue(number) => Some(number.to_string()),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_is_a_span_of_its_callers_trace_and_holds_no_secret() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    });
    let collector = Collector::default();
    let dir = tempfile::tempdir().unwrap();
    let program = Program::start(dir.path(), &collector.start().await);
    let listening = program.line("it listens", |line| line["message"] == "listening").await;
    let url = listening["url"].as_str().unwrap().to_owned();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();

    // Everything that may hold a secret: a token in the path, a password in a header and in a body.
    let answer = client
        .get(format!("{url}/satellites/ztr/{TOKEN}"))
        .basic_auth("admin", Some(PASSWORD))
        .header("traceparent", format!("00-{TRACE}-{PARENT}-01"))
        .header("x-request-id", "joined-1")
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 400);
    let span =
        collector.until("the request", |span| attribute(span, "id").as_deref() == Some("joined-1")).await;
    assert_eq!(
        (hex::encode(&span.trace_id), hex::encode(&span.parent_span_id)),
        (TRACE.into(), PARENT.into())
    );
    assert_eq!((span.name.as_str(), span.kind), ("request", 2));
    assert_eq!(attribute(&span, "route").as_deref(), Some("/satellites/ztr/{token}"));
    assert_eq!(attribute(&span, "status").as_deref(), Some("400"));

    // The log has the same names.
    let line = program
        .line("the answer", |line| line["message"] == "answered" && line["span"]["id"] == "joined-1")
        .await;
    assert_eq!(line["span"]["trace_id"], TRACE);
    assert_eq!(line["span"]["span_id"], hex::encode(&span.span_id));

    // Whoever brings no trace begins one; who asks not to be traced is not.
    let body = json!({"username": "admin", "password": PASSWORD});
    let login = |id: &'static str, parent: Option<String>| {
        let request = client.post(format!("{url}/login")).header("x-request-id", id).json(&body);
        match parent {
            Some(parent) => request.header("traceparent", parent),
            None => request,
        }
    };
    login("unsampled-1", Some(format!("00-{TRACE}-{PARENT}-00"))).send().await.unwrap();
    let session: Value = login("own-1", None).send().await.unwrap().json().await.unwrap();
    let own =
        collector.until("a trace of its own", |span| attribute(span, "id").as_deref() == Some("own-1")).await;
    assert_ne!(hex::encode(&own.trace_id), TRACE);
    assert!(own.parent_span_id.is_empty());
    // Publishing is a trace of its own.
    collector.until("the publisher", |span| span.name == "publish").await;
    let spans = collector.spans();
    assert!(spans.iter().all(|span| attribute(span, "id").as_deref() != Some("unsampled-1")));

    let secrets = [PASSWORD, TOKEN, session["token"].as_str().unwrap(), "Basic ", "Bearer "];
    for body in collector.0.lock().unwrap().iter() {
        let text = String::from_utf8_lossy(body);
        for secret in secrets {
            assert!(!text.contains(secret), "{secret} in a span");
        }
    }
}
