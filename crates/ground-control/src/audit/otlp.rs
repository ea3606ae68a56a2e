//! Rows as log records of OpenTelemetry, to a collector (OTLP/HTTP).

use std::time::Duration;

use ::otlp::Exporter;
use ::otlp::messages::{
    AnyValue, ExportLogsServiceRequest, InstrumentationScope, KeyValue, LogRecord, Resource, ResourceLogs,
    SEVERITY_INFO, SEVERITY_WARN, ScopeLogs, Value,
};
use async_trait::async_trait;

use super::sink::{Connection, Sink, SinkError};
use super::syslog::json;
use crate::domain::audit::{Entry, Outcome};

/// A collector says that it has what was sent, and may yet lose what it has not passed on.
const IN_DOUBT: Duration = Duration::from_secs(60);

/// A collector.
#[derive(Debug)]
pub(crate) struct OtlpSink {
    exporter: Exporter,
    resource: Resource,
}

impl OtlpSink {
    pub(crate) fn new(exporter: Exporter, resource: Resource) -> Self {
        Self { exporter, resource }
    }
}

#[async_trait]
impl Sink for OtlpSink {
    fn name(&self) -> &'static str {
        "otlp"
    }

    fn is_local(&self) -> bool {
        false
    }

    fn in_doubt(&self) -> Duration {
        IN_DOUBT
    }

    /// Each batch is a request of its own: there is nothing to reach before the first.
    async fn connect(&self) -> Result<Box<dyn Connection>, SinkError> {
        Ok(Box::new(Collector { exporter: self.exporter.clone(), resource: self.resource.clone() }))
    }
}

struct Collector {
    exporter: Exporter,
    resource: Resource,
}

#[async_trait]
impl Connection for Collector {
    async fn send(&mut self, rows: &[Entry]) -> Result<(), SinkError> {
        let request = ExportLogsServiceRequest {
            resource_logs: vec![ResourceLogs {
                resource: Some(self.resource.clone()),
                scope_logs: vec![ScopeLogs {
                    scope: Some(InstrumentationScope {
                        name: "audit".to_owned(),
                        version: env!("CARGO_PKG_VERSION").to_owned(),
                    }),
                    log_records: rows.iter().map(record).collect(),
                }],
            }],
        };
        Ok(self.exporter.send("/v1/logs", &request).await?)
    }

    async fn broken(&mut self) -> SinkError {
        std::future::pending().await
    }
}

fn record(row: &Entry) -> LogRecord {
    let at = u64::try_from(row.at.as_nanosecond()).unwrap_or(0);
    let (severity_number, severity_text) = if row.outcome == Outcome::Refused.as_str() {
        (SEVERITY_WARN, "WARN")
    } else {
        (SEVERITY_INFO, "INFO")
    };
    let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let mut attributes = vec![
        KeyValue::number("audit.sequence", number(row.sequence)),
        KeyValue::text("audit.action", &row.action),
        KeyValue::text("audit.outcome", &row.outcome),
        KeyValue::text("audit.subject", &row.subject),
        KeyValue::text("audit.actor.kind", &row.actor_kind),
        KeyValue::text("audit.actor.name", &row.actor),
        KeyValue::text("audit.authenticated_by", &row.authenticated_by),
        KeyValue::number("audit.count", number(row.count)),
    ];
    for (name, value) in [("client.address", &row.source), ("audit.request_id", &row.request_id)] {
        if !value.is_empty() {
            attributes.push(KeyValue::text(name, value));
        }
    }
    LogRecord {
        time_unix_nano: at,
        observed_time_unix_nano: at,
        severity_number,
        severity_text: severity_text.to_owned(),
        body: Some(AnyValue { value: Some(Value::Text(json(row))) }),
        attributes,
        event_name: format!("audit.{}", row.action),
    }
}
