//! How far it is, for whoever watches, and whether to stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use indicatif::{ProgressBar, ProgressStyle};

use super::error::BackupError;

/// A bar on a terminal, nothing elsewhere. Clones share it.
#[derive(Debug, Clone)]
pub struct Progress {
    bar: ProgressBar,
    stop: Arc<AtomicBool>,
}

impl Progress {
    /// A bar that draws on standard error, where that is a terminal.
    pub fn shown() -> Self {
        Self::with(ProgressBar::no_length())
    }

    /// None at all.
    pub fn hidden() -> Self {
        Self::with(ProgressBar::hidden())
    }

    fn with(bar: ProgressBar) -> Self {
        let style = "{msg} {bytes} of {total_bytes} {wide_bar} {bytes_per_sec} {eta}";
        if let Ok(style) = ProgressStyle::with_template(style) {
            bar.set_style(style);
        }
        Self { bar, stop: Arc::default() }
    }

    /// Ends the work at its next step.
    pub fn interrupt(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Begins a part of the work.
    pub(super) fn begin(&self, what: &'static str, bytes: u64) {
        self.bar.reset();
        self.bar.set_length(bytes);
        self.bar.set_message(what);
    }

    /// So many bytes more are done.
    ///
    /// # Errors
    /// [`BackupError::Interrupted`].
    pub(super) fn add(&self, bytes: u64) -> Result<(), BackupError> {
        self.bar.inc(bytes);
        self.go_on()
    }

    /// # Errors
    /// [`BackupError::Interrupted`].
    pub(super) fn go_on(&self) -> Result<(), BackupError> {
        if self.stop.load(Ordering::Relaxed) { Err(BackupError::Interrupted) } else { Ok(()) }
    }

    /// Takes the bar away.
    pub fn end(&self) {
        self.bar.finish_and_clear();
    }
}
