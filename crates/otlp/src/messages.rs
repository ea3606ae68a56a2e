//! Messages of OTLP 1.x (`opentelemetry/proto/**`): the fields that are written, under the numbers that they have there.

use prost::Message;

/// What a body or an attribute holds.
#[derive(Clone, PartialEq, Message)]
pub struct AnyValue {
    /// The value; absent is null.
    #[prost(oneof = "Value", tags = "1, 2, 3")]
    pub value: Option<Value>,
}

/// The kinds of values that are written.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Value {
    /// A text.
    #[prost(string, tag = "1")]
    Text(String),
    /// A truth.
    #[prost(bool, tag = "2")]
    Truth(bool),
    /// A number.
    #[prost(int64, tag = "3")]
    Number(i64),
}

/// An attribute.
#[derive(Clone, PartialEq, Message)]
pub struct KeyValue {
    /// Its name.
    #[prost(string, tag = "1")]
    pub key: String,
    /// What it holds.
    #[prost(message, optional, tag = "2")]
    pub value: Option<AnyValue>,
}

impl KeyValue {
    /// An attribute that holds a text.
    pub fn text(key: &str, value: impl Into<String>) -> Self {
        Self::of(key, Value::Text(value.into()))
    }

    /// An attribute that holds a number.
    pub fn number(key: &str, value: i64) -> Self {
        Self::of(key, Value::Number(value))
    }

    /// An attribute.
    pub fn of(key: &str, value: Value) -> Self {
        Self { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }) }
    }
}

/// Who sends.
#[derive(Clone, PartialEq, Message)]
pub struct Resource {
    /// What it is: `service.name` and so on.
    #[prost(message, repeated, tag = "1")]
    pub attributes: Vec<KeyValue>,
}

impl Resource {
    /// A program: its name, its version, and which of several it is.
    pub fn service(name: &str, version: &str, instance: &str) -> Self {
        Self {
            attributes: vec![
                KeyValue::text("service.name", name),
                KeyValue::text("service.version", version),
                KeyValue::text("service.instance.id", instance),
            ],
        }
    }
}

/// Which part of it.
#[derive(Clone, PartialEq, Message)]
pub struct InstrumentationScope {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Its version.
    #[prost(string, tag = "2")]
    pub version: String,
}

/// `POST /v1/logs`.
#[derive(Clone, PartialEq, Message)]
pub struct ExportLogsServiceRequest {
    /// By sender.
    #[prost(message, repeated, tag = "1")]
    pub resource_logs: Vec<ResourceLogs>,
}

/// What one sender has.
#[derive(Clone, PartialEq, Message)]
pub struct ResourceLogs {
    /// Who.
    #[prost(message, optional, tag = "1")]
    pub resource: Option<Resource>,
    /// By part.
    #[prost(message, repeated, tag = "2")]
    pub scope_logs: Vec<ScopeLogs>,
}

/// What one part has.
#[derive(Clone, PartialEq, Message)]
pub struct ScopeLogs {
    /// Which.
    #[prost(message, optional, tag = "1")]
    pub scope: Option<InstrumentationScope>,
    /// Its records.
    #[prost(message, repeated, tag = "2")]
    pub log_records: Vec<LogRecord>,
}

/// Severity `INFO`.
pub const SEVERITY_INFO: i32 = 9;
/// Severity `WARN`.
pub const SEVERITY_WARN: i32 = 13;

/// A record.
#[derive(Clone, PartialEq, Message)]
pub struct LogRecord {
    /// When it happened, in nanoseconds since the epoch.
    #[prost(fixed64, tag = "1")]
    pub time_unix_nano: u64,
    /// How grave it is: [`SEVERITY_INFO`], [`SEVERITY_WARN`].
    #[prost(int32, tag = "2")]
    pub severity_number: i32,
    /// The same as a word.
    #[prost(string, tag = "3")]
    pub severity_text: String,
    /// What it says.
    #[prost(message, optional, tag = "5")]
    pub body: Option<AnyValue>,
    /// What it says in parts.
    #[prost(message, repeated, tag = "6")]
    pub attributes: Vec<KeyValue>,
    /// When it was seen, in nanoseconds since the epoch.
    #[prost(fixed64, tag = "11")]
    pub observed_time_unix_nano: u64,
    /// What kind of event it tells of.
    #[prost(string, tag = "12")]
    pub event_name: String,
}

/// `POST /v1/traces`.
#[derive(Clone, PartialEq, Message)]
pub struct ExportTraceServiceRequest {
    /// By sender.
    #[prost(message, repeated, tag = "1")]
    pub resource_spans: Vec<ResourceSpans>,
}

/// What one sender has.
#[derive(Clone, PartialEq, Message)]
pub struct ResourceSpans {
    /// Who.
    #[prost(message, optional, tag = "1")]
    pub resource: Option<Resource>,
    /// By part.
    #[prost(message, repeated, tag = "2")]
    pub scope_spans: Vec<ScopeSpans>,
}

/// What one part has.
#[derive(Clone, PartialEq, Message)]
pub struct ScopeSpans {
    /// Which.
    #[prost(message, optional, tag = "1")]
    pub scope: Option<InstrumentationScope>,
    /// Its spans.
    #[prost(message, repeated, tag = "2")]
    pub spans: Vec<Span>,
}

/// A span within a program.
pub const KIND_INTERNAL: i32 = 1;
/// A span that serves a request.
pub const KIND_SERVER: i32 = 2;
/// A span that makes a request.
pub const KIND_CLIENT: i32 = 3;

/// A span that has ended.
#[derive(Clone, PartialEq, Message)]
pub struct Span {
    /// 16 bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub trace_id: Vec<u8>,
    /// 8 bytes.
    #[prost(bytes = "vec", tag = "2")]
    pub span_id: Vec<u8>,
    /// 8 bytes, or none for the first of a trace.
    #[prost(bytes = "vec", tag = "4")]
    pub parent_span_id: Vec<u8>,
    /// What it is.
    #[prost(string, tag = "5")]
    pub name: String,
    /// [`KIND_INTERNAL`], [`KIND_SERVER`], [`KIND_CLIENT`].
    #[prost(int32, tag = "6")]
    pub kind: i32,
    /// When it began, in nanoseconds since the epoch.
    #[prost(fixed64, tag = "7")]
    pub start_time_unix_nano: u64,
    /// When it ended, in nanoseconds since the epoch.
    #[prost(fixed64, tag = "8")]
    pub end_time_unix_nano: u64,
    /// What else there is to say.
    #[prost(message, repeated, tag = "9")]
    pub attributes: Vec<KeyValue>,
    /// How it ended.
    #[prost(message, optional, tag = "15")]
    pub status: Option<Status>,
}

/// A span whose end nobody judged.
pub const STATUS_UNSET: i32 = 0;
/// A span that failed.
pub const STATUS_ERROR: i32 = 2;

/// How a span ended.
#[derive(Clone, PartialEq, Message)]
pub struct Status {
    /// [`STATUS_UNSET`], [`STATUS_ERROR`].
    #[prost(int32, tag = "3")]
    pub code: i32,
}
