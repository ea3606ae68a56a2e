//! `Link: <…>; rel="next"` (RFC 8288): where a list goes on.

use http::HeaderMap;
use http::header::LINK;
use url::Url;

/// The next page, if it is on the same origin: a list does not lead elsewhere.
pub(crate) fn next_page(current: &Url, headers: &HeaderMap) -> Option<Url> {
    for value in headers.get_all(LINK).iter().filter_map(|v| v.to_str().ok()) {
        let mut rest = value;
        while let Some((_, after)) = rest.split_once('<') {
            let (target, tail) = after.split_once('>')?;
            let (parameters, next) = tail.split_once('<').map_or((tail, ""), |(p, _)| (p, &tail[p.len()..]));
            let is_next = parameters.split([';', ',']).any(|parameter| {
                let (key, value) = parameter.split_once('=').unwrap_or_default();
                key.trim().eq_ignore_ascii_case("rel")
                    && value
                        .trim()
                        .trim_matches('"')
                        .split_whitespace()
                        .any(|r| r.eq_ignore_ascii_case("next"))
            });
            if is_next {
                let url = current.join(target).ok()?;
                return (url.origin() == current.origin() && url != *current).then_some(url);
            }
            rest = next;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(link: &str) -> Option<String> {
        let mut headers = HeaderMap::new();
        headers.insert(LINK, link.parse().unwrap());
        next_page(&"https://r/v2/a/tags/list?n=2".parse().unwrap(), &headers).map(String::from)
    }

    #[test]
    fn finds_the_next_page() {
        assert_eq!(
            next(r#"</v2/a/tags/list?n=2&last=b>; rel="next""#).unwrap(),
            "https://r/v2/a/tags/list?n=2&last=b"
        );
        assert_eq!(next("<?last=c>; rel=next").unwrap(), "https://r/v2/a/tags/list?last=c");
        assert_eq!(next(r#"</p>; rel="prev", </n>; title="x"; rel="next last""#).unwrap(), "https://r/n");
    }

    #[test]
    fn leads_nowhere_else() {
        assert_eq!(next(r#"<https://evil/x>; rel="next""#), None);
        assert_eq!(next(r#"</v2/a/tags/list?n=2>; rel="next""#), None);
        assert_eq!(next(r#"</x>; rel="prev""#), None);
        assert_eq!(next("<broken"), None);
    }
}
