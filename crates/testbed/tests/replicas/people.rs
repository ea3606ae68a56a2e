//! People who change things of their own, so that what the fleet must look like in the end is known.

use std::collections::{BTreeMap, BTreeSet};

use oci::Digest;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use reqwest::Method;
use serde_json::{Value, json};

use crate::cloud::{Cloud, REPLICAS};

/// What one person's acknowledged changes come to.
#[derive(Debug, Default)]
pub(crate) struct Expected {
    /// Groups and the artifacts that they list: repository, tag, digest.
    pub(crate) groups: BTreeMap<String, Vec<(String, String, Digest)>>,
    /// Satellites that are not deleted.
    pub(crate) satellites: BTreeMap<String, Site>,
    /// Configs and the state replication interval that each says.
    pub(crate) configs: BTreeMap<String, String>,
    /// Groups that are gone.
    pub(crate) gone_groups: BTreeSet<String>,
    /// Satellites that are gone.
    pub(crate) gone_satellites: BTreeSet<String>,
}

#[derive(Debug, Default)]
pub(crate) struct Site {
    pub(crate) groups: BTreeSet<String>,
    pub(crate) config: Option<String>,
    pub(crate) revoked: bool,
}

pub(crate) struct Person<'a> {
    cloud: &'a Cloud,
    prefix: String,
    random: StdRng,
    made: usize,
    pub(crate) expected: Expected,
}

impl<'a> Person<'a> {
    pub(crate) fn new(cloud: &'a Cloud, number: usize, seed: u64) -> Self {
        let random = StdRng::seed_from_u64(seed.wrapping_add(1 + number as u64));
        Self { cloud, prefix: format!("p{number}"), random, made: 0, expected: Expected::default() }
    }

    fn fresh(&mut self, kind: &str) -> String {
        self.made += 1;
        format!("{}-{kind}-{}", self.prefix, self.made)
    }

    fn one_of<T: Clone>(&mut self, all: &[T]) -> Option<T> {
        (!all.is_empty()).then(|| all[self.random.random_range(0..all.len())].clone())
    }

    fn group(&mut self) -> Option<String> {
        let all: Vec<_> = self.expected.groups.keys().cloned().collect();
        self.one_of(&all)
    }

    fn satellite(&mut self) -> Option<String> {
        let sites = self.expected.satellites.iter();
        let all: Vec<_> = sites.filter(|(_, site)| !site.revoked).map(|(name, _)| name.clone()).collect();
        self.one_of(&all)
    }

    async fn change(&mut self, method: Method, path: &str, body: Option<Value>, repeated: &[u16]) {
        let first = self.random.random_range(0..REPLICAS);
        self.cloud.change(first, method, path, body.as_ref(), repeated).await;
    }

    /// One acknowledged change.
    pub(crate) async fn change_something(&mut self) {
        let (group, satellite) = (self.group(), self.satellite());
        match (self.random.random_range(0..100), group, satellite) {
            (0..=29, Some(group), _) => self.list(group).await,
            (30..=44, Some(group), Some(satellite)) => self.join(satellite, group).await,
            (45..=54, Some(group), Some(satellite)) => self.leave(satellite, group).await,
            (55..=64, _, Some(satellite)) => self.configure(satellite).await,
            (65..=69, Some(group), _) => self.delete_group(group).await,
            (70..=73, _, Some(satellite)) => self.revoke(satellite).await,
            (74..=77, _, Some(satellite)) => self.delete_satellite(satellite).await,
            (78..=89, _, _) => self.register().await,
            _ => {
                let group = self.fresh("group");
                self.list(group).await;
            }
        }
    }

    async fn list(&mut self, group: String) {
        let number = self.random.random_range(0..4);
        let artifacts: Vec<_> = (0..number)
            .map(|n| {
                let content: u64 = self.random.random();
                let repository = format!("{}/app-{n}", self.prefix);
                (repository, "latest".to_owned(), Digest::sha256(&content.to_be_bytes()))
            })
            .collect();
        let listed: Vec<Value> = artifacts
            .iter()
            .map(|(repository, tag, digest)| {
                json!({"repository": repository, "tag": [tag], "labels": [], "type": "image", "digest": digest})
            })
            .collect();
        let body = json!({"group": group, "registry": "", "artifacts": listed});
        self.change(Method::POST, "/api/groups/sync", Some(body), &[]).await;
        self.expected.groups.insert(group, artifacts);
    }

    async fn register(&mut self) {
        let (name, group) = (self.fresh("site"), self.group());
        let body = json!({"satellite_name": name, "region": "default", "attestation_method": "join_token",
                          "groups": group.iter().collect::<Vec<_>>()});
        self.change(Method::POST, "/api/satellites/register", Some(body), &[]).await;
        let site = Site { groups: group.into_iter().collect(), ..Site::default() };
        self.expected.satellites.insert(name, site);
    }

    async fn join(&mut self, satellite: String, group: String) {
        let body = json!({"satellite": satellite, "group": group});
        self.change(Method::POST, "/api/groups/satellite", Some(body), &[]).await;
        self.expected.satellites.entry(satellite).or_default().groups.insert(group);
    }

    async fn leave(&mut self, satellite: String, group: String) {
        let body = json!({"satellite": satellite, "group": group});
        self.change(Method::DELETE, "/api/groups/satellite", Some(body), &[]).await;
        self.expected.satellites.entry(satellite).or_default().groups.remove(&group);
    }

    async fn configure(&mut self, satellite: String) {
        let name = self.fresh("config");
        let interval = format!("@every 00h00m{:02}s", self.random.random_range(10..60));
        let config = json!({"app_config": {"state_replication_interval": interval}});
        let body = json!({"config_name": name, "registry": "", "config": config});
        self.change(Method::POST, "/api/configs", Some(body), &[409]).await;
        self.expected.configs.insert(name.clone(), interval);
        let body = json!({"satellite": satellite, "config_name": name});
        self.change(Method::POST, "/api/configs/satellite", Some(body), &[]).await;
        self.expected.satellites.entry(satellite).or_default().config = Some(name);
    }

    async fn delete_group(&mut self, group: String) {
        self.change(Method::DELETE, &format!("/api/groups/{group}"), None, &[404]).await;
        self.expected.groups.remove(&group);
        for site in self.expected.satellites.values_mut() {
            site.groups.remove(&group);
        }
        self.expected.gone_groups.insert(group);
    }

    async fn revoke(&mut self, satellite: String) {
        self.change(Method::POST, &format!("/api/satellites/{satellite}/revoke"), None, &[409]).await;
        self.expected.satellites.entry(satellite).or_default().revoked = true;
    }

    async fn delete_satellite(&mut self, satellite: String) {
        self.change(Method::DELETE, &format!("/api/satellites/{satellite}"), None, &[404]).await;
        self.expected.satellites.remove(&satellite);
        self.expected.gone_satellites.insert(satellite);
    }
}

impl Expected {
    /// What one replica does not say as it was acknowledged.
    pub(crate) async fn missing_in_the_api(&self, cloud: &Cloud, replica: usize) -> Vec<String> {
        let mut wrong = Vec::new();
        for (name, artifacts) in &self.groups {
            let group = cloud.read(replica, &format!("/api/groups/{name}")).await.unwrap();
            if triples(&group) != *artifacts {
                wrong.push(format!("replica {replica}: group {name} is {group}, not {artifacts:?}"));
            }
        }
        for (name, site) in &self.satellites {
            let satellite = cloud.read(replica, &format!("/api/satellites/{name}")).await.unwrap();
            let groups: BTreeSet<String> = serde_json::from_value(satellite["groups"].clone()).unwrap();
            let config = site.config.as_deref().unwrap_or("default");
            let revoked = satellite["state"] == "revoked";
            if groups != site.groups || satellite["config_name"] != config || revoked != site.revoked {
                wrong.push(format!("replica {replica}: satellite {name} is {satellite}, not {site:?}"));
            }
        }
        for (name, interval) in &self.configs {
            let config = cloud.read(replica, &format!("/api/configs/{name}")).await.unwrap();
            if config["config"]["app_config"]["state_replication_interval"] != interval.as_str() {
                wrong.push(format!("replica {replica}: config {name} is {config}, not {interval}"));
            }
        }
        let gone = self.gone_groups.iter().map(|name| format!("/api/groups/{name}"));
        let gone = gone.chain(self.gone_satellites.iter().map(|name| format!("/api/satellites/{name}")));
        for path in gone {
            if cloud.read(replica, &path).await.is_ok() {
                wrong.push(format!("replica {replica}: {path} is there still"));
            }
        }
        wrong
    }
}

/// Repository, first tag and digest of what a group or its document lists.
pub(crate) fn triples(group: &Value) -> Vec<(String, String, Digest)> {
    let artifacts = group["artifacts"].as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    artifacts
        .iter()
        .map(|one| (text(&one["repository"]), text(&one["tag"][0]), text(&one["digest"]).parse().unwrap()))
        .collect()
}
