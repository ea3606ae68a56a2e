//! Sends messages to a collector (OTLP/HTTP with binary protobuf).

use std::time::Duration;

use http::{HeaderValue, StatusCode, header};
use prost::Message;

/// How long a collector may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why a collector does not have what was sent.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// It cannot be reached, or does not answer.
    #[error("{0}")]
    Unreachable(String),
    /// It answered something else than 2xx.
    #[error("the collector answered {0}")]
    Refused(StatusCode),
}

/// The way to one collector.
#[derive(Debug, Clone)]
pub struct Exporter {
    client: reqwest::Client,
    /// Without a slash at the end.
    endpoint: String,
}

impl Exporter {
    /// A collector at `endpoint` (`http://host:4318`), to which `client` leads.
    pub fn new(client: reqwest::Client, endpoint: &str) -> Self {
        Self { client, endpoint: endpoint.trim_end_matches('/').to_owned() }
    }

    /// Sends log records (`/v1/logs`) or spans (`/v1/traces`); done where the collector said so.
    ///
    /// # Errors
    /// [`ExportError`]; nothing is tried again here.
    pub async fn send(&self, path: &str, message: &impl Message) -> Result<(), ExportError> {
        let answer = self
            .client
            .post(format!("{}{path}", self.endpoint))
            .header(header::CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"))
            .timeout(PATIENCE)
            .body(message.encode_to_vec())
            .send()
            .await
            .map_err(|error| ExportError::Unreachable(chain(&error)))?;
        let status = answer.status();
        if status.is_success() { Ok(()) } else { Err(ExportError::Refused(status)) }
    }
}

/// An error with its causes: what stands on top says only that something failed.
fn chain(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
