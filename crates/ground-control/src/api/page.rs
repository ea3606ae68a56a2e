//! Pages for people in a browser: plain HTML, no scripts, nothing from elsewhere.

use std::fmt::Write as _;
use std::sync::LazyLock;
use std::time::Duration;

use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderName, HeaderValue, StatusCode, header};
use sha2::{Digest as _, Sha256};

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:38rem;margin:12vh auto;padding:0 1rem;color:#1c2733}\
h1{font-size:1.4rem}code{background:#eef2f5;padding:.1rem .3rem}button{font:inherit;padding:.3rem .9rem}\
dt{color:#5b6b7a}dd{margin:0 0 .6rem}";

/// Only our own style applies (CSP Level 3), and nobody frames the page.
static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let style = STANDARD.encode(Sha256::digest(STYLE.as_bytes()));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{style}'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    );
    HeaderValue::from_str(&policy).unwrap_or(HeaderValue::from_static("default-src 'none'"))
});

/// A page. Its text is escaped as it is put in.
#[derive(Debug)]
pub(crate) struct Page {
    status: StatusCode,
    title: String,
    body: String,
    retry_after: Option<u64>,
}

impl Page {
    /// A page that says how something went.
    pub(crate) fn new(status: StatusCode, title: &str) -> Self {
        Self { status, title: escaped(title), body: String::new(), retry_after: None }
    }

    /// 429 with `Retry-After`, rounded up to whole seconds.
    pub(crate) fn too_many(title: &str, wait: Duration) -> Self {
        let seconds = (wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1);
        let page = Self { retry_after: Some(seconds), ..Self::new(StatusCode::TOO_MANY_REQUESTS, title) };
        page.paragraph(&format!("Try again in {seconds} s."))
    }

    /// One more paragraph.
    pub(crate) fn paragraph(mut self, text: &str) -> Self {
        let _ = write!(self.body, "<p>{}</p>", escaped(text));
        self
    }

    /// A list of what is known, each under its name.
    pub(crate) fn facts(mut self, facts: &[(&str, &str)]) -> Self {
        self.body.push_str("<dl>");
        for (name, value) in facts {
            let id = name.replace(' ', "-");
            let (name, value) = (escaped(name), escaped(value));
            let _ = write!(self.body, "<dt>{name}</dt><dd id=\"{id}\">{value}</dd>");
        }
        self.body.push_str("</dl>");
        self
    }

    /// A link to a path of ours.
    pub(crate) fn link(mut self, path: &str, text: &str) -> Self {
        let _ = write!(self.body, "<p><a href=\"{}\">{}</a></p>", escaped(path), escaped(text));
        self
    }

    /// A button that posts one hidden field to a path of ours.
    pub(crate) fn button(mut self, path: &str, field: (&str, &str), text: &str) -> Self {
        let (path, name, value, text) = (escaped(path), escaped(field.0), escaped(field.1), escaped(text));
        let _ = write!(
            self.body,
            "<form method=\"post\" action=\"{path}\"><input type=\"hidden\" name=\"{name}\" value=\"{value}\">\
             <button>{text}</button></form>"
        );
        self
    }
}

impl IntoResponse for Page {
    fn into_response(self) -> Response {
        let Self { status, title, body, retry_after } = self;
        let html = format!(
            "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title} – Ground Control</title>\
             <meta name=\"viewport\" content=\"width=device-width\"><style>{STYLE}</style></head>\
             <body><main><h1>{title}</h1>{body}</main></body></html>\n"
        );
        let mut response = (status, headers(POLICY.clone()), html).into_response();
        if let Some(seconds) = retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// What every page is sent with, beside the policy that names its own parts.
pub(crate) fn headers(policy: HeaderValue) -> [(HeaderName, HeaderValue); 5] {
    [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
        (HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static("same-origin")),
    ]
}

/// Text that is text wherever it stands in HTML.
pub(crate) fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            c if c.is_control() => safe.push(' '),
            c => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_text_becomes_markup(text in any::<String>()) {
            let safe = escaped(&text);
            prop_assert!(!safe.contains(['<', '>', '"', '\'']));
            prop_assert!(safe.split('&').skip(1).all(|rest| rest.contains(';')));
        }
    }

    #[tokio::test]
    async fn a_page_takes_nothing_from_elsewhere() {
        let page = Page::new(StatusCode::FORBIDDEN, "No <role>").facts(&[("signed in as", "<script>")]);
        let answer = page.link("/openapi.json", "API").button("/auth/logout", ("csrf_token", "\"x"), "Out");
        let answer = answer.into_response();
        assert_eq!(answer.status(), StatusCode::FORBIDDEN);
        let policy = answer.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap().to_owned();
        assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
        let body = axum::body::to_bytes(answer.into_body(), 100_000).await.unwrap();
        let body = String::from_utf8(body.to_vec()).unwrap();
        assert!(body.contains("No &lt;role&gt;") && body.contains("&lt;script&gt;"), "{body}");
        assert!(body.contains("value=\"&quot;x\"") && !body.contains("<script"), "{body}");
    }
}
