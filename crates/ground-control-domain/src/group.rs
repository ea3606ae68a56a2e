//! Groups: named lists of artifacts that satellites are given.

use jiff::Timestamp;

use crate::label::{Labels, Selector};
use crate::rule::Rule;
use crate::{GroupId, leak};

pub use fleet_protocol::Artifact;

/// A group and its list.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    /// Its identifier.
    pub id: GroupId,
    /// Its name.
    pub name: String,
    /// Its artifacts, in the order given.
    pub artifacts: Vec<Artifact>,
    /// Chooses satellites beside those that are in it by name.
    pub selector: Option<Selector>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When its list last changed.
    pub updated_at: Timestamp,
}

impl Group {
    /// The projects (first path segments) of its repositories, sorted, each once.
    pub fn projects(&self) -> Vec<String> {
        let mut projects: Vec<String> = self
            .artifacts
            .iter()
            .filter_map(|a| a.repository.as_str().split_once('/').map(|(project, _)| project.to_owned()))
            .collect();
        projects.sort();
        projects.dedup();
        projects
    }
}

/// The most artifacts that one group may list.
pub const MAX_ARTIFACTS: usize = 10_000;
/// The most platforms that one artifact may name.
const MAX_PLATFORMS: usize = 32;

/// Checks a list before it is kept; the message names what is wrong and where.
///
/// State documents are no artifacts: a group that listed one would let its satellites read what is another's.
pub fn check(artifacts: &[Artifact]) -> Result<(), String> {
    if artifacts.len() > MAX_ARTIFACTS {
        return Err(format!("the group lists {} artifacts, more than {MAX_ARTIFACTS}", artifacts.len()));
    }
    for (n, artifact) in artifacts.iter().enumerate() {
        let repository = artifact.repository.as_str();
        check_choice(artifact).map_err(|reason| format!("artifacts[{n}] ({repository}) {reason}"))?;
        if STATE_REPOSITORIES.iter().any(|prefix| repository.starts_with(prefix)) {
            return Err(format!(
                "artifacts[{n}] ({repository}) is a state document, which no group may list"
            ));
        }
        for label in &artifact.labels {
            if let Some(path) = leak::secrets(label).first() {
                return Err(format!(
                    "artifacts[{n}] ({repository}): the label {path:?} holds a secret, which every satellite of the \
                     group would read"
                ));
            }
        }
    }
    Ok(())
}

/// An artifact is named by its tags, its digest or both, or is chosen by a rule.
fn check_choice(artifact: &Artifact) -> Result<(), String> {
    if artifact.platforms.len() > MAX_PLATFORMS {
        return Err(format!("names {} platforms, more than {MAX_PLATFORMS}", artifact.platforms.len()));
    }
    let named = !artifact.tags.is_empty() || artifact.digest.is_some();
    match &artifact.pattern {
        None if artifact.keep.is_some() => Err("has `keep` without `match`".to_owned()),
        None if !named => Err("has neither a tag nor a digest nor a rule (`match`)".to_owned()),
        None => Ok(()),
        Some(_) if named => {
            Err("has a rule (`match`) beside a tag or a digest: make two entries of it".to_owned())
        }
        Some(_) if artifact.deleted => {
            Err("has a rule (`match`) and is to be deleted: name the tags or digests".to_owned())
        }
        Some(pattern) => Rule::parse(pattern, artifact.keep)
            .map(drop)
            .map_err(|reason| format!("has a rule ({pattern}) that cannot be read: {reason}")),
    }
}

/// Checks the selector of a group.
///
/// It may not choose satellites without labels: a new one, which may have introduced itself, is in no group until a
/// person says so.
pub fn check_selector(selector: &Selector) -> Result<(), String> {
    if !selector.matches(&Labels::new()) {
        return Ok(());
    }
    Err("the selector chooses satellites without labels, too: a group needs at least one label that has to be there \
         (`key`, `key=value`, `key in (a,b)`)"
        .to_owned())
}

const STATE_REPOSITORIES: [&str; 3] =
    ["satellite/satellite-state/", "satellite/group-state/", "satellite/config-state/"];

#[cfg(test)]
mod tests {
    use super::*;

    fn artifact(value: serde_json::Value) -> Artifact {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_selector_needs_a_label() {
        for good in ["env", "env=prod", "env in (a,b),!old", "env!=a,tier"] {
            assert_eq!(check_selector(&good.parse().unwrap()), Ok(()), "{good}");
        }
        for bad in ["", "!env", "env!=prod", "env notin (a),!old"] {
            assert!(check_selector(&bad.parse().unwrap()).is_err(), "{bad}");
        }
    }

    #[test]
    fn lists_are_checked() {
        let good = artifact(serde_json::json!({"repository": "library/nginx", "tag": "latest"}));
        let by_digest =
            Artifact { tags: Vec::new(), digest: Some(oci::Digest::sha256(b"x")), ..good.clone() };
        assert_eq!(check(&[good.clone(), by_digest]), Ok(()));
        let neither = Artifact { tags: Vec::new(), ..good.clone() };
        assert!(check(&[good.clone(), neither]).unwrap_err().contains("artifacts[1] (library/nginx)"));
        let rule = |value| Artifact {
            tags: Vec::new(),
            pattern: serde_json::from_value(value).unwrap(),
            ..good.clone()
        };
        let semver = rule(serde_json::json!({"semver": "^1.2"}));
        assert_eq!(check(&[Artifact { keep: Some(2), ..semver.clone() }]), Ok(()));
        for (bad, words) in [
            (rule(serde_json::json!({"semver": "one"})), "cannot be read"),
            (Artifact { keep: Some(0), ..semver.clone() }, "`keep`"),
            (Artifact { tags: good.tags.clone(), ..semver.clone() }, "two entries"),
            (Artifact { deleted: true, ..semver.clone() }, "deleted"),
            (Artifact { keep: Some(1), ..good.clone() }, "without `match`"),
            (Artifact { platforms: vec![oci::Platform::default(); 33], ..good.clone() }, "platforms"),
        ] {
            let error = check(&[bad]).unwrap_err();
            assert!(error.contains("artifacts[0] (library/nginx)") && error.contains(words), "{error}");
        }
        let state = artifact(
            serde_json::json!({"repository": "satellite/satellite-state/edge-02/state", "tag": "latest"}),
        );
        assert!(check(&[state]).unwrap_err().contains("state document"));
        let label = serde_json::json!({"name": "pull", "token": "hunter2"});
        let leaking = Artifact { labels: vec![label], ..good.clone() };
        let error = check(&[leaking]).unwrap_err();
        assert!(error.contains("\"token\" holds a secret") && !error.contains("hunter2"), "{error}");
        assert!(check(&vec![good; MAX_ARTIFACTS + 1]).unwrap_err().contains("more than"));
    }
}
