//! What is shipped, made of the programs that the other suites run: Debian packages, container images, charts.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test program: what fails ends the test")]

mod charts;
mod debian;
mod images;
mod settings;
