//! CRI-O's own settings: the images that the kubelet does not collect (`pinned_images`), in a drop-in of
//! `crio.conf.d`. A later file's list replaces an earlier one's, so ours holds the operator's, too.

use std::collections::BTreeSet;

use toml_edit::{Item, Value};

use crate::edit::Refusal;
use crate::toml_text::{parse, quoted};

/// CRI-O's file.
pub const CRIO_CONF: &str = "/etc/crio/crio.conf";
/// The folder of its drop-ins, read after it in the order of their names.
pub const CRIO_CONF_D: &str = "/etc/crio/crio.conf.d";
/// Ours in that folder.
pub const OWN_FILE: &str = "99-harbor-satellite.conf";

/// Our drop-in: what the operator pins and, beside it, `names`. None where we have nothing to pin. `main` is `crio.conf`;
/// `drop_ins` are the others' files by name and text.
///
/// # Errors
/// [`Refusal`] where a file cannot be read as CRI-O reads it, or one after ours has a list that would replace it.
pub fn pinned_images(
    main: Option<&str>,
    drop_ins: &[(String, String)],
    names: &[String],
) -> Result<Option<String>, Refusal> {
    if names.is_empty() {
        return Ok(None);
    }
    let mut theirs = main.map(list).transpose()?.flatten().unwrap_or_default();
    let mut sorted: Vec<&(String, String)> = drop_ins.iter().filter(|(name, _)| name != OWN_FILE).collect();
    sorted.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
    for (name, text) in sorted {
        let Some(found) = list(text)? else { continue };
        if name.as_str() > OWN_FILE {
            return Err(Refusal::Conflict {
                what: format!("{CRIO_CONF_D}/{name}"),
                why: format!(
                    "it comes after {OWN_FILE} and its pinned_images would replace ours; give it an earlier name"
                ),
            });
        }
        theirs = found;
    }
    let all: BTreeSet<&String> = theirs.iter().chain(names).collect();
    let mut text = String::from(
        "# Written by the satellite's node agent: the operator's pinned images, and those of the site.\n[crio.image]\npinned_images = [\n",
    );
    for name in all {
        text += &format!("    {},\n", quoted(name));
    }
    text += "]\n";
    match list(&text)? {
        Some(_) => Ok(Some(text)),
        None => Err(Refusal::ReadBack(OWN_FILE.to_owned())),
    }
}

/// `pinned_images` of one file, where it has such a list.
fn list(text: &str) -> Result<Option<Vec<String>>, Refusal> {
    let document = parse(text)?;
    let shape = || Refusal::Shape("`crio.image.pinned_images`".to_owned());
    let Some(crio) = document.get("crio") else { return Ok(None) };
    let Some(image) = crio.get("image") else { return Ok(None) };
    match image.get("pinned_images") {
        None | Some(Item::None) => Ok(None),
        Some(Item::Value(Value::Array(names))) => {
            let names = names.iter().map(|name| name.as_str().map(str::to_owned));
            names.collect::<Option<Vec<String>>>().map(Some).ok_or_else(shape)
        }
        Some(_) => Err(shape()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, pins: &str) -> (String, String) {
        (name.to_owned(), format!("[crio.image]\npinned_images = [{pins}]\n"))
    }

    fn pins(text: &str) -> Vec<String> {
        list(text).unwrap().unwrap()
    }

    #[test]
    fn ours_holds_what_the_operator_pins() {
        let ours = ["docker.io/library/a:1".to_owned()];
        let main = "[crio.image]\npause_image = \"p\"\npinned_images = [\"main\"]\n";
        let alone = pinned_images(Some(main), &[], &ours).unwrap().unwrap();
        assert_eq!(pins(&alone), ["docker.io/library/a:1", "main"]);
        // The last of theirs is in force, whatever order they are listed in; our own file is no word of theirs.
        let files = [file("20-b.conf", "\"b\""), file(OWN_FILE, "\"old\""), file("10-a.conf", "\"a\"")];
        let merged = pinned_images(Some(main), &files, &ours).unwrap().unwrap();
        assert_eq!(pins(&merged), ["b", "docker.io/library/a:1"]);
        // A file that says nothing of it leaves it as it is.
        let other = ("30-c.conf".to_owned(), "[crio.runtime]\nlog_level = \"info\"\n".to_owned());
        assert_eq!(pinned_images(Some(main), &[other], &ours).unwrap().unwrap(), alone);
        assert_eq!(pinned_images(Some(main), &files, &[]).unwrap(), None);
    }

    #[test]
    fn what_would_be_in_vain_or_is_not_understood_is_refused() {
        let ours = ["a".to_owned()];
        assert!(matches!(
            pinned_images(None, &[file("99-zz.conf", "\"b\"")], &ours),
            Err(Refusal::Conflict { .. })
        ));
        assert!(pinned_images(Some("[crio"), &[], &ours).is_err());
        assert!(pinned_images(Some("[crio.image]\npinned_images = 1\n"), &[], &ours).is_err());
        assert!(pinned_images(Some("[crio.image]\npinned_images = [1]\n"), &[], &ours).is_err());
    }
}
