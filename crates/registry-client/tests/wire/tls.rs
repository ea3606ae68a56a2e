//! Whose certificate is taken.

use std::io::Write;
use std::sync::Arc;

use registry_client::{Client, ClientOptions, ErrorKind, TlsOptions};
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsAcceptor;

use crate::setup::options;

/// A registry on TLS with a certificate of an authority of its own, whose PEM is the second part.
async fn registry() -> (String, String) {
    serve(|_| answer("200 OK", "", "{}")).await
}

fn answer(status: &str, header: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\n{header}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}")
}

/// The same for any answers to requests.
async fn serve(answers: impl Fn(&str) -> String + Send + Sync + 'static) -> (String, String) {
    let answers = Arc::new(answers);
    let _ = options();
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let mut ca = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca_certificate = ca.self_signed(&ca_key).unwrap();
    let issuer = rcgen::Issuer::new(ca, &ca_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["localhost".to_owned()])
        .unwrap()
        .signed_by(&key, &issuer)
        .unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, answers) = (acceptor.clone(), answers.clone());
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let mut request = [0_u8; 4096];
                let read = stream.read(&mut request).await.unwrap_or(0);
                let answer = answers(&String::from_utf8_lossy(&request[..read]));
                let _ = stream.write_all(answer.as_bytes()).await;
                let _ = stream.shutdown().await;
            });
        }
    });
    (format!("https://localhost:{port}"), ca_certificate.pem())
}

fn client(url: &str, tls: TlsOptions) -> Result<Client, registry_client::Error> {
    Client::new(url.parse().unwrap(), ClientOptions { tls, ..options() })
}

#[tokio::test]
async fn own_authorities_are_trusted_when_named() {
    let (url, pem) = registry().await;
    let error = client(&url, TlsOptions::default()).unwrap().ping().await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Connect(_)), "{error}");
    assert!(error.to_string().contains("certificate"), "{error}");

    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(pem.as_bytes()).unwrap();
    let tls = TlsOptions { ca_file: Some(file.path().to_owned()), skip_verify: false, own_origin: None };
    client(&url, tls).unwrap().ping().await.unwrap();

    client(&url, TlsOptions { ca_file: None, skip_verify: true, own_origin: None })
        .unwrap()
        .ping()
        .await
        .unwrap();
}

#[test]
fn a_ca_file_that_is_none_is_named() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    for content in ["", "no PEM", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        file.as_file().set_len(0).unwrap();
        file.write_all(content.as_bytes()).unwrap();
        let tls = TlsOptions { ca_file: Some(file.path().to_owned()), skip_verify: false, own_origin: None };
        let error = client("https://localhost", tls).unwrap_err().to_string();
        assert!(error.contains(&*file.path().to_string_lossy()), "{error}");
    }
    let tls = TlsOptions { ca_file: Some("/nowhere/ca.pem".into()), skip_verify: false, own_origin: None };
    assert!(client("https://localhost", tls).unwrap_err().to_string().contains("/nowhere/ca.pem"));
}

#[tokio::test]
async fn a_registry_with_a_check_of_its_own_is_checked_by_that_alone() {
    let (url, pem) = registry().await;
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(pem.as_bytes()).unwrap();
    let named = TlsOptions { ca_file: Some(file.path().to_owned()), skip_verify: false, own_origin: None };
    let own = registry_client::tls_config(&named).unwrap();
    let options = TlsOptions { own_origin: Some(own), ..TlsOptions::default() };
    client(&url, options).unwrap().ping().await.unwrap();

    // What is trusted otherwise does not help where the registry has a check of its own.
    let nothing = registry_client::tls_config(&TlsOptions::default()).unwrap();
    let options = TlsOptions { own_origin: Some(nothing), ..named };
    let error = client(&url, options).unwrap().ping().await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Connect(_)), "{error}");
}

#[tokio::test]
async fn a_token_service_elsewhere_is_checked_like_everything_elsewhere() {
    let (realm, realm_pem) = serve(|_| answer("200 OK", "", r#"{"token":"t"}"#)).await;
    let (url, pem) = serve(move |request| {
        if request.contains("Bearer t") {
            return answer("200 OK", "", "{}");
        }
        let challenge = format!("WWW-Authenticate: Bearer realm=\"{realm}/token\",service=\"s\"\r\n");
        answer("401 Unauthorized", &challenge, "{}")
    })
    .await;
    let mut files = [tempfile::NamedTempFile::new().unwrap(), tempfile::NamedTempFile::new().unwrap()];
    for (file, pem) in files.iter_mut().zip([&pem, &realm_pem]) {
        file.write_all(pem.as_bytes()).unwrap();
    }
    let trusting = |file: &tempfile::NamedTempFile| TlsOptions {
        ca_file: Some(file.path().to_owned()),
        ..TlsOptions::default()
    };
    let own = || Some(registry_client::tls_config(&trusting(&files[0])).unwrap());
    let both = TlsOptions { own_origin: own(), ..trusting(&files[1]) };
    client(&url, both).unwrap().ping().await.unwrap();

    // The registry's own check is for its own address: it does not vouch for the token service.
    let only_own = TlsOptions { own_origin: own(), ..TlsOptions::default() };
    let error = client(&url, only_own).unwrap().ping().await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Connect(_)), "{error}");
}
