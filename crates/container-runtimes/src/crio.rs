//! CRI-O's own settings: the images that the kubelet does not collect (`pinned_images`), in a drop-in of
//! `crio.conf.d`. A later file's list replaces an earlier one's, so ours holds the operator's, too.
//!
//! CRI-O reads every file below that folder, whatever it is called, folders within it included: what is half written there
//! would keep it from starting, so our file is made outside and moved in.

use std::collections::BTreeSet;
use std::io;

use toml_edit::{Item, Table, Value};

use crate::detect::{command_lines, flag_values};
use crate::edit::Refusal;
use crate::host::Host;
use crate::toml_text::{parse, quoted};

/// CRI-O's file.
pub const CRIO_CONF: &str = "/etc/crio/crio.conf";
/// The folder of its drop-ins, read after it in the order of their names.
pub const CRIO_CONF_D: &str = "/etc/crio/crio.conf.d";
/// The folder of both.
const FOLDER: &str = "/etc/crio";
/// Ours in that folder.
pub const OWN_FILE: &str = "99-harbor-satellite.conf";

/// Folders within the folder that are looked into.
const DEPTH: u32 = 8;
/// The most files of it that are read.
const MAX_FILES: usize = 1000;

/// Why CRI-O's settings cannot be brought in step.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    /// The operator's files.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// A file cannot be read or written.
    #[error("{path}: {why}")]
    Io {
        /// Which, as the machine calls it.
        path: String,
        /// What the system says.
        why: io::Error,
    },
}

fn io_error(path: &str) -> impl FnOnce(io::Error) -> PinError {
    move |why| PinError::Io { path: path.to_owned(), why }
}

/// Brings our drop-in in step with `names` and, of those that it holds now, the ones that are to stay for the time being.
/// Says whether it changed: CRI-O reads it at its next reload.
///
/// # Errors
/// [`PinError`]; the file is as it was.
pub fn pin(host: &Host, names: &[String], stay: &BTreeSet<String>) -> Result<bool, PinError> {
    let own = format!("{CRIO_CONF_D}/{OWN_FILE}");
    let now = host.read(&own).map_err(io_error(&own))?;
    let mut all: BTreeSet<String> = names.iter().cloned().collect();
    if let Some(held) = now.as_deref().and_then(|text| list(text).ok().flatten()) {
        all.extend(held.into_iter().filter(|name| stay.contains(name)));
    }
    if all.is_empty() && now.is_none() {
        return Ok(false);
    }
    let main = host.read(CRIO_CONF).map_err(io_error(CRIO_CONF))?;
    let mut drop_ins = Vec::new();
    collect(host, "", DEPTH, &mut drop_ins)?;
    // Such a flag goes before every file at the start, and is forgotten at a reload.
    let flags = command_lines(host, "crio");
    let flags = flags.iter().flat_map(|words| flag_values(words, &["--pinned-images"]));
    if !all.is_empty() {
        all.extend(flags.flat_map(|names| names.split(',').map(str::to_owned).collect::<Vec<_>>()));
        all.remove("");
    }
    let all: Vec<String> = all.into_iter().collect();
    let wanted = pinned_images(main.as_deref(), &drop_ins, &all)?;
    if wanted == now {
        return Ok(false);
    }
    match wanted {
        // CRI-O reads it whatever account it runs under.
        Some(text) => host.write_by_way_of(FOLDER, &own, &text, 0o644).map(drop),
        None => host.remove(&own),
    }
    .map_err(io_error(&own))?;
    Ok(true)
}

/// The file of accounts that CRI-O reads instead of root's, where one is set (`global_auth_file`).
///
/// # Errors
/// [`PinError`] where CRI-O's files cannot be read as it reads them.
pub fn global_auth_file(host: &Host) -> Result<Option<String>, PinError> {
    let main = host.read(CRIO_CONF).map_err(io_error(CRIO_CONF))?;
    let mut drop_ins = Vec::new();
    collect(host, "", DEPTH, &mut drop_ins)?;
    drop_ins.sort_unstable_by(|(one, _), (other, _)| order(one).cmp(&order(other)));
    let mut set = None;
    for text in main.iter().chain(drop_ins.iter().map(|(_, text)| text)) {
        let document = parse(text)?;
        if let Some(Item::Value(value)) = image_setting(document.as_table(), "global_auth_file") {
            let shape = || Refusal::Shape("`crio.image.global_auth_file`".to_owned());
            set = Some(value.as_str().ok_or_else(shape)?.to_owned());
        }
    }
    let lines = command_lines(host, "crio");
    let flag = lines.iter().find_map(|words| flag_values(words, &["--global-auth-file"]).pop());
    Ok(flag.or(set).filter(|path| path.starts_with('/')))
}

fn image_setting<'a>(root: &'a Table, key: &str) -> Option<&'a Item> {
    root.get("crio")?.get("image")?.get(key)
}

/// The files below the folder, each by its path in there, in any order.
fn collect(host: &Host, below: &str, depth: u32, out: &mut Vec<(String, String)>) -> Result<(), PinError> {
    for name in host.list(&format!("{CRIO_CONF_D}/{below}")) {
        // A file of ours that was being written when the power went.
        if name.starts_with(&format!(".{OWN_FILE}.")) {
            continue;
        }
        let inner = if below.is_empty() { name } else { format!("{below}/{name}") };
        let path = format!("{CRIO_CONF_D}/{inner}");
        if host.is_folder(&path) {
            if depth > 0 {
                collect(host, &inner, depth - 1, out)?;
            }
            continue;
        }
        if let Some(text) = host.read(&path).map_err(io_error(&path))? {
            out.push((inner, text));
        }
        if out.len() > MAX_FILES {
            return Err(io_error(CRIO_CONF_D)(io::Error::other("more files than are read")));
        }
    }
    Ok(())
}

/// The order in which CRI-O reads what is below the folder: by name, folder by folder.
fn order(path: &str) -> Vec<&str> {
    path.split('/').collect()
}

/// Our drop-in: what the operator pins and, beside it, `names`. None where we have nothing to pin. `main` is `crio.conf`;
/// `drop_ins` are the others' files by their path below the folder, and text.
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
    sorted.sort_unstable_by(|(one, _), (other, _)| order(one).cmp(&order(other)));
    for (name, text) in sorted {
        let Some(found) = list(text)? else { continue };
        if order(name) > order(OWN_FILE) {
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
    match image_setting(document.as_table(), "pinned_images") {
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

    /// A machine with these files below `crio.conf.d`.
    fn machine(files: &[(&str, &str)]) -> (tempfile::TempDir, Host) {
        let root = tempfile::tempdir().unwrap();
        let host = Host::new(root.path());
        for (name, text) in files {
            host.write(&format!("{CRIO_CONF_D}/{name}"), text, 0o640).unwrap();
        }
        (root, host)
    }

    fn ours(host: &Host) -> Option<Vec<String>> {
        host.read(&format!("{CRIO_CONF_D}/{OWN_FILE}")).unwrap().map(|text| pins(&text))
    }

    fn of(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn every_file_below_the_folder_counts_whatever_it_is_called() {
        let nothing = BTreeSet::new();
        let (_root, host) = machine(&[
            ("10-a", &file("", "\"a\"").1),
            ("50/inner/x.txt", &file("", "\"inner\"").1),
            ("50.conf/none.conf", "[crio.runtime]\n"),
        ]);
        assert!(pin(&host, &of(&["ours"]), &nothing).unwrap());
        assert_eq!(ours(&host).unwrap(), ["inner", "ours"]);
        assert!(!pin(&host, &of(&["ours"]), &nothing).unwrap(), "twice is once");
        // What comes after ours in that order would replace it.
        let late = format!("{CRIO_CONF_D}/99-zz/a");
        host.write(&late, &file("", "").1, 0o644).unwrap();
        let refused = pin(&host, &of(&["ours", "another"]), &nothing).unwrap_err();
        assert!(refused.to_string().contains("99-zz/a"), "{refused}");
        assert_eq!(ours(&host).unwrap(), ["inner", "ours"]);
        host.remove(&late).unwrap();
        assert!(pin(&host, &[], &nothing).unwrap());
        assert_eq!(ours(&host), None);
    }

    #[test]
    fn nothing_half_written_is_left_where_it_would_be_read() {
        let (_root, host) = machine(&[(&format!(".{OWN_FILE}.1.tmp"), "[crio.im")]);
        assert!(!pin(&host, &[], &BTreeSet::new()).unwrap());
        assert!(!host.has(&format!("{CRIO_CONF_D}/{OWN_FILE}")), "nothing is made for nothing");
        assert!(pin(&host, &of(&["a"]), &BTreeSet::new()).unwrap());
        assert_eq!(ours(&host).unwrap(), ["a"]);
        assert_eq!(host.list(FOLDER), ["crio.conf.d"], "no file is left beside it");
    }

    #[test]
    fn what_the_site_may_still_want_stays_and_flags_are_the_operators() {
        let (_root, host) = machine(&[]);
        let stay: BTreeSet<String> = of(&["b", "c"]).into_iter().collect();
        pin(&host, &of(&["a", "b"]), &BTreeSet::new()).unwrap();
        pin(&host, &of(&["n"]), &stay).unwrap();
        assert_eq!(ours(&host).unwrap(), ["b", "n"]);
        let line = "/usr/bin/crio\0--pinned-images\0one,two\0--log-level=debug\0";
        host.write("/proc/7/cmdline", line, 0o644).unwrap();
        host.write("/etc/sysconfig/crio", "CRIO_CONFIG_OPTIONS=\"--pinned-images=three\"\n", 0o644).unwrap();
        pin(&host, &of(&["n"]), &BTreeSet::new()).unwrap();
        assert_eq!(ours(&host).unwrap(), ["n", "one", "three", "two"]);
        pin(&host, &[], &BTreeSet::new()).unwrap();
        assert_eq!(ours(&host), None);
    }

    #[test]
    fn the_file_of_accounts_is_the_one_that_is_set_last() {
        let set = |file: &str| format!("[crio.image]\nglobal_auth_file = \"{file}\"\n");
        let (_root, host) = machine(&[]);
        assert_eq!(global_auth_file(&host).unwrap(), None);
        host.write(CRIO_CONF, &set("/main.json"), 0o644).unwrap();
        assert_eq!(global_auth_file(&host).unwrap().as_deref(), Some("/main.json"));
        host.write(&format!("{CRIO_CONF_D}/20"), &set(""), 0o644).unwrap();
        assert_eq!(global_auth_file(&host).unwrap(), None);
        host.write(&format!("{CRIO_CONF_D}/30"), &set("/30.json"), 0o644).unwrap();
        assert_eq!(global_auth_file(&host).unwrap().as_deref(), Some("/30.json"));
        host.write("/proc/7/cmdline", "crio\0--global-auth-file=/flag.json\0", 0o644).unwrap();
        assert_eq!(global_auth_file(&host).unwrap().as_deref(), Some("/flag.json"));
        host.write(&format!("{CRIO_CONF_D}/40"), "[crio.image]\nglobal_auth_file = 1\n", 0o644).unwrap();
        assert!(global_auth_file(&host).is_err());
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
