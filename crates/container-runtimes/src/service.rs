//! Reloads and restarts: by systemd, OpenRC, a command of the operator's, or (a reload, on this machine) a signal.
//!
//! Nothing is started that does not run: its next start reads the files anyway.

use std::io;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};

use crate::command::Commands;
use crate::detect::{Running, instance, running};
use crate::host::Host;
use crate::reload::{Due, Means, services};
use crate::runtime::Runtime;

/// What services are started by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Manager {
    /// A shell command of the operator's; `$1` is the runtime, `$2` is `reload` or `restart`.
    Command(String),
    /// systemd.
    Systemd,
    /// OpenRC.
    OpenRc,
    /// None that is known.
    None,
}

impl Manager {
    /// What the machine has. The operator's command comes first.
    pub fn find(host: &Host, restart_command: Option<&str>) -> Self {
        match restart_command {
            Some(command) => Self::Command(command.to_owned()),
            // sd_booted(3).
            None if host.has("/run/systemd/system") => Self::Systemd,
            None if host.has("/run/openrc") => Self::OpenRc,
            None => Self::None,
        }
    }
}

/// How it went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Carried {
    /// It does not run.
    NotRunning,
    /// It was done, by these words.
    Done(String),
    /// It was tried and failed.
    Failed(String),
    /// Nobody here can do it.
    Needed(String),
}

/// What carries it out.
pub(crate) struct Services<'a> {
    pub(crate) host: &'a Host,
    pub(crate) commands: &'a dyn Commands,
    pub(crate) manager: &'a Manager,
}

/// Makes a runtime that is known to run read its configuration again; containers go on.
pub fn reload(host: &Host, commands: &dyn Commands, manager: &Manager, runtime: Runtime) -> Carried {
    let due = Due { runtime, means: Means::Reload, services: services(runtime) };
    Services { host, commands, manager }.carry_out(&due, Some(&running(host, runtime)))
}

impl Services<'_> {
    /// Does what is due for a runtime whose process is this one.
    pub(crate) fn carry_out(&self, due: &Due, process: Option<&Running>) -> Carried {
        let verb = match due.means {
            Means::Nothing => return Carried::NotRunning,
            Means::Reload => "reload",
            Means::Restart => "restart",
        };
        let by_manager = match self.manager {
            Manager::Command(_) if process.is_none() => return Carried::NotRunning,
            Manager::Command(command) => {
                let arguments = ["-c", command, "satellite", due.runtime.name(), verb];
                return self.run("sh", &arguments, &format!("{verb} by the restart command"));
            }
            Manager::Systemd => self.by(
                due,
                |service| ("systemctl", vec!["is-active", "--quiet", service]),
                |service| ("systemctl", vec![verb, service]),
            ),
            Manager::OpenRc => self.by(
                due,
                |service| ("rc-service", vec![service, "status"]),
                |service| ("rc-service", vec![service, verb]),
            ),
            Manager::None => None,
        };
        if let Some(carried) = by_manager {
            return carried;
        }
        match process {
            None => Carried::NotRunning,
            Some(Running { pid: Some(pid), instance })
                if due.means == Means::Reload && self.host.is_here() =>
            {
                self.signal(*pid, instance)
            }
            // The manager knows of no such service that runs, and nobody sees it run.
            Some(Running { pid: None, .. }) if *self.manager != Manager::None => Carried::NotRunning,
            Some(_) => Carried::Needed(format!(
                "no service manager that is known here runs it: {verb} it by hand, or name the command with --restart-command"
            )),
        }
    }

    /// The first service of the runtime that is active; none where none is.
    fn by<'s>(
        &self,
        due: &'s Due,
        active: impl Fn(&'s str) -> (&'static str, Vec<&'s str>),
        act: impl Fn(&'s str) -> (&'static str, Vec<&'s str>),
    ) -> Option<Carried> {
        for service in &due.services {
            let (program, arguments) = active(service);
            match self.commands.run(program, &arguments) {
                Ok(said) if said.success => {
                    let (program, arguments) = act(service);
                    let words = format!("{program} {}", arguments.join(" "));
                    return Some(self.run(program, &arguments, &words));
                }
                Ok(_) => {}
                Err(error) => {
                    let why = format!("{program} cannot be asked whether {service} runs: {error}");
                    return Some(Carried::Needed(why));
                }
            }
        }
        None
    }

    fn run(&self, program: &str, arguments: &[&str], words: &str) -> Carried {
        match self.commands.run(program, arguments) {
            Ok(said) if said.success => Carried::Done(words.to_owned()),
            Ok(said) => {
                let last = said.stderr.lines().rev().map(str::trim).find(|line| !line.is_empty());
                Carried::Failed(format!("{words} failed: {}", last.unwrap_or("no reason given")))
            }
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                Carried::Failed(format!("{words} took too long"))
            }
            Err(error) => Carried::Needed(format!("{words} cannot be run: {error}")),
        }
    }

    fn signal(&self, pid: u32, expected: &str) -> Carried {
        if instance(self.host, pid) != expected {
            // Another run of it, which has read the files.
            return Carried::NotRunning;
        }
        let words = format!("SIGHUP to process {pid}");
        let number = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let Some(number) = number else { return Carried::NotRunning };
        match kill_process(number, Signal::HUP) {
            Ok(()) => Carried::Done(words),
            Err(Errno::SRCH) => Carried::NotRunning,
            Err(error) => Carried::Needed(format!("{words} cannot be sent: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::command::Said;

    /// Programs of which some fail, and what was run.
    struct Fake {
        fail: Vec<&'static str>,
        ran: RefCell<Vec<String>>,
    }

    impl Commands for Fake {
        fn run(&self, program: &str, arguments: &[&str]) -> io::Result<Said> {
            let line = format!("{program} {}", arguments.join(" "));
            let success = !self.fail.iter().any(|fail| line.contains(fail));
            self.ran.borrow_mut().push(line);
            Ok(Said { success, stdout: String::new(), stderr: "cause\n".to_owned() })
        }
    }

    fn carry(
        runtime: Runtime,
        means: Means,
        manager: Manager,
        process: Option<&Running>,
        fail: &[&'static str],
    ) -> (Carried, Vec<String>) {
        let root = tempfile::tempdir().unwrap();
        let host = Host::new(root.path());
        let fake = Fake { fail: fail.to_vec(), ran: RefCell::default() };
        let services_ = Services { host: &host, commands: &fake, manager: &manager };
        let due = Due { runtime, means, services: services(runtime) };
        (services_.carry_out(&due, process), fake.ran.into_inner())
    }

    #[test]
    fn the_service_that_is_active_is_the_one() {
        let (carried, ran) = carry(Runtime::K3s, Means::Restart, Manager::Systemd, None, &[]);
        assert_eq!(carried, Carried::Done("systemctl restart k3s".to_owned()), "{ran:?}");
        let (carried, ran) = carry(Runtime::Rke2, Means::Restart, Manager::Systemd, None, &["rke2-server"]);
        assert_eq!(carried, Carried::Done("systemctl restart rke2-agent".to_owned()), "{ran:?}");
        let (carried, ran) = carry(Runtime::Docker, Means::Reload, Manager::OpenRc, None, &[]);
        assert_eq!(carried, Carried::Done("rc-service docker reload".to_owned()));
        assert_eq!(ran, ["rc-service docker status", "rc-service docker reload"]);
        let (carried, _) = carry(Runtime::Containerd, Means::Restart, Manager::Systemd, None, &["is-active"]);
        assert_eq!(carried, Carried::NotRunning);
        let (carried, _) = carry(Runtime::Containerd, Means::Restart, Manager::Systemd, None, &[" restart "]);
        assert_eq!(carried, Carried::Failed("systemctl restart containerd failed: cause".to_owned()));
    }

    #[test]
    fn a_command_of_the_operator_is_told_what_is_due() {
        let running = Running { pid: Some(7), instance: "a".to_owned() };
        let manager = || Manager::Command("sv \"$2\" \"$1\"".to_owned());
        let (carried, ran) = carry(Runtime::Docker, Means::Reload, manager(), Some(&running), &[]);
        assert!(matches!(carried, Carried::Done(_)));
        assert_eq!(ran, ["sh -c sv \"$2\" \"$1\" satellite docker reload"]);
        assert_eq!(carry(Runtime::Docker, Means::Reload, manager(), None, &[]).0, Carried::NotRunning);
    }

    #[test]
    fn what_nobody_can_do_is_told() {
        let running = Running { pid: Some(7), instance: "a".to_owned() };
        let unseen = Running { pid: None, instance: "unseen".to_owned() };
        for (process, manager) in [(&running, Manager::None), (&unseen, Manager::None)] {
            let (carried, ran) = carry(Runtime::Containerd, Means::Restart, manager, Some(process), &[]);
            assert!(matches!(carried, Carried::Needed(why) if why.contains("--restart-command")));
            assert!(ran.is_empty());
        }
        let (carried, _) = carry(Runtime::Containerd, Means::Restart, Manager::None, None, &[]);
        assert_eq!(carried, Carried::NotRunning);
        let (carried, ran) = carry(Runtime::Docker, Means::Reload, Manager::None, Some(&running), &[]);
        assert!(
            matches!(carried, Carried::Needed(_)) && ran.is_empty(),
            "no signal to another machine's numbers"
        );
    }

    #[test]
    fn one_that_is_known_to_run_is_reloaded_though_nobody_sees_it() {
        let root = tempfile::tempdir().unwrap();
        let host = Host::new(root.path());
        let with = |manager: &Manager, fail: &[&'static str]| {
            let fake = Fake { fail: fail.to_vec(), ran: RefCell::default() };
            (reload(&host, &fake, manager, Runtime::Crio), fake.ran.into_inner())
        };
        let (carried, ran) = with(&Manager::Systemd, &[]);
        assert_eq!(carried, Carried::Done("systemctl reload crio".to_owned()));
        assert_eq!(ran, ["systemctl is-active --quiet crio", "systemctl reload crio"]);
        assert_eq!(with(&Manager::Systemd, &["is-active"]).0, Carried::NotRunning);
        let (carried, ran) = with(&Manager::Command("sv".to_owned()), &[]);
        assert!(matches!(carried, Carried::Done(_)));
        assert_eq!(ran, ["sh -c sv satellite crio reload"]);
        assert!(matches!(with(&Manager::None, &[]).0, Carried::Needed(_)));
    }

    #[test]
    fn a_signal_reaches_this_very_run_and_no_other() {
        let host = Host::new("/");
        let fake = Fake { fail: Vec::new(), ran: RefCell::default() };
        let services_ = Services { host: &host, commands: &fake, manager: &Manager::None };
        let due = Due { runtime: Runtime::Docker, means: Means::Reload, services: Vec::new() };
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = child.id();
        let another = Running { pid: Some(pid), instance: "another".to_owned() };
        assert_eq!(services_.carry_out(&due, Some(&another)), Carried::NotRunning);
        let this = Running { pid: Some(pid), instance: instance(&host, pid) };
        assert_eq!(services_.carry_out(&due, Some(&this)), Carried::Done(format!("SIGHUP to process {pid}")));
        let ended = child.wait().unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&ended), Some(1));
        assert!(fake.ran.borrow().is_empty(), "no program is needed for it");
        assert_eq!(services_.carry_out(&due, Some(&this)), Carried::NotRunning);
    }

    #[test]
    fn the_machine_s_manager_is_found() {
        let root = tempfile::tempdir().unwrap();
        let host = Host::new(root.path());
        assert_eq!(Manager::find(&host, None), Manager::None);
        host.write("/run/openrc/softlevel", "", 0o644).unwrap();
        assert_eq!(Manager::find(&host, None), Manager::OpenRc);
        host.write("/run/systemd/system/x", "", 0o644).unwrap();
        assert_eq!(Manager::find(&host, None), Manager::Systemd);
        assert_eq!(Manager::find(&host, Some("x")), Manager::Command("x".to_owned()));
    }
}
