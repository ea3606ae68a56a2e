//! Container runtimes of an untouched system, each on a machine of its own with loopback alone for a network: one command
//! and they pull from the Satellite; without it they fall back at once; another command and every file is as it was.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test program: what fails ends the test")]
#![allow(clippy::print_stderr, reason = "what was measured is told")]

mod engines;
mod flow;
mod host_root;
mod lan_node;
mod moved;
mod rancher;
mod refusals;
mod running;
mod scene;
mod sharing;
mod site;

use engines::{Containerd, Docker, Podman};
use testbed::machine;

#[test]
fn containerd() {
    let result = machine::alone("containerd", async |machine| {
        flow::there_and_back::<Containerd>(machine, "1.6").await;
    });
    result.unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn docker() {
    let result = machine::alone("docker", async |machine| {
        flow::there_and_back::<Docker>(machine, "20.10").await;
    });
    result.unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn podman() {
    let result = machine::alone("podman", async |machine| {
        flow::there_and_back::<Podman>(machine, "4.3").await;
    });
    result.unwrap_or_else(|error| panic!("{error}"));
}
