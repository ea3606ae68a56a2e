//! `auth.json` of Podman, CRI-O, buildah and skopeo (containers-auth.json(5)): the account for a mirror that wants one.
//! An insertion; every other byte stays.

use serde_json::{Value, json};

use crate::edit::{Edit, Refusal, cut, insert, newline, replace};
use crate::json_text::{Member, members, members_at, with_comma};
use crate::secret::Hidden;

/// Where root's accounts are kept across reboots. Other users have files of their own.
pub const ROOT_AUTH: &str = "/root/.config/containers/auth.json";
const AUTHS: &str = "auths";

fn parse(text: &str) -> Result<Value, Refusal> {
    if text.trim().is_empty() {
        return Ok(json!({}));
    }
    let value: Value = serde_json::from_str(text).map_err(|e| Refusal::Syntax(e.to_string()))?;
    if value.is_object() && value.get(AUTHS).is_none_or(Value::is_object) {
        Ok(value)
    } else {
        Err(Refusal::Shape(format!("`{AUTHS}`")))
    }
}

fn member(text: &str, name: &str) -> Result<Option<Member>, Refusal> {
    let mut found: Vec<Member> =
        members(text).into_iter().filter(|member| member.name.eq_ignore_ascii_case(name)).collect();
    match found.len() {
        0 => Ok(None),
        1 if found[0].name == name => Ok(found.pop()),
        // Go takes a key whatever its case, and the last of several.
        _ => Err(Refusal::Shape(format!("`{name}`, which stands there more than once or in capitals,"))),
    }
}

/// Whether a file holds an account for a registry.
pub fn has(text: &str, registry: &str) -> Result<bool, Refusal> {
    Ok(parse(text)?.get(AUTHS).is_some_and(|auths| auths.get(registry).is_some()))
}

/// Adds the account (base64 of `user:password`) for a registry; one that a file holds already stays as it is.
pub fn apply(text: Option<&str>, registry: &str, auth: &Hidden) -> Result<Edit, Refusal> {
    let text = text.unwrap_or_default();
    if has(text, registry)? {
        return Ok(Edit::unchanged(text));
    }
    let nl = newline(text);
    let entry = format!("{}: {}", Value::from(registry), json!({ "auth": auth.reveal() }));
    let splice = if text.trim().is_empty() {
        insert(text.len(), format!("{{{nl}  \"{AUTHS}\": {{{nl}    {entry}{nl}  }}{nl}}}{nl}"))
    } else if let Some(auths) = member(text, AUTHS)? {
        into_object(text, auths.value.start, &entry)
    } else {
        let open = text.find('{').unwrap_or_default();
        into_object(text, open, &format!("\"{AUTHS}\": {{{entry}}}"))
    };
    let edit = Edit::make(text, vec![splice]);
    let mut expected = parse(text)?;
    expected[AUTHS][registry] = json!({ "auth": auth.reveal() });
    if parse(&edit.text)? == expected { Ok(edit) } else { Err(Refusal::ReadBack(AUTHS.to_owned())) }
}

fn into_object(text: &str, open: usize, entry: &str) -> crate::Splice {
    match members_at(text, open).first() {
        Some(first) => {
            let gap = text.get(open + 1..first.whole.start).unwrap_or_default();
            insert(first.whole.start, format!("{entry},{gap}"))
        }
        None => {
            let close = text.get(open..).and_then(|rest| rest.find('}')).map_or(open + 1, |at| open + at);
            replace(text, open + 1..close, entry)
        }
    }
}

/// Takes the account out of a file that was edited since, with `auths` where `base`, the text before us, had none. A
/// text that held nothing else comes back empty.
pub fn strip(text: &str, registry: &str, base: Option<&str>) -> Result<Edit, Refusal> {
    if !has(text, registry)? {
        return Ok(Edit::unchanged(text));
    }
    let Some(auths) = member(text, AUTHS)? else { return Ok(Edit::unchanged(text)) };
    let entries = members_at(text, auths.value.start);
    let had_auths = parse(base.unwrap_or_default())?.get(AUTHS).is_some();
    let range = if entries.len() == 1 && !had_auths {
        let all = members(text);
        if all.len() == 1 {
            return Ok(Edit::between(text, String::new()));
        }
        let index = all.iter().position(|member| member.name == AUTHS).unwrap_or_default();
        with_comma(&all.into_iter().map(|member| member.whole).collect::<Vec<_>>(), index)
    } else {
        let index = entries.iter().position(|entry| entry.name == registry);
        let index = index.ok_or_else(|| Refusal::Shape(format!("`{AUTHS}`")))?;
        with_comma(&entries.into_iter().map(|entry| entry.whole).collect::<Vec<_>>(), index)
    };
    let edit = Edit::make(text, vec![cut(text, range)]);
    if has(&edit.text, registry)? { Err(Refusal::ReadBack(AUTHS.to_owned())) } else { Ok(edit) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = "10.0.0.2:8585";

    #[test]
    fn an_account_comes_and_goes_and_the_others_stay() {
        let auth = Hidden::new("dTpw");
        for base in [
            "",
            "{}",
            "{ }\n",
            "{\"auths\": {}}",
            "{\n\t\"auths\": {\n\t\t\"quay.io\": {\n\t\t\t\"auth\": \"eDp5\"\n\t\t}\n\t}\n}",
            "{\"credHelpers\": {\"gcr.io\": \"x\"}}",
        ] {
            let edit = apply(Some(base), HOST, &auth).unwrap();
            assert!(has(&edit.text, HOST).unwrap() && edit.undo() == base, "{}", edit.text);
            assert_eq!(apply(Some(&edit.text), HOST, &auth).unwrap().splices, []);
            let back = strip(&edit.text, HOST, Some(base)).unwrap().text;
            let data = |text: &str| parse(text).unwrap();
            assert_eq!(data(&back), data(base), "{back}");
        }
    }

    #[test]
    fn an_operator_s_own_account_is_kept() {
        let own = format!("{{\"auths\": {{\"{HOST}\": {{\"auth\": \"own\"}}}}}}");
        assert_eq!(apply(Some(&own), HOST, &Hidden::new("ours")).unwrap().text, own);
    }

    #[test]
    fn what_is_no_such_file_is_left_alone() {
        for text in ["[]", "{", "{\"auths\": []}", "{\"Auths\": {}}", "{\"auths\": {}, \"auths\": {}}"] {
            assert!(apply(Some(text), HOST, &Hidden::new("x")).is_err(), "{text}");
        }
    }
}
