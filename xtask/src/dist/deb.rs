//! Debian packages (deb(5)): an `ar` archive of a version, a control archive and a data archive.

use std::collections::BTreeSet;
use std::path::Path;

use super::Platform;
use super::archive::{self, Entry};
use super::stamp::Stamp;
use crate::build;
use crate::error::{Error, Result};

/// A package. Its control files, settings and units are in `packaging/`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Package {
    /// The package and its program.
    pub(crate) name: &'static str,
    /// Units in `packaging/systemd/`.
    units: &'static [&'static str],
    /// Settings in `packaging/debian/NAME/`, which go to `/etc/NAME/`, with their modes.
    settings: &'static [(&'static str, u32)],
    /// Scripts beside them that dpkg runs as root.
    scripts: &'static [&'static str],
    /// Further fields of the control file.
    fields: &'static [&'static str],
}

const SCRIPTS: &[&str] = &["postinst", "postrm", "prerm"];

/// All packages. The programs are static: they depend on nothing but what their scripts call.
pub(crate) const PACKAGES: [Package; 3] = [
    Package {
        name: "satellite",
        units: &["satellite.service", "satellite-mirrors.service"],
        settings: &[("mirrors.env", 0o644), ("satellite.env", 0o640)],
        scripts: SCRIPTS,
        fields: &["Depends: passwd"],
    },
    Package {
        name: "ground-control",
        units: &["ground-control.service"],
        settings: &[("ground-control.env", 0o640)],
        scripts: SCRIPTS,
        fields: &["Depends: passwd", "Recommends: groundctl", "Suggests: postgresql"],
    },
    Package { name: "groundctl", units: &[], settings: &[], scripts: &[], fields: &[] },
];

impl Package {
    /// The package's file name.
    pub(crate) fn file_name(&self, platform: Platform, stamp: &Stamp) -> String {
        format!("{}_{}_{}.deb", self.name, stamp.version, platform.debian())
    }

    /// The package of this program, as bytes.
    pub(crate) fn pack(&self, platform: Platform, program: &[u8], stamp: &Stamp) -> Result<Vec<u8>> {
        let files = self.files(program)?;
        let data = self.archive(&with_folders(files.clone()), stamp)?;
        let control = self.archive(&self.control(platform, &files, stamp)?, stamp)?;
        let mut package = ar::Builder::new(Vec::new());
        for (name, content) in
            [("debian-binary", b"2.0\n".as_slice()), ("control.tar.gz", &control), ("data.tar.gz", &data)]
        {
            let mut header = ar::Header::new(name.as_bytes().to_vec(), content.len() as u64);
            header.set_mode(0o100_644);
            header.set_mtime(stamp.time);
            package.append(&header, content).map_err(|error| self.failed(&error))?;
        }
        package.into_inner().map_err(|error| self.failed(&error))
    }

    fn files(&self, program: &[u8]) -> Result<Vec<Entry>> {
        let mut files = vec![Entry::file(format!("usr/bin/{}", self.name), 0o755, program)];
        for unit in self.units {
            let content = source(&format!("systemd/{unit}"))?;
            files.push(Entry::file(format!("lib/systemd/system/{unit}"), 0o644, content));
        }
        for (name, mode) in self.settings {
            files.push(Entry::file(format!("etc/{}/{name}", self.name), *mode, self.source(name)?));
        }
        let copyright = format!(
            "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\
             Upstream-Name: Harbor Satellite\nSource: {}\n\n\
             Files: *\nCopyright: The Harbor Satellite authors\nLicense: {license}\n\n\
             License: {license}\n On Debian systems the text is in /usr/share/common-licenses/Apache-2.0.\n",
            env!("CARGO_PKG_REPOSITORY"),
            license = env!("CARGO_PKG_LICENSE"),
        );
        files.push(Entry::file(format!("usr/share/doc/{}/copyright", self.name), 0o644, copyright));
        files.sort_by(|one, other| one.path().cmp(other.path()));
        Ok(files)
    }

    fn control(&self, platform: Platform, files: &[Entry], stamp: &Stamp) -> Result<Vec<Entry>> {
        // Estimated as dpkg-gencontrol does: whole KiB for each file.
        let size: usize = files.iter().filter_map(Entry::content).map(|c| c.len().div_ceil(1024)).sum();
        let mut control = format!(
            "Package: {}\nVersion: {}\nArchitecture: {}\nMaintainer: {}\nInstalled-Size: {size}\n\
             Section: admin\nPriority: optional\nHomepage: {}\n",
            self.name,
            stamp.version,
            platform.debian(),
            "Harbor Satellite maintainers <maintainers@harbor-satellite.invalid>",
            env!("CARGO_PKG_REPOSITORY"),
        );
        for field in self.fields {
            control += &format!("{field}\n");
        }
        control += &format!("Description: {}", String::from_utf8_lossy(&self.source("description")?));
        let mut entries = vec![Entry::file("control", 0o644, control)];
        if !self.settings.is_empty() {
            let list = self.settings.iter().map(|(name, _)| format!("/etc/{}/{name}\n", self.name));
            entries.push(Entry::file("conffiles", 0o644, list.collect::<String>()));
        }
        for script in self.scripts {
            entries.push(Entry::file(*script, 0o755, self.source(script)?));
        }
        Ok(entries)
    }

    fn archive(&self, entries: &[Entry], stamp: &Stamp) -> Result<Vec<u8>> {
        let packed = archive::pack(entries, "./", stamp.time).map_err(|error| self.failed(&error))?;
        Ok(packed.bytes)
    }

    fn source(&self, name: &str) -> Result<Vec<u8>> {
        source(&format!("debian/{}/{name}", self.name))
    }

    fn failed(&self, error: &std::io::Error) -> Error {
        Error::Other(format!("cannot make the Debian package {}: {error}", self.name))
    }
}

/// The files with every folder above them, each before what is in it.
fn with_folders(files: Vec<Entry>) -> Vec<Entry> {
    let folders: BTreeSet<String> = files
        .iter()
        .flat_map(|file| Path::new(file.path()).ancestors().skip(1))
        .map(|folder| folder.display().to_string())
        .collect();
    // The archive's root is the folder of the empty name.
    folders.into_iter().map(|folder| Entry::folder(folder, 0o755)).chain(files).collect()
}

fn source(path: &str) -> Result<Vec<u8>> {
    let path = build::workspace().join("packaging").join(path);
    std::fs::read(&path).map_err(|error| Error::Other(format!("cannot read {}: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_has_its_parts_in_order_and_the_same_bytes_each_time() {
        let stamp = Stamp { version: "1.2.3", time: 1_700_000_000, revision: None };
        for package in PACKAGES {
            let bytes = package.pack(Platform::Armv7, b"program", &stamp).unwrap();
            assert_eq!(bytes, package.pack(Platform::Armv7, b"program", &stamp).unwrap());
            let mut archive = ar::Archive::new(bytes.as_slice());
            let mut names = Vec::new();
            while let Some(entry) = archive.next_entry() {
                let entry = entry.unwrap();
                names.push(String::from_utf8_lossy(entry.header().identifier()).into_owned());
            }
            assert_eq!(names, ["debian-binary", "control.tar.gz", "data.tar.gz"]);
            assert_eq!(
                package.file_name(Platform::Armv7, &stamp),
                format!("{}_1.2.3_armhf.deb", package.name)
            );
        }
    }

    #[test]
    fn folders_come_before_what_is_in_them() {
        let entries = with_folders(vec![Entry::file("usr/bin/x", 0o755, b"x".to_vec())]);
        let paths: Vec<_> = entries.iter().map(Entry::path).collect();
        assert_eq!(paths, ["", "usr", "usr/bin", "usr/bin/x"]);
    }
}
