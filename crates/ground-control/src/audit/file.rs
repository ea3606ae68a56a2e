//! Syslog messages in a file, a line each, rotated by size: `audit.log`, `audit.log.1`, `audit.log.2.gz` and so on, the
//! newest first.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use blob_store::durable;
use flate2::Compression;
use flate2::write::GzEncoder;

use super::local::{LocalPlace, Messages};
use super::sink::SinkError;

/// Where the file is and how much of it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileSettings {
    /// The file that is written.
    pub(crate) path: PathBuf,
    /// The size, in bytes, at which another is begun.
    pub(crate) max_size: u64,
    /// Earlier ones that are kept; 0 keeps all.
    pub(crate) max_backups: u32,
    /// Earlier ones that are older are removed; zero keeps all.
    pub(crate) max_age: Duration,
    /// Whether earlier ones are compressed.
    pub(crate) compress: bool,
}

#[async_trait]
impl LocalPlace for FileSettings {
    type Open = Lines;

    async fn open(&self) -> Result<Lines, SinkError> {
        let settings = self.clone();
        let log = blocking(move || RotatedFile::open(settings, SystemTime::now())).await?;
        Ok(Lines(Some(log)))
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

/// The open file; `None` after a failure.
#[derive(Debug)]
pub(crate) struct Lines(Option<RotatedFile>);

#[async_trait]
impl Messages for Lines {
    async fn write(&mut self, messages: Vec<String>) -> Result<(), SinkError> {
        let Some(mut log) = self.0.take() else { return Err(SinkError::Closed) };
        let log = blocking(move || {
            for line in messages {
                log.write(&line, SystemTime::now())?;
            }
            log.file.sync_data()?;
            Ok(log)
        });
        self.0 = Some(log.await?);
        Ok(())
    }
}

/// The file that is written, with what there is of it.
#[derive(Debug)]
struct RotatedFile {
    settings: FileSettings,
    file: File,
    size: u64,
}

impl RotatedFile {
    fn open(settings: FileSettings, now: SystemTime) -> io::Result<Self> {
        let file = append(&settings.path)?;
        let size = file.metadata()?.len();
        let opened = Self { settings, file, size };
        opened.tidy(now)?;
        Ok(opened)
    }

    fn write(&mut self, line: &str, now: SystemTime) -> io::Result<()> {
        let length = line.len() as u64 + 1;
        if self.size > 0 && self.size + length > self.settings.max_size {
            self.rotate(now)?;
        }
        self.file.write_all(format!("{line}\n").as_bytes())?;
        self.size += length;
        Ok(())
    }

    /// Moves every earlier file one on and begins another.
    fn rotate(&mut self, now: SystemTime) -> io::Result<()> {
        self.file.sync_data()?;
        let mut last = 1;
        while self.existing(last).is_some() {
            last += 1;
        }
        for number in (1..last).rev() {
            if let Some(path) = self.existing(number) {
                let compressed = path.extension().is_some_and(|extension| extension == "gz");
                durable::rename(&path, &self.numbered(number + 1, compressed))?;
            }
        }
        durable::rename(&self.settings.path, &self.numbered(1, false))?;
        if self.settings.compress {
            self.compress(1)?;
        }
        self.file = append(&self.settings.path)?;
        self.size = 0;
        self.tidy(now)
    }

    fn numbered(&self, number: u32, compressed: bool) -> PathBuf {
        let mut name = self.settings.path.clone().into_os_string();
        name.push(format!(".{number}{}", if compressed { ".gz" } else { "" }));
        PathBuf::from(name)
    }

    fn existing(&self, number: u32) -> Option<PathBuf> {
        // A plain one beside a compressed one is what a crash left of a compression.
        [self.numbered(number, false), self.numbered(number, true)]
            .into_iter()
            .find(|path| path.symlink_metadata().is_ok())
    }

    /// Puts a compressed file in the place of a plain one, whole or not at all.
    fn compress(&self, number: u32) -> io::Result<()> {
        let (plain, compressed) = (self.numbered(number, false), self.numbered(number, true));
        let mut partial = compressed.clone().into_os_string();
        partial.push(".partial");
        let partial = PathBuf::from(partial);
        let mut from = File::open(&plain)?;
        let mut into = GzEncoder::new(create(&partial)?, Compression::default());
        let mut buffer = vec![0; 64 * 1024];
        loop {
            match from.read(&mut buffer)? {
                0 => break,
                n => into.write_all(buffer.get(..n).unwrap_or_default())?,
            }
        }
        into.finish()?.sync_all()?;
        durable::rename(&partial, &compressed)?;
        durable::remove_file(&plain)
    }

    /// Removes what is too much and too old.
    fn tidy(&self, now: SystemTime) -> io::Result<()> {
        let FileSettings { max_backups, max_age, .. } = self.settings;
        let mut number = 1;
        while let Some(path) = self.existing(number) {
            let age = now.duration_since(path.metadata()?.modified()?).unwrap_or_default();
            let too_many = max_backups > 0 && number > max_backups;
            let too_old = !max_age.is_zero() && age > max_age;
            if too_many || too_old {
                durable::remove_file(&path)?;
            }
            number += 1;
        }
        Ok(())
    }
}

/// For this user alone: names and addresses stand in it.
fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use flate2::read::GzDecoder;
    use tempfile::TempDir;

    use super::*;

    fn settings(dir: &TempDir) -> FileSettings {
        FileSettings {
            path: dir.path().join("audit.log"),
            max_size: 100,
            max_backups: 3,
            max_age: Duration::ZERO,
            compress: true,
        }
    }

    fn names(dir: &TempDir) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn text(path: &Path) -> String {
        let mut text = String::new();
        let file = File::open(path).unwrap();
        if path.extension().is_some_and(|extension| extension == "gz") {
            GzDecoder::new(file).take(10_000).read_to_string(&mut text).unwrap();
        } else {
            file.take(10_000).read_to_string(&mut text).unwrap();
        }
        text
    }

    #[test]
    fn full_files_are_moved_on_compressed_and_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = RotatedFile::open(settings(&dir), SystemTime::now()).unwrap();
        for n in 0..10 {
            log.write(&format!("{n} {}", "x".repeat(57)), SystemTime::now()).unwrap();
        }
        // One line fills a file by more than half.
        assert_eq!(names(&dir), ["audit.log", "audit.log.1.gz", "audit.log.2.gz", "audit.log.3.gz"]);
        assert!(text(&log.settings.path).starts_with("9 "));
        for (number, line) in [(1, "8 "), (2, "7 "), (3, "6 ")] {
            assert!(text(&log.numbered(number, true)).starts_with(line));
        }
        // It goes on after a restart, with what is there.
        drop(log);
        let mut log = RotatedFile::open(settings(&dir), SystemTime::now()).unwrap();
        log.write("short", SystemTime::now()).unwrap();
        assert!(text(&log.settings.path).starts_with("9 ") && text(&log.settings.path).ends_with("short\n"));
    }

    #[test]
    fn old_files_go() {
        let dir = tempfile::tempdir().unwrap();
        let settings = FileSettings { max_age: Duration::from_secs(3600), compress: false, ..settings(&dir) };
        let mut log = RotatedFile::open(settings.clone(), SystemTime::now()).unwrap();
        for _ in 0..3 {
            log.write(&"x".repeat(80), SystemTime::now()).unwrap();
        }
        assert_eq!(names(&dir), ["audit.log", "audit.log.1", "audit.log.2"]);
        RotatedFile::open(settings, SystemTime::now() + Duration::from_secs(7200)).unwrap();
        assert_eq!(names(&dir), ["audit.log"]);
    }

    #[test]
    fn a_line_longer_than_a_file_is_written_whole() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = RotatedFile::open(settings(&dir), SystemTime::now()).unwrap();
        log.write(&"x".repeat(500), SystemTime::now()).unwrap();
        assert_eq!(text(&log.settings.path).len(), 501);
    }
}
