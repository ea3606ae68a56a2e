//! What the program is asked to do, with what belongs to that alone.

use super::ConfigError;
use super::flags::{ActionFlags, Verb};
use crate::backup::{Place, RestoreOptions};

/// What the program is asked to do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Command {
    /// Serve the API, the built-in registry and the satellites' routes until a signal comes.
    #[default]
    Serve,
    /// Write every state document to the registry again from the database, then exit.
    Republish,
    /// Ask the running server whether requests may be sent to it.
    Health,
    /// Make a backup.
    Backup {
        /// The file to make.
        to: Place,
        /// The file with the passphrase under which the server key goes along.
        passphrase: Option<std::path::PathBuf>,
    },
    /// Check a backup.
    VerifyBackup(Place),
    /// Put a backup back.
    Restore {
        /// The file to read.
        from: Place,
        /// How.
        options: RestoreOptions,
    },
}

/// The rules that bind a command and its words together.
pub(super) fn check(verb: Verb, words: &[String], flags: ActionFlags) -> Result<Command, ConfigError> {
    let wrong = |text: String| Err(ConfigError::Invalid(text));
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let given = [
        ("--to", flags.to.is_some()),
        ("--from", flags.from.is_some()),
        ("--key-passphrase-file", flags.key_passphrase_file.is_some()),
        ("--replace", flags.replace),
    ];
    let only =
        |allowed: &[&str], name: &str| match given.iter().find(|(flag, set)| *set && !allowed.contains(flag))
        {
            Some((flag, _)) => Err(ConfigError::Invalid(format!("{flag} has no meaning with {name}"))),
            None => Ok(()),
        };
    match (verb, words.as_slice()) {
        (Verb::Serve, []) => only(&[], "serve").map(|()| Command::Serve),
        (Verb::Republish, []) => only(&[], "republish").map(|()| Command::Republish),
        (Verb::Health, []) => only(&[], "health").map(|()| Command::Health),
        (Verb::Backup, []) => {
            only(&["--to", "--key-passphrase-file"], "backup")?;
            match flags.to {
                Some(to) => Ok(Command::Backup { to: to.into(), passphrase: flags.key_passphrase_file }),
                None => wrong("backup needs --to FILE, or --to - for standard output".to_owned()),
            }
        }
        (Verb::Backup, ["verify", file]) => {
            only(&[], "backup verify")?;
            Ok(Command::VerifyBackup(std::path::PathBuf::from(file).into()))
        }
        (Verb::Backup, ["verify"]) => wrong("backup verify needs the file".to_owned()),
        (Verb::Restore, []) => {
            only(&["--from", "--key-passphrase-file", "--replace"], "restore")?;
            let options = RestoreOptions { replace: flags.replace, passphrase: flags.key_passphrase_file };
            match flags.from {
                Some(from) => Ok(Command::Restore { from: from.into(), options }),
                None => wrong("restore needs --from FILE, or --from - for standard input".to_owned()),
            }
        }
        (_, [word, ..]) => wrong(format!("{word:?} is no argument of this command")),
    }
}
