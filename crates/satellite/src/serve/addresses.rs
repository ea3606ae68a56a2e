//! Under which names and addresses other machines reach this one.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::local_ca::Names;

/// More addresses than these are a machine's of another kind; a certificate has to stay small.
const MOST: usize = 64;

/// What a certificate for a listener has to name: what the site says, what it listens on, and what this machine says of
/// itself.
#[must_use]
pub fn names(said: &[String], listen: IpAddr) -> Names {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let mut own = of_fib_trie(&read("/proc/net/fib_trie"));
    own.extend(of_if_inet6(&read("/proc/net/if_inet6")));
    together(said, listen, &host, &own)
}

fn together(said: &[String], listen: IpAddr, host: &str, own: &BTreeSet<IpAddr>) -> Names {
    let mut names: BTreeSet<String> = BTreeSet::from(["localhost".to_owned()]);
    let mut addresses: BTreeSet<IpAddr> =
        BTreeSet::from([Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
    for name in said.iter().map(String::as_str).chain([host]) {
        match name.parse() {
            Ok(address) => drop(addresses.insert(address)),
            Err(_) if is_host_name(name) => drop(names.insert(name.to_ascii_lowercase())),
            Err(_) => {}
        }
    }
    if listen.is_unspecified() {
        addresses.extend(own.iter().copied().take(MOST));
    } else {
        addresses.insert(listen);
    }
    Names { names: names.into_iter().collect(), addresses: addresses.into_iter().collect() }
}

/// A host's name (RFC 1123, section 2.1).
#[must_use]
pub fn is_host_name(name: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
    };
    name.len() <= 253 && name.split('.').all(label)
}

/// The kernel's own IPv4 addresses: the lines `/32 host LOCAL`, each below its address.
fn of_fib_trie(text: &str) -> BTreeSet<IpAddr> {
    let mut found = BTreeSet::new();
    let mut last = None;
    for line in text.lines().map(str::trim) {
        if let Some(address) = line.strip_prefix("|-- ") {
            last = address.parse::<Ipv4Addr>().ok();
        } else if line == "/32 host LOCAL" {
            found.extend(last.filter(|address| !address.is_loopback()).map(IpAddr::from));
        }
    }
    found
}

/// The kernel's own IPv6 addresses: 32 hexadecimal digits at the beginning of each line. Those of a link alone cannot be
/// named in a certificate in a way that anybody would ask for.
fn of_if_inet6(text: &str) -> BTreeSet<IpAddr> {
    text.lines()
        .filter_map(|line| u128::from_str_radix(line.split_whitespace().next()?, 16).ok())
        .map(Ipv6Addr::from_bits)
        .filter(|address| !address.is_loopback() && !address.is_unicast_link_local())
        .map(IpAddr::from)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRIE: &str = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n     |-- 192.0.2.0\n        /24 link UNICAST\n     |-- 192.0.2.7\n        /32 host LOCAL\n     |-- 192.0.2.255\n        /32 link BROADCAST\nLocal:\n     |-- 127.0.0.1\n        /32 host LOCAL\n";
    const INET6: &str = "00000000000000000000000000000001 01 80 10 80       lo\nfe800000000000000042acfffe110002 02 40 20 80     eth0\n20010db8000000000000000000000007 02 40 00 80     eth0\nnonsense\n";

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_kernel_says_which_addresses_are_ours() {
        assert_eq!(of_fib_trie(TRIE), BTreeSet::from([address("192.0.2.7")]));
        assert_eq!(of_if_inet6(INET6), BTreeSet::from([address("2001:db8::7")]));
        assert!(of_fib_trie("").is_empty() && of_if_inet6("x y\n").is_empty());
    }

    #[test]
    fn a_certificate_names_what_others_may_say() {
        let own = BTreeSet::from([address("192.0.2.7")]);
        let said = ["Site.Example".to_owned(), "198.51.100.1".to_owned()];
        let all = together(&said, address("0.0.0.0"), "edge-01", &own);
        assert_eq!(all.names, ["edge-01", "localhost", "site.example"]);
        let addresses: Vec<IpAddr> = ["127.0.0.1", "192.0.2.7", "198.51.100.1", "::1"].map(address).into();
        assert_eq!(all.addresses, addresses);
        let one = together(&[], address("192.0.2.9"), "(none)", &own);
        assert_eq!(one.names, ["localhost"]);
        assert!(
            one.addresses.contains(&address("192.0.2.9")) && !one.addresses.contains(&address("192.0.2.7"))
        );
    }

    #[test]
    fn host_names_are_told_from_others() {
        for (name, is) in
            [("a", true), ("a-b.c", true), ("-a", false), ("a..b", false), ("", false), ("a_b", false)]
        {
            assert_eq!(is_host_name(name), is, "{name}");
        }
    }
}
