//! A new migration changes no source file: Cargo has to be told that it is one.

fn main() {
    use std::io::Write as _;
    let _ = writeln!(std::io::stdout(), "cargo::rerun-if-changed=../ground-control-domain/migrations");
}
