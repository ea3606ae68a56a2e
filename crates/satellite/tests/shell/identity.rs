//! Registration and what is sealed: taken without a restart, kept over one, set aside when it does not open.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use crate::harness::{Site, spawn};

const BAD: &str = "00000000000000000000000000000000";
const GOOD: &str = "11111111111111111111111111111111";

/// A Ground Control that knows one token and nothing else.
struct GroundControl {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
}

impl GroundControl {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let request = read_request(&mut stream);
                let (status, body) = if request.starts_with("POST /satellites/ztr ") && request.contains(GOOD)
                {
                    let host = format!("http://{address}");
                    let state = format!("{host}/satellite/satellite-state/edge-01/state:latest");
                    let auth =
                        format!(r#"{{"url":"{host}","username":"robot$edge-01","password":"robot-secret"}}"#);
                    ("200 OK", format!(r#"{{"auth":{auth},"state":"{state}"}}"#))
                } else if request.contains("/satellites/ztr") {
                    ("401 Unauthorized", r#"{"message":"token used or expired","code":401}"#.to_owned())
                } else {
                    ("404 Not Found", r#"{"message":"not found","code":404}"#.to_owned())
                };
                seen.lock().unwrap().push(request);
                let answer = format!(
                    "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                    body.len()
                );
                drop(stream.write_all(answer.as_bytes()));
            }
        });
        Self { address, requests }
    }

    fn asked_for_registration(&self) -> usize {
        self.requests.lock().unwrap().iter().filter(|request| request.contains("/satellites/ztr")).count()
    }
}

fn read_request(stream: &mut std::net::TcpStream) -> String {
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let read = stream.read(&mut buffer).unwrap_or(0);
        request.extend_from_slice(&buffer[..read]);
        let text = String::from_utf8_lossy(&request);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length:").map(str::to_owned))
                .map_or(0, |length| length.trim().parse().unwrap());
            if body.len() >= length {
                return text.into_owned();
            }
        }
        if read == 0 {
            return text.into_owned();
        }
    }
}

fn give_token(site: &Site) {
    let mut child = spawn(site.command(&["token"]).stdin(Stdio::piped()).stdout(Stdio::null()));
    writeln!(child.stdin.take().unwrap(), "{GOOD}").unwrap();
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_new_token_is_taken_without_a_restart_and_the_identity_kept_over_one() {
    let ground_control = GroundControl::start();
    let site = Site::new()
        .set("GROUND_CONTROL_URL", &format!("http://{}", ground_control.address))
        .set("TOKEN", BAD);
    let mut satellite = site.start();
    let refused = |status: &serde_json::Value| status["satellite"]["registration"]["state"] == "refused";
    let status = site.status_when(refused);
    assert_eq!(status["healthy"], false);

    give_token(&site);
    let registered =
        |status: &serde_json::Value| status["satellite"]["registration"]["state"] == "registered";
    let status = site.status_when(registered);
    assert_eq!(status["satellite"]["name"], "edge-01");
    assert!(status["process"]["state_url"].as_str().unwrap().contains("satellite-state/edge-01"));
    // Sealing took 19 MiB for a moment, and gave them back.
    assert!(satellite.anonymous_memory() < 12 * 1024, "{} KiB", satellite.anonymous_memory());
    // From now on it answers under the central registry's name, too.
    let host = ground_control.address.to_string();
    assert_eq!(status["registry"]["namespaces"], serde_json::json!([host]));

    let sealed = site.config_dir().join("sealed.json");
    assert_eq!(std::fs::metadata(&sealed).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!std::fs::read_to_string(&sealed).unwrap().contains("robot-secret"));
    assert_eq!(satellite.stop(), Some(0));
    let log = satellite.whole_log();
    for secret in ["robot-secret", GOOD, BAD] {
        assert!(!log.contains(secret), "{log}");
    }

    let asked = ground_control.asked_for_registration();
    site.put_index("library/app", "v1");
    let site = site.set("TOKEN", GOOD);
    let satellite = site.start();
    // Known from the first moment on, before the sealed state is open.
    let named = format!("/v2/library/app/manifests/v1?ns={host}");
    assert_eq!(satellite.request("GET", &named).0, 200);
    let status = site.status_when(registered);
    assert_eq!(status["satellite"]["name"], "edge-01");
    satellite.kill();
    let _satellite = site.start();
    site.status_when(registered);
    assert_eq!(
        ground_control.asked_for_registration(),
        asked,
        "an identity that is held is not asked for again"
    );
}

#[test]
fn what_does_not_open_is_set_aside_and_a_new_token_asked_for_while_it_serves() {
    let ground_control = GroundControl::start();
    let site = Site::new().set("GROUND_CONTROL_URL", &format!("http://{}", ground_control.address));
    site.put_index("library/app", "v1");
    let sealed = site.config_dir().join("sealed.json");
    blob_store::durable::write_file(&sealed, b"{\"header\":", 0o600).unwrap();
    let satellite = site.start();
    assert_eq!(satellite.request("GET", "/v2/library/app/manifests/v1").0, 200);
    let status = site.status_when(|status| status["satellite"]["warnings"][0].is_string());
    assert!(status["satellite"]["warnings"][0].as_str().unwrap().contains("new token"), "{status:#}");
    assert_eq!(status["healthy"], false);
    assert!(!sealed.try_exists().unwrap());
    let kept = std::fs::read_dir(site.config_dir())
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().contains("set-aside"))
        .count();
    assert_eq!(kept, 1);

    give_token(&site);
    let status = site.status_when(|status| status["satellite"]["registration"]["state"] == "registered");
    assert_eq!(status["satellite"]["name"], "edge-01");
    site.status_when(|status| status["satellite"]["warnings"] == serde_json::json!([]));
}

#[test]
fn without_a_join_token_it_serves_asks_for_one_and_does_not_end() {
    let site = Site::new().set("GROUND_CONTROL_URL", &format!("https://{}", crate::harness::nobody()));
    let file = |name: &str| site.folder().join(name).to_str().unwrap().to_owned();
    let (token, bundle) = (file("token"), file("bundle.pem"));
    let site = site.set("JOIN_TOKEN_FILE", &token).set("TRUST_BUNDLE_FILE", &bundle);
    site.put_index("library/app", "v1");
    let mut satellite = site.start();
    let status = site.status_when(|status| status["satellite"]["identity"]["problem"].is_string());
    assert_eq!(status["satellite"]["identity"]["source"], "builtin");
    assert!(status["satellite"]["identity"]["problem"].as_str().unwrap().contains(&token), "{status:#}");
    assert_eq!(status["healthy"], false);
    assert_eq!(satellite.request("GET", "/v2/library/app/manifests/v1").0, 200);
    let table = site.run(&["status"]);
    assert!(table.stdout.contains("SVID of ground control's authority: none yet"), "{table:?}");

    // Handed over instead of written; the bundle is what is missing then, and nobody is told the token.
    give_token(&site);
    let status = site.status_when(|status| {
        status["satellite"]["identity"]["problem"].as_str().is_some_and(|problem| problem.contains(&bundle))
    });
    assert!(!status.to_string().contains(GOOD));
    assert_eq!(satellite.stop(), Some(0));
    assert!(!satellite.whole_log().contains(GOOD));
}

#[test]
fn a_token_is_of_no_use_to_one_that_registers_by_the_workload_api() {
    let site = Site::new();
    let socket = format!("unix://{}", site.folder().join("agent.sock").display());
    let site = site.set("SPIFFE_ENABLED", "true").set("SPIFFE_ENDPOINT_SOCKET", &socket);
    let _satellite = site.start();
    let status = site.status_when(|status| status["satellite"]["identity"]["problem"].is_string());
    assert_eq!(status["satellite"]["identity"]["source"], "workload_api");
    assert!(status["problems"][0].as_str().unwrap().contains("agent.sock"), "{status:#}");
    let mut child =
        spawn(site.command(&["token"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()));
    writeln!(child.stdin.take().unwrap(), "{GOOD}").unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1));
}

#[test]
fn the_process_leaves_no_core_file() {
    let site = Site::new();
    let satellite = site.start();
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", satellite.pid())).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    let bounds: Vec<&str> = line.split_whitespace().skip(4).take(2).collect();
    assert_eq!(bounds, ["0", "0"], "{line}");
}
