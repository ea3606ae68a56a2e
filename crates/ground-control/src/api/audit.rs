//! `GET /api/audit`: the trail, from its end backwards or from a row onwards.
//!
//! For `system_admin` alone: it tells names, addresses and times of everybody, administrators included.

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse as _, Response};
use fleet_protocol::api::AuditEntry;
use http::{HeaderValue, header};
use jiff::Timestamp;
use url::form_urlencoded::{Serializer, parse};

use super::error::ApiError;
use super::extract::Page;
use super::state::{AppState, SystemAdmin};
use crate::domain::audit::{AuditFilter, AuditFrom};

/// What the query string asks for.
#[derive(Debug, PartialEq, Eq)]
struct Question {
    filter: AuditFilter,
    from: AuditFrom,
    size: u32,
    /// The filter again, for the link to the next page.
    again: String,
}

impl Question {
    fn parse(query: &str) -> Result<Self, ApiError> {
        let bad = |name: &str, wanted: &str| ApiError::bad_request(format!("{name} must be {wanted}"));
        let (mut filter, mut from, mut size) = (AuditFilter::default(), None, Page::MAX);
        let mut again = Serializer::new(String::new());
        for (name, value) in parse(query.as_bytes()).filter(|(_, value)| !value.is_empty()) {
            let time = |value: &str| {
                value.parse::<Timestamp>().map_err(|_| bad(&name, "a time as 2026-11-21T17:00:00Z"))
            };
            let number = |value: &str| {
                value.parse::<u64>().map_err(|_| bad(&name, "the number of a row, as `sequence` tells it"))
            };
            match name.as_ref() {
                "actor" => filter.actor = Some(value.to_string()),
                "action" => filter.action = Some(value.to_string()),
                "subject" => filter.subject = Some(value.to_string()),
                "since" => filter.since = Some(time(&value)?),
                "until" => filter.until = Some(time(&value)?),
                "page_size" => {
                    let known = value.parse().ok().filter(|n| (1..=Page::MAX).contains(n));
                    size = known.ok_or_else(|| bad("page_size", "a number from 1 to 100"))?;
                }
                "before" | "after" => {
                    let place = number(&value)?;
                    let named = if name == "before" {
                        AuditFrom::Before(Some(place))
                    } else {
                        AuditFrom::After(place)
                    };
                    if from.replace(named).is_some() {
                        return Err(ApiError::bad_request(
                            "before reads backwards and after onwards: give one of them, once",
                        ));
                    }
                    continue;
                }
                _ => continue,
            }
            again.append_pair(&name, &value);
        }
        let from = from.unwrap_or(AuditFrom::Before(None));
        Ok(Self { filter, from, size, again: again.finish() })
    }

    /// The path of what follows these rows.
    fn next(&self, rows: &[AuditEntry]) -> Option<String> {
        let last = rows.last().filter(|_| rows.len() >= usize::try_from(self.size).unwrap_or(usize::MAX))?;
        let place = match self.from {
            AuditFrom::Before(_) => format!("before={}", last.sequence),
            AuditFrom::After(_) => format!("after={}", last.sequence),
        };
        let join = if self.again.is_empty() { "" } else { "&" };
        Some(format!("</api/audit?{}{join}{place}>; rel=\"next\"", self.again))
    }
}

/// `GET /api/audit?actor=&action=&subject=&since=&until=&before=|after=&page_size=`: the newest rows first, or with `after` those that
/// follow a row, in their order. Whoever asks again after the last number misses nothing.
pub(crate) async fn list(
    State(state): State<AppState>,
    _: SystemAdmin,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let question = Question::parse(query.as_deref().unwrap_or(""))?;
    let rows = state.store.audit_entries(&question.filter, question.from, question.size).await?;
    let next = question.next(&rows).and_then(|link| HeaderValue::from_str(&link).ok());
    let mut response = Json(rows).into_response();
    if let Some(link) = next {
        response.headers_mut().insert(header::LINK, link);
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_are_read_and_bounded() {
        let question = Question::parse("actor=ann&since=2026-01-01T00:00:00Z&after=7&page_size=2").unwrap();
        assert_eq!(question.filter.actor.as_deref(), Some("ann"));
        assert_eq!((question.from, question.size), (AuditFrom::After(7), 2));
        assert_eq!(Question::parse("").unwrap().from, AuditFrom::Before(None));
        for bad in
            ["before=1&after=2", "before=x", "since=yesterday", "page_size=0", "page_size=101", "after=-1"]
        {
            assert!(Question::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_full_page_names_the_next() {
        let row = |sequence| AuditEntry {
            sequence,
            at: Timestamp::UNIX_EPOCH,
            action: String::new(),
            outcome: String::new(),
            subject: String::new(),
            actor_kind: String::new(),
            actor: String::new(),
            source: String::new(),
            request_id: String::new(),
            authenticated_by: String::new(),
            count: 1,
            details: serde_json::Value::Null,
        };
        let question = Question::parse("subject=group%2Fweb&page_size=2").unwrap();
        assert_eq!(question.next(&[row(9)]), None);
        assert_eq!(
            question.next(&[row(9), row(8)]).unwrap(),
            "</api/audit?subject=group%2Fweb&page_size=2&before=8>; rel=\"next\""
        );
    }
}
