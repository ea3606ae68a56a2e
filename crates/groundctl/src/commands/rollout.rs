//! `rollout status`: how far the list of a group is at its satellites.

mod bars;

use std::time::Duration;

use fleet_protocol::api::{
    ArtifactResolution, GroupDetail, GroupRevision, Rollout, RolloutProgress, RolloutSatellite, RolloutTotals,
};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use tokio::time::Instant;

use crate::cli::{Output, RolloutStatus};
use crate::client::Client;
use crate::error::Error;
use crate::patience::Patience;
use crate::render;

use bars::Shown;

/// How often a rollout that is watched is looked at.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long the publisher may take to hear of a change: until then that it has nothing to do says nothing.
const HEARD_OF: Duration = Duration::from_secs(5);
/// The most rows of a page.
const PAGE: usize = 100;

/// How far it is with those of a kind that have not all of it, the worst first.
const BEHIND: [(RolloutProgress, &str); 4] = [
    (RolloutProgress::Failed, "failed"),
    (RolloutProgress::Fetching, "fetching"),
    (RolloutProgress::Waiting, "waiting"),
    (RolloutProgress::Unreachable, "unreachable"),
];

/// Where a rollout stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Standing {
    /// The latest list is not published yet.
    Publishing,
    /// Not every satellite has it.
    UnderWay,
    /// Every satellite has what it stands for, and for some of it the registry has nothing.
    Unresolved,
    /// Every satellite has it.
    Complete,
}

/// An entry of the list for which the registry has nothing, or nothing new.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Unresolved {
    /// The tag or the rule.
    entry: String,
    /// Why; absent where nobody has looked yet.
    reason: Option<String>,
}

/// A look at a rollout.
#[derive(Serialize)]
struct Look {
    standing: Standing,
    /// Looked at only where every satellite has all that there is.
    unresolved: Vec<Unresolved>,
    #[serde(flatten)]
    rollout: Rollout,
}

/// Shows a rollout, and waits for its end where that was asked for; 1 where it is not complete.
pub(crate) async fn status(client: &Client, output: Output, status: &RolloutStatus) -> Result<u8, Error> {
    let begin = Instant::now();
    let end = status.timeout.map(|seconds| begin + Duration::from_secs(seconds.into()));
    let mut shown = Shown::new(output);
    let mut look = look(client, status, !status.watch).await?;
    let mut patience = Patience::default();
    while status.watch && look.standing != Standing::Complete {
        shown.show(&look);
        let next = Instant::now() + INTERVAL;
        // While it is still counted, failures may be of the list before.
        let counted = look.standing == Standing::UnderWay && !look.rollout.settling;
        let failed = counted && look.rollout.totals.failed > 0;
        if end.is_some_and(|end| next >= end) || (status.fail_fast && failed) {
            break;
        }
        tokio::time::sleep_until(next).await;
        let next = self::look(client, status, begin.elapsed() >= HEARD_OF).await;
        look = patience.take(next)?.unwrap_or(look);
    }
    shown.end();
    if look.standing == Standing::Complete || look.standing == Standing::Unresolved {
        look.rollout.satellites.clear();
    } else {
        look.rollout.satellites = behind(client, status, &look.rollout.totals).await?;
    }
    match output {
        Output::Json => render::json(&look)?,
        Output::Table => table(&look, status),
    }
    Ok(u8::from(look.standing != Standing::Complete))
}

/// Looks once. `heard`: the publisher has heard of every change that was made before this program began.
async fn look(client: &Client, status: &RolloutStatus, heard: bool) -> Result<Look, Error> {
    let path = ["api", "groups", &status.group, "rollout"];
    let query = [("progress", "fetching"), ("page_size", "8")];
    let rollout: Rollout = client.ask(&path, &query).await?;
    let path = ["api", "groups", &status.group, "revisions"];
    let last: Vec<GroupRevision> = client.ask(&path, &[("page_size", "1")]).await?;
    let changed = last.first().map(|revision| revision.created_at);
    let published = match is_published(&rollout, changed) {
        true => true,
        // A list that came to the same document again is not put again, and keeps the time of that document.
        false => heard && rollout.digest.is_some() && nothing_to_publish(client).await?,
    };
    let mut look = Look {
        standing: standing(&rollout, published, status.ignore_unreachable),
        unresolved: Vec::new(),
        rollout,
    };
    if look.standing == Standing::Complete {
        let group: GroupDetail = client.get(&["api", "groups", &status.group]).await?;
        look.unresolved = group.resolutions.iter().filter_map(unresolved).collect();
        if !look.unresolved.is_empty() && !status.ignore_unresolved {
            look.standing = Standing::Unresolved;
        }
    }
    Ok(look)
}

fn unresolved(entry: &ArtifactResolution) -> Option<Unresolved> {
    let nothing = entry.resolved.is_empty() && entry.digest.is_none();
    if entry.unresolved.is_none() && !nothing {
        return None;
    }
    let chosen = match (&entry.pattern, &entry.tag, &entry.digest) {
        (Some(pattern), ..) => format!(" {pattern}"),
        (None, Some(tag), _) => format!(":{tag}"),
        (None, None, digest) => digest.as_ref().map_or_else(String::new, |digest| format!("@{digest}")),
    };
    let reason = entry.unresolved.as_ref().map(|unresolved| unresolved.reason.clone());
    Some(Unresolved { entry: format!("{}{chosen}", entry.repository), reason })
}

fn is_published(rollout: &Rollout, changed: Option<Timestamp>) -> bool {
    rollout.published_at.is_some_and(|published| changed.is_none_or(|changed| published >= changed))
}

async fn nothing_to_publish(client: &Client) -> Result<bool, Error> {
    let health: Value = client.get(&["health", "ready"]).await?;
    let count = |name: &str| health["publisher"][name].as_u64();
    Ok(count("waiting") == Some(0) && count("failing") == Some(0))
}

fn standing(rollout: &Rollout, published: bool, ignore_unreachable: bool) -> Standing {
    let totals = &rollout.totals;
    // A fleet of which nobody is heard has not got anything.
    let away = if ignore_unreachable && totals.current > 0 { totals.unreachable } else { 0 };
    match (published, rollout.settling || totals.current + away < totals.wanted) {
        (false, _) => Standing::Publishing,
        (true, true) => Standing::UnderWay,
        (true, false) => Standing::Complete,
    }
}

/// The satellites that have not all of it, the worst first.
async fn behind(
    client: &Client,
    status: &RolloutStatus,
    totals: &RolloutTotals,
) -> Result<Vec<RolloutSatellite>, Error> {
    let mut all = Vec::new();
    for (progress, word) in BEHIND {
        for page in 1_usize.. {
            if of(totals, progress) == 0 {
                break;
            }
            let (page, size) = (page.to_string(), PAGE.to_string());
            let query = [("progress", word), ("page", &page), ("page_size", &size)];
            let answer: Rollout = client.ask(&["api", "groups", &status.group, "rollout"], &query).await?;
            let last = answer.satellites.len() < PAGE || !status.all;
            all.extend(answer.satellites);
            if last {
                break;
            }
        }
    }
    Ok(all)
}

fn of(totals: &RolloutTotals, progress: RolloutProgress) -> u64 {
    match progress {
        RolloutProgress::Current => totals.current,
        RolloutProgress::Fetching => totals.fetching,
        RolloutProgress::Failed => totals.failed,
        RolloutProgress::Waiting => totals.waiting,
        RolloutProgress::Unreachable => totals.unreachable,
    }
}

fn word(progress: RolloutProgress) -> &'static str {
    BEHIND.iter().find(|(one, _)| *one == progress).map_or("current", |(_, word)| word)
}

/// A rollout in a line: `3 of 10 satellites have it; 2 fetching, 5 waiting`.
fn line(look: &Look) -> String {
    let totals = &look.rollout.totals;
    let behind = BEHIND.iter().map(|(progress, word)| (of(totals, *progress), word));
    let behind: Vec<String> =
        behind.filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}")).collect();
    let mut line = match look.standing {
        Standing::Publishing => "the latest list is not published yet".to_owned(),
        _ => format!("{} of {} satellites have it", totals.current, totals.wanted),
    };
    if look.standing != Standing::Publishing && !behind.is_empty() {
        line = format!("{line}; {}", behind.join(", "));
    }
    match look.unresolved.len() {
        0 => {}
        1 => line.push_str("; 1 entry of the list is unresolved"),
        count => line.push_str(&format!("; {count} entries of the list are unresolved")),
    }
    if look.rollout.settling {
        line.push_str(" (still counting)");
    }
    line
}

fn table(look: &Look, status: &RolloutStatus) {
    let rollout = &look.rollout;
    let group = &rollout.group_name;
    println!("group {group}: {}", line(look));
    if let (Some(digest), published) = (&rollout.digest, rollout.published_at) {
        println!("{} artifacts, published {} as {digest}", rollout.artifacts, render::ago(published));
    }
    for one in &look.unresolved {
        let reason = one.reason.as_deref().unwrap_or("the registry was not asked yet");
        println!("unresolved: {}", render::printable(&format!("{}: {reason}", one.entry)));
    }
    if rollout.satellites.is_empty() || matches!(look.standing, Standing::Complete | Standing::Unresolved) {
        return;
    }
    let mut table = render::table(["SATELLITE", "PROGRESS", "BYTES", "SINCE", "LAST SEEN", "WHY"]);
    for satellite in &rollout.satellites {
        table.add_row([
            satellite.satellite.clone(),
            word(satellite.progress).to_owned(),
            render::part(satellite.bytes, satellite.total_bytes),
            satellite.since.map(|since| render::ago(Some(since))).unwrap_or_default(),
            render::ago(satellite.last_seen),
            satellite.reason.clone().unwrap_or_default(),
        ]);
    }
    render::print(&table);
    let named = u64::try_from(rollout.satellites.len()).unwrap_or(u64::MAX);
    let hidden = (rollout.totals.wanted - rollout.totals.current).saturating_sub(named);
    if hidden > 0 && !status.all {
        println!("… and {hidden} more: --all names them");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rollout(totals: RolloutTotals) -> Rollout {
        Rollout {
            group_name: "g".into(),
            digest: Some("sha256:1".into()),
            published_at: "2026-01-02T00:00:00Z".parse().ok(),
            artifacts: 1,
            settling: false,
            totals,
            satellites: Vec::new(),
        }
    }

    #[test]
    fn complete_is_what_every_satellite_has() {
        let totals = RolloutTotals { wanted: 3, current: 2, unreachable: 1, ..RolloutTotals::default() };
        let one = rollout(totals);
        assert_eq!(standing(&one, true, false), Standing::UnderWay);
        assert_eq!(standing(&one, true, true), Standing::Complete);
        assert_eq!(standing(&one, false, true), Standing::Publishing);
        assert_eq!(standing(&Rollout { settling: true, ..one.clone() }, true, true), Standing::UnderWay);
        let silent = RolloutTotals { wanted: 1, unreachable: 1, ..RolloutTotals::default() };
        assert_eq!(standing(&rollout(silent), true, true), Standing::UnderWay);
        let failed = RolloutTotals { current: 1, failed: 1, ..totals };
        assert_eq!(standing(&rollout(failed), true, true), Standing::UnderWay);
        let nobody = rollout(RolloutTotals::default());
        assert_eq!(standing(&nobody, true, false), Standing::Complete);
        let look = Look { standing: Standing::UnderWay, unresolved: Vec::new(), rollout: one };
        assert_eq!(line(&look), "2 of 3 satellites have it; 1 unreachable");
    }

    #[test]
    fn what_stands_for_nothing_is_unresolved() {
        let entry = |value| serde_json::from_value::<ArtifactResolution>(value).unwrap();
        let found = serde_json::json!([{"tag": "1.2.0", "digest": "sha256:1", "referrers": null}]);
        let failing = serde_json::json!({"reason": "no such tag", "since": "2026-01-01T00:00:00Z"});
        let rule = |resolved, unresolved| {
            entry(
                serde_json::json!({"repository": "a/b", "tag": null, "digest": null, "match": {"semver": "^1"},
                "keep": null, "resolved": resolved, "resolved_at": null, "unresolved": unresolved}),
            )
        };
        assert_eq!(unresolved(&rule(found.clone(), Value::Null)), None);
        let named = |reason: Option<&str>| {
            Some(Unresolved { entry: "a/b semver ^1".into(), reason: reason.map(str::to_owned) })
        };
        assert_eq!(unresolved(&rule(serde_json::json!([]), Value::Null)), named(None));
        assert_eq!(unresolved(&rule(found, failing)), named(Some("no such tag")));
    }

    #[test]
    fn a_list_that_is_newer_than_its_document_is_not_published() {
        let one = rollout(RolloutTotals::default());
        assert!(is_published(&one, None) && is_published(&one, "2026-01-01T00:00:00Z".parse().ok()));
        assert!(!is_published(&one, "2026-01-03T00:00:00Z".parse().ok()));
        assert!(!is_published(&Rollout { published_at: None, ..one }, None));
    }
}
