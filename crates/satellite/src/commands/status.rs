//! `satellite status`.

use std::fmt::Write as _;

use super::text::{bytes, duration, lines, relative, short_digest, table};
use crate::control::StatusDocument;
use crate::status::RegistrationState;

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
    line("ground control", process.ground_control_url.as_deref().unwrap_or("(none)"));
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
    for (heading, entries) in
        [("needs attention:", &document.problems), ("configuration notes:", &satellite.config.warnings)]
    {
        if !entries.is_empty() {
            let _infallible = write!(text, "\n{heading}\n");
            for entry in entries {
                let _infallible = writeln!(text, "  {entry}");
            }
        }
    }
    text
}
