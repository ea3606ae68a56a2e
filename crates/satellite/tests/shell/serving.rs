//! The local registry: with the network gone, after a kill, on a port that is taken.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use crate::harness::{INDEX, PATIENCE, Running, Site, nobody, spawn};

/// More than all buffers between two processes hold.
const LARGE: usize = 32 * 1024 * 1024;

fn offline() -> Site {
    Site::new()
        .set("GROUND_CONTROL_URL", &format!("http://{}", nobody()))
        .set("TOKEN", "0123456789abcdef0123456789abcdef")
}

#[test]
fn it_serves_what_it_holds_while_ground_control_is_unreachable() {
    let site = offline();
    let digest = site.put_index("library/app", "v1");
    let satellite = site.start();
    assert_eq!(satellite.request("GET", "/v2/").0, 200);
    for reference in ["v1".to_owned(), digest.to_string()] {
        let (status, body) = satellite.request("GET", &format!("/v2/library/app/manifests/{reference}"));
        assert_eq!((status, body.as_bytes()), (200, INDEX));
    }
    assert_eq!(satellite.request("GET", "/v2/library/app/manifests/v2").0, 404);
}

#[test]
fn every_write_is_refused_and_changes_nothing() {
    let site = offline();
    let digest = site.put_index("library/app", "v1");
    let satellite = site.start();
    for (method, path) in [
        ("POST", "/v2/library/app/blobs/uploads/".to_owned()),
        ("PUT", "/v2/library/app/manifests/v2".to_owned()),
        ("DELETE", "/v2/library/app/manifests/v1".to_owned()),
        ("DELETE", format!("/v2/library/app/manifests/{digest}")),
    ] {
        let (status, body) = satellite.request(method, &path);
        assert_eq!(status, 405, "{method} {path}");
        assert!(body.contains("UNSUPPORTED"), "{body}");
    }
    assert_eq!(satellite.request("GET", "/v2/library/app/manifests/v1").0, 200);
}

#[test]
fn an_unknown_upstream_is_never_served_under_our_name() {
    let site = offline();
    site.put_index("library/app", "v1");
    let satellite = site.start();
    assert_eq!(satellite.request("GET", "/v2/library/app/manifests/v1?ns=quay.io").0, 404);
}

#[test]
fn after_kill_9_it_serves_again() {
    let site = offline();
    site.put_index("library/app", "v1");
    for _ in 0..3 {
        let satellite = site.start();
        let (status, body) = satellite.request("GET", "/v2/library/app/manifests/v1");
        assert_eq!((status, body.as_bytes()), (200, INDEX));
        site.status_when(|_| true);
        satellite.kill();
    }
}

#[test]
fn a_port_that_is_taken_ends_the_start_with_1_and_advice() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let ended = offline().set("REGISTRY_LISTEN", &address).run(&[]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains(&address) && ended.stderr.contains("--registry-listen"), "{ended:?}");
}

#[test]
fn sigterm_ends_it_cleanly() {
    let site = offline();
    let mut satellite = site.start();
    site.status_when(|_| true);
    assert_eq!(satellite.stop(), Some(0));
    assert!(!site.config_dir().join("satellite.sock").try_exists().unwrap());
    assert_eq!(site.run(&["status"]).code, Some(3));
}

/// A pull of `LARGE` bytes that has begun and stands still, because nobody reads.
fn begun_pull(site: &Site) -> (Running, TcpStream) {
    let digest = site.put_blob("library/app", vec![7; LARGE]);
    let satellite = site.start();
    let mut pull = TcpStream::connect(satellite.address).unwrap();
    pull.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(pull, "GET /v2/library/app/blobs/{digest} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut head = [0; 12];
    pull.read_exact(&mut head).unwrap();
    assert_eq!(&head, b"HTTP/1.1 200");
    (satellite, pull)
}

#[test]
fn a_pull_in_progress_ends_before_the_process_does() {
    let site = offline();
    let (mut satellite, mut pull) = begun_pull(&site);
    satellite.terminate();
    satellite.log("ending");
    let mut rest = Vec::new();
    pull.read_to_end(&mut rest).unwrap();
    assert!(rest.len() > LARGE, "only {} of {LARGE} bytes came", rest.len());
    assert_eq!(satellite.ended(), Some(0));
}

#[test]
fn a_pull_that_stands_still_holds_the_end_up_for_the_shutdown_timeout_only() {
    let site = offline().set("SHUTDOWN_TIMEOUT", "300ms");
    let (mut satellite, pull) = begun_pull(&site);
    let began = Instant::now();
    assert_eq!(satellite.stop(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    drop(pull);
}

#[test]
fn what_it_makes_is_for_nobody_else() {
    let site = offline();
    let satellite = site.start();
    site.status_when(|_| true);
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&site.config_dir()), 0o700);
    assert_eq!(mode(&site.config_dir().join("satellite.sock")), 0o600);
    assert_eq!(mode(&site.config_dir().join("registry")), 0o700);
    drop(satellite);
}

#[test]
fn a_registry_of_the_sites_own_leaves_the_port_to_it() {
    let own = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = own.local_addr().unwrap();
    let site = offline()
        .set("BYO_REGISTRY", "true")
        .set("REGISTRY_URL", &format!("http://{address}"))
        .set("REGISTRY_LISTEN", &address.to_string());
    let mut child = spawn(site.command(&[]).stderr(std::process::Stdio::null()));
    let end = std::time::Instant::now() + crate::harness::PATIENCE;
    let status = loop {
        let ended = site.run(&["status", "--json"]);
        if let Ok(status) = serde_json::from_str::<serde_json::Value>(&ended.stdout)
            && status["registry"]["byo_registry"].is_string()
        {
            break status;
        }
        assert!(std::time::Instant::now() < end && child.try_wait().unwrap().is_none(), "{ended:?}");
        std::thread::sleep(std::time::Duration::from_millis(20));
    };
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(status["registry"]["address"].is_null(), "{status}");
}
