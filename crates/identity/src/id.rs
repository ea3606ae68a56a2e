//! SPIFFE IDs and the layout of ours (SPIFFE-ID, section 2).

use std::fmt;
use std::str::FromStr;

use fleet_protocol::{Region, SatelliteName};

/// The longest SPIFFE ID that must be taken (SPIFFE-ID, section 2.3).
const MAX_ID: usize = 2048;
/// The longest trust domain name.
const MAX_TRUST_DOMAIN: usize = 255;
const SCHEME: &str = "spiffe://";
/// The trust domain where none is configured.
pub const DEFAULT_TRUST_DOMAIN: &str = "harbor-satellite.local";

/// Why a text is no SPIFFE ID or trust domain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no {what}: {reason}")]
pub struct IdError {
    text: String,
    what: &'static str,
    reason: &'static str,
}

/// The name of a trust domain: lower-case letters, digits, dots, hyphens and underscores.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrustDomain(String);

impl TrustDomain {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for TrustDomain {
    fn default() -> Self {
        Self(DEFAULT_TRUST_DOMAIN.to_owned())
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for TrustDomain {
    type Err = IdError;

    /// Takes the bare name, and the form `spiffe://<name>`.
    fn from_str(text: &str) -> Result<Self, IdError> {
        let fail = |reason| IdError { text: text.to_owned(), what: "trust domain", reason };
        let name = text.strip_prefix(SCHEME).unwrap_or(text);
        if name.is_empty() || name.len() > MAX_TRUST_DOMAIN {
            return Err(fail("it must have 1 to 255 characters"));
        }
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-._".contains(&byte);
        if !name.bytes().all(allowed) {
            return Err(fail("only lower-case letters, digits, dots, hyphens and underscores are allowed"));
        }
        Ok(Self(name.to_owned()))
    }
}

/// A SPIFFE ID. The path may be empty only in the ID of a trust domain itself, which no workload has.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpiffeId {
    trust_domain: TrustDomain,
    path: String,
}

/// Whose identity an ID is in our layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Layout {
    /// `/gc/main`.
    GroundControl,
    /// `/satellite/region/<region>/<name>`, or `/satellite/<name>` in the region `default`.
    Satellite {
        /// Its region.
        region: Region,
        /// Its name.
        name: SatelliteName,
    },
    /// `/agent/<name>`: the node agent of a satellite.
    Agent {
        /// The satellite's name.
        name: SatelliteName,
    },
    /// Somebody else's.
    Other,
}

impl SpiffeId {
    fn of(trust_domain: &TrustDomain, path: String) -> Self {
        Self { trust_domain: trust_domain.clone(), path }
    }

    /// `spiffe://<td>/gc/main`.
    #[must_use]
    pub fn ground_control(trust_domain: &TrustDomain) -> Self {
        Self::of(trust_domain, "/gc/main".to_owned())
    }

    /// `spiffe://<td>/satellite/region/<region>/<name>`.
    #[must_use]
    pub fn satellite(trust_domain: &TrustDomain, region: &Region, name: &SatelliteName) -> Self {
        Self::of(trust_domain, format!("/satellite/region/{region}/{name}"))
    }

    /// `spiffe://<td>/agent/<name>`.
    #[must_use]
    pub fn agent(trust_domain: &TrustDomain, name: &SatelliteName) -> Self {
        Self::of(trust_domain, format!("/agent/{name}"))
    }

    /// `spiffe://<td>/spire/server`, the one identity that a stock agent takes for its server.
    #[must_use]
    pub fn spire_server(trust_domain: &TrustDomain) -> Self {
        Self::of(trust_domain, "/spire/server".to_owned())
    }

    /// The trust domain.
    #[must_use]
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The path: empty, or with a slash in front.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Whose identity it is in our layout.
    #[must_use]
    pub fn layout(&self) -> Layout {
        let segments: Vec<&str> = self.path.split('/').skip(1).collect();
        let satellite = |region: &str, name: &str| {
            Some(Layout::Satellite { region: region.parse().ok()?, name: name.parse().ok()? })
        };
        let found = match segments.as_slice() {
            ["gc", "main"] => Some(Layout::GroundControl),
            ["satellite", "region", region, name] => satellite(region, name),
            ["satellite", name] => satellite("default", name),
            ["agent", name] => name.parse().ok().map(|name| Layout::Agent { name }),
            _ => None,
        };
        found.unwrap_or(Layout::Other)
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}{}", self.trust_domain, self.path)
    }
}

impl FromStr for SpiffeId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let fail = |reason| IdError { text: text.to_owned(), what: "SPIFFE ID", reason };
        if text.len() > MAX_ID {
            return Err(fail("it is longer than 2048 bytes"));
        }
        let rest = text.strip_prefix(SCHEME).ok_or_else(|| fail("it does not begin with spiffe://"))?;
        let (domain, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        let trust_domain = domain.parse().map_err(|error: IdError| fail(error.reason))?;
        for segment in path.split('/').skip(1) {
            if matches!(segment, "" | "." | "..") {
                return Err(fail("a segment of its path is empty or relative"));
            }
            if !segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte)) {
                return Err(fail("its path holds a character other than letters, digits, `-`, `.` and `_`"));
            }
        }
        Ok(Self { trust_domain, path: path.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_reads_back() {
        let td = TrustDomain::default();
        let (region, name): (Region, SatelliteName) =
            ("us-east".parse().unwrap(), "edge-01".parse().unwrap());
        let id = SpiffeId::satellite(&td, &region, &name);
        assert_eq!(id.to_string(), "spiffe://harbor-satellite.local/satellite/region/us-east/edge-01");
        assert_eq!(id.to_string().parse::<SpiffeId>().unwrap(), id);
        assert_eq!(id.layout(), Layout::Satellite { region, name: name.clone() });
        assert_eq!(SpiffeId::agent(&td, &name).layout(), Layout::Agent { name: name.clone() });
        assert_eq!(SpiffeId::ground_control(&td).layout(), Layout::GroundControl);
        let old: SpiffeId = "spiffe://td/satellite/edge-01".parse().unwrap();
        assert_eq!(old.layout(), Layout::Satellite { region: Region::default(), name });
        for other in [
            "spiffe://td/satellite/region/a",
            "spiffe://td/satellite/region/A/b",
            "spiffe://td/x",
            "spiffe://td",
        ] {
            assert_eq!(other.parse::<SpiffeId>().unwrap().layout(), Layout::Other, "{other}");
        }
    }

    #[test]
    fn what_is_no_spiffe_id_is_refused() {
        for bad in [
            "",
            "spiffe://",
            "http://td/a",
            "spiffe:///a",
            "spiffe://TD/a",
            "spiffe://td/",
            "spiffe://td//a",
            "spiffe://td/a/",
            "spiffe://td/a/../b",
            "spiffe://td/a%20b",
            "spiffe://td:80/a",
            "spiffe://u@td/a",
            "spiffe://td/a?b",
            "spiffe://td/a#b",
        ] {
            assert!(bad.parse::<SpiffeId>().is_err(), "{bad}");
        }
        let long = format!("spiffe://td/{}", "a".repeat(2048));
        assert!(long.parse::<SpiffeId>().is_err());
    }
}
