//! Lists, page by page. Harbor pages by offset, so a list that shrinks between two pages hides entries: such a reading is done
//! again, and given up with a typed error rather than handed on with holes.

use std::collections::HashSet;

use http::header::LINK;
use http::{HeaderMap, Method};
use serde::de::DeserializeOwned;

use crate::client::Client;
use crate::error::{Error, ErrorKind};
use crate::send::Call;

/// The most that Harbor takes; 101 is refused with 422.
const PAGE_SIZE: usize = 100;
/// How often a list that changes under the reading is read.
const READINGS: usize = 3;

/// What a page's headers say of the list.
#[derive(Debug, PartialEq, Eq)]
struct Page {
    total: Option<usize>,
    next: bool,
}

impl Client {
    /// All entries at `path` (below `/api/v2.0`, perhaps with a query), each once by its id.
    pub(crate) async fn list<T: DeserializeOwned>(
        &self,
        operation: &str,
        path: &str,
        id: fn(&T) -> i64,
    ) -> Result<Vec<T>, Error> {
        for _ in 0..READINGS {
            if let Some(entries) = self.read_list(operation, path, id).await? {
                return Ok(entries);
            }
        }
        Err(self.error(operation, ErrorKind::Unstable))
    }

    /// `None` when entries may have slipped away between two pages.
    async fn read_list<T: DeserializeOwned>(
        &self,
        operation: &str,
        path: &str,
        id: fn(&T) -> i64,
    ) -> Result<Option<Vec<T>>, Error> {
        let joint = if path.contains('?') { '&' } else { '?' };
        let limit = self.inner.options.max_list_entries;
        let (mut entries, mut seen) = (Vec::new(), HashSet::new());
        let mut first_total = None;
        for number in 1.. {
            let path = format!("{path}{joint}page={number}&page_size={PAGE_SIZE}");
            let answer = self.send(&Call::api(operation, Method::GET, &path)).await?;
            // An empty list is `[]`; `null` would be no surprise from a program in Go.
            let page: Option<Vec<T>> = self.read(operation, &answer)?;
            let page = page.unwrap_or_default();
            let length = page.len();
            entries.extend(page.into_iter().filter(|entry| seen.insert(id(entry))));
            if entries.len() > limit {
                return Err(self.error(operation, ErrorKind::TooLarge(format!("{limit} entries"))));
            }
            let told = told(&answer.headers, number, length);
            let first = *first_total.get_or_insert(told.total);
            if !told.next || length == 0 {
                let whole = told.total.is_none_or(|total| entries.len() >= total) && told.total >= first;
                return Ok(whole.then_some(entries));
            }
        }
        Ok(None)
    }
}

/// Whether there is more, by `Link` (RFC 8288), by `X-Total-Count`, or where neither came by a full page.
fn told(headers: &HeaderMap, number: usize, length: usize) -> Page {
    let total =
        headers.get("X-Total-Count").and_then(|v| v.to_str().ok()).and_then(|v| v.trim().parse().ok());
    let linked = headers
        .get_all(LINK)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .any(|link| link.replace(['"', ' '], "").ends_with(";rel=next"));
    let more = match total {
        Some(total) => total > number * PAGE_SIZE,
        None => length >= PAGE_SIZE,
    };
    Page { total, next: linked || more }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(link: Option<&str>, total: Option<&str>, number: usize, length: usize) -> Page {
        let mut headers = HeaderMap::new();
        if let Some(link) = link {
            headers.insert(LINK, link.parse().unwrap());
        }
        if let Some(total) = total {
            headers.insert("X-Total-Count", total.parse().unwrap());
        }
        told(&headers, number, length)
    }

    #[test]
    fn the_end_is_found_with_and_without_headers() {
        let both = r#"</api/v2.0/robots?page=1&page_size=2>; rel="prev" , </api/v2.0/robots?page=3&page_size=2>; rel="next""#;
        assert_eq!(page(Some(both), Some("314"), 2, 100), Page { total: Some(314), next: true });
        assert!(!page(Some(r#"</api/v2.0/robots?page=1>; rel="prev""#), Some("150"), 2, 50).next);
        assert!(page(None, Some("101"), 1, 100).next);
        assert!(!page(None, Some("100"), 1, 100).next);
        assert!(page(None, None, 1, 100).next);
        assert!(!page(None, None, 1, 99).next);
    }
}
