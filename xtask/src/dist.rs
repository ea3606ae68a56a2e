//! `cargo xtask dist`: what is shipped. Static programs for each platform, container images, Debian packages, their sums.

pub(crate) mod archive;
pub(crate) mod compile;
pub(crate) mod deb;
pub(crate) mod image;
mod platform;
pub(crate) mod stamp;
mod sums;
mod verify;

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

pub(crate) use platform::Platform;

use self::compile::PROGRAMS;
use self::deb::PACKAGES;
use self::image::IMAGES;
use self::stamp::Stamp;
use crate::build;
use crate::error::{Error, Result};
use crate::progress::Step;

/// What to make.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Platforms, with commas between them; all where none is named.
    #[arg(long, value_enum, value_delimiter = ',')]
    target: Vec<Platform>,
    /// Where it goes; what is there of an earlier run goes.
    #[arg(long, value_name = "DIR", default_value = "target/dist")]
    output: PathBuf,
    /// Take the development profile, which is compiled in a fraction of the time: what the suite `packages` looks at.
    #[arg(long, conflicts_with = "verify")]
    dev: bool,
    /// Look at everything that was made: programs run where this machine or its QEMU can run them.
    #[arg(long)]
    verify: bool,
}

/// The content of each program for each platform.
type Programs = BTreeMap<&'static str, Vec<(Platform, Vec<u8>)>>;

/// Runs the task.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let mut platforms =
        if arguments.target.is_empty() { Platform::ALL.to_vec() } else { arguments.target.clone() };
    platforms.sort_unstable();
    platforms.dedup();
    let mut folders = Vec::new();
    for platform in platforms {
        // Interrupted, it goes on with what is not compiled yet.
        let step = Step::begin(format!("programs for {platform}"));
        let folder = compile::programs(platform, !arguments.dev)?;
        step.done(platform.triple());
        folders.push((platform, folder));
    }
    let output = build::workspace().join(&arguments.output);
    let stamp = Stamp::of_sources();
    let programs = make(&folders, &output, &stamp, arguments.dev)?;
    println!("  in {}", output.display());
    if !arguments.verify {
        return Ok(ExitCode::SUCCESS);
    }
    Ok(if check(&output, &programs, &stamp) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Packs the programs in these folders. `strip` takes the development profile's line tables away, without which they are
/// what they were.
pub(crate) fn make(
    folders: &[(Platform, PathBuf)],
    output: &Path,
    stamp: &Stamp,
    strip: bool,
) -> Result<Programs> {
    clear(output)?;
    let mut programs = Programs::new();
    for (platform, folder) in folders {
        for program in PROGRAMS {
            let target = output.join(file_name(program, *platform, stamp));
            put(&folder.join(program), &target, strip)?;
            let content = std::fs::read(&target).map_err(|error| failed(&target, &error))?;
            programs.entry(program).or_default().push((*platform, content));
        }
    }
    for image in IMAGES {
        let step = Step::begin(format!("image {}", image.program));
        let of_image = programs.get(image.program).map(Vec::as_slice).unwrap_or_default();
        let root = image.write(&output.join("images").join(image.program), of_image, stamp)?;
        step.done(root.digest.to_string());
    }
    for package in PACKAGES {
        for (platform, program) in programs.get(package.name).into_iter().flatten() {
            let name = package.file_name(*platform, stamp);
            let step = Step::begin(format!("package {name}"));
            let path = output.join(&name);
            let bytes = package.pack(*platform, program, stamp)?;
            testbed::files::write(&path, &bytes)?;
            step.done(format!("{:.1} MB", bytes.len() as f64 / 1e6));
        }
    }
    let sums = sums::of(output).map_err(|error| failed(output, &error))?;
    testbed::files::write(&output.join(sums::FILE), sums)?;
    Ok(programs)
}

/// Makes the folder anew. Its sums, empty until all is there, tell it from a folder that somebody named by mistake.
fn clear(output: &Path) -> Result<()> {
    let sums = output.join(sums::FILE);
    let is_empty = std::fs::read_dir(output).map_or(true, |mut entries| entries.next().is_none());
    if !is_empty && !sums.is_file() {
        return Err(Error::Other(format!("{} holds something else: name another folder", output.display())));
    }
    if output.is_dir() {
        std::fs::remove_dir_all(output).map_err(|error| failed(output, &error))?;
    }
    Ok(testbed::files::write(&sums, "")?)
}

fn file_name(program: &str, platform: Platform, stamp: &Stamp) -> String {
    format!("{program}-{}-linux-{platform}", stamp.version)
}

fn put(source: &Path, target: &Path, strip: bool) -> Result<()> {
    if strip {
        let status = Command::new("strip").arg("--strip-all").arg("-o").arg(target).arg(source).status();
        if !status.as_ref().is_ok_and(std::process::ExitStatus::success) {
            return Err(Error::Other(format!(
                "cannot strip {} (Debian: binutils): {status:?}",
                source.display()
            )));
        }
    } else {
        std::fs::copy(source, target).map_err(|error| failed(source, &error))?;
    }
    std::fs::set_permissions(target, std::fs::Permissions::from_mode(0o755))
        .map_err(|error| failed(target, &error))
}

/// Looks at all of it and says what is wrong.
fn check(output: &Path, programs: &Programs, stamp: &Stamp) -> bool {
    let mut right = true;
    let mut say = |what: &str, verdict: verify::Verdict| match verdict {
        Ok(text) => println!("✔ {what}: {text}"),
        Err(text) => {
            right = false;
            println!("✘ {what}: {text}");
        }
    };
    for (program, contents) in programs {
        for (platform, _) in contents {
            let name = file_name(program, *platform, stamp);
            say(&name, verify::program(*platform, &output.join(&name), stamp.version));
        }
    }
    for image in IMAGES {
        let of_image = programs.get(image.program).map(Vec::as_slice).unwrap_or_default();
        let folder = output.join("images").join(image.program);
        say(&format!("image {}", image.program), verify::image(&image, &folder, of_image));
    }
    for package in PACKAGES {
        for (platform, program) in programs.get(package.name).into_iter().flatten() {
            let name = package.file_name(*platform, stamp);
            say(&name, verify::package(&package, *platform, &output.join(&name), program, stamp));
        }
    }
    say(sums::FILE, verify::sums(output));
    right
}

fn failed(path: &Path, error: &std::io::Error) -> Error {
    Error::Other(format!("{}: {error}", path.display()))
}
