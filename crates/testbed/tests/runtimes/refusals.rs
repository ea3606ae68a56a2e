//! What is seen on the running machine and left alone.

use std::collections::BTreeMap;
use std::process::Command;

use testbed::{binaries, command, machine};

use crate::engines::{Docker, Engine as _};

/// With the same setting in a file its next start would fail.
#[test]
fn a_docker_engine_with_mirrors_on_its_command_line_is_left_alone() {
    let name = "refusals::a_docker_engine_with_mirrors_on_its_command_line_is_left_alone";
    let result = machine::alone(name, async |machine| {
        let mirror = "https://mirror.example:5000";
        let docker =
            Docker::start_with(&machine, BTreeMap::new(), &[&format!("--registry-mirror={mirror}")]).await;
        let before = machine.configuration();
        let mut apply = Command::new(binaries::find("satellite", None).unwrap());
        apply.args(["mirrors", "apply", "--mirrors=docker:true"]);
        let said = command::output(apply).await.unwrap();
        let text = String::from_utf8_lossy(&said.stdout);
        assert_eq!(said.status.code(), Some(1), "{text}");
        assert!(text.contains("refused") && text.contains(mirror), "{text}");
        assert_eq!(before.differences(&machine.configuration()), Vec::<String>::new());
        assert!(docker.mirrors().await.contains(mirror));
        assert_eq!(docker.asked(), ["start"]);
    });
    result.unwrap_or_else(|error| panic!("{error}"));
}
