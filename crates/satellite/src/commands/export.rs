//! `satellite export`.

use std::fs;
use std::io::{self, IsTerminal as _, Write};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use blob_store::Store;
use blob_store::durable::{self, DurableFile};
use http_body_util::BodyExt as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::complain;
use super::text::bytes as size_text;
use crate::config::load::ExportJob;
use crate::control::client::{self, AskError, Download};
use crate::export::{ExportError, ExportRequest, Places, check, plan};
use crate::serve::namespaces;

const EVERY: Duration = Duration::from_millis(200);
/// How long an interrupted export may take to put things in order.
const PATIENCE: Duration = Duration::from_secs(5);
const INTERRUPTED: u8 = 130;

/// Why there is no file.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    Ask(#[from] AskError),
    #[error(
        "no satellite runs with the status socket {socket}, and there is no store at {store}; name its --config-dir"
    )]
    Nothing { socket: PathBuf, store: PathBuf },
    #[error(
        "no satellite runs, and its store {store} belongs to the account with the id {owner}: export as that account"
    )]
    Foreign { store: PathBuf, owner: u32 },
    #[error("no satellite runs, and its store {store} cannot be opened: {source}")]
    Store { store: PathBuf, source: Box<blob_store::StoreError> },
    #[error(transparent)]
    Export(#[from] ExportError),
    #[error("{output} cannot be written: {source}")]
    Output { output: PathBuf, source: io::Error },
    #[error("an archive is nothing for a terminal: give --output FILE, or a pipe")]
    Terminal,
    #[error("the satellite broke off: {0}; its log says why")]
    BrokenOff(String),
    #[error("interrupted")]
    Interrupted,
}

impl Failure {
    fn code(&self) -> ExitCode {
        match self {
            Self::Nothing { .. } => ExitCode::from(3),
            Self::Interrupted => ExitCode::from(INTERRUPTED),
            Self::Export(ExportError::Form(_) | ExportError::Names(_) | ExportError::TooMany(_)) => {
                ExitCode::from(2)
            }
            _ => ExitCode::FAILURE,
        }
    }
}

/// Writes the archive, and says by the exit code how it went.
#[must_use]
pub fn export(job: &ExportJob) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(&format!("satellite: cannot start: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let done = runtime.block_on(async {
        let stop = CancellationToken::new();
        let mut work = std::pin::pin!(run(job, &stop));
        tokio::select! {
            done = &mut work => done,
            () = interruption() => {
                stop.cancel();
                // Until what is not complete is gone.
                drop(tokio::time::timeout(PATIENCE, work).await);
                Err(Failure::Interrupted)
            }
        }
    });
    runtime.shutdown_background();
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            complain(&format!("satellite: {failure}"));
            failure.code()
        }
    }
}

async fn interruption() {
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

async fn run(job: &ExportJob, stop: &CancellationToken) -> Result<(), Failure> {
    let asked = &job.asked;
    let request = ExportRequest {
        images: asked.images.clone(),
        format: asked.format,
        platform: asked.platform.clone(),
        names: asked.names.clone(),
    };
    check(&request)?;
    if asked.output == Path::new("-") && io::stdout().is_terminal() {
        return Err(Failure::Terminal);
    }
    let answer = stop.run_until_cancelled(client::export(&job.control_socket, &request)).await;
    match answer.ok_or(Failure::Interrupted)? {
        Ok(download) => take(download, Output::open(&asked.output)?, stop).await,
        Err(AskError::NotRunning { .. }) => without_satellite(job, request, stop).await,
        Err(error) => Err(error.into()),
    }
}

async fn take(mut download: Download, mut output: Output, stop: &CancellationToken) -> Result<(), Failure> {
    let mut progress = Progress::new(download.size);
    let mut here = 0;
    while let Some(frame) =
        stop.run_until_cancelled(download.body.frame()).await.ok_or(Failure::Interrupted)?
    {
        let frame = frame.map_err(|error| Failure::BrokenOff(error.to_string()))?;
        if let Ok(piece) = frame.into_data() {
            output.write_all(&piece).map_err(|source| output.failed(source))?;
            here += piece.len() as u64;
            progress.show(here);
        }
    }
    if download.size.is_some_and(|size| size != here) {
        return Err(Failure::BrokenOff("the archive is not complete".to_owned()));
    }
    progress.clear();
    output.finish()
}

/// The store of a satellite that does not run.
async fn without_satellite(
    job: &ExportJob,
    request: ExportRequest,
    stop: &CancellationToken,
) -> Result<(), Failure> {
    let store_dir = job.registry_data_dir.clone();
    let nothing = || Failure::Nothing { socket: job.control_socket.clone(), store: store_dir.clone() };
    let metadata = fs::metadata(&store_dir).map_err(|_| nothing())?;
    // What another account writes there the satellite could not read.
    if metadata.uid() != rustix::process::geteuid().as_raw() {
        return Err(Failure::Foreign { store: store_dir, owner: metadata.uid() });
    }
    let failed = |source| Failure::Store { store: store_dir.clone(), source: Box::new(source) };
    let store = Store::open(&store_dir, blob_store::Options::default()).map_err(failed)?;
    let places = Places { central: namespaces::kept(&job.config_dir), explicit: job.mirror_paths.clone() };
    let output = job.asked.output.clone();
    let stop = stop.clone();
    let written = tokio::task::spawn_blocking(move || {
        let archive = plan(&store, &places, &request)?;
        let mut output = Output::open(&output)?;
        let mut progress = Progress::new(Some(archive.size()));
        let writer = io::BufWriter::with_capacity(1 << 18, &mut output);
        archive
            .write(&store, writer, |here| {
                progress.show(here);
                if stop.is_cancelled() { Err(io::Error::other("interrupted")) } else { Ok(()) }
            })
            .map_err(ExportError::from)?;
        progress.clear();
        output.finish()
    });
    written.await.unwrap_or_else(|error| Err(Failure::BrokenOff(error.to_string())))
}

/// The file, which has its name only when it is complete.
enum Output {
    File {
        file: DurableFile,
        position: u64,
        path: PathBuf,
        done: bool,
    },
    /// The standard output, a pipe or a device: what has been written is out.
    Stream(Box<dyn Write + Send>, PathBuf),
}

impl Output {
    fn open(path: &Path) -> Result<Self, Failure> {
        let failed = |source| Failure::Output { output: path.to_owned(), source };
        if path == Path::new("-") {
            return Ok(Self::Stream(Box::new(io::stdout()), path.to_owned()));
        }
        let there = fs::metadata(path).ok().map(|metadata| metadata.file_type());
        if there.is_some_and(|kind| kind.is_fifo() || kind.is_char_device() || kind.is_block_device()) {
            let file = DurableFile::open(path).map_err(failed)?;
            return Ok(Self::Stream(Box::new(DeviceWriter(file)), path.to_owned()));
        }
        if there.is_some_and(|kind| kind.is_dir()) {
            return Err(failed(io::ErrorKind::IsADirectory.into()));
        }
        let name = path.file_name().ok_or_else(|| failed(io::ErrorKind::InvalidFilename.into()))?;
        let unfinished = format!(".{}.{}.partial", name.to_string_lossy(), std::process::id());
        let unfinished = path.with_file_name(unfinished);
        let file = DurableFile::create(&unfinished, durable::PRIVATE_FILE).map_err(failed)?;
        Ok(Self::File { file, position: 0, path: path.to_owned(), done: false })
    }

    fn failed(&self, source: io::Error) -> Failure {
        let output = match self {
            Self::File { path, .. } | Self::Stream(_, path) => path.clone(),
        };
        Failure::Output { output, source }
    }

    fn finish(mut self) -> Result<(), Failure> {
        let finished = match &mut self {
            Self::File { file, path, done, .. } => file.sync_all().and_then(|()| {
                durable::rename(file.path(), path)?;
                *done = true;
                Ok(())
            }),
            Self::Stream(stream, _) => stream.flush(),
        };
        finished.map_err(|source| self.failed(source))
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::File { file, position, .. } => {
                file.write_at(bytes, *position)?;
                *position += bytes.len() as u64;
                Ok(bytes.len())
            }
            Self::Stream(stream, _) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::File { .. } => Ok(()),
            Self::Stream(stream, _) => stream.flush(),
        }
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if let Self::File { file, done: false, .. } = self {
            drop(durable::remove_file(file.path()));
        }
    }
}

/// A pipe or a device, which has no positions.
struct DeviceWriter(DurableFile);

impl Write for DeviceWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut file = self.0.file();
        file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// How far it is, on a terminal.
struct Progress {
    total: Option<u64>,
    last: Option<Instant>,
    shown: bool,
}

impl Progress {
    fn new(total: Option<u64>) -> Self {
        Self { total, last: None, shown: io::stderr().is_terminal() }
    }

    fn show(&mut self, here: u64) {
        if !self.shown || self.last.is_some_and(|last| last.elapsed() < EVERY) {
            return;
        }
        self.last = Some(Instant::now());
        let total = self.total.map(|total| format!(" of {}", size_text(total))).unwrap_or_default();
        let mut terminal = io::stderr().lock();
        drop(write!(terminal, "\r\x1b[K{}{total}", size_text(here)).and_then(|()| terminal.flush()));
    }

    fn clear(&mut self) {
        if self.shown && self.last.is_some() {
            let mut terminal = io::stderr().lock();
            drop(write!(terminal, "\r\x1b[K").and_then(|()| terminal.flush()));
        }
    }
}
