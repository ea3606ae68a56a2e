//! A rollout that is watched: bars on a terminal, a line for each step elsewhere.

use std::collections::BTreeMap;
use std::io::IsTerminal;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::{Look, Standing, line};
use crate::cli::Output;

/// What is shown while a rollout goes on. It is on standard error: standard output is the answer's.
pub(super) struct Shown {
    way: Way,
    last: String,
}

enum Way {
    Bars { all: MultiProgress, whole: ProgressBar, sites: BTreeMap<String, ProgressBar> },
    Lines,
    Nothing,
}

impl Shown {
    pub(super) fn new(output: Output) -> Self {
        let way = match (output, std::io::stderr().is_terminal()) {
            (_, true) => {
                let all = MultiProgress::new();
                let whole = all.add(ProgressBar::new(1));
                styled(&whole, "{prefix} [{bar:40}] {msg}");
                Way::Bars { all, whole, sites: BTreeMap::new() }
            }
            (Output::Table, false) => Way::Lines,
            (Output::Json, false) => Way::Nothing,
        };
        Self { way, last: String::new() }
    }

    pub(super) fn show(&mut self, look: &Look) {
        let text = line(look);
        match &mut self.way {
            Way::Nothing => {}
            Way::Lines if text != self.last => eprintln!("group {}: {text}", look.rollout.group_name),
            Way::Lines => {}
            Way::Bars { all, whole, sites } => {
                whole.set_length(look.rollout.totals.wanted.max(1));
                whole.set_position(if look.standing == Standing::Publishing {
                    0
                } else {
                    look.rollout.totals.current
                });
                whole.set_prefix(look.rollout.group_name.clone());
                whole.set_message(text.clone());
                sites.retain(|name, bar| {
                    let goes_on = look.rollout.satellites.iter().any(|one| one.satellite == *name);
                    if !goes_on {
                        bar.finish_and_clear();
                        all.remove(bar);
                    }
                    goes_on
                });
                for one in &look.rollout.satellites {
                    let bar = sites.entry(one.satellite.clone()).or_insert_with(|| {
                        let bar = all.add(ProgressBar::new(1));
                        styled(&bar, "  {prefix:24} [{bar:30}] {bytes} of {total_bytes}");
                        bar.set_prefix(one.satellite.clone());
                        bar
                    });
                    bar.set_length(one.total_bytes.max(one.bytes));
                    bar.set_position(one.bytes);
                }
            }
        }
        self.last = text;
    }

    pub(super) fn end(self) {
        if let Way::Bars { all, .. } = self.way {
            // Where the terminal takes no more the answer has nowhere to go either.
            let _ = all.clear();
        }
    }
}

fn styled(bar: &ProgressBar, template: &str) {
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("=> "));
    }
}
