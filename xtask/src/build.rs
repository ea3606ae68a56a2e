//! Builds the workspace once and tells where the programs and the tests are.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::error::{Error, Result};

/// A built test program.
#[derive(Clone, Debug)]
pub(crate) struct TestProgram {
    /// Package that it tests.
    pub(crate) package: String,
    /// Name of the library, program or file of tests.
    pub(crate) target: String,
    /// `lib`, `bin` or `test`.
    pub(crate) kind: String,
    /// Folder of the package, in which it runs.
    pub(crate) folder: PathBuf,
    /// The program.
    pub(crate) executable: PathBuf,
}

/// The folder of the workspace.
pub(crate) fn workspace() -> &'static Path {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own)
}

/// The cargo that started this task.
pub(crate) fn cargo() -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command.current_dir(workspace()).env("SQLX_OFFLINE", "true");
    command
}

/// Builds the programs and gives their folder.
pub(crate) fn programs(release: bool) -> Result<PathBuf> {
    let mut arguments = vec!["build", "--workspace", "--bins"];
    if release {
        arguments.push("--release");
    }
    let messages = build(&arguments)?;
    program_folder(&messages)
}

/// Builds programs and tests in one go, with the same features, and gives the programs' folder and the test programs.
pub(crate) fn tests() -> Result<(PathBuf, Vec<TestProgram>)> {
    let messages = build(&["build", "--workspace", "--bins", "--lib", "--tests"])?;
    let folder = program_folder(&messages)?;
    let mut tests: Vec<TestProgram> = messages.iter().filter_map(test_program).collect();
    tests.sort_by(|one, other| {
        (&one.package, &one.kind, &one.target).cmp(&(&other.package, &other.kind, &other.target))
    });
    Ok((folder, tests))
}

/// Runs cargo with its own progress on the terminal and gives its messages.
fn build(arguments: &[&str]) -> Result<Vec<Value>> {
    let mut command = cargo();
    command.args(arguments);
    messages(command)
}

/// The same for a cargo that is prepared otherwise.
pub(crate) fn messages(mut command: Command) -> Result<Vec<Value>> {
    command.arg("--message-format=json-render-diagnostics").stdout(Stdio::piped());
    let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
    let child = command.spawn().map_err(|error| Error::Build(format!("cannot start cargo: {error}")))?;
    let output = child.wait_with_output().map_err(|error| Error::Build(error.to_string()))?;
    if !output.status.success() {
        return Err(Error::Build(format!("cargo {} ({})", words.join(" "), output.status)));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
}

/// The folder of the programs that a build made.
pub(crate) fn program_folder(messages: &[Value]) -> Result<PathBuf> {
    messages
        .iter()
        .filter(|message| {
            message["target"]["name"] == "ground-control" && message["profile"]["test"] == false
        })
        .find_map(|message| Path::new(message["executable"].as_str()?).parent().map(Path::to_owned))
        .ok_or_else(|| Error::Build("cargo built no ground-control".into()))
}

fn test_program(message: &Value) -> Option<TestProgram> {
    if message["reason"] != "compiler-artifact" || message["profile"]["test"] != true {
        return None;
    }
    let manifest = Path::new(message["manifest_path"].as_str()?);
    let folder = manifest.parent()?.to_owned();
    Some(TestProgram {
        package: folder.file_name()?.to_str()?.to_owned(),
        target: message["target"]["name"].as_str()?.to_owned(),
        kind: message["target"]["kind"][0].as_str()?.to_owned(),
        folder,
        executable: message["executable"].as_str()?.into(),
    })
}
