//! What `runtimes` shows, with versions that no distribution has yet: containerd 2.2 and Docker Engine 29. Go builds them
//! (`cargo xtask test runtimes-new`).
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test program: what fails ends the test")]
#![allow(clippy::print_stderr, reason = "what was measured is told")]

#[path = "../runtimes/engines.rs"]
#[allow(dead_code, reason = "Podman is not among the new ones")]
mod engines;
#[path = "../runtimes/flow.rs"]
mod flow;
#[path = "../runtimes/scene.rs"]
mod scene;

mod black_hole;

use std::path::PathBuf;

use engines::{Containerd, Docker};
use testbed::{files, go_programs, machine};

fn programs() -> Vec<PathBuf> {
    go_programs::ALL
        .iter()
        .map(|program| program.folder().unwrap_or_else(|error| panic!("{error}")))
        .collect()
}

/// The file of Debian's package is of version 2.
#[test]
fn containerd_with_a_file_of_1_6() {
    let result = machine::alone_with("containerd_with_a_file_of_1_6", &programs(), async |machine| {
        flow::there_and_back::<Containerd>(machine, "2.2").await;
    });
    result.unwrap_or_else(|error| panic!("{error}"));
}

/// As its own packages have it: no file, or an empty one.
#[test]
fn containerd_without_a_file() {
    let result = machine::alone_with("containerd_without_a_file", &programs(), async |machine| {
        std::fs::remove_dir_all("/etc/containerd").unwrap();
        flow::there_and_back::<Containerd>(machine, "2.2").await;
    });
    result.unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn containerd_with_a_file_of_its_own() {
    let result = machine::alone_with("containerd_with_a_file_of_its_own", &programs(), async |machine| {
        let config = "# this node's\nversion = 3\n\n[plugins.'io.containerd.cri.v1.runtime']\n  \
                      restrict_oom_score_adj = true # kept\n";
        files::write("/etc/containerd/config.toml".as_ref(), config).unwrap();
        flow::there_and_back::<Containerd>(machine, "2.2").await;
    });
    result.unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn docker() {
    let result = machine::alone_with("docker", &programs(), async |machine| {
        flow::there_and_back::<Docker>(machine, "29").await;
    });
    result.unwrap_or_else(|error| panic!("{error}"));
}
