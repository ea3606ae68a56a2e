//! What a task is doing: a spinner on a terminal, plain lines otherwise.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// One step of a task.
pub(crate) struct Step {
    what: String,
    bar: Option<ProgressBar>,
    start: Instant,
    done: bool,
}

impl Step {
    /// Begins a step.
    pub(crate) fn begin(what: impl Into<String>) -> Self {
        let what = what.into();
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner().with_message(what.clone());
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        Self { what, bar, start: Instant::now(), done: false }
    }

    /// Turns the spinner into a bar of this many bytes.
    pub(crate) fn of_bytes(&self, total: u64) {
        let template = "{spinner} {msg} [{bar:30}] {bytes}/{total_bytes}";
        if let (Some(bar), Ok(style)) = (&self.bar, ProgressStyle::with_template(template)) {
            bar.set_style(style);
            bar.set_length(total);
        }
    }

    /// Turns the spinner into a bar of this many pieces.
    pub(crate) fn of_pieces(&self, total: u64) {
        let template = "{spinner} {msg} [{bar:30}] {pos}/{len}";
        if let (Some(bar), Ok(style)) = (&self.bar, ProgressStyle::with_template(template)) {
            bar.set_style(style);
            bar.set_length(total);
        }
    }

    /// Tells how many bytes or pieces are done.
    pub(crate) fn at(&self, done: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position(done.min(bar.length().unwrap_or(done)));
        }
    }

    /// Ends the step with what came of it.
    pub(crate) fn done(mut self, result: impl AsRef<str>) {
        self.done = true;
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        let result = result.as_ref();
        let colon = if result.is_empty() { "" } else { ": " };
        println!("✔ {}{colon}{result} ({:.1} s)", self.what, self.start.elapsed().as_secs_f64());
    }

    /// Ends the step without having done it.
    pub(crate) fn skipped(mut self, why: &str) {
        self.done = true;
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        println!("– {}: skipped, {why}", self.what);
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if !self.done {
            if let Some(bar) = &self.bar {
                bar.finish_and_clear();
            }
            println!("✘ {}", self.what);
        }
    }
}
