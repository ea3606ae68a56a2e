//! `satellite status`.

use std::fmt::Write as _;

use super::text::{bytes, duration, lines, relative, short_digest, table};
use crate::control::StatusDocument;
use crate::site::nodes::{NodeStatus, SILENT};
use crate::status::{FollowStatus, FollowedBy, IdentityStatus, LanStatus, RegistrationState};

/// The nodes of the cluster, and what keeps images from them.
fn nodes(nodes: &[NodeStatus], now: jiff::Timestamp) -> String {
    let mut there = table(["NODE", "RUNTIME", "PRESENT", "MISSING", "SEEN", "PROBLEM"]);
    for node in nodes {
        let runtime = format!("{} {}", node.runtime, node.runtime_version);
        let silent = now.duration_since(node.seen_at) > SILENT;
        let failure =
            node.failures.first().map(|failure| format!("{}: {}", failure.reference, failure.reason));
        let problem = silent.then(|| "silent".to_owned()).or_else(|| node.problem.clone()).or(failure);
        there.add_row([
            node.name.clone(),
            runtime.trim().to_owned(),
            node.present.to_string(),
            node.pulling.saturating_add(node.waiting).saturating_add(node.failed).to_string(),
            relative(Some(node.seen_at), now),
            problem.unwrap_or_else(|| "-".to_owned()),
        ]);
    }
    lines(&there)
}

pub(super) fn render(document: &StatusDocument) -> String {
    let now = jiff::Timestamp::now();
    let satellite = &document.satellite;
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        let _infallible = writeln!(text, "{name:<16}{value}");
    };

    line("satellite", satellite.name.as_deref().unwrap_or("(no name yet)"));
    line("health", if document.healthy { "healthy" } else { "needs attention" });
    line("activity", &satellite.activity);
    let process = &document.process;
    line(
        "process",
        &format!("{}, version {}, up {}", process.pid, process.version, duration(process.uptime_seconds)),
    );
    let registration = match satellite.registration.state {
        RegistrationState::Pending => "pending",
        RegistrationState::Registered => "registered",
        RegistrationState::Refused => "refused",
        RegistrationState::NotConfigured => "not configured",
    };
    let message =
        satellite.registration.message.as_ref().map(|message| format!(": {message}")).unwrap_or_default();
    line("registration", &format!("{registration}{message}"));
    line("identity", &identity(&satellite.identity, now));
    line("ground control", process.ground_control_url.as_deref().unwrap_or("(none)"));
    line("follows", &follows(&satellite.follow, now));
    line("state", process.state_url.as_deref().unwrap_or("(none)"));

    let registry = &document.registry;
    let namespaces = match registry.namespaces.as_slice() {
        [] => String::new(),
        hosts => format!(", for {}", hosts.join(", ")),
    };
    match (&registry.address, &registry.byo_registry) {
        (_, Some(url)) => line("registry", &format!("{url} (the site's own)")),
        (Some(address), None) => line("registry", &format!("http://{address}{namespaces}")),
        (None, None) => line("registry", "(none)"),
    }
    if let Some(lan) = &satellite.lan {
        line("lan", &self::lan(lan, now));
    }
    if let Some(address) = satellite.docker_mirror.as_ref().and_then(|there| there.address.as_ref()) {
        line("docker's mirror", &format!("http://{address}"));
    }
    if !registry.local_namespaces.is_empty() {
        line("site's own", &registry.local_namespaces.join(", "));
    }
    line(
        "store",
        &format!(
            "{}: {} in {} repositories, {} tags",
            registry.data_dir.display(),
            bytes(registry.bytes),
            registry.repositories,
            registry.tags
        ),
    );
    let whole = satellite.images.iter().filter(|image| image.whole).count();
    line("artifacts", &format!("{whole} here, {} missing", satellite.failed.len()));
    if let Some(digest) = &satellite.config.digest {
        line("configuration", digest);
    }
    if !satellite.config.restart_needed.is_empty() {
        line("needs restart", &satellite.config.restart_needed.join(", "));
    }
    let mirrors: Vec<String> = satellite
        .mirrors
        .runtimes
        .iter()
        .map(|(runtime, there)| format!("{runtime} ({})", there.state.replace('_', " ")))
        .collect();
    if !mirrors.is_empty() {
        line("mirrors", &mirrors.join(", "));
    }
    for (name, delivery) in &satellite.deliveries {
        let missing = match delivery.missing {
            0 => String::new(),
            missing => format!(", {missing} missing"),
        };
        line("delivers to", &format!("{name}: {} there{missing} ({})", delivery.delivered, delivery.state));
    }
    if let Some(last) = &satellite.last_sync {
        let spent = format!("{} ms", last.duration_ms);
        line(
            "last sync",
            &format!(
                "{}, took {spent}: {} replicated, {} removed, {} failed, {} fetched",
                relative(last.started_at, now),
                last.replicated,
                last.removed,
                last.failed,
                bytes(last.bytes_fetched)
            ),
        );
    }

    if !satellite.schedulers.is_empty() {
        text.push_str("\nschedulers:\n");
        let mut schedulers = table(["NAME", "SCHEDULE", "LAST", "NEXT", "RUNS", "LAST ERROR"]);
        for (name, scheduler) in &satellite.schedulers {
            let next = if scheduler.running {
                "running".to_owned()
            } else if scheduler.done {
                "done".to_owned()
            } else {
                relative(scheduler.next_run, now)
            };
            schedulers.add_row([
                name.clone(),
                scheduler.schedule.clone(),
                relative(scheduler.last_run, now),
                next,
                scheduler.runs.to_string(),
                scheduler.last_error.clone().unwrap_or_else(|| "-".to_owned()),
            ]);
        }
        text.push_str(&lines(&schedulers));
    }
    if !satellite.nodes.is_empty() {
        text.push_str("\nnodes:\n");
        text.push_str(&nodes(&satellite.nodes, now));
    }
    if !document.fetching.is_empty() {
        text.push_str("\nfetching:\n");
        let mut fetching = table(["ARTIFACT", "HERE", "SIZE"]);
        for artifact in &document.fetching {
            fetching.add_row([
                artifact.reference.clone(),
                bytes(artifact.bytes),
                if artifact.total_bytes == 0 { "?".to_owned() } else { bytes(artifact.total_bytes) },
            ]);
        }
        text.push_str(&lines(&fetching));
    }
    if !document.transfers.is_empty() {
        text.push_str("\ntransfers:\n");
        let mut transfers = table(["BLOB", "HERE", "SIZE", "SINCE", "RETRIES", "LAST ERROR"]);
        for transfer in &document.transfers {
            transfers.add_row([
                short_digest(&transfer.digest),
                bytes(transfer.position_bytes),
                bytes(transfer.size_bytes),
                relative(Some(transfer.since), now),
                transfer.retries.to_string(),
                transfer.last_error.clone().unwrap_or_else(|| "-".to_owned()),
            ]);
        }
        text.push_str(&lines(&transfers));
    }
    if !satellite.desired.groups.is_empty() {
        text.push_str("\ngroups:\n");
        let mut groups = table(["NAME", "ARTIFACTS", "STATE"]);
        for group in &satellite.desired.groups {
            let state = group.error.clone().unwrap_or_else(|| "read".to_owned());
            groups.add_row([group.name.clone(), group.artifacts.to_string(), state]);
        }
        text.push_str(&lines(&groups));
    }
    let notes: Vec<String> =
        satellite.warnings.iter().filter(|warning| !document.problems.contains(warning)).cloned().collect();
    for (heading, entries) in [
        ("needs attention:", &document.problems),
        ("notes:", &notes),
        ("configuration notes:", &satellite.config.warnings),
    ] {
        if !entries.is_empty() {
            let _infallible = write!(text, "\n{heading}\n");
            for entry in entries {
                let _infallible = writeln!(text, "  {entry}");
            }
        }
    }
    text
}

fn lan(lan: &LanStatus, now: jiff::Timestamp) -> String {
    let Some(address) = &lan.address else { return "does not listen".to_owned() };
    let whose = if lan.certificate == "files" { "the site's" } else { "the local authority's" };
    let until = relative(lan.expires_at, now);
    format!("https://{address}, {} accounts, {whose} certificate ends {until}", lan.accounts)
}

fn follows(follow: &FollowStatus, now: jiff::Timestamp) -> String {
    let by = match follow.by {
        FollowedBy::Waiting => "ground control, waiting for changes",
        FollowedBy::Interval => "ground control, by the heartbeat's interval",
        FollowedBy::Registry => "the registry, looked at in each turn",
        FollowedBy::Kept => "what was read last, until ground control answers",
    };
    let since =
        follow.since.map(|since| format!(", since {}", relative(Some(since), now))).unwrap_or_default();
    match follow.generation {
        0 => format!("{by}{since}"),
        generation => format!("{by}{since}, generation {generation}"),
    }
}

fn identity(identity: &IdentityStatus, now: jiff::Timestamp) -> String {
    let source = match identity.source.as_str() {
        "workload_api" => "SVID of the Workload API",
        "builtin" => "SVID of ground control's authority",
        _ => return "token".to_owned(),
    };
    let Some(id) = &identity.spiffe_id else { return format!("{source}: none yet") };
    format!(
        "{id}, {source}, expires {}, taken {}, {} authorities",
        relative(identity.expires_at, now),
        relative(identity.taken_at, now),
        identity.authorities
    )
}

#[cfg(test)]
mod tests {
    use super::super::images;
    use super::*;

    /// As it comes over the socket, from a process of a later release that says more.
    fn document() -> StatusDocument {
        serde_json::from_value(serde_json::json!({
            "api_version": 1, "healthy": false, "problems": ["library/broken:v1 is not here: 404"], "later": {},
            "process": {"pid": 7, "version": "9.9.9", "started_at": "2026-11-01T00:00:00Z", "uptime_seconds": 3700,
                "config_dir": "/c", "ground_control_url": "https://gc.example.com/", "state_url": "https://h/state:latest"},
            "registry": {"address": "127.0.0.1:8585", "namespaces": ["h"], "data_dir": "/data", "bytes": 2048,
                "repositories": 1, "tags": 2},
            "transfers": [{"digest": format!("sha256:{}", "a".repeat(64)), "size_bytes": 4096, "position_bytes": 1024,
                "since": "2026-11-01T00:00:00Z", "retries": 3, "last_error": "reset"}],
            "fetching": [{"reference": "h/library/app:v2", "bytes": 512, "total_bytes": 6144}],
            "satellite": {
                "follow": {"by": "waiting", "generation": 42},
                "name": "edge-01", "activity": "replicating", "registration": {"state": "registered"},
                "identity": {"source": "builtin", "spiffe_id": "spiffe://td/satellite/region/default/edge-01", "authorities": 2},
                "schedulers": {"heartbeat": {"schedule": "@every 30s", "runs": 4, "last_error": "503", "failures_in_a_row": 2}},
                "images": [{"repository": "library/app", "tags": ["v1", "v2"], "digest": format!("sha256:{}", "b".repeat(64)),
                    "size_bytes": 1_048_576, "groups": ["site"], "whole": true}],
                "failed": [{"reference": "library/broken:v1", "reason": "404", "attempts": 2}],
                "conflicts": [{"reference": "library/app:v3", "wanted": {"sha256:c": ["one"], "sha256:d": ["two"]}}],
                "config": {"digest": "sha256:e", "restart_needed": ["zot_config.http"], "warnings": ["new: not honoured"]}
            }
        }))
        .unwrap()
    }

    #[test]
    fn everything_that_matters_is_said() {
        let text = render(&document());
        for expected in [
            "edge-01",
            "needs attention",
            "up 1h 1m",
            "registered",
            "spiffe://td/satellite/region/default/edge-01",
            "2 authorities",
            "http://127.0.0.1:8585, for h",
            "2.0 KiB in 1 repositories, 2 tags",
            "1 here, 1 missing",
            "zot_config.http",
            "sha256:aaaaaaaaaaaa",
            "1.0 KiB",
            "waiting for changes, generation 42",
            "h/library/app:v2",
            "512 B",
            "6.0 KiB",
            "reset",
            "@every 30s",
            "library/broken:v1 is not here: 404",
            "new: not honoured",
        ] {
            assert!(text.contains(expected), "{expected} is not in\n{text}");
        }
        assert!(text.lines().all(|line| line.trim_end() == line), "{text}");
    }

    #[test]
    fn images_are_listed_with_what_is_missing_and_what_is_disputed() {
        let document = document();
        let listing = images::listing(&document);
        let text = images::render(&listing);
        for expected in [
            "library/app",
            "v1,v2",
            "1.0 MiB",
            "whole",
            "library/broken:v1",
            "404",
            "library/app:v3",
            "not set",
            "two",
        ] {
            assert!(text.contains(expected), "{expected} is not in\n{text}");
        }
        let json: serde_json::Value = serde_json::from_str(&super::super::text::json(&listing)).unwrap();
        assert_eq!(json["images"][0]["digest"], format!("sha256:{}", "b".repeat(64)));
        assert_eq!(json["failed"][0]["reason"], "404");
    }
}
