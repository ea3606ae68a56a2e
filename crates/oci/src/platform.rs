//! Platforms of an index's children and the choice among them (OCI image-spec, image-index.md).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::descriptor::Descriptor;

/// What a child manifest of an index runs on.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// CPU architecture in Go's words: `amd64`, `arm64`.
    #[serde(default)]
    pub architecture: String,
    /// Operating system in Go's words: `linux`.
    #[serde(default)]
    pub os: String,
    /// Variant of the CPU: `v7`, `v8`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// Version of the operating system, used by Windows.
    #[serde(default, rename = "os.version", skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
    /// Features of the operating system, used by Windows.
    #[serde(default, rename = "os.features", skip_serializing_if = "Vec::is_empty")]
    pub os_features: Vec<String>,
}

/// Why a text is no platform.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no platform: write os/architecture or os/architecture/variant, as in linux/amd64,linux/arm64/v8"
)]
pub struct PlatformError(String);

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let error = || PlatformError(crate::digest::shorten(text));
        let word = |part: &str| {
            !part.is_empty()
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
        };
        let parts: Vec<&str> = text.trim().split('/').collect();
        if !(2..=3).contains(&parts.len()) || !parts.iter().all(|part| word(part)) {
            return Err(error());
        }
        Ok(Self {
            os: parts[0].to_owned(),
            architecture: parts[1].to_owned(),
            variant: parts.get(2).map(|v| (*v).to_owned()),
            ..Self::default()
        })
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

impl Platform {
    /// Whether an image for `self` is what a choice of `wanted` asks for. A wanted platform without a variant takes every
    /// variant; `arm64` and `arm64/v8` are the same.
    fn is(&self, wanted: &Self) -> bool {
        let variant = |p: &Self| match (p.architecture.as_str(), p.variant.as_deref()) {
            ("arm64", None) => Some("v8".to_owned()),
            (_, v) => v.map(str::to_owned),
        };
        self.os == wanted.os
            && self.architecture == wanted.architecture
            && (wanted.variant.is_none() || variant(self) == variant(wanted))
    }

    fn is_unknown(&self) -> bool {
        self.os == "unknown" && self.architecture == "unknown"
    }
}

/// Which children of an index are kept. The default keeps all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlatformFilter {
    /// One of these; any where it is empty.
    platforms: Vec<Platform>,
    /// And one of these; any where it is empty.
    within: Vec<Platform>,
}

impl PlatformFilter {
    /// Keeps every child.
    pub fn all() -> Self {
        Self::default()
    }

    /// Whether every child is kept.
    pub fn is_all(&self) -> bool {
        self.platforms.is_empty() && self.within.is_empty()
    }

    /// Keeps what is one of `platforms` (any where there is none), and of that what `self` was before it was narrowed.
    pub fn narrowed(&self, platforms: impl IntoIterator<Item = Platform>) -> Self {
        let platforms: Vec<Platform> = platforms.into_iter().collect();
        let all = if self.within.is_empty() { &self.platforms } else { &self.within };
        if platforms.is_empty() {
            return Self { platforms: all.clone(), within: Vec::new() };
        }
        Self { platforms, within: all.clone() }
    }

    /// Whether the child that `descriptor` names is kept. Children without a platform and `unknown/unknown` ones
    /// (attestations) always are: nobody could choose them by platform.
    pub fn selects(&self, descriptor: &Descriptor) -> bool {
        let Some(platform) = &descriptor.platform else { return true };
        let is_one_of = |list: &[Platform]| list.is_empty() || list.iter().any(|wanted| platform.is(wanted));
        platform.is_unknown() || (is_one_of(&self.platforms) && is_one_of(&self.within))
    }
}

impl FromStr for PlatformFilter {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Self, PlatformError> {
        match text.trim() {
            "" | "all" => Ok(Self::all()),
            text => {
                let platforms = text.split(',').map(str::parse).collect::<Result<_, _>>()?;
                Ok(Self { platforms, within: Vec::new() })
            }
        }
    }
}

impl fmt::Display for PlatformFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.platforms.is_empty() {
            return f.write_str("all");
        }
        let list = |f: &mut fmt::Formatter<'_>, platforms: &[Platform]| {
            platforms
                .iter()
                .enumerate()
                .try_for_each(|(n, platform)| write!(f, "{}{platform}", if n == 0 { "" } else { "," }))
        };
        list(f, &self.platforms)?;
        if !self.within.is_empty() {
            f.write_str(" within ")?;
            list(f, &self.within)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Digest;

    fn child(platform: Option<&str>) -> Descriptor {
        let mut descriptor = Descriptor::new(crate::media_type::OCI_MANIFEST, Digest::sha256(b""), 0);
        descriptor.platform = platform.map(|p| p.parse().unwrap());
        descriptor
    }

    #[test]
    fn filter_table() {
        let filter: PlatformFilter = "linux/amd64, linux/arm64/v8,linux/arm".parse().unwrap();
        for (platform, kept) in [
            ("linux/amd64", true),
            ("linux/amd64/v3", true),
            ("linux/arm64", true),
            ("linux/arm64/v8", true),
            ("linux/arm64/v9", false),
            ("linux/arm/v7", true),
            ("windows/amd64", false),
            ("unknown/unknown", true),
        ] {
            assert_eq!(filter.selects(&child(Some(platform))), kept, "{platform}");
        }
        assert!(filter.selects(&child(None)));
        assert!(PlatformFilter::all().selects(&child(Some("plan9/mips"))));
    }

    #[test]
    fn a_narrowed_filter_takes_what_both_take() {
        let site: PlatformFilter = "linux/amd64,linux/arm".parse().unwrap();
        let list = |text: &str| text.split(',').map(|p| p.parse().unwrap()).collect::<Vec<Platform>>();
        let narrow = site.narrowed(list("linux/arm/v7,linux/s390x"));
        for (platform, kept) in [
            ("linux/arm/v7", true),
            ("linux/arm/v6", false),
            ("linux/amd64", false),
            ("linux/s390x", false),
            ("unknown/unknown", true),
        ] {
            assert_eq!(narrow.selects(&child(Some(platform))), kept, "{platform}");
        }
        assert_eq!(narrow.narrowed([]), site, "narrowing starts from the site's choice each time");
        assert_eq!(narrow.to_string(), "linux/arm/v7,linux/s390x within linux/amd64,linux/arm");
        let open = PlatformFilter::all().narrowed(list("linux/amd64"));
        assert!(open.selects(&child(Some("linux/amd64"))) && !open.selects(&child(Some("linux/arm64"))));
        assert!(!open.is_all());
    }

    #[test]
    fn refuses_what_is_no_platform() {
        for bad in ["linux", "linux/", "/amd64", "linux/a/b/c", "linux/amd64,,", "linux /amd64"] {
            assert!(bad.parse::<PlatformFilter>().is_err(), "{bad}");
        }
    }
}
