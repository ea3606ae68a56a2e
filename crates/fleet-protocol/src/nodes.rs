//! One digest for all nodes of a site's cluster, so that a list that has not changed need not travel.
//!
//! The satellite names a list by its digest, and Ground Control takes that name as it is, as an HTTP client takes an entity tag
//! (RFC 9110 section 8.8.3): a list with fields that it does not know has a name, too. What Ground Control holds is what the
//! last answer named, and nothing else: an answer that is lost, a Ground Control that is another one, an older one or one that
//! was put back gets the list again.

use std::borrow::Cow;

use oci::Digest;

use crate::heartbeat::{Heartbeat, NodePresence};

/// Hexadecimal digits of a digest: 128 bits. Nobody is told from anybody by it, so that it may be short.
const DIGITS: usize = 32;

/// The longest digest that is taken, in bytes.
const MAX_DIGEST: usize = 128;

/// The digest of a list of nodes; empty where there are none.
pub fn digest(nodes: &[NodePresence]) -> String {
    if nodes.is_empty() {
        return String::new();
    }
    // Writing to memory values that have no maps cannot fail.
    let text = serde_json::to_vec(nodes).unwrap_or_default();
    let mut digits = Digest::sha256(&text).hex();
    digits.truncate(DIGITS);
    digits
}

/// Where a heartbeat's list of nodes is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nodes {
    /// In the heartbeat, also where it is empty.
    Here,
    /// It is the one that is kept.
    AsBefore,
    /// It is another one, and not in the heartbeat: the satellite is to be asked for it.
    Missing,
}

impl Heartbeat {
    /// Puts in how the nodes stand: all of them, or only their digest where it is `known` by the last answer
    /// ([`crate::HeartbeatAnswer::nodes_digest`]).
    #[must_use]
    pub fn with_nodes(self, nodes: Vec<NodePresence>, known: Option<&str>) -> Self {
        let nodes_digest = digest(&nodes);
        let nodes = if known == Some(nodes_digest.as_str()) { Vec::new() } else { nodes };
        Self { nodes, nodes_digest, ..self }
    }

    /// Where the list of nodes is, where the one that is kept has the digest `kept` (empty: there is none).
    pub fn nodes_listed(&self, kept: &str) -> Nodes {
        if !self.nodes.is_empty() || self.nodes_digest.is_empty() {
            Nodes::Here
        } else if self.nodes_digest == kept {
            Nodes::AsBefore
        } else {
            Nodes::Missing
        }
    }

    /// By what the list of nodes is known: as the satellite names it, or as one would that does not; empty where it has none.
    pub fn nodes_name(&self) -> Cow<'_, str> {
        let given = self.nodes_digest.as_str();
        let usable = given.len() <= MAX_DIGEST && given.bytes().all(|byte| byte.is_ascii_graphic());
        if usable && !given.is_empty() { Cow::Borrowed(given) } else { Cow::Owned(digest(&self.nodes)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str) -> NodePresence {
        NodePresence { name: name.into(), ..NodePresence::default() }
    }

    #[test]
    fn a_list_that_is_known_stays_at_home() {
        let list = vec![node("a"), node("b")];
        let whole = Heartbeat::default().with_nodes(list.clone(), None);
        assert_eq!((&whole.nodes, whole.nodes_digest.len()), (&list, DIGITS));
        let short = Heartbeat::default().with_nodes(list.clone(), Some(&whole.nodes_digest));
        assert_eq!((short.nodes.len(), &short.nodes_digest), (0, &whole.nodes_digest));
        assert_eq!(Heartbeat::default().with_nodes(list, Some("another")).nodes.len(), 2);
        let none = Heartbeat::default().with_nodes(Vec::new(), Some(&whole.nodes_digest));
        assert_eq!(none, Heartbeat::default(), "who has no nodes says nothing of them");
    }

    #[test]
    fn every_dialect_is_understood() {
        let whole = Heartbeat::default().with_nodes(vec![node("a")], None);
        let name = whole.nodes_digest.clone();
        let short = Heartbeat { nodes: Vec::new(), ..whole.clone() };
        let unnamed = Heartbeat { nodes_digest: String::new(), ..whole.clone() };
        let nothing = Heartbeat::default();
        let cases = [
            (&whole, "", Nodes::Here),
            (&whole, name.as_str(), Nodes::Here),
            (&unnamed, "", Nodes::Here),
            (&unnamed, name.as_str(), Nodes::Here),
            (&nothing, "", Nodes::Here),
            (&nothing, name.as_str(), Nodes::Here),
            (&short, name.as_str(), Nodes::AsBefore),
            (&short, "", Nodes::Missing),
            (&short, "another", Nodes::Missing),
        ];
        for (heartbeat, kept, listed) in cases {
            assert_eq!(heartbeat.nodes_listed(kept), listed, "{heartbeat:?} {kept}");
        }
        assert_eq!((unnamed.nodes_name(), nothing.nodes_name()), (Cow::from(&name), Cow::from("")));
    }

    #[test]
    fn a_name_that_cannot_be_kept_is_none() {
        for given in ["x".repeat(1000), "a\0b".to_owned(), "a b".to_owned()] {
            let mut heartbeat = Heartbeat { nodes_digest: given, ..Heartbeat::default() };
            assert_eq!(heartbeat.nodes_listed(""), Nodes::Missing);
            heartbeat.nodes = vec![node("a")];
            assert_eq!(heartbeat.nodes_name(), digest(&heartbeat.nodes));
        }
    }
}
