//! Proxies in front of the listener: which are believed, and what they say of where a connection comes from.
//!
//! A proxy that passes bytes on, TLS included, tells the client's address in front of them: the PROXY protocol, version 2
//! (HAProxy, `proxy-protocol.txt`, section 2.2). Whoever connects could write such a header, so it is read from trusted
//! proxies alone, and from them only where a connection begins with it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use ipnet::IpNet;
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// The first byte of a header, which no TLS record and no request line begins with.
pub(super) const FIRST: u8 = b'\r';

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family, length.
const FIXED: usize = 16;
/// The most bytes behind them that are read: addresses take 216 at most, the rest are extensions (TLVs).
const MOST: usize = 4096;

/// Networks whose proxies are believed.
#[derive(Debug, Clone, Default)]
pub struct TrustedProxies(Arc<[IpNet]>);

/// What is no list of networks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is neither a network nor an address, as 10.0.0.0/8, 192.0.2.7 or 2001:db8::/32")]
pub struct NoNetwork(String);

impl FromStr for TrustedProxies {
    type Err = NoNetwork;

    /// Reads a list of networks (`10.0.0.0/8`) and addresses, with commas between them.
    fn from_str(text: &str) -> Result<Self, NoNetwork> {
        text.split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
            .map(|part| network(part).ok_or_else(|| NoNetwork(part.to_owned())))
            .collect::<Result<Vec<_>, _>>()
            .map(|networks| Self(networks.into()))
    }
}

fn network(text: &str) -> Option<IpNet> {
    match text.parse::<IpNet>() {
        Ok(network) => Some(network),
        Err(_) => text.parse::<IpAddr>().ok().map(|address| IpNet::from(address.to_canonical())),
    }
}

impl TrustedProxies {
    /// Whether a proxy at this address is believed. An IPv4 address in IPv6's clothes is the IPv4 address.
    pub fn trusts(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// What a header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    /// The proxy itself connects (a health check), or passes on what has no IP address.
    Itself,
    /// It passes on what came from there.
    From(SocketAddr),
}

/// What is wrong with a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum Malformed {
    #[error("it does not begin with the signature of version 2")]
    Signature,
    #[error("the version is not 2")]
    Version,
    #[error("the command is neither LOCAL nor PROXY")]
    Command,
    #[error("the family is none that a connection has")]
    Family,
    #[error("it is shorter than its addresses")]
    Short,
    #[error("it is longer than {MOST} bytes")]
    Long,
}

/// Length of what follows the fixed part.
fn length(fixed: &[u8; FIXED]) -> Result<usize, Malformed> {
    if fixed[..12] != SIGNATURE {
        return Err(Malformed::Signature);
    }
    if fixed[12] >> 4 != 2 {
        return Err(Malformed::Version);
    }
    let length = usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    if length > MOST { Err(Malformed::Long) } else { Ok(length) }
}

/// Reads the fixed part and all that follows it. Extensions say nothing that is needed here.
fn parse(fixed: &[u8; FIXED], rest: &[u8]) -> Result<Said, Malformed> {
    if length(fixed)? != rest.len() {
        return Err(Malformed::Short);
    }
    match fixed[12] & 0x0f {
        0 => return Ok(Said::Itself),
        1 => {}
        _ => return Err(Malformed::Command),
    }
    match fixed[13] {
        // No family at all, and sockets of the proxy's own machine: the sender has no address that means something here.
        0x00 | 0x31 => Ok(Said::Itself),
        0x11 => {
            let (source, rest) = rest.split_first_chunk::<4>().ok_or(Malformed::Short)?;
            let rest = rest.get(4..).ok_or(Malformed::Short)?;
            Ok(Said::From(SocketAddr::new(Ipv4Addr::from(*source).into(), port(rest)?)))
        }
        0x21 => {
            let (source, rest) = rest.split_first_chunk::<16>().ok_or(Malformed::Short)?;
            let rest = rest.get(16..).ok_or(Malformed::Short)?;
            let source = IpAddr::from(Ipv6Addr::from(*source)).to_canonical();
            Ok(Said::From(SocketAddr::new(source, port(rest)?)))
        }
        _ => Err(Malformed::Family),
    }
}

/// The source's port, behind which the destination's has to be, too.
fn port(rest: &[u8]) -> Result<u16, Malformed> {
    match rest {
        [high, low, _, _, ..] => Ok(u16::from_be_bytes([*high, *low])),
        _ => Err(Malformed::Short),
    }
}

/// Takes the header from the front of a connection of a trusted proxy, and not a byte more. `proxy`: where the proxy
/// connects from, which is the answer where it speaks for itself.
pub(super) async fn source(
    stream: &mut (impl AsyncRead + Unpin),
    proxy: SocketAddr,
) -> io::Result<SocketAddr> {
    let bad = |error: Malformed| io::Error::new(io::ErrorKind::InvalidData, error);
    let mut fixed = [0; FIXED];
    stream.read_exact(&mut fixed).await?;
    let mut rest = vec![0; length(&fixed).map_err(bad)?];
    stream.read_exact(&mut rest).await?;
    match parse(&fixed, &rest).map_err(bad)? {
        Said::Itself => Ok(proxy),
        Said::From(source) => Ok(source),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A header as a proxy writes it.
    fn header(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let mut bytes = SIGNATURE.to_vec();
        bytes.extend([0x20 | command, family]);
        bytes.extend(u16::try_from(rest.len()).unwrap().to_be_bytes());
        bytes.extend(rest);
        bytes
    }

    fn addresses(source: SocketAddr, destination: SocketAddr) -> (u8, Vec<u8>) {
        let mut bytes = Vec::new();
        let mut family = 0x11;
        for address in [source.ip(), destination.ip()] {
            match address {
                IpAddr::V4(address) => bytes.extend(address.octets()),
                IpAddr::V6(address) => {
                    family = 0x21;
                    bytes.extend(address.octets());
                }
            }
        }
        bytes.extend(source.port().to_be_bytes());
        bytes.extend(destination.port().to_be_bytes());
        (family, bytes)
    }

    fn read(bytes: &[u8]) -> io::Result<SocketAddr> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(source(&mut { bytes }, proxy()))
    }

    fn proxy() -> SocketAddr {
        "10.0.0.1:443".parse().unwrap()
    }

    #[test]
    fn networks_are_read() {
        let proxies: TrustedProxies = "10.0.0.0/8, 192.0.2.7,2001:db8::/32,".parse().unwrap();
        for good in ["10.255.0.1", "192.0.2.7", "2001:db8::1", "::ffff:10.1.2.3"] {
            assert!(proxies.trusts(good.parse().unwrap()), "{good}");
        }
        for bad in ["11.0.0.1", "192.0.2.8", "2001:db9::1", "::1", "::ffff:11.0.0.1"] {
            assert!(!proxies.trusts(bad.parse().unwrap()), "{bad}");
        }
        assert!("".parse::<TrustedProxies>().unwrap().is_empty());
        assert!(!TrustedProxies::default().trusts("127.0.0.1".parse().unwrap()));
        for bad in ["10.0.0.0/33", "proxy", "10.0.0.0/8 10.1.0.0/16", "10.0.0.1:80"] {
            assert!(bad.parse::<TrustedProxies>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_proxy_speaks_for_itself_or_for_another() {
        assert_eq!(read(&header(0, 0, &[])).unwrap(), proxy());
        let (family, told) = addresses("192.0.2.1:1".parse().unwrap(), "192.0.2.2:2".parse().unwrap());
        assert_eq!(read(&header(0, family, &told)).unwrap(), proxy(), "LOCAL ignores the addresses");
        assert_eq!(read(&header(1, 0, &[1, 2, 3])).unwrap(), proxy(), "UNSPEC ignores the rest");
        assert_eq!(read(&header(1, 0x31, &[0; 216])).unwrap(), proxy(), "a socket of its machine");
        assert_eq!(read(&header(1, family, &told)).unwrap(), "192.0.2.1:1".parse().unwrap());
        let mapped = addresses("[::ffff:192.0.2.1]:1".parse().unwrap(), "[::1]:2".parse().unwrap());
        assert_eq!(read(&header(1, mapped.0, &mapped.1)).unwrap(), "192.0.2.1:1".parse().unwrap());
    }

    #[test]
    fn what_is_no_header_is_refused() {
        let (family, told) = addresses("192.0.2.1:1".parse().unwrap(), "192.0.2.2:2".parse().unwrap());
        let good = header(1, family, &told);
        for end in 0..good.len() {
            assert!(read(&good[..end]).is_err(), "cut at {end}");
        }
        for (at, value) in [(0, b'G'), (11, 0), (12, 0x11), (12, 0x22), (13, 0x12), (13, 0x21), (13, 0x40)] {
            let mut bad = good.clone();
            bad[at] = value;
            assert!(read(&bad).is_err(), "{value:#x} at {at}");
        }
        assert!(read(&header(1, family, &told[..11])).is_err());
        assert!(read(&header(1, family, &[0; MOST + 1])).is_err());
        assert!(read(&header(1, family, &[0; MOST])).is_ok());
    }

    proptest! {
        #[test]
        fn what_a_proxy_writes_is_read_and_nothing_behind_it(
            v6 in any::<bool>(),
            ips in any::<[u128; 2]>(),
            ports in any::<[u16; 2]>(),
            extensions in proptest::collection::vec(any::<u8>(), 0..300),
            behind in proptest::collection::vec(any::<u8>(), 0..20),
        ) {
            let ip = |n: u128| match v6 {
                true => IpAddr::from(Ipv6Addr::from(n)),
                false => IpAddr::from(Ipv4Addr::from(n as u32)),
            };
            let told = SocketAddr::new(ip(ips[0]), ports[0]);
            let (family, mut rest) = addresses(told, SocketAddr::new(ip(ips[1]), ports[1]));
            rest.extend(extensions);
            let bytes = [header(1, family, &rest), behind.clone()].concat();
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let mut left = bytes.as_slice();
            let found = runtime.block_on(source(&mut left, proxy())).unwrap();
            prop_assert_eq!(found, SocketAddr::new(told.ip().to_canonical(), told.port()));
            prop_assert_eq!(left, behind.as_slice());
        }

        #[test]
        fn any_bytes_are_an_address_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..80), signed in any::<bool>()) {
            let bytes = if signed { [SIGNATURE.as_slice(), &bytes].concat() } else { bytes };
            let _ = read(&bytes);
        }
    }
}
