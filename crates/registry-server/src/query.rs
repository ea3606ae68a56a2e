//! The query parameters of the registry API, read in one pass.
//!
//! Unknown parameters are ignored, as clients and proxies add their own (`ns` to every request, for one). The ones
//! that are known are decoded as forms are (`+` is a space), which is how clients of every language write them.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use crate::error::RegistryError;

/// The parameters that mean something here; each request uses a few.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Query<'a> {
    pub(crate) ns: Option<Cow<'a, str>>,
    pub(crate) digest: Option<Cow<'a, str>>,
    pub(crate) digest_algorithm: Option<Cow<'a, str>>,
    pub(crate) mount: Option<Cow<'a, str>>,
    pub(crate) from: Option<Cow<'a, str>>,
    pub(crate) tags: Vec<Cow<'a, str>>,
    pub(crate) n: Option<Cow<'a, str>>,
    pub(crate) last: Option<Cow<'a, str>>,
    pub(crate) artifact_type: Option<Cow<'a, str>>,
}

/// Tags that one manifest may be pushed with. The specification asks for at least 10.
const MAX_TAGS: usize = 128;

impl<'a> Query<'a> {
    pub(crate) fn parse(query: Option<&'a str>) -> Result<Self, RegistryError> {
        let mut parsed = Query::default();
        let Some(query) = query else { return Ok(parsed) };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let slot = match key {
                "ns" => &mut parsed.ns,
                "digest" => &mut parsed.digest,
                "digest-algorithm" => &mut parsed.digest_algorithm,
                "mount" => &mut parsed.mount,
                "from" => &mut parsed.from,
                "n" => &mut parsed.n,
                "last" => &mut parsed.last,
                "artifactType" => &mut parsed.artifact_type,
                "tag" => {
                    if parsed.tags.len() == MAX_TAGS {
                        return Err(RegistryError::too_many_tags(MAX_TAGS));
                    }
                    parsed.tags.push(decoded(value)?);
                    continue;
                }
                _ => continue,
            };
            if slot.is_none() {
                *slot = Some(decoded(value)?);
            } else if key == "ns" && parsed.ns != Some(decoded(value)?) {
                // Whoever looked at one of them, a proxy say, must not be answered for the other.
                return Err(RegistryError::bad_request("`ns` names two hosts"));
            }
        }
        Ok(parsed)
    }
}

fn decoded(value: &str) -> Result<Cow<'_, str>, RegistryError> {
    if !value.contains(['%', '+']) {
        return Ok(Cow::Borrowed(value));
    }
    let spaced = value.replace('+', " ");
    let text = percent_decode_str(&spaced)
        .decode_utf8()
        .map_err(|_| RegistryError::bad_request("the query is no UTF-8 once it is decoded"))?;
    Ok(Cow::Owned(text.into_owned()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_what_clients_send() {
        let query =
            Query::parse(Some("ns=docker.io&digest=sha256%3Aab&tag=1&tag=v1.2&x=y&&n=5&n=6&last=")).unwrap();
        assert_eq!(query.ns.as_deref(), Some("docker.io"));
        assert_eq!(query.digest.as_deref(), Some("sha256:ab"));
        assert_eq!(query.tags, ["1", "v1.2"]);
        assert_eq!(query.n.as_deref(), Some("5"));
        assert_eq!(query.last.as_deref(), Some(""));
        assert_eq!(Query::parse(None).unwrap(), Query::default());
    }

    #[test]
    fn bounds_and_refuses() {
        let many = "tag=a&".repeat(MAX_TAGS + 1);
        assert!(Query::parse(Some(&many)).is_err());
        assert!(Query::parse(Some("last=%ff")).is_err());
        assert!(Query::parse(Some("ns=docker.io&ns=quay.io")).is_err());
        assert!(Query::parse(Some("ns=quay.io&ns=")).is_err());
        assert!(Query::parse(Some("ns=quay.io&ns=quay%2Eio")).is_ok());
    }

    proptest! {
        #[test]
        fn never_panics(query in "[ -~]{0,60}") {
            let _ = Query::parse(Some(&query));
        }
    }
}
