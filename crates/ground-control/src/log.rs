//! Which lines the log holds, at the start and while the program runs.
//!
//! A level holds for this program. Libraries never tell more than `info`, whoever asks: what they tell below that may hold
//! paths, headers and with them secrets. The database's driver stays at `warn`, for it repeats what the server says.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use tracing::Level;
use tracing_subscriber::EnvFilter;

/// The crates that are ours, for which every level may be asked.
const OURS: [&str; 7] = [
    "ground_control",
    "ground_control_sqlite",
    "ground_control_postgres",
    "identity",
    "spire",
    "registry_server",
    "blob_store",
];
/// The longest list of directives, in bytes.
const LONGEST: usize = 1024;

/// Why a filter is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// Nothing, or too much.
    #[error(
        "a level or a list of at most {LONGEST} bytes is wanted, as debug or info,ground_control::publish=trace"
    )]
    Length,
    /// Neither of the two forms.
    #[error("{0:?} is neither a level (error, warn, info, debug, trace) nor module=level")]
    Directive(String),
    /// A module of somebody else.
    #[error("{0} is not ours: of libraries at most {1} is logged, because below that they may tell secrets")]
    Foreign(String, Level),
    /// The program's log does not change.
    #[error("the log of this process cannot be changed: {0}")]
    Fixed(String),
}

/// What is logged: a level of our own crates, and further modules with levels of their own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    level: Level,
    modules: Vec<(String, Level)>,
}

impl Filter {
    /// This level for the program.
    pub fn level(level: Level) -> Self {
        Self { level, modules: Vec::new() }
    }

    /// Reads a level (`debug`), or a list of levels and modules (`info,ground_control::publish=trace`). Where the list has
    /// no level, that of `base` goes on.
    ///
    /// # Errors
    /// [`FilterError`], for whoever asked.
    pub fn parse(text: &str, base: Level) -> Result<Self, FilterError> {
        let text = text.trim();
        if text.is_empty() || text.len() > LONGEST {
            return Err(FilterError::Length);
        }
        let mut filter = Self::level(base);
        for part in text.split(',').map(str::trim) {
            let wrong = || FilterError::Directive(part.to_owned());
            match part.split_once('=') {
                None => filter.level = level(part).ok_or_else(wrong)?,
                Some((module, wanted)) => {
                    let wanted = level(wanted).ok_or_else(wrong)?;
                    if !is_module(module) {
                        return Err(wrong());
                    }
                    let most = most(module);
                    if wanted > most {
                        return Err(FilterError::Foreign(module.to_owned(), most));
                    }
                    filter.modules.push((module.to_owned(), wanted));
                }
            }
        }
        Ok(filter)
    }

    /// As the subscriber takes it.
    pub fn to_env_filter(&self) -> EnvFilter {
        let mut text = format!("{},sqlx={}", self.level.min(Level::INFO), self.level.min(Level::WARN));
        for name in OURS {
            text.push_str(&format!(",{name}={}", self.level));
        }
        for (module, level) in &self.modules {
            text.push_str(&format!(",{module}={level}"));
        }
        EnvFilter::new(text)
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.level.as_str().to_ascii_lowercase())?;
        for (module, level) in &self.modules {
            write!(f, ",{module}={}", level.as_str().to_ascii_lowercase())?;
        }
        Ok(())
    }
}

/// One of the five levels, in any case; `warning` is `warn`.
pub fn level(text: &str) -> Option<Level> {
    match text.to_ascii_lowercase().as_str() {
        "error" => Some(Level::ERROR),
        "warn" | "warning" => Some(Level::WARN),
        "info" => Some(Level::INFO),
        "debug" => Some(Level::DEBUG),
        "trace" => Some(Level::TRACE),
        _ => None,
    }
}

/// A path of Rust modules.
fn is_module(text: &str) -> bool {
    let segment = |segment: &str| {
        !segment.is_empty() && segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    text.split("::").all(segment)
}

/// The most that a module may tell. Directives match the beginning of a target, so that a name is ours only where it is the
/// whole name of a crate, or that and modules in it.
fn most(module: &str) -> Level {
    let krate = module.split("::").next().unwrap_or_default();
    if OURS.contains(&krate) {
        Level::TRACE
    } else if "sqlx".starts_with(krate) || krate.starts_with("sqlx") {
        Level::WARN
    } else {
        Level::INFO
    }
}

type Reload = dyn Fn(EnvFilter) -> Result<(), String> + Send + Sync;

/// Changes what a running program logs; cheap to clone.
#[derive(Clone)]
pub struct LogControl {
    start: Filter,
    current: Arc<Mutex<Filter>>,
    reload: Arc<Reload>,
}

impl fmt::Debug for LogControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogControl").field("start", &self.start).finish_non_exhaustive()
    }
}

impl LogControl {
    /// `start`: what is logged now. `reload`: puts another filter into the subscriber's place.
    pub fn new(
        start: Filter,
        reload: impl Fn(EnvFilter) -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        Self { current: Arc::new(Mutex::new(start.clone())), start, reload: Arc::new(reload) }
    }

    /// For a program whose log is somebody else's, such as a test.
    pub fn fixed(level: Level) -> Self {
        Self::new(Filter::level(level), |_| Err("it was started without a log of its own".to_owned()))
    }

    /// What is logged now.
    pub fn current(&self) -> Filter {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What was logged at the start.
    pub fn start(&self) -> &Filter {
        &self.start
    }

    /// Logs by this level or list from now on, until the next change or the program's end.
    ///
    /// # Errors
    /// [`FilterError`]; then nothing changes.
    pub fn set(&self, text: &str) -> Result<Filter, FilterError> {
        let filter = Filter::parse(text, self.start.level)?;
        self.apply(filter)
    }

    /// Logs as at the start.
    ///
    /// # Errors
    /// [`FilterError::Fixed`].
    pub fn reset(&self) -> Result<Filter, FilterError> {
        self.apply(self.start.clone())
    }

    fn apply(&self, filter: Filter) -> Result<Filter, FilterError> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        (self.reload)(filter.to_env_filter()).map_err(FilterError::Fixed)?;
        *current = filter.clone();
        Ok(filter)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<String, FilterError> {
        Filter::parse(text, Level::INFO).map(|filter| filter.to_string())
    }

    #[test]
    fn levels_and_lists_are_read() {
        for (text, filter) in [
            ("debug", "debug"),
            (" WARNING\n", "warn"),
            ("ground_control::publish=trace", "info,ground_control::publish=trace"),
            ("warn, identity=debug,hyper=error", "warn,identity=debug,hyper=error"),
        ] {
            assert_eq!(read(text), Ok(filter.to_owned()));
        }
    }

    #[test]
    fn what_is_neither_is_refused() {
        for text in ["debgu", "info,", "=debug", "identity=", "a b=info", "identity[x]=debug", "a::=info"] {
            assert!(matches!(read(text), Err(FilterError::Directive(_))), "{text}");
        }
        assert_eq!(read(" "), Err(FilterError::Length));
        assert_eq!(read(&"a=info,".repeat(200)), Err(FilterError::Length));
    }

    #[test]
    fn libraries_tell_no_secrets() {
        for text in [
            "hyper=debug",
            "h2::codec=trace",
            "sqlx=info",
            "sql=info",
            "groun=debug",
            "ground_control_x=debug",
        ] {
            assert!(matches!(read(text), Err(FilterError::Foreign(..))), "{text}");
        }
        let all = Filter::level(Level::TRACE).to_env_filter().to_string();
        assert!(all.contains("ground_control=trace") && all.contains("sqlx=warn"), "{all}");
        assert!(all.split(',').any(|part| part == "info"), "{all}");
    }

    fn part() -> impl Strategy<Value = &'static str> {
        prop::sample::select(vec![
            "error",
            "debug",
            "ground_control=trace",
            "ground_control::publish=debug",
            "hyper=info",
            "hyper=debug",
            "sqlx::query=warn",
            "sqlx=debug",
        ])
    }

    proptest! {
        #[test]
        fn what_is_read_is_written_the_same(parts in prop::collection::vec(part(), 1..6)) {
            let text = parts.join(",");
            if let Ok(filter) = Filter::parse(&text, Level::INFO) {
                let own = |part: &&str| part.starts_with("ground_control") || !part.ends_with("=debug");
                prop_assert!(parts.iter().all(own), "{}", text);
                prop_assert_eq!(Filter::parse(&filter.to_string(), Level::ERROR).unwrap(), filter);
            }
        }
    }

    #[test]
    fn a_change_that_fails_changes_nothing() {
        let log = LogControl::fixed(Level::INFO);
        assert!(matches!(log.set("debug"), Err(FilterError::Fixed(_))));
        assert_eq!(log.current(), Filter::level(Level::INFO));
    }
}
