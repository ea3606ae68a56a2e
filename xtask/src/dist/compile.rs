//! Static programs: which compilers they take, and how those are had.
//!
//! For this machine's own architecture Debian's `musl-gcc` compiles what is C (aws-lc, zstd, SQLite, jemalloc). For the
//! others that is zig, which brings the C library of every target: `cargo-zigbuild` and `ziglang` from PyPI, kept by their
//! versions in the caller's cache folder.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::Platform;
use crate::build;
use crate::error::{Error, Result};
use crate::packages::{self, Needed};

/// The programs that are shipped.
pub(crate) const PROGRAMS: [&str; 3] = ["satellite", "ground-control", "groundctl"];

const ZIGBUILD: &str = "0.24.0";
const ZIG: &str = "0.15.2";

const MUSL: Needed = Needed { program: "musl-gcc", package: "musl-tools" };

/// Builds the programs of a platform and gives their folder. What is up to date is not built again.
pub(crate) fn programs(platform: Platform, release: bool) -> Result<PathBuf> {
    target(platform)?;
    // This machine's own musl-gcc and the headers are of its own architecture.
    let native = platform == Platform::Amd64 && Platform::of_this_machine() == Some(platform);
    let mut command = build::cargo();
    if native {
        packages::ensure(&[MUSL]).map_err(|reason| {
            Error::Build(format!("the static programs need a C compiler for musl: {reason}"))
        })?;
        command.arg("build");
    } else {
        let zig = Zig::ensure()?;
        command.arg("zigbuild").env("CARGO_ZIGBUILD_ZIG_PATH", &zig.zig).env("PATH", zig.path());
        // Kernels of 64-bit Arm have pages of 4, 16 (Raspberry Pi 5) or 64 KiB: jemalloc is told the largest.
        command.env("JEMALLOC_SYS_WITH_LG_PAGE", if platform == Platform::Arm64 { "16" } else { "12" });
    }
    command.args(["--workspace", "--locked", "--target", platform.triple()]);
    // Not all binaries: those of tests and tasks run on this machine alone.
    for program in PROGRAMS {
        command.args(["--bin", program]);
    }
    if release {
        command.arg("--release");
    }
    build::program_folder(&build::messages(command)?)
}

/// Sees to it that the compiler knows the target: has its standard library, or is told to compile that, too.
fn target(platform: Platform) -> Result<()> {
    let triple = platform.triple();
    if std::env::var_os("CARGO_UNSTABLE_BUILD_STD").is_some() {
        return Ok(());
    }
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let libraries = Command::new(rustc)
        .args(["--print", "target-libdir", "--target", triple])
        .current_dir(build::workspace())
        .output()
        .ok()
        .and_then(|output| String::from_utf8(output.stdout).ok());
    if libraries.is_some_and(|folder| !folder.trim().is_empty() && Path::new(folder.trim()).is_dir()) {
        return Ok(());
    }
    println!("installing the Rust target {triple}");
    let mut rustup = Command::new("rustup");
    rustup.args(["target", "add", triple]).current_dir(build::workspace());
    run(&mut rustup).map_err(|reason| {
        Error::Build(format!(
            "the Rust target {triple} is not installed, and `rustup target add {triple}` did not help: {reason}"
        ))
    })
}

/// What cross builds take: zig, and cargo's subcommand that compiles and links with it.
struct Zig {
    zig: PathBuf,
    programs: PathBuf,
}

impl Zig {
    /// Finds or installs both parts.
    fn ensure() -> Result<Self> {
        let folder = cache()?.join(format!("zigbuild-{ZIGBUILD}-zig-{ZIG}"));
        if let Some(zig) = Self::find(&folder) {
            return Ok(zig);
        }
        println!("installing cargo-zigbuild {ZIGBUILD} and zig {ZIG} into {}", folder.display());
        let failed = |reason: String| {
            Error::Build(format!(
                "cross builds need cargo-zigbuild and zig from PyPI (Debian: python3-venv): {reason}"
            ))
        };
        let mut python = Command::new("python3");
        run(python.args(["-m", "venv"]).arg(&folder)).map_err(failed)?;
        let mut pip = Command::new(folder.join("bin/pip"));
        pip.args(["install", "--quiet", "--disable-pip-version-check"]);
        pip.args([format!("cargo-zigbuild=={ZIGBUILD}"), format!("ziglang=={ZIG}")]);
        run(&mut pip).map_err(failed)?;
        Self::find(&folder).ok_or_else(|| {
            Error::Build(format!("{} holds no zig; remove it and try again", folder.display()))
        })
    }

    fn find(folder: &Path) -> Option<Self> {
        let programs = folder.join("bin");
        let zig = std::fs::read_dir(folder.join("lib"))
            .ok()?
            .flatten()
            .map(|python| python.path().join("site-packages/ziglang/zig"))
            .find(|zig| zig.is_file())?;
        programs.join("cargo-zigbuild").is_file().then_some(Self { zig, programs })
    }

    /// `PATH` with cargo's subcommand in front.
    fn path(&self) -> std::ffi::OsString {
        let rest = std::env::var_os("PATH").unwrap_or_default();
        let all = std::iter::once(self.programs.clone()).chain(std::env::split_paths(&rest));
        std::env::join_paths(all).unwrap_or(rest)
    }
}

/// Where tools of this workspace are kept.
fn cache() -> Result<PathBuf> {
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache"));
    std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(home)
        .map(|cache| cache.join("harbor-satellite"))
        .ok_or_else(|| Error::Build("neither XDG_CACHE_HOME nor HOME says where tools may be kept".into()))
}

fn run(command: &mut Command) -> Result<(), String> {
    match command.stdin(Stdio::null()).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("it ended with {status}, see above")),
        Err(error) => Err(format!("{} cannot be started: {error}", command.get_program().to_string_lossy())),
    }
}
