//! The document as a page for people: made here, of what is served as JSON, with nothing from elsewhere.
//!
//! One file with its own style and a few lines of script for the search; without them it is still all there to be read. It is
//! complete because it is made of the document by walking it, not beside it.

mod schema;

use std::fmt::Write as _;
use std::sync::LazyLock;

use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::api::page::{escaped, headers};

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// Our own style and script apply, by their digests, and nothing else (CSP Level 3); the page asks for nothing.
static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let digest = |text: &str| STANDARD.encode(Sha256::digest(text.as_bytes()));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'",
        digest(STYLE),
        digest(SCRIPT)
    );
    HeaderValue::from_str(&policy).unwrap_or(HeaderValue::from_static("default-src 'none'"))
});

/// `GET /docs`.
pub(crate) async fn show() -> Response {
    static PAGE: LazyLock<String> = LazyLock::new(|| render(&super::build()));
    (headers(POLICY.clone()), PAGE.as_str()).into_response()
}

/// A method, a path, and what is there.
type Operation<'a> = (&'a str, &'a str, &'a Value);

fn render(document: &Value) -> String {
    let title = text(&document["info"]["title"]);
    let version = text(&document["info"]["version"]);
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>{title} API</title>\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<style>{STYLE}</style>\n</head>\n<body>\n\
         <a class=\"skip\" href=\"#content\">To the content</a>\n\
         <header><h1>{title} API <small>{version}</small></h1>\
         <form role=\"search\"><input id=\"search\" type=\"search\" placeholder=\"Search ( / )\" aria-label=\"Search\" \
         autocomplete=\"off\" spellcheck=\"false\"><output id=\"found\" for=\"search\" aria-live=\"polite\"></output></form>\
         <nav><button id=\"all\" type=\"button\" aria-pressed=\"false\">Unfold all</button>\
         <a href=\"#schemas\">Schemas</a><a href=\"/openapi.json\">openapi.json</a></nav></header>\n<div class=\"page\">\n"
    );
    let tags = list(&document["tags"]);
    let tagged: Vec<(&Value, Vec<Operation<'_>>)> = tags
        .iter()
        .map(|tag| (tag, operations(document, tag["name"].as_str().unwrap_or_default())))
        .collect();
    contents(&mut html, &tagged);
    html.push_str("<main id=\"content\" tabindex=\"-1\">\n");
    introduction(&mut html, document);
    for (tag, operations) in &tagged {
        let (name, about) = (text(&tag["name"]), text(&tag["description"]));
        let id = slug(tag["name"].as_str().unwrap_or_default());
        let _ = writeln!(html, "<section id=\"{id}\"><h2>{name}</h2><p class=\"about\">{about}</p>");
        for operation in operations {
            one(&mut html, document, operation);
        }
        html.push_str("</section>\n");
    }
    html.push_str("<section id=\"schemas\"><h2>Schemas</h2><p class=\"about\">The bodies of requests and answers.</p>\n");
    for (name, schema) in document["components"]["schemas"].as_object().into_iter().flatten() {
        let name = escaped(name);
        let about = text(&schema["description"]);
        let _ = writeln!(
            html,
            "<details class=\"one\" id=\"schema-{name}\"><summary><code>{name}</code><span class=\"what\">{about}</span></summary>\
             <div>{}</div></details>",
            schema::whole(schema)
        );
    }
    let _ = write!(html, "</section>\n</main>\n</div>\n<script>{SCRIPT}</script>\n</body>\n</html>\n");
    html
}

/// The operations of a tag, in the order of their paths.
fn operations<'a>(document: &'a Value, tag: &str) -> Vec<Operation<'a>> {
    let paths = document["paths"].as_object().into_iter().flatten();
    let all = paths.flat_map(|(path, methods)| {
        let methods = methods.as_object().into_iter().flatten();
        methods.map(move |(method, operation)| (method.as_str(), path.as_str(), operation))
    });
    all.filter(|(.., operation)| list(&operation["tags"]).iter().any(|own| own == tag)).collect()
}

fn contents(html: &mut String, tagged: &[(&Value, Vec<Operation<'_>>)]) {
    html.push_str("<aside aria-label=\"Contents\">\n");
    for (tag, operations) in tagged {
        let _ = write!(html, "<h2>{}</h2><ul>", text(&tag["name"]));
        for (method, path, operation) in operations {
            let id = text(&operation["operationId"]);
            // What nearly all have in common only hides where they differ.
            let short = escaped(path.strip_prefix("/api").unwrap_or(path));
            let _ = write!(
                html,
                "<li><a href=\"#{id}\"><span class=\"method {method}\">{}</span><span>{short}</span></a></li>",
                method.to_uppercase()
            );
        }
        html.push_str("</ul>\n");
    }
    html.push_str("</aside>\n");
}

fn introduction(html: &mut String, document: &Value) {
    let about = text(&document["info"]["description"]);
    let _ =
        writeln!(html, "<section id=\"about\"><h2>About</h2><p class=\"about\">{about}</p><h3>Who asks</h3>");
    html.push_str("<div class=\"wide\"><table><thead><tr><th scope=\"col\">Scheme</th><th scope=\"col\">What it is</th></tr></thead><tbody>");
    for (name, scheme) in document["components"]["securitySchemes"].as_object().into_iter().flatten() {
        let about = text(&scheme["description"]);
        let shown = scheme["name"]
            .as_str()
            .map(|name| format!(" <code>{}</code>", escaped(name)))
            .unwrap_or_default();
        let name = escaped(name);
        let _ =
            write!(html, "<tr id=\"scheme-{name}\"><td><code>{name}</code></td><td>{about}{shown}</td></tr>");
    }
    html.push_str("</tbody></table></div></section>\n");
}

fn one(html: &mut String, document: &Value, (method, path, operation): &Operation<'_>) {
    let (id, summary) = (text(&operation["operationId"]), text(&operation["summary"]));
    let role =
        operation["x-role"].as_str().map(|role| format!("<span class=\"role\">{}</span>", escaped(role)));
    let _ = write!(
        html,
        "<details class=\"one\" id=\"{id}\"><summary><span class=\"method {method}\">{}</span><code>{}</code>\
         <span class=\"what\">{summary}</span>{}</summary><div>",
        method.to_uppercase(),
        escaped(path),
        role.unwrap_or_default()
    );
    if let Some(description) = operation["description"].as_str() {
        let _ = write!(html, "<p>{}</p>", escaped(description));
    }
    let _ = write!(html, "<h3>Who asks</h3><p>{}</p>", security(&operation["security"]));
    parameters(html, document, list(&operation["parameters"]));
    for (kind, body) in operation["requestBody"]["content"].as_object().into_iter().flatten() {
        let (kind, shape) = (escaped(kind), schema::kind(&body["schema"]));
        let _ = write!(html, "<h3>Body</h3><p>{shape} <span class=\"limits\">{kind}</span></p>");
    }
    responses(html, &operation["responses"]);
    html.push_str("</div></details>\n");
}

/// The ways of which each is enough.
fn security(ways: &Value) -> String {
    let ways: Vec<String> = list(ways)
        .iter()
        .map(|way| {
            let schemes = way.as_object().into_iter().flatten();
            let links = schemes.map(|(name, _)| {
                let name = escaped(name);
                format!("<a href=\"#scheme-{name}\"><code>{name}</code></a>")
            });
            links.collect::<Vec<_>>().join(" with ")
        })
        .collect();
    if ways.is_empty() { "Anybody.".to_owned() } else { ways.join(", or ") }
}

fn parameters(html: &mut String, document: &Value, parameters: &[Value]) {
    if parameters.is_empty() {
        return;
    }
    html.push_str(
        "<h3>Parameters</h3><div class=\"wide\"><table><thead><tr><th scope=\"col\">Name</th><th scope=\"col\">In</th>\
         <th scope=\"col\">What it is</th></tr></thead><tbody>",
    );
    for parameter in parameters {
        let shared =
            parameter["$ref"].as_str().and_then(|reference| document.pointer(reference.strip_prefix('#')?));
        let parameter = shared.unwrap_or(parameter);
        let need = if parameter["required"] == true { "<span class=\"need\">required</span>" } else { "" };
        let _ = write!(
            html,
            "<tr><td><code>{}</code>{need}</td><td>{}</td><td>{}{}</td></tr>",
            text(&parameter["name"]),
            text(&parameter["in"]),
            schema::kind(&parameter["schema"]),
            parameter["description"]
                .as_str()
                .map(|about| format!("<br>{}", escaped(about)))
                .unwrap_or_default()
        );
    }
    html.push_str("</tbody></table></div>");
}

fn responses(html: &mut String, responses: &Value) {
    html.push_str(
        "<h3>Answers</h3><div class=\"wide\"><table><thead><tr><th scope=\"col\">Status</th><th scope=\"col\">When, and what</th>\
         </tr></thead><tbody>",
    );
    for (status, response) in responses.as_object().into_iter().flatten() {
        let class = if status.starts_with(['2', '3']) { "good" } else { "bad" };
        let _ = write!(
            html,
            "<tr><td><span class=\"status {class}\">{}</span></td><td>{}",
            escaped(status),
            text(&response["description"])
        );
        for (kind, content) in response["content"].as_object().into_iter().flatten() {
            let shown = schema::kind(&content["schema"]);
            let kind = escaped(kind);
            let _ = write!(html, " {shown} <span class=\"limits\">{kind}</span>");
        }
        for (name, header) in response["headers"].as_object().into_iter().flatten() {
            let (name, about) = (escaped(name), text(&header["description"]));
            let _ = write!(html, "<br><code>{name}</code> <span class=\"limits\">{about}</span>");
        }
        html.push_str("</td></tr>");
    }
    html.push_str("</tbody></table></div>");
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// A text of the document, escaped; none where there is none.
fn text(value: &Value) -> String {
    escaped(value.as_str().unwrap_or_default())
}

/// A heading as the name of a place in the page.
fn slug(heading: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    format!("tag-{}", heading.chars().map(plain).collect::<String>())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use http::header;

    use super::*;

    fn page() -> String {
        render(&super::super::build())
    }

    /// Values of an attribute, as they stand in the page.
    fn attributes<'a>(page: &'a str, name: &str) -> Vec<&'a str> {
        let start = format!(" {name}=\"");
        page.split(start.as_str()).skip(1).filter_map(|rest| rest.split('"').next()).collect()
    }

    #[test]
    fn everything_of_the_document_is_on_the_page() {
        let (document, page) = (super::super::build(), page());
        let ids = attributes(&page, "id");
        for (path, methods) in document["paths"].as_object().unwrap() {
            assert!(page.contains(&escaped(path)), "{path}");
            for (method, operation) in methods.as_object().unwrap() {
                assert!(ids.contains(&operation["operationId"].as_str().unwrap()), "{method} {path}");
                assert!(page.contains(&text(&operation["summary"])), "{method} {path}");
                for (status, response) in operation["responses"].as_object().unwrap() {
                    assert!(page.contains(&text(&response["description"])), "{method} {path} {status}");
                }
            }
        }
        let components = &document["components"];
        for (name, schema) in components["schemas"].as_object().unwrap() {
            assert!(ids.contains(&format!("schema-{name}").as_str()), "{name}");
            for property in schema["properties"].as_object().into_iter().flatten() {
                assert!(page.contains(&format!("<code>{}</code>", property.0)), "{name}.{}", property.0);
            }
        }
        for (_, parameter) in components["parameters"].as_object().unwrap() {
            assert!(page.contains(&format!("<code>{}</code>", text(&parameter["name"]))), "{parameter}");
        }
        for (name, _) in components["securitySchemes"].as_object().unwrap() {
            assert!(ids.contains(&format!("scheme-{name}").as_str()), "{name}");
        }
    }

    #[test]
    fn every_link_leads_somewhere_and_nothing_comes_from_elsewhere() {
        let page = page();
        let ids = attributes(&page, "id");
        let unique: BTreeSet<&str> = ids.iter().copied().collect();
        assert_eq!(unique.len(), ids.len(), "ids are unique");
        for link in attributes(&page, "href") {
            let known =
                link == "/openapi.json" || link.strip_prefix('#').is_some_and(|id| unique.contains(id));
            assert!(known, "{link}");
        }
        for foreign in [
            " src=",
            "<link",
            "<img",
            "<iframe",
            "@import",
            "url(",
            "fetch(",
            "import(",
            " style=\"",
            " onclick",
        ] {
            assert!(!page.contains(foreign), "{foreign}");
        }
        assert_eq!((page.matches("<script>").count(), page.matches("<style>").count()), (1, 1));
        // Small enough to be no burden, whole enough to be no stub.
        assert!((50_000..1_000_000).contains(&page.len()), "{}", page.len());
    }

    #[test]
    fn every_element_ends_where_it_should() {
        let page = page();
        let body = page.replace(STYLE, "").replace(SCRIPT, "");
        let mut open = Vec::new();
        for tag in body.split('<').skip(1) {
            let tag = tag.split('>').next().unwrap();
            let name = tag.split([' ', '\n']).next().unwrap();
            match name.strip_prefix('/') {
                Some(ended) => assert_eq!(open.pop(), Some(ended), "</{ended}> in {tag}"),
                None if matches!(name, "!doctype" | "meta" | "br" | "input") => {}
                None => open.push(name),
            }
        }
        assert!(open.is_empty(), "{open:?}");
    }

    #[tokio::test]
    async fn the_policy_lets_our_own_style_and_script_apply() {
        let answer = show().await;
        let policy = answer.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap().to_owned();
        let body = axum::body::to_bytes(answer.into_body(), 2_000_000).await.unwrap();
        let body = String::from_utf8(body.to_vec()).unwrap();
        for element in ["style", "script"] {
            let (_, rest) = body.split_once(&format!("<{element}>")).unwrap();
            let (inner, _) = rest.split_once(&format!("</{element}>")).unwrap();
            let digest = STANDARD.encode(Sha256::digest(inner.as_bytes()));
            assert!(policy.contains(&format!("{element}-src 'sha256-{digest}'")), "{element}: {policy}");
        }
        assert!(policy.starts_with("default-src 'none';") && !policy.contains("unsafe"), "{policy}");
    }
}
