//! Whether a thing is still what the plan was made for.
//!
//! Plans are made of everything, and carried out some time later. So before each change the one thing that it is made to is read again, and its
//! entity tag goes with the change (RFC 9110 section 13.1.1): what somebody else did meanwhile is told and never overwritten.

use fleet_protocol::api::{Config, Group, Satellite};
use serde::de::DeserializeOwned;

use super::observe;
use crate::client::Client;
use crate::error::Error;
use crate::fleet::{Change, Current, CurrentGroup, Kind, bare};

/// The entity tag of what a change is made to, where it has one; an error where it is not what the plan was made for.
pub(super) async fn unchanged(
    client: &Client,
    current: &Current,
    change: &Change,
) -> Result<Option<String>, Error> {
    let (kind, name) = change.subject();
    let differs = || Error::Refused {
        code: 412,
        message: format!(
            "{kind} {name} was changed by somebody else since it was read; nothing of that was overwritten. Look at `groundctl diff`, and apply again"
        ),
    };
    let same = |same: bool| if same { Ok(()) } else { Err(differs()) };
    match change {
        // Ground Control refuses a second one of the same name.
        Change::CreateConfig { .. } | Change::CreateSatellite { .. } => Ok(None),
        // To be in a group, or not, overwrites nothing.
        Change::Join { .. } | Change::Leave { .. } => Ok(None),
        Change::PatchConfig { before, .. } => {
            let (now, tag) = read::<Config>(client, kind, name).await?.ok_or_else(differs)?;
            same(bare(&now.config) == *before)?;
            Ok(tag)
        }
        Change::SyncGroup { before, .. } => match (group(client, name).await?, before) {
            (None, None) => Ok(None),
            (Some((now, tag)), Some(before)) if now.artifacts == *before => Ok(tag),
            _ => Err(differs()),
        },
        Change::Select { before, .. } => {
            let (now, tag) = group(client, name).await?.ok_or_else(differs)?;
            same(now.selector == *before)?;
            Ok(tag)
        }
        Change::Label { before, .. } => {
            let (now, tag) = read::<Satellite>(client, kind, name).await?.ok_or_else(differs)?;
            same(now.labels == *before)?;
            Ok(tag)
        }
        Change::AssignConfig { before, .. } => {
            let (now, tag) = read::<Satellite>(client, kind, name).await?.ok_or_else(differs)?;
            same(now.config_name == *before)?;
            Ok(tag)
        }
        Change::DeleteConfig { .. } => {
            let (now, tag) = read::<Config>(client, kind, name).await?.ok_or_else(differs)?;
            same(current.configs.get(name) == Some(&now.config))?;
            Ok(tag)
        }
        Change::DeleteGroup { .. } => {
            let (now, tag) = group(client, name).await?.ok_or_else(differs)?;
            same(current.groups.get(name) == Some(&now))?;
            Ok(tag)
        }
        Change::DeleteSatellite { .. } => {
            let (now, tag) = read::<Satellite>(client, kind, name).await?.ok_or_else(differs)?;
            // Its groups may be others by now for what was done before: selectors have changed.
            let there = current.satellites.get(name);
            same(there.is_some_and(|there| there.labels == now.labels && there.config == now.config_name))?;
            Ok(tag)
        }
    }
}

async fn group(client: &Client, name: &str) -> Result<Option<(CurrentGroup, Option<String>)>, Error> {
    let Some((group, tag)) = read::<Group>(client, Kind::Group, name).await? else { return Ok(None) };
    Ok(Some((observe::group(client, group)?.1, tag)))
}

/// A thing and its entity tag; nothing where it is not there.
async fn read<T: DeserializeOwned>(
    client: &Client,
    kind: Kind,
    name: &str,
) -> Result<Option<(T, Option<String>)>, Error> {
    match client.get_tagged(&["api", kind.section(), name]).await {
        Err(Error::Refused { code: 404, .. }) => Ok(None),
        answer => answer.map(Some),
    }
}
