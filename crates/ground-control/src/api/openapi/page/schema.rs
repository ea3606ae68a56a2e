//! JSON Schema in words and tables.

use std::fmt::Write as _;

use serde_json::Value;

use super::{escaped, list, text};

/// How deep tables stand in each other: beyond that a schema has a name of its own.
const DEEPEST: usize = 4;

/// A schema by itself: its properties, or what else it is.
pub(super) fn whole(schema: &Value) -> String {
    let mut html = String::new();
    if schema["properties"].is_object() {
        html.push_str(&table(schema, 0));
        for also in list(&schema["allOf"]) {
            let _ = write!(html, "<p>And all of {}.</p>", kind(also));
        }
        if !schema["additionalProperties"].is_null() {
            let _ = write!(
                html,
                "<p class=\"limits\">Further members: {}.</p>",
                member(&schema["additionalProperties"])
            );
        }
    } else {
        let _ = write!(html, "<p>{}</p>", kind(schema));
    }
    html
}

fn table(schema: &Value, depth: usize) -> String {
    let mut html = String::from(
        "<div class=\"wide\"><table><thead><tr><th scope=\"col\">Member</th><th scope=\"col\">What it is</th></tr></thead><tbody>",
    );
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let needed = list(&schema["required"]).iter().any(|needed| needed == name);
        let need = if needed { "<span class=\"need\">required</span>" } else { "" };
        let about = property["description"].as_str().map(|about| format!("<br>{}", escaped(about)));
        let _ = write!(
            html,
            "<tr><td><code>{}</code>{need}</td><td>{}{}{}</td></tr>",
            escaped(name),
            kind(property),
            about.unwrap_or_default(),
            inner(property, depth + 1)
        );
    }
    html.push_str("</tbody></table></div>");
    html
}

/// The members of an object without a name of its own, wherever it stands in another schema.
fn inner(schema: &Value, depth: usize) -> String {
    if depth >= DEEPEST {
        return String::new();
    }
    if schema["properties"].is_object() {
        return table(schema, depth);
    }
    let parts = [&schema["items"], &schema["additionalProperties"]].into_iter();
    let all = parts.chain(list(&schema["oneOf"])).chain(list(&schema["allOf"])).chain(list(&schema["anyOf"]));
    all.filter(|part| part.is_object()).map(|part| inner(part, depth)).collect()
}

/// What a value of this schema is, in a line.
pub(super) fn kind(schema: &Value) -> String {
    if let Some(reference) = schema["$ref"].as_str() {
        let name = escaped(reference.rsplit('/').next().unwrap_or_default());
        return format!("<a href=\"#schema-{name}\"><code>{name}</code></a>");
    }
    let mut words = Vec::new();
    for (keyword, between) in [("oneOf", " or "), ("anyOf", " or "), ("allOf", " and ")] {
        let parts: Vec<String> = list(&schema[keyword]).iter().map(kind).collect();
        if !parts.is_empty() {
            words.push(parts.join(between));
        }
    }
    let constant = &schema["const"];
    if !constant.is_null() {
        words.push(format!("<code>{}</code>", escaped(&constant.to_string())));
    }
    let values: Vec<String> =
        list(&schema["enum"]).iter().map(|value| format!("<code>{}</code>", plain(value))).collect();
    if !values.is_empty() {
        words.push(format!("one of {}", values.join(", ")));
    }
    match &schema["type"] {
        Value::String(name) => words.push(named(name, schema)),
        Value::Array(names) => {
            let names: Vec<String> =
                names.iter().filter_map(Value::as_str).map(|name| named(name, schema)).collect();
            words.push(names.join(" or "));
        }
        _ => {}
    }
    let mut html = if words.is_empty() { "anything".to_owned() } else { words.join(", ") };
    let limits = limits(schema);
    if !limits.is_empty() {
        let _ = write!(html, " <span class=\"limits\">{}</span>", limits.join(", "));
    }
    html
}

fn named(name: &str, schema: &Value) -> String {
    match (name, schema["format"].as_str()) {
        ("array", _) if schema["items"].is_object() => format!("list of {}", kind(&schema["items"])),
        ("array", _) => "list".to_owned(),
        ("object", _) if schema["additionalProperties"].is_object() && !schema["properties"].is_object() => {
            format!("map of names to {}", kind(&schema["additionalProperties"]))
        }
        ("null", _) => "<code>null</code>".to_owned(),
        (_, Some(format)) => format!("{} ({})", escaped(name), escaped(format)),
        _ => escaped(name),
    }
}

/// What else may be a member of an object.
fn member(schema: &Value) -> String {
    match schema {
        Value::Bool(false) => "none".to_owned(),
        Value::Bool(true) => "anything".to_owned(),
        schema => kind(schema),
    }
}

/// A value as it stands in a list of values.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| escaped(&value.to_string()), escaped)
}

fn limits(schema: &Value) -> Vec<String> {
    let words = [
        ("minimum", "at least"),
        ("maximum", "at most"),
        ("minLength", "at least this many characters:"),
        ("maxLength", "at most this many characters:"),
        ("minItems", "at least this many:"),
        ("maxItems", "at most this many:"),
        ("minProperties", "at least this many members:"),
        ("maxProperties", "at most this many members:"),
        ("default", "by default"),
    ];
    let mut limits: Vec<String> = words
        .into_iter()
        .filter(|(keyword, _)| !schema[*keyword].is_null())
        .map(|(keyword, words)| format!("{words} {}", plain(&schema[keyword])))
        .collect();
    if let Some(pattern) = schema["pattern"].as_str() {
        limits.push(format!("as <code>{}</code>", escaped(pattern)));
    }
    if schema["example"].is_string() {
        limits.push(format!("such as <code>{}</code>", text(&schema["example"])));
    }
    limits
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn schemas_are_told_in_words() {
        for (schema, words) in [
            (json!({"type": "string", "format": "date-time"}), "string (date-time)"),
            (json!({"type": ["string", "null"]}), "string or <code>null</code>"),
            (json!({"enum": ["a", "b"]}), "one of <code>a</code>, <code>b</code>"),
            (json!({"const": true}), "<code>true</code>"),
            (json!({"type": "array", "items": {"type": "integer"}}), "list of integer"),
            (json!({"type": "object", "additionalProperties": {"type": "string"}}), "map of names to string"),
            (
                json!({"oneOf": [{"$ref": "#/components/schemas/A"}, {"type": "null"}]}),
                "<a href=\"#schema-A\"><code>A</code></a> or <code>null</code>",
            ),
            (
                json!({"type": "integer", "minimum": 1, "maximum": 9}),
                "integer <span class=\"limits\">at least 1, at most 9</span>",
            ),
            (json!({}), "anything"),
        ] {
            assert_eq!(kind(&schema), words);
        }
    }

    #[test]
    fn what_stands_in_a_schema_is_text() {
        let hostile = json!({"type": "<b>", "pattern": "\"><script>", "enum": ["<i>"]});
        assert!(!kind(&hostile).replace("<code>", "").replace("<span class=\"limits\">", "").contains("<b>"));
        assert!(!kind(&hostile).contains("<script>") && !kind(&hostile).contains("<i>"));
    }

    #[test]
    fn objects_without_a_name_are_shown_where_they_stand() {
        let schema = json!({"properties": {"outer": {"type": "array", "items": {
            "type": "object", "properties": {"inner": {"type": "string"}}, "required": ["inner"],
        }}}});
        let shown = whole(&schema);
        assert!(shown.contains("<code>inner</code><span class=\"need\">required</span>"), "{shown}");
    }
}
