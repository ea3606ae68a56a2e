//! `satellite status`, `images`, `sync`: against a running process, and against none.

use crate::harness::{Site, nobody};

#[test]
fn nothing_runs() {
    let site = Site::new();
    for command in ["status", "images", "sync"] {
        let ended = site.run(&[command]);
        assert_eq!(ended.code, Some(3), "{ended:?}");
        assert!(ended.stderr.contains("satellite.sock"), "{ended:?}");
    }
    // A socket that a killed process left is no running process.
    let satellite = site.start();
    site.status_when(|_| true);
    satellite.kill();
    assert!(site.config_dir().join("satellite.sock").try_exists().unwrap());
    assert_eq!(site.run(&["status"]).code, Some(3));
}

#[test]
fn it_tells_how_the_process_is() {
    let site = Site::new();
    site.put_index("library/app", "v1");
    let satellite = site.start();
    let status = site.status_when(|status| status["satellite"]["registration"]["state"] == "not_configured");
    assert_eq!(status["api_version"], 1);
    assert_eq!(status["process"]["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(status["registry"]["address"], satellite.address.to_string());
    assert_eq!(status["registry"]["tags"], 1);
    assert_eq!(status["registry"]["repositories"], 1);
    let table = site.run(&["status"]);
    assert!(table.stdout.contains(&format!("http://{}", satellite.address)), "{table:?}");
    let images = site.ask("images");
    assert_eq!(images["images"], serde_json::json!([]));
    assert_eq!(site.run(&["images"]).code, Some(0));
    assert_eq!(site.run(&["sync"]).code, Some(0));
}

#[test]
fn trouble_is_named_and_told_by_the_exit_code() {
    let site = Site::new()
        .set("GROUND_CONTROL_URL", &format!("http://{}", nobody()))
        .set("TOKEN", "0123456789abcdef0123456789abcdef");
    let _satellite = site.start();
    let status = site.status_when(|status| status["healthy"] == false);
    assert!(status["problems"][0].as_str().unwrap().contains("registration"), "{status:#}");
    assert_eq!(status["satellite"]["registration"]["state"], "pending");
    let table = site.run(&["status"]);
    assert_eq!(table.code, Some(1));
    assert!(table.stdout.contains("needs attention") && table.stdout.contains("registration"), "{table:?}");
    assert!(!format!("{status}{table:?}").contains("0123456789abcdef"), "the token is shown nowhere");
}

#[test]
fn two_satellites_do_not_share_a_directory() {
    let site = Site::new();
    let first = site.start();
    site.status_when(|_| true);
    let ended = site.run(&["--registry-listen=127.0.0.1:0"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    // The same socket with a store of its own is refused, too, and the first one keeps it.
    let other = site.folder().join("other").to_str().unwrap().to_owned();
    let ended = site.run(&["--registry-listen=127.0.0.1:0", "--registry-data-dir", &other]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("another satellite"), "{ended:?}");
    assert_eq!(site.ask("status")["registry"]["address"], first.address.to_string());
}

#[test]
fn the_socket_may_lie_deeper_than_an_address_can_name() {
    let folder = tempfile::tempdir().unwrap();
    let deep = folder.path().join("a".repeat(90)).join("b".repeat(90));
    std::fs::create_dir_all(&deep).unwrap();
    let site = Site::new().set("CONTROL_SOCKET", deep.join("satellite.sock").to_str().unwrap());
    let _satellite = site.start();
    site.status_when(|status| status["process"]["pid"].is_number());
}
