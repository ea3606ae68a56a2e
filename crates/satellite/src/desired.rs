//! What this satellite shall hold: its state document, the documents of its groups, its config document.
//!
//! Each is an OCI image in the central registry. Where Ground Control's answers name the digests ([`Source`]), what differs is
//! fetched by digest and nothing else is asked for; otherwise a document whose digest has not changed is asked about with one
//! HEAD and not fetched again. What was read last is kept on disk, so that a restart without a network knows it. A document
//! that cannot be read harms no other: its last good content stays in force, and the read is then not *complete*, which
//! is what keeps the plan from removing anything.
//!
//! The documents hold no secret, so the file is not sealed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use fleet_protocol::config::ConfigDocument;
use fleet_protocol::desired::Desired as Told;
use fleet_protocol::state::{SatelliteState, document_group, parse_document_url};
use futures_util::StreamExt as _;
use jiff::Timestamp;
use oci::{Digest, RepositoryName};

use crate::config::LocalNamespaces;
use crate::follow::{Position, Source};
use crate::plan::Entry;

mod document;
mod group;
mod kept;
mod upstream;

pub use document::DocumentError;
pub use group::BadEntry;
pub(crate) use upstream::client_options;
pub use upstream::{Upstream, UpstreamError};

use document::{Read, Version};
use group::Group;
use kept::{Kept, KeptDocument};

/// Name of the file with what was read last.
pub const DESIRED_FILE: &str = "desired.json";
/// Groups that one satellite can have.
const MAX_GROUPS: usize = 1000;
/// Documents read at once.
const CONCURRENCY: usize = 4;

/// The desired state as it was read.
#[derive(Debug, Clone, Default)]
pub struct Desired {
    /// Digest of the satellite state in force.
    pub state_digest: Option<Digest>,
    /// Why the satellite state could not be read this time.
    pub error: Option<String>,
    /// The registry is away.
    pub unreachable: bool,
    /// The registry refused the credentials.
    pub unauthorized: bool,
    /// The registry handed out, or compared, at least one document.
    pub answered: bool,
    /// When the registry wants to be asked again, if it said so.
    pub retry_after: Option<Duration>,
    /// Every document of what is wanted was read.
    pub complete: bool,
    /// What the groups list.
    pub entries: Vec<Entry>,
    /// Entries that make no sense, each by itself.
    pub bad_entries: Vec<BadEntry>,
    /// Repositories in which nothing may be removed because an entry about them makes no sense.
    pub protected: BTreeSet<RepositoryName>,
    /// The groups' documents.
    pub groups: Vec<GroupRead>,
    /// The config document.
    pub config: ConfigRead,
}

impl Desired {
    /// Takes out what would have to go where only the site's own people write, each with its reason.
    pub(crate) fn refuse(&mut self, site: &LocalNamespaces) {
        if site.is_empty() {
            return;
        }
        let (refused, taken) =
            std::mem::take(&mut self.entries).into_iter().partition(|entry| site.holds(&entry.repository));
        self.entries = taken;
        let refused: Vec<Entry> = refused;
        self.bad_entries.extend(refused.into_iter().filter(|entry| !entry.deleted).map(|entry| {
            let tag = entry.tags.first().map(|tag| format!(":{tag}")).unwrap_or_default();
            BadEntry {
                group: entry.group,
                reference: format!("{}{tag}", entry.repository),
                reason: format!(
                    "`{}` is in a namespace of the site's own (LOCAL_NAMESPACES), where nothing is replicated: give it another \
                     project, or the site another namespace",
                    entry.repository
                ),
                repository: Some(entry.repository),
            }
        }));
    }
}

/// One group's document.
#[derive(Debug, Clone)]
pub struct GroupRead {
    /// Its name, or its address while nothing of it was ever read.
    pub name: String,
    /// Where it is.
    pub url: String,
    /// Digest of the content in force.
    pub digest: Option<Digest>,
    /// Artifacts that it lists.
    pub artifacts: usize,
    /// Why it could not be read this time, and since when.
    pub error: Option<(String, Timestamp)>,
}

/// What is known of the config document.
#[derive(Debug, Clone, Default)]
pub enum ConfigRead {
    /// The satellite has none.
    #[default]
    None,
    /// The one that was evaluated already.
    Unchanged,
    /// One that was not evaluated yet.
    New(Digest, Box<ConfigDocument>),
    /// It cannot be read; the digest where that is known.
    Unreadable(Option<Digest>, String),
    /// It was not asked for: the registry cannot be reached, or it is not known whether it has changed.
    NotAsked,
}

/// Reads the desired state and remembers it.
#[derive(Debug)]
pub struct Reader {
    file: PathBuf,
    kept: Kept,
    groups: BTreeMap<String, Group>,
    failing: BTreeMap<String, Timestamp>,
    config_evaluated: Option<Digest>,
    accepted: Option<String>,
}

impl Reader {
    /// Opens what was read last. A file that is missing or damaged is as if nothing had been read: it can be read again.
    /// `config` is the digest of the config document that is in force.
    #[must_use]
    pub fn open(state_dir: &Path, config: Option<Digest>) -> Self {
        let file = state_dir.join(DESIRED_FILE);
        let kept = Kept::load(&file);
        let groups = kept
            .groups
            .iter()
            .filter_map(|(url, document)| Some((url.clone(), Group::parse(&document.json).ok()?)))
            .collect();
        let accepted = kept.accepted.clone();
        Self { file, kept, groups, failing: BTreeMap::new(), config_evaluated: config, accepted }
    }

    /// The config document with this digest was taken or refused; it is not handed out again.
    pub fn config_evaluated(&mut self, digest: Digest) {
        self.config_evaluated = Some(digest);
    }

    /// The config document that was taken or refused last.
    #[must_use]
    pub fn evaluated_config(&self) -> Option<Digest> {
        self.config_evaluated
    }

    /// The generation and the accepted user name that were kept.
    #[must_use]
    pub fn kept(&self) -> (u64, Option<&str>) {
        (self.kept.generation, self.kept.accepted.as_deref())
    }

    /// Whether a state document of this place was read before.
    #[must_use]
    pub fn knows(&self, state_url: &str) -> bool {
        self.digest_of(state_url).is_some()
    }

    /// The registry accepted this user name; it is kept with the next document, or by [`Self::read`].
    pub fn accepted(&mut self, username: &str) {
        self.accepted = Some(username.to_owned());
    }

    /// Reads all documents that have changed.
    pub(crate) async fn read(
        &mut self,
        upstream: &Upstream,
        state_url: &str,
        position: &Position,
    ) -> Desired {
        let told = match &position.source {
            Source::Registry => None,
            Source::Answers(told) => Some(&**told),
            Source::Kept => {
                return self.last_known(upstream, state_url);
            }
        };
        let mut changed = self.note(position.generation);
        let (mut retry_after, mut unauthorized, mut answered) = (None, false, false);
        let (error, reachable) = match self.read_state(upstream, state_url, told).await {
            Ok(new) => {
                changed |= new.is_some_and(|new| new);
                answered = new.is_some();
                (None, true)
            }
            Err(error) => {
                retry_after = error.retry_after();
                unauthorized = error.is_unauthorized();
                (Some(error.to_string()), !error.is_outage())
            }
        };
        let state = self.state_of(state_url);
        let mut desired = Desired {
            state_digest: self.digest_of(state_url),
            complete: error.is_none() && version(told, |told| told.state) != Version::Kept,
            unreachable: !reachable,
            unauthorized,
            answered,
            retry_after,
            error,
            ..Desired::default()
        };
        let Some(state) = state else {
            desired.complete = false;
            return desired;
        };
        changed |= self.read_groups(upstream, &state.states, told, reachable, &mut desired).await;
        desired.config = match (state.config.trim(), reachable) {
            ("", _) => ConfigRead::None,
            (_, false) => ConfigRead::NotAsked,
            (url, true) => self.read_config(upstream, url, told).await,
        };
        if changed && let Err(error) = self.kept.store(&self.file) {
            // It is in force all the same; only a restart without a network would not know it.
            tracing::warn!(file = %self.file.display(), %error, "the desired state cannot be kept on disk");
        }
        desired
    }

    /// Whether there is something to keep: another generation, another accepted user name.
    fn note(&mut self, generation: u64) -> bool {
        let changed = self.kept.generation != generation || self.kept.accepted != self.accepted;
        self.kept.generation = generation;
        self.kept.accepted.clone_from(&self.accepted);
        changed
    }

    /// What was read last, without asking anybody. It is not complete.
    #[must_use]
    pub fn last_known(&self, upstream: &Upstream, state_url: &str) -> Desired {
        let mut desired = Desired { state_digest: self.digest_of(state_url), ..Desired::default() };
        for url in self.state_of(state_url).map(|state| state.states).unwrap_or_default() {
            self.add_group(upstream, &url, None, &mut desired);
        }
        desired.complete = false;
        desired
    }

    fn digest_of(&self, url: &str) -> Option<Digest> {
        self.kept.state.as_ref().filter(|kept| kept.url == url).map(|kept| kept.digest)
    }

    fn state_of(&self, url: &str) -> Option<SatelliteState> {
        let kept = self.kept.state.as_ref().filter(|kept| kept.url == url)?;
        serde_json::from_str(&kept.json).ok()
    }

    /// `true` where it has changed; `None` where nobody was asked.
    async fn read_state(
        &mut self,
        upstream: &Upstream,
        url: &str,
        told: Option<&Told>,
    ) -> Result<Option<bool>, DocumentError> {
        let known = self.digest_of(url);
        let version = version(told, |told| told.state);
        match read(upstream, url, known, version).await? {
            Read::Kept => Ok(None),
            Read::Unchanged => Ok(Some(false)),
            Read::New { digest, value } => {
                let _: SatelliteState = serde_json::from_value(value.clone())
                    .map_err(|error| DocumentError::content(url, Some(digest), error.to_string()))?;
                self.kept.state = Some(KeptDocument { url: url.to_owned(), digest, json: value.to_string() });
                Ok(Some(true))
            }
        }
    }

    async fn read_groups(
        &mut self,
        upstream: &Upstream,
        urls: &[String],
        told: Option<&Told>,
        reachable: bool,
        desired: &mut Desired,
    ) -> bool {
        let mut unique = BTreeSet::new();
        let urls: Vec<&String> =
            urls.iter().filter(|url| unique.insert(url.as_str())).take(MAX_GROUPS).collect();
        if unique.len() > MAX_GROUPS {
            desired.complete = false;
            desired.error = Some(format!(
                "the satellite state names more than {MAX_GROUPS} groups; the rest is left out"
            ));
        }
        let before = self.kept.groups.len();
        self.kept.groups.retain(|url, _| unique.contains(url.as_str()));
        self.groups.retain(|url, _| unique.contains(url.as_str()));
        self.failing.retain(|url, _| unique.contains(url.as_str()));
        let mut changed = self.kept.groups.len() != before;

        let answers: Vec<Result<Read, DocumentError>> = if reachable {
            let known: Vec<Option<Digest>> = urls
                .iter()
                .map(|url| {
                    let parsed = self.groups.contains_key(url.as_str());
                    self.kept.groups.get(url.as_str()).filter(|_| parsed).map(|kept| kept.digest)
                })
                .collect();
            let reads: Vec<_> = urls
                .iter()
                .zip(known)
                .map(|(url, known)| read(upstream, url, known, group_version(told, url)))
                .collect();
            futures_util::stream::iter(reads).buffered(CONCURRENCY).collect().await
        } else {
            urls.iter().map(|url| Err(DocumentError::not_asked(url))).collect()
        };
        for (url, answer) in urls.into_iter().zip(answers) {
            desired.answered |= matches!(answer, Ok(Read::Unchanged | Read::New { .. }));
            desired.unauthorized |= answer.as_ref().is_err_and(DocumentError::is_unauthorized);
            // What is not published may be another one by now: what is held stays as it is, and nothing goes.
            desired.complete &= group_version(told, url) != Version::Kept;
            let taken = answer.and_then(|read| match read {
                Read::Kept | Read::Unchanged => Ok(false),
                Read::New { digest, value } => {
                    let json = value.to_string();
                    let group = Group::from_value(value)
                        .and_then(|group| {
                            upstream
                                .endpoint(&group.registry_or(url))
                                .map(|_| group)
                                .map_err(|e| e.to_string())
                        })
                        .map_err(|reason| DocumentError::content(url, Some(digest), reason))?;
                    self.groups.insert(url.clone(), group);
                    self.kept.groups.insert(url.clone(), KeptDocument { url: url.clone(), digest, json });
                    Ok(true)
                }
            });
            let error = match taken {
                Ok(new) => {
                    changed |= new;
                    self.failing.remove(url);
                    None
                }
                Err(error) => {
                    let since = *self.failing.entry(url.clone()).or_insert_with(Timestamp::now);
                    Some((error.to_string(), since))
                }
            };
            self.add_group(upstream, url, error, desired);
        }
        changed
    }

    fn add_group(
        &self,
        upstream: &Upstream,
        url: &str,
        error: Option<(String, Timestamp)>,
        desired: &mut Desired,
    ) {
        let kept = self.kept.groups.get(url);
        let mut read = GroupRead {
            name: url.to_owned(),
            url: url.to_owned(),
            digest: kept.map(|kept| kept.digest),
            artifacts: 0,
            error,
        };
        match self.groups.get(url).map(|group| (group, upstream.endpoint(&group.registry_or(url)))) {
            Some((group, Ok(endpoint))) => {
                read.name = group.name_or(url);
                read.artifacts = group.artifacts.len() + group.bad.len();
                group.entries(&read.name, &endpoint.to_string(), &mut desired.entries);
                desired.protected.extend(group.bad.iter().filter_map(|bad| bad.repository.clone()));
                desired.bad_entries.extend(
                    group.bad.iter().cloned().map(|bad| BadEntry { group: read.name.clone(), ..bad }),
                );
            }
            Some((_, Err(error))) => {
                read.error.get_or_insert_with(|| (error.to_string(), Timestamp::now()));
            }
            None => {}
        }
        desired.complete &= read.error.is_none();
        desired.groups.push(read);
    }

    async fn read_config(&self, upstream: &Upstream, url: &str, told: Option<&Told>) -> ConfigRead {
        let version = version(told, |told| told.config);
        if version == Version::Kept {
            return ConfigRead::NotAsked;
        }
        match read(upstream, url, self.config_evaluated, version).await {
            Ok(Read::Kept | Read::Unchanged) => ConfigRead::Unchanged,
            Ok(Read::New { digest, value }) => match serde_json::from_value(value) {
                Ok(document) => ConfigRead::New(digest, Box::new(document)),
                Err(error) => {
                    ConfigRead::Unreadable(Some(digest), format!("the config document is not valid: {error}"))
                }
            },
            Err(error) => ConfigRead::Unreadable(error.digest(), error.to_string()),
        }
    }
}

/// The version that was told, or the latest where nothing is told.
fn version(told: Option<&Told>, digest: impl FnOnce(&Told) -> Option<Digest>) -> Version {
    match told {
        None => Version::Latest,
        Some(told) => digest(told).map_or(Version::Kept, Version::Digest),
    }
}

/// A group is told by its name, which its document's place holds; one in another place is not told.
fn group_version(told: Option<&Told>, url: &str) -> Version {
    match document_group(url) {
        Some(group) => version(told, |told| told.groups.get(group).copied()),
        None => Version::Latest,
    }
}

async fn read(
    upstream: &Upstream,
    url: &str,
    known: Option<Digest>,
    version: Version,
) -> Result<Read, DocumentError> {
    let wanted = match version {
        Version::Latest => None,
        Version::Kept if known.is_none() => {
            return Err(DocumentError::NotPublished { url: url.to_owned() });
        }
        Version::Kept => return Ok(Read::Kept),
        Version::Digest(digest) if known == Some(digest) => return Ok(Read::Kept),
        Version::Digest(digest) => Some(digest),
    };
    let reference = parse_document_url(url, upstream.default_registry())
        .map_err(|error| DocumentError::content(url, None, error.to_string()))?;
    let registry = match &reference.scheme {
        Some(scheme) => format!("{scheme}://{}", reference.host),
        None => reference.host.clone(),
    };
    let client = upstream
        .endpoint(&registry)
        .and_then(|endpoint| upstream.client(&endpoint))
        .map_err(|error| DocumentError::upstream(url, error))?;
    document::read(&client, url, &reference, known, wanted).await
}
