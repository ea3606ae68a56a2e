//! The commands that ask a running satellite, `status`, `images`, `sync`, `token`; `export`, which does so where one runs; and
//! `mirrors`, `ca` and `accounts`, which ask none.
//!
//! Exit codes: 0 all is well, 1 the satellite runs and something needs a person (or it refused), 2 the command line is
//! wrong, 3 no satellite runs there.

use std::io::{self, Read as _, Write as _};
use std::path::Path;
use std::process::ExitCode;

use crate::config::flags::{Output, Question};
use crate::control::client::{self, AskError};

mod export;
mod images;
mod lan;
mod mirrors;
mod status;
mod text;

pub use export::export;
pub use lan::{accounts, ca};
pub(crate) use mirrors::wanted;
pub use mirrors::{mirrors, only_mirrors};

/// Asks, prints the answer, and says by the exit code how it is.
#[must_use]
pub fn ask(command: &Question, control_socket: &Path) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(&format!("satellite: cannot start: {error}"));
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(answer(command, control_socket)) {
        Ok((text, healthy)) => {
            print(&text);
            if healthy { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            complain(&format!("satellite: {error}"));
            match error {
                AskError::NotRunning { .. } => ExitCode::from(3),
                AskError::Denied { .. } | AskError::Answer { .. } | AskError::Refused(_) => ExitCode::FAILURE,
            }
        }
    }
}

async fn answer(command: &Question, socket: &Path) -> Result<(String, bool), AskError> {
    match command {
        Question::Status(Output { json }) => {
            let document = client::status(socket).await?;
            let healthy = document.healthy;
            Ok((if *json { text::json(&document) } else { status::render(&document) }, healthy))
        }
        Question::Images(Output { json }) => {
            let document = client::status(socket).await?;
            let healthy = document.satellite.failed.is_empty();
            let listing = images::listing(&document);
            Ok((if *json { text::json(&listing) } else { images::render(&listing) }, healthy))
        }
        Question::Sync => Ok((client::sync(socket).await?.message + "\n", true)),
        Question::Token => {
            let mut token = String::new();
            let mut input = io::stdin().lock().take(4096);
            if let Err(error) = input.read_to_string(&mut token) {
                return Err(AskError::Refused(format!(
                    "the token cannot be read from the standard input: {error}"
                )));
            }
            Ok((client::token(socket, token).await?.message + "\n", true))
        }
    }
}

/// Writes to the standard output. That nobody reads it (`| head`) is no error.
pub fn print(text: &str) {
    let mut output = io::stdout().lock();
    drop(output.write_all(text.as_bytes()).and_then(|()| output.flush()));
}

/// Writes a line to the standard error.
pub fn complain(text: &str) {
    drop(writeln!(io::stderr().lock(), "{text}"));
}
