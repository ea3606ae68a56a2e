//! Where a request comes from: the peer of its connection, or whom a trusted proxy says it passes on.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use axum::extract::ConnectInfo;
use http::{Extensions, HeaderMap, HeaderName, header};
use registry_server::listen::TrustedProxies;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// Hops that are looked at, from the nearest on; whoever stands further away is not asked.
const HOPS: usize = 32;

/// The address that a request came from, as the accept loop noted it and [`forwarded`] corrected it.
pub fn source_of(extensions: &Extensions) -> IpAddr {
    extensions
        .get::<ConnectInfo<SocketAddr>>()
        .map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |info| info.0.ip().to_canonical())
}

/// The address that stands behind trusted proxies, where `peer` is one and says so: the last in `X-Forwarded-For`, or in
/// `Forwarded` (RFC 7239), that is no trusted proxy itself. What stands further left was written by somebody who is not
/// trusted.
///
/// Where a request has both headers, they have to agree: a proxy that writes one of them may pass the other on as a stranger
/// wrote it. Where they do not, and where a header does not parse, the answer is the last proxy that is known.
pub fn forwarded(peer: IpAddr, headers: &HeaderMap, proxies: &TrustedProxies) -> IpAddr {
    let peer = peer.to_canonical();
    if !proxies.trusts(peer) {
        return peer;
    }
    let by = |name: &HeaderName, read: fn(&str) -> Option<IpAddr>| {
        headers.contains_key(name).then(|| nearest_stranger(peer, headers, name, read, proxies))
    };
    match (by(&X_FORWARDED_FOR, address), by(&header::FORWARDED, forwarded_for)) {
        (Some(one), Some(other)) if one != other => peer,
        (Some(found), _) | (None, Some(found)) => found,
        (None, None) => peer,
    }
}

fn nearest_stranger(
    peer: IpAddr,
    headers: &HeaderMap,
    name: &HeaderName,
    read: fn(&str) -> Option<IpAddr>,
    proxies: &TrustedProxies,
) -> IpAddr {
    let mut last = peer;
    let lines: Vec<&str> = headers.get_all(name).iter().map(|line| line.to_str().unwrap_or("")).collect();
    for hop in lines.iter().rev().flat_map(|line| line.rsplit(',')).take(HOPS) {
        let Some(address) = read(hop.trim()) else { return last };
        last = address;
        if !proxies.trusts(address) {
            return last;
        }
    }
    last
}

/// An address, with or without a port: `192.0.2.1`, `192.0.2.1:4711`, `2001:db8::1`, `[2001:db8::1]:4711`.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse::<IpAddr>().ok().or_else(|| Some(text.parse::<SocketAddr>().ok()?.ip()));
    address.map(|address| address.to_canonical())
}

/// The parameter `for` of an element of `Forwarded`; other names than addresses say nothing.
fn forwarded_for(element: &str) -> Option<IpAddr> {
    let value = element.split(';').find_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        name.trim().eq_ignore_ascii_case("for").then_some(value.trim())
    })?;
    address(value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(value))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn found(peer: &str, lines: &[(&'static str, &str)]) -> String {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().unwrap());
        }
        let proxies = "10.0.0.0/8,2001:db8:f::/48".parse().unwrap();
        forwarded(peer.parse().unwrap(), &headers, &proxies).to_string()
    }

    const X: &str = "x-forwarded-for";

    #[test]
    fn only_trusted_proxies_are_believed() {
        for (peer, lines, expected) in [
            ("192.0.2.1", &[(X, "198.51.100.1")][..], "192.0.2.1"),
            ("10.0.0.1", &[], "10.0.0.1"),
            ("::ffff:10.0.0.1", &[(X, "198.51.100.1")], "198.51.100.1"),
            ("10.0.0.1", &[(X, "198.51.100.1")], "198.51.100.1"),
            // A stranger wrote the first.
            ("10.0.0.1", &[(X, "203.0.113.9, 198.51.100.1")], "198.51.100.1"),
            ("10.0.0.1", &[(X, "203.0.113.9, 198.51.100.1, 10.0.0.2")], "198.51.100.1"),
            ("10.0.0.1", &[(X, "203.0.113.9"), (X, "198.51.100.1")], "198.51.100.1"),
            ("10.0.0.1", &[(X, "10.0.0.3, 10.0.0.2")], "10.0.0.3"),
            ("10.0.0.1", &[(X, "203.0.113.9, nonsense, 10.0.0.2")], "10.0.0.2"),
            ("10.0.0.1", &[(X, "")], "10.0.0.1"),
            ("10.0.0.1", &[(X, "198.51.100.1:4711")], "198.51.100.1"),
            ("2001:db8:f::1", &[(X, "[2001:db8::1]:4711")], "2001:db8::1"),
            ("10.0.0.1", &[("forwarded", "for=198.51.100.1;proto=https;by=10.0.0.1")], "198.51.100.1"),
            ("10.0.0.1", &[("forwarded", "For=\"[2001:db8::1]:4711\", for=10.0.0.2")], "2001:db8::1"),
            ("10.0.0.1", &[("forwarded", "for=198.51.100.1, for=unknown")], "10.0.0.1"),
            ("10.0.0.1", &[("forwarded", "for=_hidden")], "10.0.0.1"),
            // Both headers: only where they say the same.
            ("10.0.0.1", &[("forwarded", "for=198.51.100.1"), (X, "198.51.100.1")], "198.51.100.1"),
            ("10.0.0.1", &[("forwarded", "for=203.0.113.9"), (X, "198.51.100.1")], "10.0.0.1"),
        ] {
            assert_eq!(found(peer, lines), expected, "{peer} {lines:?}");
        }
    }

    proptest! {
        /// Whatever a client sends ahead, what the proxy appended decides.
        #[test]
        fn nobody_writes_their_own_address(sent in "[ -~]{0,120}") {
            let line = format!("{sent}, 198.51.100.1");
            prop_assert_eq!(found("10.0.0.1", &[(X, &line)]), "198.51.100.1");
            prop_assert_eq!(found("192.0.2.1", &[(X, &sent)]), "192.0.2.1");
        }
    }
}
