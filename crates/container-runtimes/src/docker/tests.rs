use proptest::prelude::*;

use super::*;
use crate::edit::laws;

const OURS: &str = "http://127.0.0.1:8585";

fn edit(text: &str) -> String {
    let had = text.contains(KEY);
    let ours = [OURS.to_owned()];
    laws::check(text, |text| apply(Some(text), &ours), |text| strip(text, &ours, !had)).text
}

#[test]
fn every_form() {
    for (before, after) in [
        ("", "{\n  \"registry-mirrors\": [\"http://127.0.0.1:8585\"]\n}\n"),
        ("{\"debug\":true}", "{\"registry-mirrors\":[\"http://127.0.0.1:8585\"],\"debug\":true}"),
        (
            "{\n\t\"debug\": true,\n\t\"x-y\": {\"]\": [1, \"}\"]}\n}\n",
            "{\n\t\"registry-mirrors\": [\"http://127.0.0.1:8585\"],\n\t\"debug\": true,\n\t\"x-y\": {\"]\": [1, \"}\"]}\n}\n",
        ),
        (
            "{ \"registry-mirrors\": [\"https://m\"] }",
            "{ \"registry-mirrors\": [\"http://127.0.0.1:8585\", \"https://m\"] }",
        ),
        (
            "{\"registry-mirrors\" : [\n  \"https://m\"\n]}",
            "{\"registry-mirrors\" : [\n  \"http://127.0.0.1:8585\",\n  \"https://m\"\n]}",
        ),
        ("{\"registry-mirrors\": []}", "{\"registry-mirrors\": [\"http://127.0.0.1:8585\"]}"),
    ] {
        assert_eq!(edit(before), after);
    }
    let null = apply(Some("{\"registry-mirrors\": null}"), &[OURS.to_owned()]).unwrap();
    assert_eq!(null.text, "{\"registry-mirrors\": [\"http://127.0.0.1:8585\"]}");
    assert_eq!(apply(Some("{ }"), &[OURS.to_owned()]).unwrap().undo(), "{ }");
    let slash = "{\"registry-mirrors\": [\"http://127.0.0.1:8585/\"]}";
    assert!(!apply(Some(slash), &[OURS.to_owned()]).unwrap().is_change());
}

#[test]
fn what_cannot_be_edited_is_refused() {
    for text in [
        "{\"a\":1,}",
        "[]",
        "{\"registry-mirrors\": \"https://m\"}",
        "{\"Registry-Mirrors\": []}",
        "{\"registry-mirrors\": [], \"registry-mirrors\": []}",
        "{\"registry-mirrors\": [1]}",
    ] {
        assert!(apply(Some(text), &[OURS.to_owned()]).is_err(), "{text}");
    }
}

#[test]
fn an_edited_file_keeps_what_was_added() {
    let ours = apply(Some("{\n  \"debug\": true\n}\n"), &[OURS.to_owned()]).unwrap().text;
    let edited = ours.replace("8585\"]", "8585\", \"https://late\"]");
    assert_eq!(
        strip(&edited, &[OURS.to_owned()], true).unwrap().text,
        "{\n  \"registry-mirrors\": [\"https://late\"],\n  \"debug\": true\n}\n"
    );
}

proptest! {
    #[test]
    fn any_object(
        members in proptest::collection::btree_map("[a-z\\\\\"]{1,6}", "[ -~]{0,8}", 0..5),
        mirrors in proptest::option::of(proptest::collection::vec("https://[a-z]{1,5}", 1..4)),
        pretty: bool,
    ) {
        let mut object = serde_json::json!(members);
        if let Some(mirrors) = mirrors {
            object[KEY] = serde_json::json!(mirrors);
        }
        prop_assume!(!object.as_object().unwrap().is_empty());
        edit(&if pretty { serde_json::to_string_pretty(&object).unwrap() } else { object.to_string() });
    }
}
