//! What the tests of the client begin with.

use std::time::Duration;

use registry_client::{Client, ClientOptions, Credentials, RetryPolicy};

/// Options whose waits suit a test.
pub(crate) fn options() -> ClientOptions {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    ClientOptions {
        retry: RetryPolicy {
            attempts: 4,
            base: Duration::from_millis(5),
            max: Duration::from_millis(20),
            max_retry_after: Duration::from_secs(2),
        },
        stall_timeout: Duration::from_millis(400),
        upload_answer_timeout: Duration::from_secs(5),
        ..ClientOptions::default()
    }
}

/// A client of the registry at this URL.
pub(crate) fn client(url: &str) -> Client {
    Client::new(url.parse().unwrap(), options()).unwrap()
}

/// A client that can show who it is.
pub(crate) fn client_as(url: &str, username: &str, password: &str) -> Client {
    let options = ClientOptions { credentials: Credentials::basic(username, password), ..options() };
    Client::new(url.parse().unwrap(), options).unwrap()
}
