//! Accounts at the registry, of a satellite and of a group's satellites.

use comfy_table::Table;
use fleet_protocol::api::{AccountState, GroupAccounts, SatelliteAccounts};

use crate::render;

fn word(state: AccountState) -> &'static str {
    match state {
        AccountState::None => "none of its own",
        AccountState::Ready => "ready",
        AccountState::Preparing => "being made or changed",
        AccountState::Failed => "failed, and tried again",
        AccountState::RemovalPending => "still to be deleted",
        AccountState::Removed => "deleted",
    }
}

/// The accounts of a satellite.
pub(crate) fn of_satellite(accounts: &SatelliteAccounts) -> Table {
    let mut state = word(accounts.state).to_owned();
    if let Some(error) = &accounts.error {
        state = format!("{state}: {error}, since {}", render::ago(accounts.error_since));
    }
    if accounts.accounts.is_empty() {
        return render::record([("Accounts", state)]);
    }
    let mut table = render::table(["ACCOUNT", "ROLE", "PROJECTS", "ENDS", "LAST GIVEN", "FIRST USED"]);
    for account in &accounts.accounts {
        table.add_row([
            account.username.clone().unwrap_or_default(),
            account.role.clone(),
            account.projects.join(","),
            account.expires_at.map(|end| end.to_string()).unwrap_or_default(),
            render::ago(account.given_at),
            render::ago(account.used_at),
        ]);
    }
    table.add_row([state]);
    table
}

/// How many of a group's satellites have accounts that may read what it lists.
pub(crate) fn of_group(accounts: &GroupAccounts) -> Table {
    let failed = accounts.failures.iter().map(|failure| {
        format!("{} since {}: {}", failure.satellite, render::ago(failure.since), failure.error)
    });
    let failed: Vec<String> = failed.collect();
    render::record([
        ("Projects", accounts.projects.join(", ")),
        (
            "Held back",
            if accounts.held_back { "yes, until they are ready or have failed" } else { "no" }.to_owned(),
        ),
        ("Satellites", accounts.satellites.to_string()),
        ("Ready", accounts.ready.to_string()),
        ("Waiting", accounts.waiting.to_string()),
        ("Failed", accounts.failed.to_string()),
        ("Failures", if failed.is_empty() { "none".to_owned() } else { failed.join("\n") }),
    ])
}
