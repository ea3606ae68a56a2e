//! What a robot may be called.

use std::fmt;
use std::str::FromStr;

/// 255 characters pass; with 256 Harbor fails with 500, which looks like an outage and would be tried for ever.
const MAX_LENGTH: usize = 255;

/// The name of a robot without Harbor's prefix: runs of lower-case letters and digits, joined by one of `.`, `_`, `-`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RobotName(String);

/// A text that Harbor would not take as a robot's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no robot name: up to 255 lower-case letters and digits, joined by one of '.', '_', '-'")]
pub struct RobotNameError(String);

impl RobotName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RobotName {
    type Err = RobotNameError;

    fn from_str(text: &str) -> Result<Self, RobotNameError> {
        let run = |part: &str| {
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        };
        if text.len() <= MAX_LENGTH && text.split(['.', '_', '-']).all(run) {
            Ok(Self(text.to_owned()))
        } else {
            Err(RobotNameError(text.chars().take(300).collect()))
        }
    }
}

impl fmt::Display for RobotName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_harbor_takes_and_refuses() {
        for good in ["edge-01", "a.b-c_d", "7", &"a".repeat(255)] {
            assert!(good.parse::<RobotName>().is_ok(), "{good}");
        }
        for bad in [
            "Edge-02",
            "edge+02",
            "edge/02",
            "edge--02",
            "edge_02.",
            "",
            "robot$edge",
            "ünï",
            &"c".repeat(256),
        ] {
            assert!(bad.parse::<RobotName>().is_err(), "{bad}");
        }
    }
}
