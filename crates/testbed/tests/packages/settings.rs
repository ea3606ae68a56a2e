//! The settings that a program knows, by its own help, and those that what is shipped gives it.

use std::collections::BTreeSet;
use std::process::Command;

use testbed::{binaries, command};

/// The variables that a program knows: each of its flags has one.
pub(crate) async fn known(program: &str) -> BTreeSet<String> {
    let mut help = Command::new(binaries::find(program, None).unwrap());
    help.arg("--help").env_clear();
    let help = command::run(help).await.unwrap();
    let variables: BTreeSet<String> = help
        .lines()
        .filter_map(|line| line.trim().trim_start_matches("-h, ").strip_prefix("--"))
        .map(|flag| flag.split([' ', '=', '[']).next().unwrap().to_uppercase().replace('-', "_"))
        .collect();
    assert!(variables.contains("LOG_LEVEL") && variables.len() > 20, "{program} --help: {variables:?}");
    variables
}

/// Fails where a program would not know one of these variables, which it would ignore.
pub(crate) fn all_known<'a>(
    place: &str,
    variables: impl IntoIterator<Item = &'a str>,
    known: &BTreeSet<String>,
) {
    for variable in variables {
        assert!(known.contains(variable), "{place} sets {variable}, which the program does not know");
    }
}

/// `NAME=value` of a file of settings, those included that are commented out.
pub(crate) fn of_file(text: &str) -> Vec<(String, String)> {
    text.lines()
        .map(|line| line.trim_start_matches('#'))
        .filter_map(|line| line.split_once('='))
        .filter(|(name, _)| name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_'))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}
