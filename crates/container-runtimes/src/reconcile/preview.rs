//! What a run would change, for a person who looks first.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;

use super::{Change, Shell};
use crate::plan::{FileEdit, Plan};
use crate::secret::MASK;

/// Lines shown around a change.
const CONTEXT: usize = 3;

/// A file that a run would change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// What would happen to it.
    pub change: Change,
    /// Its text now, if it is there.
    pub current: Option<String>,
    /// Its text after that.
    pub target: Option<String>,
    /// Credentials in either text.
    pub(crate) secrets: Vec<String>,
}

impl Difference {
    /// The lines that come and go, in the unified form of diff(1), without credentials.
    pub fn text(&self, path: &str) -> String {
        let name = |text: &Option<String>| if text.is_some() { path } else { "/dev/null" };
        let mut out = format!("--- {}\n+++ {}\n", name(&self.current), name(&self.target));
        let lines = |text: &Option<String>| -> Vec<String> {
            let mut text = text.clone().unwrap_or_default();
            for secret in self.secrets.iter().map(|secret| secret.trim()).filter(|secret| !secret.is_empty())
            {
                // As it is, and as a quoted string holds it.
                let escaped = serde_json::Value::from(secret).to_string();
                text = text.replace(secret, MASK).replace(escaped.trim_matches('"'), MASK);
            }
            text.lines().map(str::to_owned).collect()
        };
        let (before, after) = (lines(&self.current), lines(&self.target));
        let same = before.iter().zip(&after).take_while(|(a, b)| a == b).count();
        let room = before.len().min(after.len()) - same;
        let end = before.iter().rev().zip(after.iter().rev()).take(room).take_while(|(a, b)| a == b).count();
        let from = same.saturating_sub(CONTEXT);
        let until = |all: &[String]| (all.len() - end + CONTEXT).min(all.len());
        let range = |all: &[String]| {
            let count = until(all) - from;
            format!("{},{count}", if count == 0 { from } else { from + 1 })
        };
        let _infallible = writeln!(out, "@@ -{} +{} @@", range(&before), range(&after));
        let mut put = |sign: char, lines: &[String]| {
            for line in lines {
                let _infallible = writeln!(out, "{sign}{line}");
            }
        };
        put(' ', &before[from..same]);
        put('-', &before[same..before.len() - end]);
        put('+', &after[same..after.len() - end]);
        put(' ', &after[after.len() - end..until(&after)]);
        out
    }
}

impl Shell<'_> {
    /// What [`Self::apply`] would do, as far as no parser objects. Writes nothing.
    pub fn preview(&self, plan: &Plan) -> io::Result<BTreeMap<String, Difference>> {
        let mut differences = BTreeMap::new();
        for group in self.groups(plan) {
            let steps = self.steps(plan, group)?;
            // With one refusal the whole group is left alone.
            let refused = steps.iter().any(|step| matches!(step.change, Change::Refused(_)));
            for step in steps {
                if step.change == Change::Unchanged || refused && !matches!(step.change, Change::Refused(_)) {
                    continue;
                }
                let planned = plan.files.get(&step.path).map(|file| &file.edit);
                let ours = self.state.files.get(&step.path).map(|record| &record.edit);
                let secrets = planned.into_iter().chain(ours).flat_map(FileEdit::secrets).map(str::to_owned);
                let difference = Difference {
                    secrets: secrets.collect(),
                    change: step.change,
                    current: step.current,
                    target: step.target,
                };
                differences.insert(step.path, difference);
            }
        }
        Ok(differences)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_shown_with_its_surroundings_and_without_credentials() {
        let difference = |current: Option<&str>, target: Option<&str>| Difference {
            change: Change::Written,
            current: current.map(str::to_owned),
            target: target.map(str::to_owned),
            secrets: vec!["Basic eA==".to_owned(), "p\\w".to_owned(), String::new()],
        };
        assert!(difference(None, Some("password: \"p\\\\w\"\n")).text("/f").contains("password: \"****"));
        assert_eq!(
            difference(Some("1\n2\n3\n4\n5\n6\n7\n8\n"), Some("1\n2\n3\n4\nnew\n5\n6\n7\n8\n")).text("/f"),
            "--- /f\n+++ /f\n@@ -2,6 +2,7 @@\n 2\n 3\n 4\n+new\n 5\n 6\n 7\n"
        );
        assert_eq!(
            difference(None, Some("a = \"Basic eA==\"\n")).text("/f"),
            format!("--- /dev/null\n+++ /f\n@@ -0,0 +1,1 @@\n+a = \"{MASK}\"\n")
        );
        assert_eq!(difference(Some("x\n"), None).text("/f"), "--- /f\n+++ /dev/null\n@@ -1,1 +0,0 @@\n-x\n");
    }
}
