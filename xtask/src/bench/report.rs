//! Measures, their goals, and how they are shown.

use std::io::IsTerminal;
use std::path::Path;

use serde::Serialize;
use testbed::{Error, Result};

/// One figure.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Measure {
    /// What is measured.
    pub(crate) name: String,
    /// Unit of `ours` and `peer`.
    pub(crate) unit: &'static str,
    /// Our figure: the median.
    pub(crate) ours: f64,
    /// The peer's figure of the same run, where there is one.
    pub(crate) peer: Option<f64>,
    /// Who the peer is.
    pub(crate) peer_name: Option<String>,
    /// Ours divided by the peer's.
    pub(crate) ratio: Option<f64>,
    /// What `ratio`, or without a peer `ours`, has to be.
    pub(crate) goal: Option<String>,
    /// Whether it is.
    pub(crate) holds: Option<bool>,
}

/// What a figure has to be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Goal {
    /// At least this.
    AtLeast(f64),
    /// At most this.
    AtMost(f64),
}

impl Measure {
    /// A figure without a peer.
    pub(crate) fn alone(name: &str, unit: &'static str, ours: f64, goal: Option<Goal>) -> Self {
        Self {
            name: name.to_owned(),
            unit,
            ours,
            peer: None,
            peer_name: None,
            ratio: None,
            goal: goal.map(text),
            holds: goal.map(|goal| holds(goal, ours)),
        }
    }

    /// A figure beside a peer's: the goal is for the ratio.
    pub(crate) fn beside(
        name: &str,
        unit: &'static str,
        ours: f64,
        (peer_name, peer): (&str, f64),
        goal: Option<Goal>,
    ) -> Self {
        let ratio = ours / peer;
        Self {
            peer: Some(peer),
            peer_name: Some(peer_name.to_owned()),
            ratio: Some(ratio),
            goal: goal.map(text),
            holds: goal.map(|goal| holds(goal, ratio)),
            ..Self::alone(name, unit, ours, None)
        }
    }
}

fn text(goal: Goal) -> String {
    match goal {
        Goal::AtLeast(value) => format!(">= {value}"),
        Goal::AtMost(value) => format!("<= {value}"),
    }
}

fn holds(goal: Goal, value: f64) -> bool {
    match goal {
        Goal::AtLeast(least) => value >= least,
        Goal::AtMost(most) => value <= most,
    }
}

/// The middle one; of an even number the upper middle.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// What the machine is: a figure without it means nothing.
#[derive(Debug, Serialize)]
struct Machine {
    cores: usize,
    memory_bytes: u64,
    kernel: String,
    processor: String,
}

/// All that was measured in one run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    machine: Machine,
    measures: Vec<Measure>,
}

impl Report {
    /// A report on this machine, without measures.
    pub(crate) fn new() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let field = |text: &str, key: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(key))
                .map(|value| value.trim_start_matches([' ', '\t', ':']).trim().to_owned())
                .unwrap_or_default()
        };
        let memory = field(&read("/proc/meminfo"), "MemTotal");
        Self {
            machine: Machine {
                cores: std::thread::available_parallelism().map_or(1, usize::from),
                memory_bytes: memory.trim_end_matches(" kB").parse::<u64>().unwrap_or(0) * 1024,
                kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
                processor: field(&read("/proc/cpuinfo"), "model name"),
            },
            measures: Vec::new(),
        }
    }

    /// Says what is measured now.
    #[expect(clippy::print_stderr, reason = "progress on the terminal")]
    pub(crate) fn section(&self, what: &str) {
        eprintln!("measuring {what} …");
    }

    /// Takes a measure.
    #[expect(clippy::print_stderr, reason = "progress on the terminal")]
    pub(crate) fn add(&mut self, measure: Measure) {
        eprintln!("  {}", row(&measure));
        self.measures.push(measure);
    }

    /// Prints the table.
    #[expect(clippy::print_stdout, reason = "the result of the command")]
    pub(crate) fn print(&self) {
        let machine = &self.machine;
        println!("\n{} cores, {}, Linux {}", machine.cores, machine.processor, machine.kernel);
        for measure in &self.measures {
            println!("{}", row(measure));
        }
        let missed = self.measures.iter().filter(|measure| measure.holds == Some(false)).count();
        let end = if std::io::stdout().is_terminal() { "\n" } else { "" };
        println!("{} measures, {missed} goals missed{end}", self.measures.len());
    }

    /// Writes the JSON.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self).map_err(|error| Error::Content(error.to_string()))?;
        testbed::files::write(path, text + "\n")
    }
}

fn row(measure: &Measure) -> String {
    let figure = |value: f64| if value >= 100.0 { format!("{value:.0}") } else { format!("{value:.2}") };
    let peer = match (&measure.peer_name, measure.peer, measure.ratio) {
        (Some(name), Some(peer), Some(ratio)) => format!("{name} {} · ratio {ratio:.2}", figure(peer)),
        _ => String::new(),
    };
    let goal = match (&measure.goal, measure.holds) {
        (Some(goal), Some(true)) => format!("goal {goal}: holds"),
        (Some(goal), Some(false)) => format!("goal {goal}: MISSED"),
        _ => String::new(),
    };
    format!("{:<52} {:>9} {:<6} {peer:<42} {goal}", measure.name, figure(measure.ours), measure.unit)
        .trim_end()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goals_are_for_the_ratio() {
        let measure = Measure::beside("m", "req/s", 30.0, ("nginx", 60.0), Some(Goal::AtLeast(0.4)));
        assert_eq!((measure.ratio, measure.holds), (Some(0.5), Some(true)));
        let measure = Measure::alone("m", "MB", 13.0, Some(Goal::AtMost(12.0)));
        assert_eq!(measure.holds, Some(false));
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
    }
}
