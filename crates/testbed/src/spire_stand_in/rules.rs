//! What SPIRE's server takes, and its words for what it does not take.

use std::collections::BTreeSet;

use spire::types::{MatchBehavior, Selector, SelectorMatch, SpiffeId};

/// Under which only attestation makes names.
const RESERVED: &str = "/spire/";

/// Any identity of the trust domain.
pub(super) fn member<'a>(domain: &str, id: Option<&'a SpiffeId>) -> Result<&'a SpiffeId, String> {
    let id = id.ok_or("request must specify SPIFFE ID")?;
    if id.trust_domain.is_empty() {
        return Err("trust domain is missing".to_owned());
    }
    id.to_id().map_err(|error| error.to_string())?;
    if id.trust_domain != domain {
        return Err(format!("{:?} is not a member of trust domain {domain:?}", id.to_uri()));
    }
    if id.path.is_empty() {
        return Err(format!("{:?} is not a member of trust domain {domain:?}; path is empty", id.to_uri()));
    }
    Ok(id)
}

/// An identity that an entry may grant.
pub(super) fn workload<'a>(domain: &str, id: Option<&'a SpiffeId>) -> Result<&'a SpiffeId, String> {
    let id = member(domain, id)?;
    if id.path == "/spire" || id.path.starts_with(RESERVED) {
        return Err(format!(
            "{:?} is not a workload in trust domain {domain:?}; path is in the reserved namespace",
            id.to_uri()
        ));
    }
    Ok(id)
}

/// An identity that attestation makes.
pub(super) fn agent<'a>(domain: &str, id: Option<&'a SpiffeId>) -> Result<&'a SpiffeId, String> {
    let id = member(domain, id)?;
    if !id.path.starts_with("/spire/agent/") {
        return Err(format!(
            "{:?} is not an agent in trust domain {domain:?}; path is not in the agent namespace",
            id.to_uri()
        ));
    }
    Ok(id)
}

/// Selectors as they may stand in entries and filters.
pub(super) fn selectors(selectors: &[Selector]) -> Result<(), String> {
    let wrong = selectors.iter().find_map(|selector| {
        if selector.r#type.is_empty() {
            Some("missing selector type")
        } else if selector.r#type.contains(':') {
            Some("selector type contains ':'")
        } else if selector.value.is_empty() {
            Some("missing selector value")
        } else {
            None
        }
    });
    wrong.map_or(Ok(()), |wrong| Err(wrong.to_owned()))
}

/// Whether what somebody has passes the filter.
pub(super) fn passes(filter: &SelectorMatch, theirs: &[Selector]) -> bool {
    let wanted: BTreeSet<&Selector> = filter.selectors.iter().collect();
    let theirs: BTreeSet<&Selector> = theirs.iter().collect();
    match filter.r#match() {
        MatchBehavior::Exact => theirs == wanted,
        MatchBehavior::Subset => !theirs.is_empty() && theirs.is_subset(&wanted),
        MatchBehavior::Superset => theirs.is_superset(&wanted),
        MatchBehavior::Any => !theirs.is_disjoint(&wanted),
    }
}

/// One page: what follows the token, and the token of what follows. As long as something was found, there may be more.
pub(super) fn page<T: Clone>(
    all: impl Iterator<Item = (u64, T)>,
    size: i32,
    token: &str,
) -> Result<(Vec<T>, String), String> {
    let Ok(size) = usize::try_from(size) else {
        return Ok((all.map(|(_, item)| item).collect(), String::new()));
    };
    if size == 0 {
        return Ok((all.map(|(_, item)| item).collect(), String::new()));
    }
    let after: u64 = match token {
        "" => 0,
        token => token.parse().map_err(|_| format!("could not parse token '{token}'"))?,
    };
    let found: Vec<(u64, T)> = all.filter(|(at, _)| *at > after).take(size).collect();
    let next = found.last().map(|(at, _)| at.to_string()).unwrap_or_default();
    Ok((found.into_iter().map(|(_, item)| item).collect(), next))
}
