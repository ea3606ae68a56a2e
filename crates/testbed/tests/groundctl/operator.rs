//! A person who runs the built command line.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use testbed::ground_control::{ADMIN, GroundControl, Options, Place};
use testbed::{binaries, files};

/// A person with a home of their own.
pub(crate) struct Operator {
    pub(crate) home: PathBuf,
    pub(crate) server: String,
}

impl Operator {
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        Command::new(binaries::find("groundctl", None).unwrap())
            .args(arguments)
            .env_clear()
            .env("HOME", &self.home)
            .env("GROUNDCTL_SERVER", &self.server)
            .output()
            .unwrap()
    }

    /// Runs what has to succeed, and gives what it printed.
    pub(crate) fn does(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{arguments:?}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }

    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.does(&[&["--output", "json"], arguments].concat())).unwrap()
    }

    /// Runs what has to fail with this exit code, and gives what it said.
    pub(crate) fn fails(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        said
    }

    pub(crate) fn logs_in(&self, password: &str) {
        let file = self.home.join("password");
        files::write(&file, password).unwrap();
        self.does(&["login", "--username", ADMIN, "--password-file", text(&file)]);
    }

    pub(crate) fn file(&self, name: &str, content: &str) -> String {
        let path = self.home.join(name);
        files::write(&path, content).unwrap();
        text(&path).to_owned()
    }
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

pub(crate) async fn operator(dir: &Path) -> (GroundControl, Operator) {
    operator_of(dir, Options::default()).await
}

pub(crate) async fn operator_of(dir: &Path, options: Options) -> (GroundControl, Operator) {
    let place = Place::new(&dir.join("cloud"), options).unwrap();
    let ground_control = place.start().await.unwrap();
    let home = dir.join("home");
    files::create_dir(&home).unwrap();
    let operator = Operator { home, server: ground_control.url().to_owned() };
    (ground_control, operator)
}
