//! Direct delivery as the status tells it.

use crate::harness::Site;

#[test]
fn without_a_folder_it_says_what_to_do() {
    let site = Site::new();
    let root = site.folder().join("machine");
    let site = site.set("DIRECT_DELIVERY", "true").set("HOST_ROOT", root.to_str().unwrap());
    let _running = site.start();
    let told = |status: &serde_json::Value| {
        let problems = status["problems"].as_array().unwrap();
        problems.iter().any(|problem| problem.as_str().unwrap().contains("neither k3s nor RKE2 is installed"))
    };
    let status = site.status_when(told);
    assert_eq!(status["healthy"], false);
    let text = site.run(&["status"]).stdout;
    assert!(text.contains("delivers to") && text.contains("--image-dir"), "{text}");
}

#[test]
fn turned_off_it_leaves_the_folder_as_it_was() {
    let site = Site::new();
    let root = site.folder().join("machine");
    let images = root.join("srv/images");
    blob_store::durable::create_dir_all(&images).unwrap();
    blob_store::durable::write_file(&images.join("theirs.tar"), b"theirs", 0o600).unwrap();
    let site = site.set("HOST_ROOT", root.to_str().unwrap());
    let state = site.config_dir().join("state/image-folders.json");
    let listed = || std::fs::read_to_string(&state).unwrap_or_default().contains("/srv/images");
    {
        let mut command = site.command(&["--direct-delivery", "--image-dir=/srv/images"]);
        command.env("REGISTRY_LISTEN", "127.0.0.1:0").stderr(std::process::Stdio::null());
        let mut child = crate::harness::spawn(&mut command);
        site.status_when(|_| listed());
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let _running = site.start();
    site.status_when(|_| !listed());
    let left: Vec<_> = std::fs::read_dir(&images).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["theirs.tar"]);
}
