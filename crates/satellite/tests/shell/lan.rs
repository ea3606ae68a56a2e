//! The registry towards other machines, and what is the site's own.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use oci::Digest;
use reqwest::{Client, Method, RequestBuilder, StatusCode};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::harness::{INDEX, PATIENCE, Running, Site, request};

/// `node` with the password `correct horse`, `old` locked.
fn accounts(site: &Site, file: &Path) {
    let line = hash(site, "node", "correct horse");
    blob_store::durable::write_file(file, format!("{line}old:!\n").as_bytes(), 0o600).unwrap();
}

fn hash(site: &Site, name: &str, password: &str) -> String {
    use std::io::Write as _;
    let mut command = site.command(&["accounts", "hash", name]);
    command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut child = crate::harness::spawn(&mut command);
    child.stdin.take().unwrap().write_all(format!("{password}\n").as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// A site with a listener for other machines on a port that the system chooses, and its accounts file.
fn site() -> (Site, std::path::PathBuf) {
    let site = Site::new().set("LAN_LISTEN", "127.0.0.1:0").set("LOCAL_NAMESPACES", "dev,team/ci");
    let file = site.folder().join("accounts");
    accounts(&site, &file);
    let named = file.to_str().unwrap().to_owned();
    (site.set("LAN_ACCOUNTS_FILE", &named).set("LAN_NAME", "site.example"), file)
}

fn lan(site: &Site) -> SocketAddr {
    let status = site.status_when(|status| status["satellite"]["lan"]["address"].is_string());
    status["satellite"]["lan"]["address"].as_str().unwrap().parse().unwrap()
}

/// A machine that knows the authority of this PEM, and perhaps shows a certificate.
fn machine(ca: &str, shows: Option<(&str, &str)>, address: SocketAddr) -> Client {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca.as_bytes()) {
        roots.add(certificate.unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = match shows {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
            builder
                .with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap())
                .unwrap()
        }
    };
    Client::builder()
        .no_proxy()
        .tls_backend_preconfigured(config)
        .resolve("site.example", address)
        .timeout(PATIENCE)
        // Each request has a runtime of its own.
        .pool_max_idle_per_host(0)
        .build()
        .unwrap()
}

fn wait<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

fn status(request: RequestBuilder) -> StatusCode {
    wait(async { request.send().await.unwrap().status() })
}

#[test]
fn other_machines_get_in_with_an_account_or_a_certificate_and_nobody_else() {
    let (site, _) = site();
    let digest = site.put_index("library/app", "v1");
    // Before anything runs, which is when nodes are set up.
    let export = site.run(&["ca", "export"]);
    assert_eq!(export.code, Some(0), "{export:?}");
    let satellite = site.start();
    let address = lan(&site);
    assert_eq!(site.run(&["ca", "export"]).stdout, export.stdout, "it is made once");
    let url = |path: &str| format!("https://site.example:{}{path}", address.port());
    let manifest = url("/v2/library/app/manifests/v1");

    let client = machine(&export.stdout, None, address);
    let refused = wait(async { client.get(url("/v2/")).send().await.unwrap() });
    assert_eq!(refused.status(), 401);
    assert_eq!(refused.headers()["www-authenticate"], "Basic realm=\"satellite\", charset=\"UTF-8\"");
    assert_eq!(status(client.get(&manifest)), 401);
    assert_eq!(status(client.get(&manifest).basic_auth("node", Some("wrong"))), 401);
    assert_eq!(status(client.get(&manifest).basic_auth("old", Some("!"))), 401);
    let account = |request: RequestBuilder| request.basic_auth("node", Some("correct horse"));
    wait(async {
        let answer = account(client.get(&manifest)).send().await.unwrap();
        assert_eq!(answer.headers()["docker-content-digest"], digest.to_string());
        assert_eq!(answer.bytes().await.unwrap(), INDEX);
    });
    let ns = |host: &str| status(account(client.get(format!("{manifest}?ns={host}"))));
    assert_eq!((ns("docker.io"), ns("quay.io")), (StatusCode::OK, StatusCode::NOT_FOUND));
    assert_eq!(status(account(client.delete(&manifest))), 405);
    assert_eq!(status(account(client.get(url("/other")))), 404);

    let folder = site.folder().join("node");
    let issued = site.run(&["ca", "issue", "--name", "node-7", "--out", folder.to_str().unwrap()]);
    assert_eq!(issued.code, Some(0), "{issued:?}");
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    assert_eq!(read("ca.crt"), export.stdout);
    let node = machine(&export.stdout, Some((&read("node-7.crt"), &read("node-7.key"))), address);
    assert_eq!(status(node.get(&manifest)), 200);
    let uploads = url("/v2/dev/app/blobs/uploads/");
    assert_eq!(status(node.post(&uploads)), 403, "pushes need an account");
    assert_eq!(status(account(node.post(&uploads))), 202);

    // Another site's certificate is none.
    let other = Site::new();
    let elsewhere = other.folder().join("node");
    other.run(&["ca", "issue", "--name", "node-7", "--out", elsewhere.to_str().unwrap()]);
    let read = |name: &str| std::fs::read_to_string(elsewhere.join(name)).unwrap();
    let stranger = machine(&export.stdout, Some((&read("node-7.crt"), &read("node-7.key"))), address);
    assert!(wait(async { stranger.get(&manifest).send().await }).is_err());
    let deceived = machine(&read("ca.crt"), None, address);
    assert!(wait(async { deceived.get(&manifest).send().await }).is_err(), "nor is its registry this one");

    let told = site.ask("status");
    let lan = &told["satellite"]["lan"];
    assert_eq!(
        (lan["certificate"].as_str(), lan["accounts"].as_u64()),
        (Some("local_ca"), Some(2)),
        "{told}"
    );
    assert!(lan["names"].as_array().unwrap().contains(&"site.example".into()), "{told}");
    assert_eq!(told["registry"]["local_namespaces"], serde_json::json!(["dev", "team/ci"]));
    let text = site.run(&["status"]).stdout;
    assert!(text.contains(&format!("https://{address}")) && text.contains("dev, team/ci"), "{text}");
    drop(satellite);
}

#[test]
fn accounts_and_certificates_are_taken_and_withdrawn_while_it_runs() {
    let (site, file) = site();
    let folder = site.folder().join("certificates");
    let to = folder.to_str().unwrap();
    assert_eq!(site.run(&["ca", "issue", "--name", "late", "--out", to]).code, Some(0));
    let mut satellite = site.start();
    let address = lan(&site);
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    let ca = read("ca.crt");
    let url = format!("https://site.example:{}/v2/", address.port());
    let client = machine(&ca, None, address);
    let late = machine(&ca, Some((&read("late.crt"), &read("late.key"))), address);
    let ask = |password: &str| status(client.get(&url).basic_auth("node", Some(password)));
    assert_eq!((ask("correct horse"), status(late.get(&url))), (StatusCode::OK, StatusCode::OK));

    blob_store::durable::write_file(&file, b"nonsense\n", 0o600).unwrap();
    satellite.log("accounts for the lan not read");
    assert_eq!(ask("correct horse"), 200, "what was known stays");
    let status_now = site.ask("status");
    assert!(
        status_now["satellite"]["lan"]["accounts_problem"].as_str().unwrap().contains("line 1"),
        "{status_now}"
    );
    assert!(status_now["healthy"] == false, "{status_now}");

    let new = format!("{}late:!\n", hash(&site, "node", "battery staple"));
    blob_store::durable::write_file(&file, new.as_bytes(), 0o600).unwrap();
    satellite.log("accounts for the lan read");
    assert_eq!((ask("correct horse"), ask("battery staple")), (StatusCode::UNAUTHORIZED, StatusCode::OK));
    assert_eq!(status(late.get(&url)), 403);
    assert_eq!(satellite.stop(), Some(0));
}

#[test]
fn what_is_in_its_way_costs_the_local_registry_nothing() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let site = Site::new().set("LAN_LISTEN", &address.to_string());
    site.put_index("library/app", "v1");
    let mut satellite = site.start();
    satellite.log("lan listener does not serve");
    assert_eq!(satellite.request("GET", "/v2/library/app/manifests/v1").0, 200);
    let status = site.status_when(|status| status["satellite"]["lan"]["problem"].is_string());
    assert_eq!(status["healthy"], false, "{status}");
    drop(taken);
    satellite.log("lan listener serves");
    site.status_when(|status| status["satellite"]["lan"]["problem"].is_null());
}

#[test]
fn the_sites_own_certificate_is_used_and_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = (folder.path().join("c.pem"), folder.path().join("k.pem"));
    let make = || {
        let made = rcgen::generate_simple_self_signed(["site.example".to_owned()]).unwrap();
        blob_store::durable::write_file(&key, made.signing_key.serialize_pem().as_bytes(), 0o600).unwrap();
        blob_store::durable::write_file(&certificate, made.cert.pem().as_bytes(), 0o600).unwrap();
        made.cert.pem()
    };
    let site = Site::new()
        .set("LAN_LISTEN", "127.0.0.1:0")
        .set("LAN_TLS_CERT_FILE", certificate.to_str().unwrap())
        .set("LAN_TLS_KEY_FILE", key.to_str().unwrap());
    let mut satellite = site.start();
    satellite.log("lan listener does not serve");
    let first = make();
    let address = lan(&site);
    let url = format!("https://site.example:{}/v2/", address.port());
    assert_eq!(status(machine(&first, None, address).get(&url)), 401);
    assert_eq!(site.ask("status")["satellite"]["lan"]["certificate"], "files");
    let second = make();
    satellite.log("certificate of the lan listener renewed");
    assert_eq!(status(machine(&second, None, address).get(&url)), 401);
    assert!(wait(async { machine(&first, None, address).get(&url).send().await }).is_err());
}

/// Pushes an index on loopback: one request, as it names no blob.
fn push(satellite: &Running, repository: &str, tag: &str, headers: &[(&str, &str)]) -> StatusCode {
    // Fails where another test did it before.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let mut request = Client::builder()
        .no_proxy()
        .build()
        .unwrap()
        .request(Method::PUT, format!("http://{}/v2/{repository}/manifests/{tag}", satellite.address))
        .header("content-type", "application/vnd.oci.image.index.v1+json")
        .body(INDEX);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    status(request)
}

#[test]
fn people_of_this_machine_push_into_what_is_the_sites_own_and_nowhere_else() {
    let site = Site::new().set("LOCAL_NAMESPACES", "dev").set("MIRROR_PATH", "ghcr.io=dev/ghcr");
    site.put_index("library/app", "v1");
    let satellite = site.start();
    assert_eq!(push(&satellite, "dev/app", "v1", &[]), 201);
    assert_eq!(push(&satellite, "dev/app", "v2", &[("origin", "https://evil.example")]), 403);
    for repository in ["library/app", "devil/app", "quay.io/app", "satellite/x"] {
        assert_eq!(push(&satellite, repository, "v1", &[]), 405, "{repository}");
    }
    let get = |path: &str| satellite.request("GET", path).0;
    assert_eq!(get("/v2/dev/app/manifests/v1"), 200);
    for host in ["docker.io", "dev", "quay.io"] {
        assert_eq!(get(&format!("/v2/dev/app/manifests/v1?ns={host}")), 404, "{host}");
    }
    assert_eq!(get("/v2/app/manifests/v1?ns=ghcr.io"), 404);
    let digest = Digest::sha256(INDEX);
    assert_eq!(satellite.request("DELETE", &format!("/v2/dev/app/manifests/{digest}")).0, 202);
    assert_eq!(get("/v2/dev/app/manifests/v1"), 404);
    assert_eq!(get("/v2/library/app/manifests/v1"), 200);
}

#[test]
fn forty_requests_at_once_are_one_stretched_password() {
    let (site, _) = site();
    let satellite = site.start();
    let address = lan(&site);
    let client = machine(&site.run(&["ca", "export"]).stdout, None, address);
    let url = format!("https://site.example:{}/v2/", address.port());
    let pull = || async {
        let all = (0..40).map(|_| client.get(&url).basic_auth("node", Some("correct horse")).send());
        let all = futures_util::future::join_all(all).await;
        all.into_iter().map(|answer| answer.unwrap().status().as_u16()).collect::<Vec<_>>()
    };
    assert!(wait(pull()).iter().all(|code| *code == 200));
    let began = Instant::now();
    assert!(wait(pull()).iter().all(|code| *code == 200));
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    drop(satellite);
}

#[test]
fn a_new_authority_takes_over_and_nobody_is_shut_out_before_it_is_said() {
    let (site, _file) = site();
    let issued = |name: &str| {
        let folder = site.folder().join(name);
        assert_eq!(
            site.run(&["ca", "issue", "--name", name, "--out", folder.to_str().unwrap()]).code,
            Some(0)
        );
        let read = |end: &str| std::fs::read_to_string(folder.join(end)).unwrap();
        (read("ca.crt"), read(&format!("{name}.crt")), read(&format!("{name}.key")))
    };
    let early = issued("early");
    let satellite = site.start();
    let address = lan(&site);
    let url = format!("https://site.example:{}/v2/", address.port());
    // On a connection of its own each: what is checked is the handshake.
    let gets_in = |ca: &str, node: &(String, String, String)| {
        let client = machine(ca, Some((&node.1, &node.2)), address);
        wait(async { client.get(&url).send().await.is_ok_and(|answer| answer.status() == 200) })
    };
    let follows = |what: &str, there: &dyn Fn() -> bool| {
        let end = Instant::now() + Duration::from_secs(60);
        while !there() {
            assert!(Instant::now() < end, "{what}");
            std::thread::sleep(Duration::from_millis(200));
        }
    };
    let refused = site.run(&["ca", "rotate", "--finish"]);
    assert!(refused.code == Some(1) && refused.stderr.contains("ca rotate"), "{refused:?}");
    let told = site.run(&["ca", "rotate"]);
    assert!(told.code == Some(0) && told.stdout.contains("ca export"), "{told:?}");
    let again = site.run(&["ca", "rotate"]);
    assert!(again.code == Some(1) && again.stderr.contains("--finish"), "{again:?}");

    let both = site.run(&["ca", "export"]).stdout;
    assert!(both.starts_with(&early.0) && both.len() > early.0.len(), "{both}");
    let late = issued("late");
    assert_eq!(late.0, both);
    follows("the new one's certificates get in", &|| gets_in(&both, &late));
    assert!(gets_in(&early.0, &early), "who knows the old one alone goes on");

    assert_eq!(site.run(&["ca", "rotate", "--finish"]).code, Some(0));
    follows("the old one's certificates get in no more", &|| !gets_in(&both, &early));
    assert!(gets_in(&both, &late), "who was given both goes on");
    let new = site.run(&["ca", "export"]).stdout;
    assert!(gets_in(&new, &late) && !both.starts_with(&new) && both.ends_with(&new));
    drop(satellite);
}

#[test]
fn what_cannot_be_done_by_hand_is_said() {
    let site = Site::new();
    assert_eq!(site.run(&["ca", "issue", "--name", "a b", "--out", "x"]).code, Some(1));
    assert_eq!(site.run(&["ca", "forget"]).code, Some(2));
    let short = site.run(&["accounts", "hash", "node"]);
    assert!(short.code == Some(1) && short.stderr.contains("8 characters"), "{short:?}");
    let out = site.folder().join("ca.pem");
    let export = site.run(&["ca", "export", "--out", out.to_str().unwrap()]);
    assert!(export.code == Some(0) && export.stdout.is_empty(), "{export:?}");
    assert!(std::fs::read_to_string(&out).unwrap().starts_with("-----BEGIN CERTIFICATE-----"));
    blob_store::durable::write_file(&site.config_dir().join("lan-ca.pem"), b"x", 0o600).unwrap();
    let broken = site.run(&["ca", "export"]);
    assert!(broken.code == Some(1) && broken.stderr.contains("lan-ca.pem"), "{broken:?}");
    let ended = Site::new().set("REGISTRY_LISTEN", "0.0.0.0:0").run(&[]);
    assert!(ended.code == Some(2) && ended.stderr.contains("LAN_LISTEN"), "{ended:?}");
}

#[test]
fn docker_finds_docker_io_and_nothing_else_on_a_listener_of_its_own() {
    let site = Site::new().set("MIRROR_PATH", "docker.io=hub").set("DOCKER_MIRROR_LISTEN", "127.0.0.1:0");
    site.put_index("hub/library/app", "v1");
    site.put_index("library/other", "v1");
    let mut satellite = site.start();
    let listens = |status: &serde_json::Value| status["satellite"]["docker_mirror"]["address"].is_string();
    let status = site.status_when(listens);
    let address = status["satellite"]["docker_mirror"]["address"].as_str().unwrap().parse().unwrap();
    let digest = Digest::sha256(INDEX);
    for (path, code) in [
        ("/v2/".to_owned(), 200),
        ("/v2/library/app/manifests/v1".to_owned(), 200),
        (format!("/v2/library/app/manifests/{digest}"), 200),
        ("/v2/library/app/manifests/v1?ns=docker.io".to_owned(), 200),
        ("/v2/library/app/manifests/v1?ns=quay.io".to_owned(), 404),
        ("/v2/hub/library/app/manifests/v1".to_owned(), 404),
        ("/v2/library/other/manifests/v1".to_owned(), 404),
    ] {
        assert_eq!(request(address, "GET", &path).0, code, "{path}");
    }
    assert_eq!(request(address, "DELETE", "/v2/library/app/manifests/v1").0, 405);
    assert!(site.run(&["status"]).stdout.contains(&format!("http://{address}")));
    assert_eq!(satellite.stop(), Some(0));
}

#[test]
fn what_was_pushed_stays_when_its_namespace_is_forgotten() {
    let site = Site::new().set("LOCAL_NAMESPACES", "dev");
    let mut satellite = site.start();
    assert_eq!(push(&satellite, "dev/app", "v1", &[]), 201);
    assert_eq!(satellite.stop(), Some(0));
    let site = site.set("LOCAL_NAMESPACES", "");
    let satellite = site.start();
    assert_eq!(satellite.request("GET", "/v2/dev/app/manifests/v1").0, 200);
    assert_eq!(
        satellite.request("GET", "/v2/dev/app/manifests/v1?ns=docker.io").0,
        404,
        "nor is it Docker Hub's"
    );
    assert_eq!(push(&satellite, "dev/app", "v2", &[]), 405);
}
