//! The process: settings, log, runtime, server, signals, exit code.

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::Duration;

use ground_control::backup::{self, BackupError, Contents, Created, Place, Progress, RestoredServer};
use ground_control::config::{Command, Config, ConfigError};
use ground_control::log::{Filter, LogControl};
use ground_control::server::{self, Republished};
use otlp::SpanExport;
use otlp::messages::Resource;
use secrecy::ExposeSecret as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, fmt, reload};

/// Exit code of a start or a run that failed.
const FAILED: u8 = 1;
/// How long the last spans may take to be sent.
const FLUSH: Duration = Duration::from_secs(3);

fn main() -> ExitCode {
    // The whole tree uses one provider; nothing installed another before.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let hardening = harden();
    let config = match Config::from_process() {
        Ok(config) => config,
        Err(error) => return refuse(&error),
    };
    let (log, spans) = start_log(&config);
    // A question that is put every few seconds repeats none of them.
    if config.command != Command::Health {
        for warning in hardening.iter().chain(&config.warnings) {
            tracing::warn!("{warning}");
        }
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "cannot start the runtime");
            return ExitCode::from(FAILED);
        }
    };
    runtime.block_on(async {
        match &config.command {
            Command::Serve => {
                let traces = Traces::start(&config, spans);
                let code = serve(&config, log).await;
                if let Some(traces) = traces {
                    traces.finish().await;
                }
                code
            }
            Command::Republish => republish(&config).await,
            Command::Health => health(&config).await,
            Command::Backup { to, passphrase } => {
                let progress = interruptible();
                finish(
                    backup::create(&config, to, passphrase.as_deref(), &progress).await,
                    &progress,
                    |created| {
                        report_backup(&created, to);
                    },
                )
            }
            Command::VerifyBackup(place) => {
                let (progress, place) = (interruptible(), place.clone());
                let watched = progress.clone();
                let verified = tokio::task::spawn_blocking(move || backup::verify(&place, &watched)).await;
                let verified = verified.unwrap_or_else(|error| Err(BackupError::Failed(error.to_string())));
                finish(verified, &progress, |contents| report_contents(&contents))
            }
            Command::Restore { from, options } => {
                let progress = interruptible();
                finish(backup::restore(&config, from, options, &progress).await, &progress, |restored| {
                    report_restore(&restored);
                })
            }
        }
    })
}

/// Keys of authorities and passwords will be in this process's memory: they are not to be found in a core file, and nobody
/// else of the same account looks into it. Before anything secret is read; what the system does not allow is returned.
fn harden() -> Vec<String> {
    use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    let core =
        setrlimit(Resource::Core, none).err().map(|error| format!("core files not turned off: {error}"));
    let traceable = set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .err()
        .map(|error| format!("process left traceable: {error}"));
    // Each satellite that waits is an open file.
    let files = getrlimit(Resource::Nofile);
    let more = Rlimit { current: files.maximum, maximum: files.maximum };
    let files = setrlimit(Resource::Nofile, more)
        .err()
        .map(|error| format!("limit of open files not raised: {error}"));
    [core, traceable, files].into_iter().flatten().collect()
}

async fn serve(config: &Config, log: LogControl) -> ExitCode {
    // Before the start, so that a signal during it ends it too.
    let (Ok(mut terminate), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        tracing::error!("cannot listen for signals");
        return ExitCode::from(FAILED);
    };
    let mut running = tokio::select! {
        started = server::start_with(config, log) => match started {
            Ok(running) => running,
            Err(error) => {
                tracing::error!("{error}");
                return ExitCode::from(FAILED);
            }
        },
        _ = terminate.recv() => return ExitCode::SUCCESS,
        _ = interrupt.recv() => return ExitCode::SUCCESS,
    };
    if let Some(password) = running.generated_password.take() {
        show_password(password.expose_secret());
    }
    let outcome = tokio::select! {
        _ = terminate.recv() => ExitCode::SUCCESS,
        _ = interrupt.recv() => ExitCode::SUCCESS,
        ended = running.ended() => {
            if let Err(Some(error)) = ended {
                tracing::error!("{error}");
            }
            ExitCode::from(FAILED)
        }
    };
    tracing::info!("stopping");
    tokio::select! {
        () = running.stop() => outcome,
        // A second signal means now.
        _ = terminate.recv() => ExitCode::from(FAILED),
        _ = interrupt.recv() => ExitCode::from(FAILED),
    }
}

async fn republish(config: &Config) -> ExitCode {
    match server::republish(config).await {
        Ok(Republished::Here(status)) => {
            tracing::info!(
                published = status.published,
                unchanged = status.unchanged,
                removed = status.removed,
                failures = status.failures,
                "republished"
            );
            if status.lag.waiting == 0 { ExitCode::SUCCESS } else { ExitCode::from(FAILED) }
        }
        Ok(Republished::ByServer(documents)) => {
            tracing::info!(documents, "the running server republishes");
            ExitCode::SUCCESS
        }
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::from(FAILED)
        }
    }
}

/// For whoever watches a container, in which there is no other program that could ask.
#[expect(clippy::print_stdout, reason = "the answer of a question on the command line")]
async fn health(config: &Config) -> ExitCode {
    match ground_control::health::ask(config).await {
        Ok(()) => {
            println!("ready");
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("{error}");
            ExitCode::from(FAILED)
        }
    }
}

/// A progress that a signal ends, cleanly; a second one ends the process.
fn interruptible() -> Progress {
    let progress = Progress::shown();
    if let (Ok(mut terminate), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    {
        let watched = progress.clone();
        tokio::spawn(async move {
            for ended in [false, true] {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                if ended {
                    std::process::exit(i32::from(FAILED));
                }
                watched.interrupt();
            }
        });
    }
    progress
}

fn finish<T>(outcome: Result<T, BackupError>, progress: &Progress, report: impl FnOnce(T)) -> ExitCode {
    progress.end();
    match outcome {
        Ok(done) => {
            report(done);
            ExitCode::SUCCESS
        }
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::from(FAILED)
        }
    }
}

fn report_backup(created: &Created, to: &Place) {
    let head = &created.head;
    if let Some(command) = &created.dump {
        tracing::warn!("the database is not in this backup, dump it now: {command}");
    }
    if !created.key {
        tracing::warn!(
            "the server key is not in this backup, keep {} apart from it: without it nothing that is restored can be used \
             (--key-passphrase-file takes it along, sealed)",
            created.key_file.display()
        );
    }
    for digest in &created.damaged {
        tracing::warn!(%digest, "content of the registry is damaged or gone, push what it belongs to again");
    }
    let to = match to {
        Place::Standard => "standard output".to_owned(),
        Place::File(path) => path.display().to_string(),
    };
    tracing::info!(
        %to,
        taken_at = %head.taken_at,
        database = head.database.as_str(),
        schema = head.schema,
        epoch = head.epoch,
        registry = head.registry,
        blobs = created.blobs,
        bytes = head.bytes,
        server_key = created.key,
        "backup made"
    );
}

fn report_contents(contents: &Contents) {
    let head = &contents.head;
    for digest in &contents.damaged {
        tracing::warn!(%digest, "content was damaged in the registry before the backup");
    }
    tracing::info!(
        taken_at = %head.taken_at,
        program = %head.program,
        database = head.database.as_str(),
        schema = head.schema,
        epoch = head.epoch,
        registry = head.registry,
        blobs = contents.blobs,
        bytes = head.bytes,
        server_key = contents.key,
        "backup is whole"
    );
}

fn report_restore(restored: &RestoredServer) {
    let taken_at = restored.head.taken_at;
    tracing::warn!(
        "what happened after {taken_at} is not in what was restored: satellites registered since are unknown, credentials \
         issued since open nothing, and whoever was REVOKED since is let in again until you revoke them anew"
    );
    for name in &restored.let_in_again {
        tracing::warn!(satellite = %name, "revoked or deleted since the backup, revoke it again");
    }
    if let Some(before) = &restored.before {
        tracing::info!(folder = %before.display(), "what was there is kept, remove it when all is well");
    }
    tracing::info!(
        %taken_at,
        epoch = restored.database.epoch,
        sessions_ended = restored.database.sessions,
        tokens_closed = restored.database.tokens,
        documents = restored.database.documents,
        server_key = restored.key,
        "restored, start the server"
    );
}

/// Starts the log, and what takes spans where they are wanted; the first answer changes the log while the program runs.
fn start_log(config: &Config) -> (LogControl, Option<SpanExport>) {
    let terminal = std::io::stderr().is_terminal();
    let filter = Filter::level(config.log_level);
    let (reloaded, handle) = reload::Layer::new(filter.to_env_filter());
    // Whatever is logged: a quiet log is no reason for a trace with holes. Libraries' spans are theirs.
    let own = |metadata: &tracing::Metadata<'_>| {
        *metadata.level() <= tracing::Level::INFO && metadata.target().starts_with("ground_control")
    };
    let (layer, export) = match &config.traces {
        None => (None, None),
        Some(_) => {
            let (layer, export) = otlp::spans();
            (Some(layer.with_filter(filter_fn(own))), Some(export))
        }
    };
    let lines = fmt::layer().with_writer(std::io::stderr);
    let lines = if config.json_logging.unwrap_or(!terminal) {
        lines.json().flatten_event(true).with_current_span(true).with_span_list(false).boxed()
    } else {
        lines.with_ansi(terminal).boxed()
    };
    tracing_subscriber::registry().with(lines.with_filter(reloaded)).with(layer).init();
    let log = LogControl::new(filter, move |next| handle.reload(next).map_err(|error| error.to_string()));
    (log, export)
}

/// Spans on their way to the collector.
struct Traces {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Traces {
    fn start(config: &Config, export: Option<SpanExport>) -> Option<Self> {
        let (export, endpoint) = (export?, config.traces.as_ref()?);
        let exporter = match ground_control::audit::exporter(endpoint) {
            Ok(exporter) => exporter,
            Err(error) => {
                tracing::error!(%error, "no spans are sent");
                return None;
            }
        };
        let instance = std::process::id().to_string();
        let resource = Resource::service("ground-control", env!("CARGO_PKG_VERSION"), &instance);
        let stop = CancellationToken::new();
        let task = tokio::spawn(export.run(exporter, resource, stop.clone()));
        Some(Self { stop, task })
    }

    /// Sends what is left, within a moment.
    async fn finish(self) {
        self.stop.cancel();
        if tokio::time::timeout(FLUSH, self.task).await.is_err() {
            tracing::warn!("spans not sent in time are lost");
        }
    }
}

/// Help on standard output, a mistake on standard error; the log is not there yet.
#[expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "what a command line program says to its caller"
)]
fn refuse(error: &ConfigError) -> ExitCode {
    match error {
        ConfigError::Information(text) => print!("{text}"),
        ConfigError::Invalid(text) => eprintln!("ground-control: {text}"),
    }
    ExitCode::from(error.exit_code())
}

/// The one time that the password is seen: beside the log, which may be kept somewhere.
#[expect(clippy::print_stderr, reason = "shown to whoever starts the program, and not logged")]
fn show_password(password: &str) {
    eprintln!("ADMIN_PASSWORD is not set; the password of admin is, shown only now: {password}");
}
