//! From the command line and the environment to typed settings.
//!
//! Values from the environment are put to the same parsers as flags, so that one definition decides what is valid; an
//! error names the place where the value was given.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{ArgMatches, CommandFactory as _, FromArgMatches as _};

use super::flags::export::Export;
use super::flags::lan::{AccountsAction, CaAction};
use super::flags::mirrors::MirrorsAction;
use super::flags::node_agent::AgentFlags;
use super::flags::{Cli, Command, Flags, Question, variable};
use super::{Site, mirrors};
use crate::sealed::field;

mod site;

use site::{config_dir, config_file, site};

const NODE_AGENT: &str = "node-agent";

/// What the process was started in; the only reader of the environment. Tests make one from a map.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// The process's variables. Such that are no UTF-8 hold no setting of ours.
    pub variables: BTreeMap<String, String>,
    /// What `.env` in the working directory says.
    pub dot_env: BTreeMap<String, String>,
}

impl Environment {
    /// Reads the process's environment and `.env`.
    ///
    /// # Errors
    /// [`ConfigError::Usage`] when there is a `.env` that cannot be read.
    pub fn of_process() -> Result<Self, ConfigError> {
        let variables = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        Ok(Self { variables, dot_env: read_dot_env(Path::new(".env"))? })
    }

    /// A value and whether it comes from `.env`. What is empty is unset.
    fn get(&self, name: &str) -> Option<(&str, Origins)> {
        let given =
            |map: &'_ BTreeMap<String, String>| map.get(name).is_some_and(|value| !value.trim().is_empty());
        if given(&self.variables) {
            return self.variables.get(name).map(|value| (value.as_str(), Origins::Variable));
        }
        if given(&self.dot_env) {
            return self.dot_env.get(name).map(|value| (value.as_str(), Origins::DotEnv));
        }
        None
    }
}

fn read_dot_env(path: &Path) -> Result<BTreeMap<String, String>, ConfigError> {
    let broken =
        |why: String| ConfigError::Usage(format!("{}: {why}; correct the file or remove it", path.display()));
    match dotenvy::from_path_iter(path) {
        Ok(entries) => entries
            .collect::<Result<_, _>>()
            // The error's own text repeats the line, which may hold a secret.
            .map_err(|_| broken("a line is not of the form NAME=value".to_owned())),
        Err(dotenvy::Error::Io(error)) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeMap::new()),
        Err(error) => Err(broken(error.to_string())),
    }
}

/// Where a value was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origins {
    Flag,
    Variable,
    DotEnv,
}

/// What the command line asks for.
#[derive(Debug)]
pub enum Invocation {
    /// Run the satellite.
    Run(Box<Site>),
    /// Configure the container runtimes by hand.
    Mirrors(Box<MirrorsAction>),
    /// Do something with the local authority.
    Ca {
        /// What.
        action: CaAction,
        /// Where it is.
        config_dir: PathBuf,
    },
    /// Do something with accounts.
    Accounts(AccountsAction),
    /// Write images into a file.
    Export(Box<ExportJob>),
    /// Run on a node of a cluster.
    NodeAgent(Box<AgentFlags>),
    /// Ask the one that runs.
    Ask {
        /// What.
        command: Question,
        /// Where it answers.
        control_socket: PathBuf,
    },
}

/// `satellite export`, with what it needs to know.
#[derive(Debug)]
pub struct ExportJob {
    /// What is exported, and where to.
    pub asked: Export,
    /// Where a running satellite answers.
    pub control_socket: PathBuf,
    /// Its configuration directory.
    pub config_dir: PathBuf,
    /// Where its store is.
    pub registry_data_dir: PathBuf,
    /// Places of upstream hosts.
    pub mirror_paths: BTreeMap<String, String>,
}

/// Why there is nothing to run.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Help or the version was asked for: to the standard output, exit code 0.
    #[error("{0}")]
    Answer(String),
    /// A setting is wrong: to the standard error, exit code 2.
    #[error("{0}")]
    Usage(String),
}

impl ConfigError {
    fn of(name: &str, why: impl std::fmt::Display) -> Self {
        Self::Usage(format!("{name}: {why}"))
    }
}

/// Parses a command line (with the program's name first).
///
/// # Errors
/// [`ConfigError`], with the name of the flag or variable that is wrong.
pub fn parse<I>(arguments: I, environment: &Environment) -> Result<Invocation, ConfigError>
where
    I: IntoIterator<Item = OsString>,
{
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    if let Some(flags) = node_agent(&arguments, environment)? {
        return Ok(Invocation::NodeAgent(flags));
    }
    if let Some(cli) = by_hand(&arguments)? {
        match cli.command {
            Some(Command::Mirrors { action }) => return Ok(Invocation::Mirrors(action)),
            Some(Command::Ca { action }) => {
                let said = environment.get("CONFIG_DIR").map(|(value, _)| PathBuf::from(value));
                let config_dir = cli.flags.config_dir.clone().or(said);
                let config_dir = config_dir.map_or_else(|| self::config_dir(&cli.flags, environment), Ok)?;
                return Ok(Invocation::Ca { action, config_dir });
            }
            Some(Command::Accounts { action }) => return Ok(Invocation::Accounts(action)),
            Some(Command::Export(asked)) => return export(*asked, &cli.flags, environment),
            Some(Command::Ask(_) | Command::NodeAgent(_)) | None => {}
        }
    }
    let (cli, origins) = overlay(&arguments, environment)?;
    let config_dir = config_dir(&cli.flags, environment)?;
    let control_socket =
        cli.flags.control_socket.clone().unwrap_or_else(|| config_dir.join("satellite.sock"));
    if let Some(Command::Ask(command)) = cli.command {
        return Ok(Invocation::Ask { command, control_socket });
    }
    site(cli.flags, &origins, config_dir, control_socket).map(|site| Invocation::Run(Box::new(site)))
}

/// What `satellite export` needs to know of the satellite's settings: where it answers, and where its store is.
fn export(asked: Export, flags: &Flags, environment: &Environment) -> Result<Invocation, ConfigError> {
    let path = |name| environment.get(name).map(|(value, _)| PathBuf::from(value));
    let config_dir = flags.config_dir.clone().or_else(|| path("CONFIG_DIR"));
    let config_dir = config_dir.map_or_else(|| self::config_dir(flags, environment), Ok)?;
    let control_socket = flags.control_socket.clone().or_else(|| path("CONTROL_SOCKET"));
    let file = config_file(&config_dir.join(field::CONFIG_FILE))?;
    let (root_directory, file_paths) =
        file.map_or((None, None), |read| (read.root_directory, read.layer.mirror_paths));
    let said = environment.get("MIRROR_PATH").map(|(value, _)| value.to_owned());
    let said = mirrors::places(said.as_slice()).map_err(|why| ConfigError::of("MIRROR_PATH", why))?;
    let job = ExportJob {
        registry_data_dir: asked
            .registry_data_dir
            .clone()
            .or_else(|| path("REGISTRY_DATA_DIR"))
            .or(root_directory)
            .unwrap_or_else(|| config_dir.join("registry")),
        control_socket: control_socket.unwrap_or_else(|| config_dir.join("satellite.sock")),
        mirror_paths: if said.is_empty() { file_paths.unwrap_or_default() } else { said },
        config_dir,
        asked,
    };
    Ok(Invocation::Export(Box::new(job)))
}

/// The commands that a person calls without a satellite.
const BY_HAND: [&str; 4] = ["mirrors", "ca", "accounts", "export"];

/// What such a command is to do, if that is what is called. It has flags of its own and no variables, so that the
/// satellite's settings, if there are any, mean nothing to it.
fn by_hand(arguments: &[OsString]) -> Result<Option<Cli>, ConfigError> {
    let is_one = |name: &str| BY_HAND.contains(&name);
    let matches = match command().try_get_matches_from(arguments) {
        Ok(matches) => matches,
        // What is wrong is said below, with the environment's names.
        Err(_) if !arguments.iter().any(|argument| argument.to_str().is_some_and(is_one)) => return Ok(None),
        Err(error) => return Err(said_by_hand(&error)),
    };
    if !matches.subcommand_name().is_some_and(is_one) {
        return Ok(None);
    }
    Cli::from_arg_matches(&matches).map(Some).map_err(|error| said_by_hand(&error))
}

/// What `satellite node-agent` is to do, if that is what is called. Its flags have variables, and of the satellite's own
/// settings none means anything to it.
fn node_agent(
    arguments: &[OsString],
    environment: &Environment,
) -> Result<Option<Box<AgentFlags>>, ConfigError> {
    if arguments.get(1).is_none_or(|first| first != NODE_AGENT) {
        return Ok(None);
    }
    let command = command();
    let mut all = arguments.to_vec();
    for argument in command.find_subcommand(NODE_AGENT).into_iter().flat_map(clap::Command::get_arguments) {
        let Some(flag) = argument.get_long().filter(|flag| is_setting(flag)) else { continue };
        let long = format!("--{flag}");
        let is_given = arguments.iter().filter_map(|given| given.to_str()).any(|given| {
            given.strip_prefix(&long).is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
        });
        if !argument.is_global_set()
            && !is_given
            && let Some((value, _)) = environment.get(&variable(flag))
        {
            all.push(format!("{long}={value}").into());
        }
    }
    let matches = command.try_get_matches_from(all).map_err(|error| said_by_hand(&error))?;
    match Cli::from_arg_matches(&matches).map_err(|error| said_by_hand(&error))?.command {
        Some(Command::NodeAgent(flags)) => Ok(Some(flags)),
        _ => Ok(None),
    }
}

fn said_by_hand(error: &clap::Error) -> ConfigError {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ConfigError::Answer(error.render().to_string()),
        _ => ConfigError::Usage(plain(error)),
    }
}

/// The command with each flag's variable in its help text.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command()
        .mut_args(with_variable)
        .mut_subcommand(NODE_AGENT, |command| command.mut_args(with_variable))
}

fn with_variable(argument: clap::Arg) -> clap::Arg {
    let Some(flag) = argument.get_long().filter(|flag| is_setting(flag)).map(str::to_owned) else {
        return argument;
    };
    let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
    argument.help(format!("{help} [env: {}]", variable(&flag)))
}

fn is_setting(flag: &str) -> bool {
    !matches!(flag, "help" | "version" | "json")
}

/// Parses twice: once to see what the command line says, once with what the environment adds.
fn overlay(
    arguments: &[OsString],
    environment: &Environment,
) -> Result<(Cli, BTreeMap<String, Origins>), ConfigError> {
    let raw = command().mut_args(|argument| {
        if argument.get_long().is_some_and(is_setting) {
            argument.value_parser(clap::value_parser!(OsString))
        } else {
            argument
        }
    });
    let said = raw.try_get_matches_from(arguments).map_err(|error| explain(&error, &BTreeMap::new()))?;
    let asks = said.subcommand();

    let mut origins = BTreeMap::new();
    let mut synthetic: Vec<OsString> = arguments.first().cloned().into_iter().collect();
    for argument in command().get_arguments() {
        let Some(flag) = argument.get_long().filter(|flag| is_setting(flag)) else { continue };
        // A question to a running satellite needs to know where it is and nothing more.
        if asks.is_some() && !argument.is_global_set() {
            continue;
        }
        let mut add = |value: &OsStr, origin| {
            origins.insert(flag.to_owned(), origin);
            let mut text = OsString::from(format!("--{flag}="));
            text.push(value);
            synthetic.push(text);
        };
        let id = argument.get_id().as_str();
        let given = values(&said, id).or_else(|| asks.and_then(|(_, inner)| values(inner, id)));
        match given {
            Some(values) => values.iter().for_each(|value| add(value, Origins::Flag)),
            None => {
                if let Some((value, origin)) = environment.get(&variable(flag)) {
                    add(OsStr::new(value), origin);
                }
            }
        }
    }
    if let Some((name, inner)) = asks {
        synthetic.push(name.into());
        if inner.try_contains_id("json").unwrap_or(false) && inner.get_flag("json") {
            synthetic.push("--json".into());
        }
    }
    let matches = command().try_get_matches_from(synthetic).map_err(|error| explain(&error, &origins))?;
    let cli = Cli::from_arg_matches(&matches).map_err(|error| explain(&error, &origins))?;
    Ok((cli, origins))
}

/// What the command line itself says of an argument; `None` where that is nothing or empty.
fn values(matches: &ArgMatches, id: &str) -> Option<Vec<OsString>> {
    if !matches.try_contains_id(id).unwrap_or(false) {
        return None;
    }
    let values: Vec<OsString> =
        matches.get_raw(id)?.filter(|value| !value.is_empty()).map(ToOwned::to_owned).collect();
    (!values.is_empty()).then_some(values)
}

fn explain(error: &clap::Error, origins: &BTreeMap<String, Origins>) -> ConfigError {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ConfigError::Answer(error.render().to_string()),
        ErrorKind::ValueValidation | ErrorKind::InvalidValue | ErrorKind::InvalidUtf8 => {
            let flag = match error.get(ContextKind::InvalidArg) {
                Some(ContextValue::String(text)) => {
                    text.trim_start_matches('-').split([' ', '=', '[']).next().unwrap_or_default().to_owned()
                }
                _ => return ConfigError::Usage(plain(error)),
            };
            let name = match origins.get(&flag) {
                Some(Origins::Variable) => variable(&flag),
                Some(Origins::DotEnv) => format!("{} in .env", variable(&flag)),
                Some(Origins::Flag) | None => format!("--{flag} ({})", variable(&flag)),
            };
            let value = match error.get(ContextKind::InvalidValue) {
                Some(ContextValue::String(value)) => format!("`{value}` "),
                _ => String::new(),
            };
            let why = std::error::Error::source(error)
                .map_or_else(|| "is not valid".to_owned(), ToString::to_string);
            ConfigError::of(&name, format!("{value}{why}"))
        }
        _ => ConfigError::Usage(plain(error)),
    }
}

fn plain(error: &clap::Error) -> String {
    let text = error.render().to_string();
    text.trim_start_matches("error: ").trim_end().to_owned()
}

#[cfg(test)]
mod tests;
