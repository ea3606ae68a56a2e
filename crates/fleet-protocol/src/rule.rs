//! Rules: which tags of a repository a group follows.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The pattern of a rule, written as `{"glob": "1.*"}` or `{"semver": "^1.2"}`: exactly one of the two.
///
/// A text is only carried here. What it means is Ground Control's business, which refuses one that does not parse: a
/// satellite is given digests and never chooses.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pattern {
    /// A shell pattern over the whole tag: `*`, `?`, `[a-z]`, `{a,b}`.
    Glob(String),
    /// A requirement in Cargo's syntax; a tag may begin with `v`. A pre-release is chosen only where the requirement names
    /// one of the same version.
    Semver(String),
}

impl Pattern {
    /// Its kind as the key of the JSON object.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Glob(_) => "glob",
            Self::Semver(_) => "semver",
        }
    }

    /// The text behind it.
    pub fn text(&self) -> &str {
        match self {
            Self::Glob(text) | Self::Semver(text) => text,
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind(), self.text())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::Artifact;

    #[test]
    fn a_rule_is_one_pattern() {
        let value =
            json!({"repository": "library/nginx", "match": {"glob": "1.*"}, "platforms": [], "keep": 2});
        let artifact: Artifact = serde_json::from_value(value).unwrap();
        assert_eq!(artifact.pattern, Some(Pattern::Glob("1.*".into())));
        assert_eq!((artifact.keep, artifact.tags.len(), artifact.digest), (Some(2), 0, None));
        let written = serde_json::to_value(&artifact).unwrap();
        assert_eq!((&written["match"], &written["keep"]), (&json!({"glob": "1.*"}), &json!(2)));
        assert_eq!(serde_json::from_value::<Artifact>(written).unwrap(), artifact);
        for bad in [
            json!({}),
            json!({"glob": "1.*", "semver": "^1"}),
            json!({"regex": "1.*"}),
            json!({"semver": 1.2}),
            json!("1.*"),
        ] {
            let value = json!({"repository": "library/nginx", "match": bad});
            assert!(serde_json::from_value::<Artifact>(value.clone()).is_err(), "{value}");
        }
        let plain: Artifact = serde_json::from_value(json!({"repository": "a/b", "tag": "1"})).unwrap();
        let written = serde_json::to_value(&plain).unwrap();
        assert!(written.get("match").is_none() && written.get("keep").is_none());
    }
}
