//! A row as a syslog message (RFC 5424).

use std::fmt::Write as _;

use crate::domain::audit::{Entry, Outcome};

/// Facility "log audit" (13), and the severities notice (5) of what was done and warning (4) of what was refused.
const FACILITY: u8 = 13;
const NOTICE: u8 = 5;
const WARNING: u8 = 4;
/// `sequenceId` counts up to here and begins again at 1 (RFC 5424 section 7.3.1).
const LAST_SEQUENCE_ID: u64 = 2_147_483_647;

/// What stands in every message of this process.
#[derive(Debug, Clone)]
pub(crate) struct Header {
    hostname: String,
    tag: String,
    process: u32,
}

impl Header {
    /// With this APP-NAME.
    pub(crate) fn new(tag: &str) -> Self {
        let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
        Self { hostname: field(&name, 255), tag: field(tag, 48), process: std::process::id() }
    }

    /// The message, without what frames it. Its text is one line of JSON: the row as `GET /api/audit` has it.
    pub(crate) fn message(&self, row: &Entry) -> String {
        let severity = if row.outcome == Outcome::Refused.as_str() { WARNING } else { NOTICE };
        let priority = FACILITY * 8 + severity;
        let (hostname, tag, process) = (&self.hostname, &self.tag, self.process);
        let (time, kind) = (row.at, field(&row.action, 32));
        let sequence = row.sequence.saturating_sub(1) % LAST_SEQUENCE_ID + 1;
        let mut message = String::with_capacity(512);
        let _ = write!(
            message,
            "<{priority}>1 {time} {hostname} {tag} {process} {kind} [meta sequenceId=\"{sequence}\"] "
        );
        message.push_str(&json(row));
        message
    }
}

/// A row as JSON; control characters are escaped in it.
pub(crate) fn json(row: &Entry) -> String {
    serde_json::to_string(row).unwrap_or_default()
}

/// A field of the header: printable ASCII without spaces, bounded; `-` where nothing is left.
fn field(text: &str, most: usize) -> String {
    let kept: String = text.chars().map(|c| if c.is_ascii_graphic() { c } else { '_' }).take(most).collect();
    if kept.is_empty() { "-".to_owned() } else { kept }
}

/// Octet counting (RFC 6587 section 3.4.1, RFC 5425 section 4.3.1).
pub(crate) fn counted(frame: &mut Vec<u8>, message: &str) {
    frame.extend_from_slice(message.len().to_string().as_bytes());
    frame.push(b' ');
    frame.extend_from_slice(message.as_bytes());
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn row(sequence: u64, outcome: &str) -> Entry {
        Entry {
            sequence,
            at: "2026-11-21T17:00:00.25Z".parse().unwrap(),
            action: "group.synced".to_owned(),
            outcome: outcome.to_owned(),
            subject: "group/wéb\n".to_owned(),
            actor_kind: "user".to_owned(),
            actor: "ann".to_owned(),
            source: "192.0.2.7".to_owned(),
            request_id: String::new(),
            authenticated_by: "session".to_owned(),
            count: 1,
            details: json!({"added": 1}),
        }
    }

    #[test]
    fn a_message_is_of_the_standard() {
        let header = Header { hostname: field("a host", 255), tag: field("harbor-audit", 48), process: 7 };
        let message = header.message(&row(5, "done"));
        let start =
            "<109>1 2026-11-21T17:00:00.25Z a_host harbor-audit 7 group.synced [meta sequenceId=\"5\"] {";
        assert!(message.starts_with(start), "{message}");
        assert!(!message.contains('\n'), "a line is a message");
        let text = &message[start.len() - 1..];
        assert_eq!(serde_json::from_str::<Entry>(text).unwrap(), row(5, "done"));
        assert!(header.message(&row(5, "refused")).starts_with("<108>1 "));
        assert!(header.message(&row(LAST_SEQUENCE_ID + 1, "done")).contains("sequenceId=\"1\""));
    }

    #[test]
    fn frames_are_counted_in_octets() {
        let mut frame = Vec::new();
        counted(&mut frame, "é");
        counted(&mut frame, "ab");
        assert_eq!(frame, "2 é2 ab".as_bytes());
    }

    #[test]
    fn fields_are_plain() {
        assert_eq!(field("", 5), "-");
        assert_eq!(field("a b\u{e9}c\n", 4), "a_b_");
    }
}
