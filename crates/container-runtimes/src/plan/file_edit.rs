//! What is meant for one file: how it gets in, and out of a text that was edited since.

use serde::{Deserialize, Serialize};

use crate::containerd::config::{self, Legacy, LegacyRegistry};
use crate::containerd::{self, hosts};
use crate::edit::{Edit, Refusal};
use crate::rancher::configs::{self, HostConfig};
use crate::rancher::{self, MirrorEndpoint};
use crate::registries::{self, MirrorEntry};
use crate::secret::Hidden;
use crate::{auth, docker};

/// What is meant for one file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileEdit {
    /// containerd's `config.toml`: name a folder.
    ContainerdConfig {
        /// The engine's version.
        engine: containerd::Version,
        /// What to do with settings that exclude it.
        legacy: Legacy,
    },
    /// A `hosts.toml`.
    Hosts {
        /// Its registry.
        registry: String,
        /// Our mirrors of it.
        mirrors: Vec<hosts::MirrorHost>,
        /// The text to begin with where there is no file: the same registry's in a folder that is read no more.
        seed: Option<String>,
        /// Settings that come from `config.toml`.
        moved: Option<LegacyRegistry>,
    },
    /// `daemon.json`.
    Docker {
        /// Our mirrors.
        urls: Vec<String>,
    },
    /// `registries.conf` or one of its drop-ins.
    Registries {
        /// Our mirrors, of all runtimes that share the file.
        entries: Vec<MirrorEntry>,
    },
    /// `registries.yaml`.
    Rancher {
        /// Our mirrors.
        mirrors: Vec<MirrorEndpoint>,
        /// How they are spoken to, where that is to be said.
        config: Option<HostConfig>,
    },
    /// A certificate or a key, in a file that is ours alone.
    Own {
        /// Its text.
        text: Hidden,
        /// Whether others may not read it.
        secret: bool,
    },
    /// `auth.json`.
    Account {
        /// The registry that it is for: host and port of the mirror.
        registry: String,
        /// Base64 of `user:password`.
        auth: Hidden,
    },
}

impl FileEdit {
    /// The edit of a text.
    pub fn apply(&self, base: Option<&str>) -> Result<Edit, Refusal> {
        match self {
            Self::ContainerdConfig { engine, legacy } => {
                config::apply(base, *engine, *legacy, None).map(|applied| applied.edit)
            }
            Self::Hosts { registry, mirrors, seed, moved } => {
                let mut text = base.or(seed.as_deref()).unwrap_or_default().to_owned();
                if let Some(moved) = moved {
                    text = hosts::adopt(Some(&text), moved)?.text;
                }
                text = hosts::apply(Some(&text), registry, mirrors)?.text;
                Ok(Edit::between(base.unwrap_or_default(), text))
            }
            Self::Docker { urls } => docker::apply(base, urls),
            Self::Registries { entries } => registries::apply(base, entries),
            Self::Rancher { mirrors, config } => {
                let mut edit = rancher::apply(base, mirrors)?;
                if let Some(config) = config {
                    let text = configs::apply(Some(&edit.text), config)?.text;
                    edit = Edit::between(base.unwrap_or_default(), text);
                }
                Ok(edit)
            }
            Self::Own { text, .. } => match base {
                Some(other) if other != text.reveal() => Err(Refusal::Conflict {
                    what: "a file of that name that is not ours".to_owned(),
                    why: "it would have to be overwritten; move it away first".to_owned(),
                }),
                base => Ok(Edit::between(base.unwrap_or_default(), text.reveal().to_owned())),
            },
            Self::Account { registry, auth } => auth::apply(base, registry, auth),
        }
    }

    /// Credentials in it, which nobody is shown.
    pub(crate) fn secrets(&self) -> Vec<&str> {
        match self {
            Self::Hosts { mirrors, .. } => {
                mirrors.iter().flat_map(|mirror| &mirror.headers).map(|(_, value)| value.reveal()).collect()
            }
            Self::Own { text, secret: true } => vec![text.reveal()],
            Self::Rancher { config: Some(HostConfig { login: Some((_, password)), .. }), .. } => {
                vec![password.reveal()]
            }
            Self::Account { auth, .. } => vec![auth.reveal()],
            _ => Vec::new(),
        }
    }

    /// Whether a file with it is for root alone: it holds credentials, or headers that an operator had elsewhere.
    pub(crate) fn is_private(&self) -> bool {
        let copied = matches!(self, Self::Hosts { seed: Some(seed), .. } if seed.contains("header"));
        copied || !self.secrets().is_empty()
    }

    /// The registries that it names mirrors of.
    pub(crate) fn registries(&self) -> Vec<&str> {
        match self {
            Self::Hosts { registry, mirrors, .. } if !mirrors.is_empty() => vec![registry],
            Self::Docker { .. } => vec!["docker.io"],
            Self::Registries { entries } => entries.iter().map(|entry| entry.prefix.as_str()).collect(),
            Self::Rancher { mirrors, .. } => mirrors.iter().map(|mirror| mirror.registry.as_str()).collect(),
            _ => Vec::new(),
        }
    }

    /// The mirrors that it names.
    pub(crate) fn mirrors(&self) -> Vec<&str> {
        match self {
            Self::Hosts { mirrors, .. } => mirrors.iter().map(|mirror| mirror.url.as_str()).collect(),
            Self::Docker { urls } => urls.iter().map(String::as_str).collect(),
            Self::Registries { entries } => entries.iter().map(|entry| entry.location.as_str()).collect(),
            Self::Rancher { mirrors, .. } => mirrors.iter().map(|mirror| mirror.url.as_str()).collect(),
            _ => Vec::new(),
        }
    }

    /// Takes it out of a text that was edited since; what `base`, the text before us, had stays.
    pub fn strip(&self, base: Option<&str>, current: &str) -> Result<Edit, Refusal> {
        let before = base.unwrap_or_default();
        match self {
            Self::ContainerdConfig { engine, legacy } => {
                let applied = config::apply(base, *engine, *legacy, None)?;
                let mut text = current.to_owned();
                if applied.edit.is_change() && config::inspect(before)?.config_path.is_none() {
                    text = config::strip(&text, &applied.folder, base)?.text;
                }
                if !applied.moved.is_empty() {
                    text = config::put_back(&text, before)?;
                }
                Ok(Edit::between(current, text))
            }
            Self::Hosts { registry, mirrors, .. } => {
                let mut urls = Vec::new();
                for mirror in mirrors {
                    if !hosts::names(before, &mirror.url)? {
                        urls.push(mirror.url.clone());
                    }
                }
                hosts::strip(current, registry, &urls)
            }
            Self::Docker { urls } => {
                let had = docker::mirrors(before)?;
                let ours: Vec<String> = urls.iter().filter(|url| !had.contains(url)).cloned().collect();
                docker::strip(current, &ours, !before.contains("\"registry-mirrors\""))
            }
            Self::Registries { entries } => {
                let had = registries::prefixes(before)?;
                let mut ours = Vec::new();
                for entry in entries {
                    if !registries::names(before, entry)? {
                        ours.push(entry.clone());
                    }
                }
                let made: Vec<String> = ours
                    .iter()
                    .map(|entry| entry.prefix.clone())
                    .filter(|prefix| !had.contains(prefix))
                    .collect();
                registries::strip(current, &ours, &made)
            }
            Self::Rancher { mirrors, config } => {
                let mut text = current.to_owned();
                if let Some(config) = config {
                    text = configs::strip(&text, &config.host, base)?.text;
                }
                Ok(Edit::between(current, rancher::strip(&text, mirrors, base)?.text))
            }
            Self::Own { .. } => Ok(Edit::between(current, before.to_owned())),
            Self::Account { registry, .. } if auth::has(before, registry)? => Ok(Edit::unchanged(current)),
            Self::Account { registry, .. } => auth::strip(current, registry, base),
        }
    }
}
