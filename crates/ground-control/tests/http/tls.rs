//! The listener under TLS: its certificate, a new one while it runs, and certificates of clients.

use std::path::Path;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use reqwest::{Certificate, Identity};

use crate::support::{config, provider};

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// A certificate for this name and its key, both PEM.
    fn issue(&self, name: &str) -> (String, String) {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.is_ca = IsCa::ExplicitNoCa;
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }
}

fn write(path: &Path, text: &str) {
    let temporary = path.with_extension("new");
    std::io::Write::write_all(&mut std::fs::File::create(&temporary).unwrap(), text.as_bytes()).unwrap();
    std::fs::rename(temporary, path).unwrap();
}

fn client(trusts: &Authority, identity: Option<(String, String)>) -> reqwest::Client {
    provider();
    let root = Certificate::from_pem(trusts.pem.as_bytes()).unwrap();
    // Every request is a handshake of its own, so that it meets the certificate of that moment.
    let mut builder = reqwest::Client::builder()
        .tls_certs_only([root])
        .pool_max_idle_per_host(0)
        .timeout(Duration::from_secs(10));
    if let Some((certificate, key)) = identity {
        builder = builder.identity(Identity::from_pem(format!("{certificate}{key}").as_bytes()).unwrap());
    }
    builder.build().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_are_used_checked_and_replaced_while_it_runs() {
    let (first, second, stranger) = (Authority::new(), Authority::new(), Authority::new());
    let files = tempfile::tempdir().unwrap();
    let path = |name: &str| files.path().join(name).to_str().unwrap().to_owned();
    let (certificate, key, authorities) = (path("tls.pem"), path("tls.key"), path("clients.pem"));
    let install = |authority: &Authority| {
        let (chain, private) = authority.issue("127.0.0.1");
        write(Path::new(&key), &private);
        write(Path::new(&certificate), &chain);
    };
    install(&first);
    write(Path::new(&authorities), &first.pem);

    provider();
    let dir = tempfile::tempdir().unwrap();
    let more =
        [("TLS_CERT_FILE", certificate.as_str()), ("TLS_KEY_FILE", &key), ("TLS_CA_FILE", &authorities)];
    let running = ground_control::server::start(&config(&dir, &more)).await.unwrap();
    let url = format!("{}/ping", running.public_url);
    assert!(url.starts_with("https://127.0.0.1:"), "{url}");

    let ping = async |client: reqwest::Client| client.get(&url).send().await.map(|answer| answer.version());
    assert_eq!(ping(client(&first, None)).await.unwrap(), reqwest::Version::HTTP_2);
    assert!(ping(client(&second, None)).await.is_err(), "an authority that is not trusted");
    ping(client(&first, Some(first.issue("edge-01")))).await.unwrap();
    assert!(ping(client(&first, Some(stranger.issue("edge-01")))).await.is_err(), "a stranger's certificate");

    // A broken pair changes nothing; a good one is in service within seconds.
    write(Path::new(&key), "no key");
    ping(client(&first, None)).await.unwrap();
    install(&second);
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    while ping(client(&second, None)).await.is_err() {
        assert!(tokio::time::Instant::now() < deadline, "the new certificate never came");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    running.stop().await;
}
