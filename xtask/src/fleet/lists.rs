//! Every list page of a database of very many satellites.

use std::time::Instant;

use testbed::admin::Admin;
use testbed::{Error, Result};

use super::cloud::Cloud;
use super::many;
use super::{GROUP, Options, REGIONS};
use crate::bench::report::{Goal, Measure};
use crate::progress::Step;

/// Groups beside the fleet's own, so that their list has more than one page.
const GROUPS: usize = 150;
const PAGE: usize = 100;
/// How often each page is read; the median counts.
const READS: usize = 5;
/// What every page has to keep, in milliseconds.
const GOAL: f64 = 50.0;

/// Multiplies the satellites that there are and reads the lists.
pub(super) async fn lists(cloud: &mut Cloud, admin: &Admin, options: &Options) -> Result<Vec<Measure>> {
    let step = Step::begin(format!("a database of {} satellites", options.listed));
    for number in 0..GROUPS {
        admin.sync_group(&format!("group-{number:03}"), &super::change::artifacts(2, 1)).await?;
    }
    cloud.published().await?;
    cloud.between(async |cloud: &Cloud| many::multiply(cloud, options.listed).await).await?;
    let admin = cloud.ground_control()?.admin().await?;
    let total = admin.page("/api/satellites?page_size=1").await?.total;
    step.done(format!("{total} satellites"));

    let step = Step::begin("every list page");
    let region = format!("region={}", REGIONS[1]);
    let filters = [
        String::new(),
        region.clone(),
        "state=online".to_owned(),
        "state=stale".to_owned(),
        "state=pending".to_owned(),
        format!("group={GROUP}"),
        "group=canaries".to_owned(),
        "label=env%3Dprod".to_owned(),
        "label=env%3Dtest".to_owned(),
        "label=tier+in+(front,back)".to_owned(),
        "label=env!%3Dprod".to_owned(),
        "label=env%3Dtest&label=tier%3Dfront".to_owned(),
        "drift=true".to_owned(),
        "drift=false".to_owned(),
        format!("{region}&state=online&group={GROUP}&label=env%3Dprod"),
        format!("{region}&drift=true&label=tier%3Dback"),
    ];
    let mut paths: Vec<String> = filters.iter().map(|filter| format!("/api/satellites?{filter}")).collect();
    paths.extend(
        [
            "/api/satellites/active?",
            "/api/satellites/stale?",
            "/api/groups?",
            "/api/configs?",
            "/api/users?",
            "/api/tokens?",
            "/api/audit?",
        ]
        .map(str::to_owned),
    );
    paths.extend(["satellites", "revisions", "rollout"].map(|list| format!("/api/groups/{GROUP}/{list}?")));
    paths.extend(
        ["current", "fetching", "failed", "waiting", "unreachable"]
            .map(|progress| format!("/api/groups/{GROUP}/rollout?progress={progress}")),
    );
    let some = admin.page("/api/satellites?page_size=1").await?.items;
    if let Some(name) = some[0]["name"].as_str() {
        paths.extend(["artifacts", "images"].map(|list| format!("/api/satellites/{name}/{list}?")));
    }
    step.of_pieces(paths.len() as u64);
    let (mut slowest, mut worst, mut pages) = ((0.0, String::new()), 0.0_f64, 0);
    let mut missed = Vec::new();
    for (number, path) in paths.iter().enumerate() {
        // Read by position, and not by number.
        let numbered = !path.starts_with("/api/audit");
        let total = match admin.page(&format!("{path}&page_size=1")).await {
            Ok(page) => page.total,
            Err(Error::Answer { status: 404, .. }) => {
                eprintln!("  not measured: {path} is no route here");
                continue;
            }
            Err(error) => return Err(error),
        };
        let last = (total as usize).div_ceil(PAGE).max(1);
        for page in [1, last.div_ceil(2), last] {
            let path = if numbered { format!("{path}&page={page}&page_size={PAGE}") } else { path.clone() };
            let mut times = Vec::new();
            for _ in 0..READS {
                let begin = Instant::now();
                admin.page(&path).await?;
                times.push(begin.elapsed().as_secs_f64() * 1000.0);
            }
            worst = times.iter().copied().fold(worst, f64::max);
            let median = crate::bench::report::median(times);
            pages += 1;
            if median > GOAL {
                missed.push(format!("{path}: {median:.0} ms"));
            }
            if median > slowest.0 {
                slowest = (median, path);
            }
        }
        step.at(number as u64 + 1);
    }
    step.done(format!("{pages} pages; the slowest is {}", slowest.1));
    for page in missed {
        eprintln!("  beyond {GOAL} ms: {page}");
    }
    let goal = (options.listed >= 100_000).then_some(Goal::AtMost(GOAL));
    let name = |what: &str| format!("{} satellites in the database: {what}", options.listed);
    Ok(vec![
        Measure::alone(&name("pages read"), "", f64::from(pages), None),
        Measure::alone(&name("the slowest list page"), "ms", slowest.0, goal),
        Measure::alone(&name("the slowest single reading"), "ms", worst, None),
    ])
}
