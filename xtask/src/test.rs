//! `cargo xtask test`: builds once, runs the suites, counts.

use std::collections::BTreeSet;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use testbed::go_programs;
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::build::{self, TestProgram};
use crate::error::{Error, Result};
use crate::shipped::{self, Built};
use crate::suites::{Live, POSTGRES_URL, SUITES, Suite};
use crate::{machine, orphans, packages};

/// What to test.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Suites to run; all where none is named.
    suites: Vec<String>,
    /// Name the suites and what each needs, and run nothing.
    #[arg(long)]
    list: bool,
    /// Run only tests whose name holds this text.
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
    /// Show what every test program prints, not only the failing ones'.
    #[arg(long, short)]
    verbose: bool,
}

/// How many tests ended how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    passed: u32,
    failed: u32,
    skipped: u32,
}

impl Counts {
    fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

/// Runs the task.
pub(crate) async fn run(arguments: Arguments) -> Result<ExitCode> {
    if arguments.list {
        for suite in &SUITES {
            println!("{:<12} {}\n{:<12} needs: {}", suite.name, suite.about, "", suite.needs);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let selected = select(&arguments.suites)?;
    let (host, programs) = build::tests()?;
    let built = shipped::build(host, &selected);
    let mut total = Counts::default();
    for suite in selected {
        println!("\n── {}: {}", suite.name, suite.about);
        let named = arguments.suites.iter().any(|name| name == suite.name);
        if suite.live == Live::NewRuntimes
            && named
            && let Err(error) = go_programs::build_all().await
        {
            println!("   {error}");
        }
        let counts = match lacks(suite).map_or_else(|| prepare(suite, &built).map_err(Unfit::Here), Err) {
            Ok(()) => {
                if let Some(version) = version(suite).await {
                    println!("   {version}");
                }
                run_suite(suite, &programs, &built, &arguments).await
            }
            Err(Unfit::Here(reason)) => skip(suite.name, &reason),
            Err(Unfit::Anywhere(reason)) => {
                println!("SKIPPED {}: {reason}", suite.name);
                Counts { skipped: 1, ..Counts::default() }
            }
        };
        total.add(counts);
        orphans::end();
    }
    println!("\n{total}");
    Ok(if total.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn select(names: &[String]) -> Result<Vec<&'static Suite>> {
    let known: BTreeSet<&str> = SUITES.iter().map(|suite| suite.name).collect();
    if let Some(unknown) = names.iter().find(|name| !known.contains(name.as_str())) {
        let known = known.into_iter().collect::<Vec<_>>().join(", ");
        return Err(Error::Other(format!("there is no suite `{unknown}`; there are {known}")));
    }
    Ok(SUITES
        .iter()
        .filter(|suite| names.is_empty() || names.iter().any(|name| name == suite.name))
        .collect())
}

/// Why a suite is not run.
enum Unfit {
    /// This machine could have what it needs: a failure in continuous integration.
    Here(String),
    /// No package holds what it runs against: nobody can be asked to have it.
    Anywhere(String),
}

/// Why a live suite has nothing to run against.
fn lacks(suite: &Suite) -> Option<Unfit> {
    let missing = match suite.live {
        Live::Nothing => None,
        Live::Spire(programs) => programs.iter().find_map(|program| testbed::spire::find(program).err()),
        Live::Harbor => testbed::harbor::Harbor::from_environment().err(),
        Live::NewRuntimes => go_programs::ALL.iter().find_map(|program| program.folder().err()),
    }?;
    Some(Unfit::Anywhere(missing.to_string()))
}

/// What a live suite runs against.
async fn version(suite: &Suite) -> Option<String> {
    let told = |version: testbed::Result<String>| version.unwrap_or_else(|error| error.to_string());
    match suite.live {
        Live::Nothing => None,
        Live::Spire(programs) => {
            Some(format!("{} {}", programs.join(", "), told(testbed::spire::version().await)))
        }
        Live::NewRuntimes => {
            let all = go_programs::ALL.iter().map(|program| format!("{} {}", program.name, program.version));
            Some(all.collect::<Vec<_>>().join(", "))
        }
        Live::Harbor => {
            let harbor = testbed::harbor::Harbor::from_environment().ok()?;
            Some(format!("Harbor {} at {}", told(harbor.version().await), harbor.url()))
        }
    }
}

fn prepare(suite: &Suite, built: &Built) -> Result<(), String> {
    if suite.root && !testbed::command::is_root() {
        return Err("it needs root".into());
    }
    packages::ensure(suite.packages)?;
    if suite.name == shipped::SUITE { built.pack() } else { Ok(()) }
}

/// A suite that cannot run here: one skip, which continuous integration counts as a failure.
fn skip(name: &str, reason: &str) -> Counts {
    if machine::is_ci() {
        println!("FAILED {name}: it cannot run here: {reason} (CI=true allows no skip)");
        Counts { failed: 1, ..Counts::default() }
    } else {
        println!("SKIPPED {name}: {reason}");
        Counts { skipped: 1, ..Counts::default() }
    }
}

async fn run_suite(suite: &Suite, programs: &[TestProgram], built: &Built, arguments: &Arguments) -> Counts {
    let mut counts = Counts::default();
    let postgres = if suite.postgres {
        match testbed::postgres::Postgres::start().await {
            Ok(postgres) => Some(postgres),
            Err(error) => return skip(suite.name, &error.to_string()),
        }
    } else {
        None
    };
    let mut environment = built.environment();
    environment.push(("RUST_BACKTRACE".to_owned(), "0".to_owned()));
    if let Some(postgres) = &postgres {
        environment.push((POSTGRES_URL.to_owned(), postgres.url("postgres")));
    }
    let mut found = false;
    for program in programs.iter().filter(|program| suite.runs(program)) {
        found = true;
        let name = format!("{} {} ({})", program.package, program.target, program.kind);
        let mut command = Command::new(&program.executable);
        command.current_dir(&program.folder).env("CARGO_MANIFEST_DIR", &program.folder);
        command.args(arguments.filter.iter());
        // Its steps are shown as they are taken, and what it could not show.
        let verbose = arguments.verbose || suite.live == Live::Harbor;
        if suite.live == Live::Harbor {
            command.arg("--nocapture");
        }
        counts.add(run_program(&name, command, &environment, suite.limit, verbose).await);
    }
    if !found {
        println!("FAILED {}: the build holds no test program of it", suite.name);
        counts.failed += 1;
    }
    if suite.name == "unit" && arguments.filter.is_none() {
        let mut command = build::cargo();
        command.args(["test", "--workspace", "--doc", "--quiet"]);
        counts.add(run_program("documentation", command, &environment, suite.limit, arguments.verbose).await);
    }
    counts
}

/// Runs one test program; what it prints is shown when it fails.
async fn run_program(
    name: &str,
    mut command: Command,
    environment: &[(String, String)],
    limit: Duration,
    verbose: bool,
) -> Counts {
    let start = Instant::now();
    command.envs(environment.iter().map(|(name, value)| (name, value)));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let mut command = tokio::process::Command::from(command);
    let mut child = match command.kill_on_drop(true).spawn() {
        Ok(child) => child,
        Err(error) => {
            println!("FAILED {name}: cannot start: {error}");
            return Counts { failed: 1, ..Counts::default() };
        }
    };
    let mut lines = Vec::new();
    let ended = tokio::time::timeout(limit, collect(&mut child, &mut lines, verbose)).await;
    if ended.is_err()
        && let Some(pid) = child.id().and_then(|id| rustix::process::Pid::from_raw(id.cast_signed()))
    {
        let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
        let _ = child.wait().await;
    }
    let mut counts = count(&lines);
    let seconds = start.elapsed().as_secs_f64();
    let verdict = match ended {
        Err(_) => {
            counts.failed += 1;
            format!("did not end within {} s", limit.as_secs())
        }
        Ok(Ok(status)) if status.success() => String::new(),
        Ok(Ok(status)) => {
            // A program that died tells no result of its own.
            counts.failed = counts.failed.max(1);
            status.to_string()
        }
        Ok(Err(error)) => {
            counts.failed = counts.failed.max(1);
            error.to_string()
        }
    };
    if counts.failed > 0 {
        if !verbose {
            lines.iter().for_each(|line| println!("{line}"));
        }
        println!("FAILED {name}: {verdict}");
    }
    if counts.skipped > 0 && machine::is_ci() {
        println!("FAILED {name}: tests were left out, and CI=true allows no skip");
        counts.failed += counts.skipped;
        counts.skipped = 0;
    }
    if counts != Counts::default() {
        println!("   {name}: {counts} ({seconds:.1} s)");
    }
    counts
}

async fn collect(
    child: &mut tokio::process::Child,
    lines: &mut Vec<String>,
    verbose: bool,
) -> std::io::Result<std::process::ExitStatus> {
    let mut stdout = child.stdout.take().map(|stream| BufReader::new(stream).lines());
    let mut stderr = child.stderr.take().map(|stream| BufReader::new(stream).lines());
    while stdout.is_some() || stderr.is_some() {
        let line = tokio::select! {
            line = next(&mut stdout), if stdout.is_some() => line,
            line = next(&mut stderr), if stderr.is_some() => line,
        };
        if let Some(line) = line {
            if verbose {
                println!("{line}");
            }
            lines.push(line);
        }
    }
    child.wait().await
}

/// The next line of a stream; the stream is taken away at its end.
async fn next<R: tokio::io::AsyncBufRead + Unpin>(
    stream: &mut Option<tokio::io::Lines<R>>,
) -> Option<String> {
    let line = stream.as_mut()?.next_line().await.ok().flatten();
    if line.is_none() {
        *stream = None;
    }
    line
}

/// Adds up libtest's `test result: ok. 3 passed; 0 failed; 1 ignored; …`.
fn count(lines: &[String]) -> Counts {
    let mut counts = Counts::default();
    for line in lines.iter().filter_map(|line| line.trim().strip_prefix("test result: ")) {
        for part in line.split([';', '.']) {
            let mut words = part.split_whitespace();
            let (Some(Ok(number)), Some(what)) = (words.next().map(str::parse::<u32>), words.next()) else {
                continue;
            };
            match what {
                "passed" => counts.passed += number,
                "failed" => counts.failed += number,
                "ignored" => counts.skipped += number,
                _ => {}
            }
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_add_up() {
        let lines = [
            "test a ... ok",
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 7 filtered out; finished in 0.01s",
            "test result: FAILED. 10 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.00s",
        ];
        let lines: Vec<String> = lines.map(str::to_owned).to_vec();
        assert_eq!(count(&lines), Counts { passed: 13, failed: 2, skipped: 1 });
        assert_eq!(count(&lines).to_string(), "13 passed, 2 failed, 1 skipped");
    }

    #[test]
    fn unknown_suites_are_named() {
        let error = select(&["nonsense".into()]).unwrap_err().to_string();
        assert!(error.contains("nonsense") && error.contains("end-to-end"), "{error}");
        assert_eq!(select(&[]).unwrap().len(), SUITES.len());
    }
}
