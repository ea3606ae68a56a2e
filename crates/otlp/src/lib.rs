//! The OpenTelemetry protocol, as much of it as both programs need: log records and spans as protobuf over HTTP, and the
//! context that ties the spans of two programs together (W3C Trace Context).
//!
//! The messages are written by hand, field by field of what is used, as those of SPIRE are: the collector's side reads
//! them with the SDK's own types in the tests. The SDK itself stays out: an edge's program grows by this crate and by no
//! other, and what leaves the process is what is named here, not whatever a library's span happens to hold.
//!
//! Not here: metrics (they are scraped), gRPC, sampling beyond the flag that a caller sends.

mod context;
mod export;
pub mod messages;
mod spans;

pub use context::{SpanId, TraceContext, TraceId};
pub use export::{ExportError, Exporter};
pub use spans::{SpanExport, SpanLayer, is_traced, spans};
