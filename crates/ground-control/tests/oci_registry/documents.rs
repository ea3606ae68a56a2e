//! State documents there: written, read back, replaced, removed as far as that registry lets us.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::IntoResponse as _;
use axum::routing::any;
use fleet_protocol::state_image::StateImage;
use ground_control::central::PasswordFile;
use ground_control::config::RegistryConfig;
use ground_control::publish::{OciRegistry, RegistryBackend as _};
use oci::{Digest, RepositoryName};
use serde_json::json;
use testbed::docker_registry::{Options, PASSWORDS};

use crate::{Elsewhere, accounts};

const REPOSITORY: &str = "satellite/group-state/east/state";

fn repository() -> RepositoryName {
    REPOSITORY.parse().unwrap()
}

fn image(revision: u32) -> StateImage {
    StateImage::encode(&json!({"group": "east", "artifacts": [], "revision": revision})).unwrap()
}

pub(crate) fn client(elsewhere: &Elsewhere) -> OciRegistry {
    crate::support::provider();
    let dir = tempfile::tempdir().unwrap();
    let RegistryConfig::Oci(config) = elsewhere.config(&dir).registry else { panic!("another registry") };
    OciRegistry::new(&config, PasswordFile::new("OCI_PUSH_PASSWORD_FILE", &config.push_password_file))
        .unwrap()
}

async fn current(registry: &OciRegistry) -> Option<Digest> {
    registry.current(&repository()).await.unwrap().map(|manifest| manifest.digest)
}

async fn is_there(elsewhere: &Elsewhere, digest: &Digest) -> bool {
    let registry = elsewhere.registry.registry_as("pull", PASSWORDS[1]);
    registry.manifest(REPOSITORY, &digest.to_string()).await.unwrap().is_some()
}

#[tokio::test]
async fn documents_are_written_replaced_and_removed() {
    let elsewhere = Elsewhere::start(true).await;
    let registry = client(&elsewhere);
    assert_eq!(registry.last_answer(), None);
    let (repository, first, second) = (repository(), image(1), image(2));
    assert_eq!(current(&registry).await, None);
    registry.clear(&repository).await.unwrap();
    for _ in 0..2 {
        registry.publish(&repository, &first).await.unwrap();
        assert_eq!(current(&registry).await, Some(first.digest));
    }
    let pull = elsewhere.registry.registry_as("pull", PASSWORDS[1]);
    let verified = pull.verify(REPOSITORY, "latest").await.unwrap().unwrap();
    assert_eq!((verified.manifests, verified.blobs), (1, 2));

    registry.publish(&repository, &second).await.unwrap();
    // What the tag points at stays, whoever asks for it to go.
    registry.remove(&repository, &second.digest).await.unwrap();
    assert!(is_there(&elsewhere, &first.digest).await && is_there(&elsewhere, &second.digest).await);
    for _ in 0..2 {
        registry.remove(&repository, &first.digest).await.unwrap();
        assert!(!is_there(&elsewhere, &first.digest).await);
    }
    assert_eq!(current(&registry).await, Some(second.digest));
    for _ in 0..2 {
        registry.clear(&repository).await.unwrap();
        assert_eq!(current(&registry).await, None);
    }
    assert!(!is_there(&elsewhere, &second.digest).await);
    assert!(registry.last_answer().unwrap().ok);
}

#[tokio::test]
async fn where_nothing_may_be_deleted_it_stays_and_nothing_fails() {
    let elsewhere = Elsewhere::start(false).await;
    let registry = client(&elsewhere);
    let (repository, first, second) = (repository(), image(1), image(2));
    registry.publish(&repository, &first).await.unwrap();
    registry.publish(&repository, &second).await.unwrap();
    registry.remove(&repository, &first.digest).await.unwrap();
    assert!(is_there(&elsewhere, &first.digest).await);
    registry.clear(&repository).await.unwrap();
    assert_eq!(current(&registry).await, Some(second.digest));
}

/// 401 is no word about deletion, and no reason to forget what is to be removed.
#[tokio::test]
async fn a_rotated_password_is_read_again_and_a_wrong_one_is_an_error() {
    let elsewhere = Elsewhere::start(true).await;
    let registry = client(&elsewhere);
    let (repository, first, second) = (repository(), image(1), image(2));
    registry.publish(&repository, &first).await.unwrap();
    elsewhere.registry.set_accounts(&accounts(PASSWORDS[2], PASSWORDS[1])).unwrap();
    for error in [
        registry.publish(&repository, &second).await.unwrap_err(),
        registry.remove(&repository, &second.digest).await.unwrap_err(),
        registry.clear(&repository).await.unwrap_err(),
    ] {
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(cause.contains("401") && !cause.contains(PASSWORDS[0].text), "{error}: {cause}");
    }
    assert!(!registry.last_answer().unwrap().ok);
    elsewhere.write("push", PASSWORDS[2].text);
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
    while let Err(error) = registry.publish(&repository, &second).await {
        assert!(tokio::time::Instant::now() < deadline, "{error}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(current(&registry).await, Some(second.digest));
}

/// A certificate of an authority that nobody else knows.
#[tokio::test]
async fn the_certificate_is_checked_against_the_file_of_authorities() {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let tls = Some((made.cert.pem(), made.signing_key.serialize_pem()));
    let elsewhere = Elsewhere::start_with(Options { tls, ..Options::default() }).await;
    assert!(elsewhere.registry.url().starts_with("https://"));
    let unknown = client(&elsewhere).publish(&repository(), &image(1)).await.unwrap_err();
    let cause = std::error::Error::source(&unknown).unwrap().to_string();
    assert!(cause.contains("certificate"), "{cause}");

    crate::support::provider();
    let dir = tempfile::tempdir().unwrap();
    let RegistryConfig::Oci(mut config) = elsewhere.config(&dir).registry else { panic!("another registry") };
    let file = dir.path().join("ca.pem");
    config.ca_file = Some(file.clone());
    let password = PasswordFile::new("OCI_PUSH_PASSWORD_FILE", &config.push_password_file);
    assert!(OciRegistry::new(&config, password.clone()).unwrap_err().to_string().contains("ca.pem"));
    testbed::files::write(&file, made.cert.pem()).unwrap();
    let registry = OciRegistry::new(&config, password).unwrap();
    registry.publish(&repository(), &image(1)).await.unwrap();
    assert_eq!(current(&registry).await, Some(image(1).digest));
}

/// Takes everything, and has another document under the tag.
async fn lies(
    State(manifest): State<Arc<StateImage>>,
    request: axum::extract::Request,
) -> axum::response::Response {
    let digest = ("docker-content-digest", manifest.digest.to_string());
    match request.method().as_str() {
        "POST" => (axum::http::StatusCode::ACCEPTED, [("location", "/v2/upload")]).into_response(),
        "PUT" => axum::http::StatusCode::CREATED.into_response(),
        _ if request.uri().path().contains("/manifests/") => {
            ([digest, ("content-type", manifest.media_type.to_owned())], manifest.manifest.clone())
                .into_response()
        }
        _ => axum::http::StatusCode::NOT_FOUND.into_response(),
    }
}

#[tokio::test]
async fn what_is_under_the_tag_afterwards_is_read_back() {
    crate::support::provider();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("password");
    testbed::files::write(&file, "secret").unwrap();
    let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", socket.local_addr().unwrap());
    let router = Router::new().fallback(any(lies)).with_state(Arc::new(image(1)));
    tokio::spawn(async move { axum::serve(socket, router).await });
    let path = file.to_str().unwrap();
    let variables = [
        ("SPIFFE_SERVER_ENABLED", "true"),
        ("REGISTRY_BACKEND", "oci"),
        ("OCI_REGISTRY_URL", url.as_str()),
        ("OCI_PUSH_USERNAME", "push"),
        ("OCI_PUSH_PASSWORD_FILE", path),
        ("OCI_PULL_USERNAME", "pull"),
        ("OCI_PULL_PASSWORD_FILE", path),
    ];
    let RegistryConfig::Oci(config) = crate::support::config(&dir, &variables).registry else {
        panic!("oci")
    };
    let registry = OciRegistry::new(&config, PasswordFile::new("OCI_PUSH_PASSWORD_FILE", &file)).unwrap();
    registry.publish(&repository(), &image(1)).await.unwrap();
    let error = registry.publish(&repository(), &image(2)).await.unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains(&image(1).digest.to_string()), "{cause}");
}
