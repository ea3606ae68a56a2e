//! `cargo xtask fleet`: a simulated fleet against the built Ground Control.
//!
//! Ground Control runs as a process of its own and is the only one that is measured. The satellites are small tasks of this
//! process: each has an SVID that it attested for, one connection with mutual TLS, and speaks the real protocol. Connections
//! break, satellites start anew, a part of the fleet is cut off and comes back at once, and clocks are wrong. What befalls
//! which satellite is decided by the seed.

mod burst;
mod change;
mod cloud;
pub(crate) mod connection;
mod lists;
mod many;
pub(crate) mod member;
mod satellite;
mod script;
mod stats;
mod steady;
mod truth;
mod world;

use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use clap::Args;
use testbed::{Error, Result, files};
use tokio::task::JoinSet;

use self::cloud::{Cloud, Database};
use self::member::Member;
use self::satellite::Satellite;
use self::script::Shares;
use self::world::{Founding, World};
use crate::bench::report::Report;
use crate::build;
use crate::packages::Needed;
use crate::progress::Step;

/// How large the fleet is, what befalls it, and where the result goes.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Satellites
    #[arg(long, default_value_t = 10_000, value_parser = a_number)]
    satellites: usize,
    /// Images that each satellite has
    #[arg(long, default_value_t = 20, value_parser = a_number)]
    images: usize,
    /// The database of Ground Control
    #[arg(long, value_enum, default_value_t = Database::Sqlite)]
    database: Database,
    /// Seconds that a heartbeat asks to be held back; the interval of satellites that do not ask
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=60))]
    wait: u32,
    /// Seconds of each window in which the fleet is watched
    #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(u64).range(3..=3600))]
    window: u64,
    /// Percent of the fleet whose connection breaks, or that starts anew, in a minute of churn
    #[arg(long, default_value_t = 5.0)]
    churn: f64,
    /// Percent of the fleet that a partition cuts off
    #[arg(long, default_value_t = 10.0)]
    partition: f64,
    /// Percent of the fleet whose clock is wrong by up to ten minutes
    #[arg(long, default_value_t = 5.0)]
    skewed: f64,
    /// Percent of the fleet that knows no waiting, as deployed satellites
    #[arg(long, default_value_t = 2.0)]
    plain: f64,
    /// Satellites in the database whose lists are read; 0: no lists are read
    #[arg(long, default_value_t = 100_000)]
    listed: usize,
    /// Decides what befalls which satellite
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Measure only the parts that have one of these words in their name: steady, change, churn, burst, lists
    #[arg(long, value_name = "WORD", value_delimiter = ',')]
    only: Vec<String>,
    /// A setting for Ground Control; may be given several times
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = a_setting)]
    settings: Vec<(String, String)>,
    /// Write the result as JSON to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Measure the programs of this folder instead of building the release profile
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
}

/// A number of satellites or images.
fn a_number(text: &str) -> Result<usize, String> {
    let number = text.parse().map_err(|_| "write a number".to_owned())?;
    if (1..=50_000).contains(&number) { Ok(number) } else { Err("write a number from 1 to 50000".to_owned()) }
}

fn a_setting(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or_else(|| "write NAME=VALUE".to_owned())?;
    Ok((name.to_owned(), value.to_owned()))
}

/// The size that goals are set for.
const FULL: usize = 10_000;
/// The group that all satellites are in.
const GROUP: &str = "fleet";
const REGIONS: [&str; 8] =
    ["default", "eu-north", "eu-south", "us-east", "us-west", "asia", "africa", "oceania"];
/// What the parts need besides the build.
const PEERS: [Needed; 2] = [
    Needed { program: "sqlite3", package: "sqlite3" },
    Needed { program: "/usr/lib/postgresql", package: "postgresql" },
];

impl Options {
    /// Whether the fleet has the size that goals are set for.
    fn full(&self) -> bool {
        self.satellites >= FULL
    }

    fn wants(&self, part: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|word| part.contains(word.as_str()))
    }
}

/// Builds the release profile, runs the fleet, prints the table and writes the JSON.
pub(crate) async fn run(options: &Options) -> Result<()> {
    let Some(programs) = options.programs.clone() else { return Err(optimised()) };
    let needed = match options.database {
        Database::Sqlite => &PEERS[..1],
        Database::Postgres => &PEERS[1..],
    };
    crate::packages::ensure(needed).map_err(Error::Content)?;
    allow_descriptors(options.satellites)?;
    let dir = files::scratch("fleet")?;
    let mut cloud = Cloud::start(dir.path(), options.database, programs, &options.settings).await?;
    let mut report = Report::new();
    Box::pin(measure(&mut cloud, options, &mut report)).await?;
    cloud.stop().await?;
    report.print();
    match &options.json {
        Some(path) => report.write(path),
        None => Ok(()),
    }
}

/// Builds the release profile and goes on as its own simulator: ten thousand satellites that are not optimised would take the
/// processor from what is measured. Returns only when that cannot be done.
fn optimised() -> Error {
    let programs = match build::programs(true) {
        Ok(programs) => programs,
        Err(error) => return Error::Content(error.to_string()),
    };
    let mut command = Command::new(programs.join("xtask"));
    command.args(std::env::args_os().skip(1)).arg("--programs").arg(&programs);
    Error::Content(format!("cannot start {}: {}", programs.join("xtask").display(), command.exec()))
}

/// Makes the fleet and has it do what is measured.
async fn measure(cloud: &mut Cloud, options: &Options, report: &mut Report) -> Result<()> {
    let admin = cloud.ground_control()?.admin().await?;
    change::found(&admin, GROUP, options.images).await?;
    let names: Vec<String> = (0..options.satellites).map(|number| format!("fleet-{number:05}")).collect();
    let members = enrol(cloud, &names).await?;
    let world = Arc::new(World::new(Founding {
        seed: options.seed,
        shares: Shares { plain: options.plain, skewed: options.skewed, partitioned: options.partition },
        to: cloud.address()?,
        wait: options.wait,
        group: GROUP.to_owned(),
        registry: cloud.ground_control()?.registry(),
        satellites: members.len(),
    }));
    let document = fleet_protocol::state::group_repository(
        &GROUP.parse().map_err(|error| Error::Content(format!("{error}")))?,
    );
    let document = world.registry.digest(&document, "latest").await?;
    let document =
        document.ok_or_else(|| Error::Content("the group's document is not published".to_owned()))?;
    let content = world.content(&document).await?;

    let satellites: Vec<Satellite> = members
        .iter()
        .enumerate()
        .map(|(number, member)| Satellite::new(&world, number, member, &content))
        .collect();
    let waiting: Vec<(usize, String)> = satellites
        .iter()
        .zip(&names)
        .enumerate()
        .filter(|(_, (satellite, _))| satellite.nature().waits)
        .map(|(number, (_, name))| (number, name.clone()))
        .collect();
    let mut fleet = JoinSet::new();
    for satellite in satellites {
        fleet.spawn(Box::pin(satellite.live()));
    }
    if ["steady", "change", "churn"].iter().any(|part| options.wants(part)) {
        steady::come_up(cloud, &world, options).await?.into_iter().for_each(|one| report.add(one));
        if options.wants("steady") {
            steady::steady(cloud, &world, options).await?.into_iter().for_each(|one| report.add(one));
        }
        if options.wants("change") {
            change::single(&admin, &world, &waiting).await?.into_iter().for_each(|one| report.add(one));
            let whole = change::whole(cloud, &admin, &world, &waiting, options).await?;
            whole.into_iter().for_each(|one| report.add(one));
        }
        if options.wants("churn") {
            steady::churn(cloud, &world, options).await?.into_iter().for_each(|one| report.add(one));
        }
        truth::check(&admin, &world, &names, options.images).await?;
    }
    fleet.shutdown().await;
    if options.wants("burst") {
        let measured = burst::burst(cloud, &members, &content, options).await?;
        measured.into_iter().for_each(|one| report.add(one));
    }
    if options.wants("lists") && options.listed > 0 {
        lists::lists(cloud, &admin, options).await?.into_iter().for_each(|one| report.add(one));
    }
    Ok(())
}

async fn enrol(cloud: &Cloud, names: &[String]) -> Result<Vec<Arc<Member>>> {
    let step = Step::begin("satellites register and attest");
    step.of_pieces(names.len() as u64);
    let done = std::sync::atomic::AtomicU64::new(0);
    let region = |number: usize| REGIONS[number % REGIONS.len()].to_owned();
    let members =
        member::enrol(cloud.ground_control()?, cloud.address()?, names.to_vec(), (region, &[GROUP]), || {
            step.at(done.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1)
        })
        .await?;
    cloud.published().await?;
    step.done(format!("{} satellites", members.len()));
    Ok(members.into_iter().map(Arc::new).collect())
}

/// A file descriptor for each satellite, here and in the server, which inherits the limit.
pub(crate) fn allow_descriptors(satellites: usize) -> Result<()> {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    let needed = satellites as u64 + 500;
    if limit.maximum.is_some_and(|maximum| maximum < needed) {
        return Err(Error::Missing {
            what: format!("a limit of {needed} open files"),
            remedy: "raise the hard limit (ulimit -Hn), or take fewer satellites".to_owned(),
        });
    }
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit)
        .map_err(|error| Error::Content(format!("cannot raise the limit of open files: {error}")))
}
