//! Label selectors, equality and set based: `env=prod,tier in (web, cache),!legacy`.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use super::{Labels, check_key, check_value};

/// The longest selector, in bytes.
pub const MAX_SELECTOR: usize = 4096;
/// The most requirements of one selector.
pub const MAX_REQUIREMENTS: usize = 32;

/// What all labels of a satellite together must meet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selector {
    requirements: Vec<Requirement>,
}

/// One thing that labels must meet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Requirement {
    /// `key`: it is there.
    Exists(String),
    /// `!key`: it is not.
    Absent(String),
    /// `key=value`, `key in (…)`: it is there with one of these values.
    In(String, BTreeSet<String>),
    /// `key!=value`, `key notin (…)`: it is not there with one of these values; absent is good, too.
    NotIn(String, BTreeSet<String>),
}

impl Requirement {
    /// Whether labels meet it.
    pub fn matches(&self, labels: &Labels) -> bool {
        let one_of = |key: &String, values: &BTreeSet<String>| {
            labels.get(key).is_some_and(|value| values.contains(value))
        };
        match self {
            Self::Exists(key) => labels.contains_key(key),
            Self::Absent(key) => !labels.contains_key(key),
            Self::In(key, values) => one_of(key, values),
            Self::NotIn(key, values) => !one_of(key, values),
        }
    }
}

impl Selector {
    /// Whether labels meet every requirement; a selector without any is met by all.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.requirements.iter().all(|requirement| requirement.matches(labels))
    }

    /// Its requirements, in the order given.
    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }
}

impl FromStr for Selector {
    type Err = String;

    /// Reads a selector; the message says what is wrong and where.
    fn from_str(text: &str) -> Result<Self, String> {
        if text.len() > MAX_SELECTOR {
            return Err(format!("the selector is longer than {MAX_SELECTOR} bytes"));
        }
        let mut requirements = Vec::new();
        let mut rest = text.trim_start();
        while !rest.is_empty() {
            let (requirement, after) = requirement(rest)?;
            requirements.push(requirement);
            if requirements.len() > MAX_REQUIREMENTS {
                return Err(format!("the selector has more than {MAX_REQUIREMENTS} requirements"));
            }
            rest = match after.strip_prefix(',') {
                Some(after) if after.trim().is_empty() => {
                    return Err("the selector ends with a comma".to_owned());
                }
                Some(after) => after.trim_start(),
                None if after.is_empty() => after,
                None => {
                    return Err(format!("the selector is wrong at {:?}: a comma is needed", start(after)));
                }
            };
        }
        Ok(Self { requirements })
    }
}

/// Reads one requirement and gives what stands behind it.
fn requirement(text: &str) -> Result<(Requirement, &str), String> {
    if let Some(text) = text.strip_prefix('!') {
        let (key, rest) = word(text.trim_start());
        check_key(key)?;
        return Ok((Requirement::Absent(key.to_owned()), rest));
    }
    let (key, rest) = word(text);
    check_key(key)?;
    let one = |rest| {
        let (value, rest) = word(rest);
        check_value(value)?;
        Ok::<_, String>((BTreeSet::from([value.to_owned()]), rest))
    };
    let key = key.to_owned();
    if let Some(rest) = rest.strip_prefix("!=") {
        return one(rest.trim_start()).map(|(values, rest)| (Requirement::NotIn(key, values), rest));
    }
    if let Some(rest) = rest.strip_prefix("==").or_else(|| rest.strip_prefix('=')) {
        return one(rest.trim_start()).map(|(values, rest)| (Requirement::In(key, values), rest));
    }
    match word(rest) {
        ("in", rest) => values(rest).map(|(values, rest)| (Requirement::In(key, values), rest)),
        ("notin", rest) => values(rest).map(|(values, rest)| (Requirement::NotIn(key, values), rest)),
        _ => Ok((Requirement::Exists(key), rest)),
    }
}

/// Reads `(a, b)`.
fn values(text: &str) -> Result<(BTreeSet<String>, &str), String> {
    let list = text.strip_prefix('(').and_then(|text| text.split_once(')')).ok_or_else(|| {
        format!("the selector is wrong at {:?}: values in brackets are needed", start(text))
    })?;
    let values = list.0.split(',').map(|value| value.trim().to_owned()).collect::<BTreeSet<_>>();
    for value in &values {
        check_value(value)?;
    }
    Ok((values, list.1.trim_start()))
}

/// The text up to the next sign or white space, and what stands behind that white space.
fn word(text: &str) -> (&str, &str) {
    let end = text
        .find(|c: char| c.is_whitespace() || matches!(c, ',' | '=' | '!' | '(' | ')'))
        .unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    (word, rest.trim_start())
}

fn start(text: &str) -> String {
    text.chars().take(20).collect()
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (key, word, values) = match self {
            Self::Exists(key) => return f.write_str(key),
            Self::Absent(key) => return write!(f, "!{key}"),
            Self::In(key, values) => (key, "in", values),
            Self::NotIn(key, values) => (key, "notin", values),
        };
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        write!(f, "{key} {word} ({})", values.join(","))
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, requirement) in self.requirements.iter().enumerate() {
            write!(f, "{}{requirement}", if n == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::{btree_map, btree_set, vec};
    use proptest::prelude::*;
    use proptest::sample::select;

    fn key() -> impl Strategy<Value = String> {
        select(vec!["env", "tier", "in", "notin", "example.com/zone"]).prop_map(str::to_owned)
    }

    fn value() -> impl Strategy<Value = String> {
        select(vec!["", "prod", "web", "in", "1.2"]).prop_map(str::to_owned)
    }

    fn requirement() -> impl Strategy<Value = Requirement> {
        let values = || btree_set(value(), 1..4);
        prop_oneof![
            key().prop_map(Requirement::Exists),
            key().prop_map(Requirement::Absent),
            (key(), values()).prop_map(|(key, values)| Requirement::In(key, values)),
            (key(), values()).prop_map(|(key, values)| Requirement::NotIn(key, values)),
        ]
    }

    fn selector() -> impl Strategy<Value = Selector> {
        vec(requirement(), 0..5).prop_map(|requirements| Selector { requirements })
    }

    fn labels() -> impl Strategy<Value = Labels> {
        btree_map(key(), value(), 0..5)
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(selector in selector()) {
            prop_assert_eq!(selector.to_string().parse::<Selector>(), Ok(selector));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[a-z!=,() .]{0,30}") {
            if let Ok(selector) = text.parse::<Selector>() {
                prop_assert_eq!(selector.to_string().parse::<Selector>(), Ok(selector));
            }
        }

        #[test]
        fn a_requirement_and_its_opposite_part_all_labels(key in key(), values in btree_set(value(), 1..4), labels in labels()) {
            let exists = Requirement::Exists(key.clone()).matches(&labels);
            prop_assert!(exists != Requirement::Absent(key.clone()).matches(&labels));
            let inside = Requirement::In(key.clone(), values.clone()).matches(&labels);
            prop_assert!(inside != Requirement::NotIn(key, values).matches(&labels));
            prop_assert!(!inside || exists);
        }

        #[test]
        fn more_requirements_choose_fewer(a in selector(), b in selector(), labels in labels()) {
            let text = [a.to_string(), b.to_string()].into_iter().filter(|t| !t.is_empty()).collect::<Vec<_>>();
            let both: Selector = text.join(",").parse().unwrap();
            prop_assert_eq!(both.matches(&labels), a.matches(&labels) && b.matches(&labels));
        }
    }

    #[test]
    fn as_kubernetes_reads_them() {
        let of = |text: &str| text.parse::<Selector>().unwrap_or_else(|error| panic!("{text}: {error}"));
        let labels = Labels::from([("env".into(), "prod".into()), ("tier".into(), String::new())]);
        for met in [
            "",
            " ",
            "env",
            "env=prod",
            "env==prod",
            " env = prod ",
            "env!=dev",
            "missing!=x",
            "!missing",
            "! missing",
            "env in (dev, prod)",
            "env in (prod),tier",
            "env notin (dev)",
            "missing notin (x)",
            "tier=",
            "tier in ()",
            "tier in (a,)",
            "env=prod,tier=",
        ] {
            assert!(of(met).matches(&labels), "{met}");
        }
        for unmet in [
            "missing",
            "!env",
            "env=dev",
            "env!=prod",
            "env notin (prod)",
            "env=prod,missing",
            "missing=",
            "ENV",
        ] {
            assert!(!of(unmet).matches(&labels), "{unmet}");
        }
        for bad in [
            ",",
            "env,",
            ",env",
            "env=a b",
            "env in",
            "env in prod",
            "env in (a",
            "env in (a))",
            "env=a=b",
            "=a",
            "env (a)",
            "!",
            "!!env",
            "!env=a",
            "env > 1",
            "env in (a b)",
            "-x",
            "env=é",
            &"e".repeat(MAX_SELECTOR + 1),
            &["a"; MAX_REQUIREMENTS + 1].join(","),
        ] {
            assert!(bad.parse::<Selector>().is_err(), "{bad}");
        }
    }
}
