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
