//! Looks at what was made as somebody would who got it: the programs, the images, the packages, the sums.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Stdio};

use elf::ElfStream;
use elf::abi::{DT_NEEDED, PT_INTERP};
use elf::endian::AnyEndian;
use oci::{Digest, Kind};
use testbed::layout::Layout;

use super::deb::Package;
use super::image::Image;
use super::stamp::Stamp;
use super::{Platform, sums};

/// A program that grows beyond this is looked at by somebody before it is shipped.
const LARGEST: u64 = 40 << 20;
/// Parts of packages and images are no larger.
const LARGEST_ARCHIVE: u64 = 1 << 30;

/// What a check answers: what is right, or what is wrong.
pub(super) type Verdict = Result<String, String>;

/// A program is static, of its machine, of a size that can be shipped, and runs where this machine can run it.
pub(super) fn program(platform: Platform, path: &Path, version: &str) -> Verdict {
    let file = std::fs::File::open(path).map_err(|error| format!("cannot be read: {error}"))?;
    let size = file.metadata().map_err(|error| error.to_string())?.len();
    if size > LARGEST {
        return Err(format!("{size} bytes are more than the {LARGEST} that are expected at most"));
    }
    let mut parsed =
        ElfStream::<AnyEndian, _>::open_stream(file).map_err(|error| format!("is no ELF: {error}"))?;
    if parsed.ehdr.e_machine != platform.machine() {
        return Err(format!("is for machine {}, not {}", parsed.ehdr.e_machine, platform.machine()));
    }
    if parsed.segments().iter().any(|segment| segment.p_type == PT_INTERP) {
        return Err("asks for an interpreter: it is not static".into());
    }
    // A static program that can be put anywhere in memory has a dynamic section, and no library in it.
    let dynamic = parsed.dynamic().map_err(|error| error.to_string())?;
    if dynamic.is_some_and(|table| table.iter().any(|entry| entry.d_tag == DT_NEEDED)) {
        return Err("needs shared libraries: it is not static".into());
    }
    let ran = match runner(platform) {
        Some(runner) => {
            let mut command = runner.map_or_else(
                || Command::new(path),
                |qemu| {
                    let mut command = Command::new(qemu);
                    command.arg(path);
                    command
                },
            );
            runs(&mut command, version)?
        }
        None => format!("not run here: there is no qemu-{}", platform.qemu()),
    };
    Ok(format!("static, {:.1} MB, {ran}", size as f64 / 1e6))
}

/// How a platform's programs run here: themselves, or by QEMU.
fn runner(platform: Platform) -> Option<Option<std::path::PathBuf>> {
    if Platform::of_this_machine() == Some(platform) {
        return Some(None);
    }
    ["-static", ""]
        .iter()
        .find_map(|end| testbed::command::find(&format!("qemu-{}{end}", platform.qemu())))
        .map(Some)
}

fn runs(command: &mut Command, version: &str) -> Verdict {
    let output = command
        .arg("--version")
        .env_clear()
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("cannot be started: {error}"))?;
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if output.status.success() && said.ends_with(&format!(" {version}")) {
        return Ok(format!("says `{said}`"));
    }
    Err(format!("`--version` ended with {} and said `{said}`", output.status))
}

/// A layout holds what it names, for these platforms, and each image is one program that is not root's.
pub(super) fn image(image: &Image, folder: &Path, programs: &[(Platform, Vec<u8>)]) -> Verdict {
    let text = |error: testbed::Error| error.to_string();
    let layout = Layout::open(folder).map_err(text)?;
    let (root, _) = layout.image().map_err(text)?;
    let graph = layout.graph(&root).map_err(text)?;
    let named = graph.manifests.iter().map(|(descriptor, _)| descriptor).chain(&graph.blobs);
    for descriptor in named {
        let content = layout.read(&descriptor.digest).map_err(text)?;
        if Digest::sha256(&content) != descriptor.digest || content.len() as u64 != descriptor.size {
            return Err(format!("{} is not what its name says", descriptor.digest));
        }
    }
    let (_, index) = layout.manifest(&root).map_err(text)?;
    if index.manifests.len() != programs.len() {
        return Err(format!("{} platforms instead of {}", index.manifests.len(), programs.len()));
    }
    for (child, (platform, program)) in index.manifests.iter().zip(programs) {
        let (_, manifest) = layout.manifest(child).map_err(text)?;
        let config = manifest.config.as_ref().filter(|_| manifest.kind == Kind::Image);
        let config = config.ok_or_else(|| format!("{platform}: is no image"))?;
        let config: serde_json::Value =
            serde_json::from_slice(&layout.read(&config.digest).map_err(text)?).map_err(|e| e.to_string())?;
        let expected = platform.oci();
        for field in ["architecture", "os", "variant"] {
            if config[field] != expected[field] {
                return Err(format!("{platform}: {field} is {}", config[field]));
            }
        }
        let user = config["config"]["User"].as_str().unwrap_or_default();
        if user.split(':').next().and_then(|id| id.parse::<u32>().ok()).is_none_or(|id| id == 0) {
            return Err(format!("{platform}: runs as `{user}`"));
        }
        let [layer] = manifest.layers.as_slice() else {
            return Err(format!("{platform}: has {} layers", manifest.layers.len()));
        };
        let plain = unpack(&layout.read(&layer.digest).map_err(text)?)?;
        if config["rootfs"]["diff_ids"][0] != Digest::sha256(&plain).to_string() {
            return Err(format!("{platform}: the config names another layer"));
        }
        let files = files(&plain)?;
        let only = format!("usr/bin/{}", image.program);
        if files.len() != 1 || files.get(&only) != Some(program) {
            let names: Vec<_> = files.into_keys().collect();
            return Err(format!("{platform}: holds {names:?} instead of the one program"));
        }
    }
    Ok(format!("{}, {} platforms", root.digest, programs.len()))
}

/// A package is what it says, and holds its program.
pub(super) fn package(
    package: &Package,
    platform: Platform,
    path: &Path,
    program: &[u8],
    stamp: &Stamp,
) -> Verdict {
    let bytes = std::fs::read(path).map_err(|error| format!("cannot be read: {error}"))?;
    let mut parts = BTreeMap::new();
    let mut archive = ar::Archive::new(bytes.as_slice());
    while let Some(entry) = archive.next_entry() {
        let mut entry = entry.map_err(|error| error.to_string())?;
        let name = String::from_utf8_lossy(entry.header().identifier()).into_owned();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).map_err(|error| error.to_string())?;
        parts.insert(name, content);
    }
    let part = |name: &str| parts.get(name).ok_or_else(|| format!("has no {name}"));
    let control = files(&unpack(part("control.tar.gz")?)?)?;
    let data = files(&unpack(part("data.tar.gz")?)?)?;
    let said = String::from_utf8_lossy(control.get("./control").ok_or("has no control file")?).into_owned();
    for line in [
        format!("Package: {}", package.name),
        format!("Version: {}", stamp.version),
        format!("Architecture: {}", platform.debian()),
    ] {
        if !said.lines().any(|told| told == line) {
            return Err(format!("does not say `{line}`"));
        }
    }
    if data.get(&format!("./usr/bin/{}", package.name)).map(Vec::as_slice) != Some(program) {
        return Err("holds another program".into());
    }
    let conffiles = control.get("./conffiles").map(|list| String::from_utf8_lossy(list).into_owned());
    for path in conffiles.unwrap_or_default().lines() {
        if !data.contains_key(&format!(".{path}")) {
            return Err(format!("names the setting {path} and does not hold it"));
        }
    }
    // Where Debian's own tool is, it is asked, too.
    if testbed::command::find("dpkg-deb").is_some() {
        let output = Command::new("dpkg-deb").arg("--contents").arg(path).output();
        if !output.is_ok_and(|output| output.status.success()) {
            return Err("dpkg-deb does not take it".into());
        }
    }
    Ok(format!("{:.1} MB, {} files", bytes.len() as f64 / 1e6, data.len()))
}

/// Every file has its sum, and no other has one.
pub(super) fn sums(folder: &Path) -> Verdict {
    let told = std::fs::read_to_string(folder.join(sums::FILE)).map_err(|error| error.to_string())?;
    let there = sums::of(folder).map_err(|error| error.to_string())?;
    if told == there {
        Ok(format!("{} files", there.lines().count()))
    } else {
        Err("are not those of the files".into())
    }
}

fn unpack(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let mut plain = Vec::new();
    flate2::read::GzDecoder::new(bytes)
        .take(LARGEST_ARCHIVE)
        .read_to_end(&mut plain)
        .map_err(|error| format!("cannot be unpacked: {error}"))?;
    Ok(plain)
}

fn files(plain: &[u8]) -> Result<BTreeMap<String, Vec<u8>>, String> {
    let mut archive = tar::Archive::new(plain);
    let mut files = BTreeMap::new();
    for entry in archive.entries().map_err(|error| error.to_string())? {
        let mut entry = entry.map_err(|error| error.to_string())?;
        if entry.header().entry_type().is_file() {
            let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).map_err(|error| error.to_string())?;
            files.insert(path, content);
        }
    }
    Ok(files)
}
