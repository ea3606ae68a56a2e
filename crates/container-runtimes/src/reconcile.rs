//! Makes the files what a plan says, and what is planned no more what it was.
//!
//! A file's *base* is its text without our part: what was there before us while the file is as we wrote it, and otherwise
//! the present text with our entries taken out. Every run goes from the base, so that a changed plan leaves nothing behind.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use serde::Serialize;

use crate::command::Commands;
use crate::containerd::config::{self, Found};
use crate::host::Host;
use crate::plan::{CERTIFICATE, FileEdit, Group, Plan};
use crate::reload::Due;
use crate::runtime::Runtime;
use crate::state::{Record, State, StateFolder, digest};

mod judge;
mod leaving;
mod preview;
mod standing;

pub use preview::Difference;
pub(crate) use standing::group_of;

/// What happened to one file, or would happen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "change", content = "reason", rename_all = "snake_case")]
pub enum Change {
    /// It was as it should be; nothing was written.
    Unchanged,
    /// It has our mirrors now.
    Written,
    /// It is byte for byte what it was before us.
    Restored,
    /// It was edited since we wrote it: only our entries went.
    Stripped,
    /// It was ours alone and is gone.
    Deleted,
    /// It is left alone, and with it the other files of its group.
    Refused(String),
    /// The runtime's parser did not take it: the bytes from before this run are back.
    RolledBack(String),
}

/// What a run did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// By path on the machine.
    pub files: BTreeMap<String, Change>,
    /// Runtimes whose files changed, and what they need to see it.
    pub due: Vec<Due>,
    /// What could not be checked by a runtime's own parser, and why.
    pub unchecked: Vec<String>,
}

/// The machine, our state, and programs to ask.
pub struct Shell<'a> {
    host: &'a Host,
    folder: &'a StateFolder,
    commands: &'a dyn Commands,
    state: State,
}

impl std::fmt::Debug for Shell<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shell").field("state", &self.state).finish_non_exhaustive()
    }
}

struct Step {
    path: String,
    current: Option<String>,
    base: Option<String>,
    target: Option<String>,
    record: Option<Record>,
    change: Change,
    mode: u32,
}

impl<'a> Shell<'a> {
    /// Opens the state.
    pub fn open(host: &'a Host, folder: &'a StateFolder, commands: &'a dyn Commands) -> io::Result<Self> {
        let state = folder.load()?;
        Ok(Self { host, folder, commands, state })
    }

    /// The machine's files.
    pub fn host(&self) -> &Host {
        self.host
    }

    /// What we have written so far.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// What a file holds without our part of it.
    pub fn base(&self, path: &str) -> io::Result<Option<String>> {
        let read = self.read(path).map(|(_, base, _)| base);
        read.map_err(|error| {
            let text = error.to_string();
            // An edit that cannot be taken back names its file by itself.
            if text.starts_with(path) {
                error
            } else {
                io::Error::new(error.kind(), format!("{path}: {text}"))
            }
        })
    }

    /// What `containerd config dump` makes of a configuration with its imports; an error in words.
    pub fn dump(&self, path: &str) -> Result<Found, String> {
        judge::dump(self.commands, path)?.ok_or_else(|| {
            "its configuration has imports, and containerd is not there to read them".to_owned()
        })
    }

    /// The present text, the base, and whether the file was edited since we wrote it.
    fn read(&self, path: &str) -> io::Result<(Option<String>, Option<String>, bool)> {
        let current = self.host.read(path)?;
        let Some(record) = self.state.files.get(path) else { return Ok((current.clone(), current, false)) };
        let before = self.folder.before(record)?;
        match &current {
            Some(text) if record.is_ours(text) || current == before => Ok((current, before, false)),
            None => Ok((None, None, before.is_some())),
            Some(text) => {
                let rest = record.edit.strip(before.as_deref(), text).map(|edit| edit.text);
                let rest = rest.map_err(|refusal| io::Error::other(format!("{path}: {refusal}")))?;
                let gone = before.is_none() && rest.trim().is_empty();
                Ok((current, (!gone).then_some(rest), true))
            }
        }
    }

    /// Makes the files what the plan says. Groups that cannot be done whole are left alone and named; others go on.
    pub fn apply(&mut self, plan: &Plan) -> io::Result<Outcome> {
        let mut outcome = Outcome::default();
        for group in self.groups(plan) {
            self.apply_group(plan, group, &mut outcome)?;
        }
        self.tidy()?;
        Ok(outcome)
    }

    /// The groups that a plan touches.
    fn groups(&self, plan: &Plan) -> Vec<Group> {
        let groups: BTreeSet<Group> = plan
            .files
            .values()
            .map(|file| file.group)
            .chain(self.state.files.values().map(|record| record.group))
            .collect();
        let untouched: BTreeSet<Runtime> = plan.refused.iter().map(|(runtime, _)| *runtime).collect();
        // A runtime that is refused for now keeps what it has: its mirrors may come back.
        let kept = |group: &Group| {
            !plan.files.values().any(|file| file.group == *group)
                && readers(*group).iter().any(|runtime| untouched.contains(runtime))
        };
        groups.into_iter().filter(|group| !kept(group)).collect()
    }

    fn tidy(&mut self) -> io::Result<()> {
        self.sweep()?;
        self.folder.forget_unused(&self.state)
    }

    /// Takes everything of ours out.
    pub fn remove(&mut self) -> io::Result<Outcome> {
        self.apply(&Plan::default())
    }

    /// Whether others than its owner may look into a file.
    fn is_open(&self, path: &str) -> bool {
        self.host.mode(path).is_some_and(|mode| mode & 0o077 != 0)
    }

    fn steps(&self, plan: &Plan, group: Group) -> io::Result<Vec<Step>> {
        let ours = self.state.files.iter().filter(|(_, record)| record.group == group).map(|(path, _)| path);
        let wanted = plan.files.iter().filter(|(_, file)| file.group == group).map(|(path, _)| path);
        let paths: BTreeSet<&String> = ours.chain(wanted).collect();
        let mut steps = Vec::new();
        for path in paths {
            let (current, base, edited) = match self.read(path) {
                Ok(read) => read,
                Err(e) => {
                    steps.push(refused(path, e.to_string()));
                    continue;
                }
            };
            let planned = plan.files.get(path);
            // One that is ours alone is made anew.
            let open_to_others = base.is_some() && self.is_open(path);
            if planned.is_some_and(|file| file.mode & 0o077 == 0) && open_to_others {
                let why = "it would hold credentials and others may read it; take that right away (chmod 600) first";
                steps.push(refused(path, why.to_owned()));
                continue;
            }
            let target = match planned.map(|file| file.edit.apply(base.as_deref())) {
                None => base.clone(),
                Some(Ok(edit)) if base.is_none() && !edit.is_change() => None,
                Some(Ok(edit)) => Some(edit.text),
                Some(Err(refusal)) => {
                    steps.push(refused(path, refusal.to_string()));
                    continue;
                }
            };
            let record = match (planned, &target) {
                (Some(file), Some(text)) if base.as_ref() != Some(text) => {
                    let record = Record {
                        before: base.as_deref().map(digest),
                        written: String::new(),
                        previous: None,
                        edit: file.edit.clone(),
                        group,
                        runtimes: file.runtimes.clone(),
                    };
                    Some(record.rewritten(digest(text), self.state.files.get(path)))
                }
                _ => None,
            };
            let change = match (&record, &target) {
                _ if target == current => Change::Unchanged,
                (Some(_), _) => Change::Written,
                (None, None) => Change::Deleted,
                (None, Some(_)) if edited => Change::Stripped,
                (None, Some(_)) => Change::Restored,
            };
            let mode = planned.map_or(0o644, |file| file.mode);
            steps.push(Step { path: path.clone(), current, base, target, record, change, mode });
        }
        // What others refer to comes first and goes last: certificates, then the folder of registry hosts, then the
        // setting that names the folder.
        steps.sort_by_key(|step| {
            let rank = rank(&step.path);
            if step.record.is_some() { rank } else { 2 - rank }
        });
        Ok(steps)
    }

    fn apply_group(&mut self, plan: &Plan, group: Group, outcome: &mut Outcome) -> io::Result<()> {
        let steps = self.steps(plan, group)?;
        if steps.iter().any(|step| matches!(step.change, Change::Refused(_))) {
            for step in steps {
                let left = || Change::Refused("another file of this runtime cannot be edited".to_owned());
                let change = if matches!(step.change, Change::Refused(_)) { step.change } else { left() };
                outcome.files.insert(step.path, change);
            }
            return Ok(());
        }
        let (old_files, old_pending) = (self.state.files.clone(), self.state.pending.clone());
        let changed: Vec<String> =
            steps.iter().filter(|step| step.target != step.current).map(|step| step.path.clone()).collect();
        let dues =
            if changed.is_empty() { Vec::new() } else { standing::dues(plan, group, &steps, &changed) };
        self.remember(plan, &dues)?;
        let mut done = 0;
        let mut failure = None;
        for step in &steps {
            if let Err(e) = self.write(step) {
                failure = Some(e.to_string());
                break;
            }
            done += 1;
        }
        // What an operator had is put back as it was, whatever anybody thinks of it.
        let meant = steps.iter().any(|step| step.record.is_some());
        if failure.is_none() && !changed.is_empty() && meant {
            match self.judge(group, &steps) {
                Ok(unchecked) => outcome.unchecked.extend(unchecked),
                Err(objection) => failure = Some(objection),
            }
        }
        if let Some(why) = failure {
            for step in steps.iter().take(done + 1).rev() {
                self.roll_back(step)?;
            }
            self.state.files = old_files;
            self.state.pending = old_pending;
            self.folder.save(&self.state)?;
            outcome.files.extend(steps.into_iter().map(|step| {
                let change = if step.target == step.current {
                    Change::Unchanged
                } else {
                    Change::RolledBack(why.clone())
                };
                (step.path, change)
            }));
            return Ok(());
        }
        outcome.due.extend(dues);
        outcome.files.extend(steps.into_iter().map(|step| (step.path, step.change)));
        Ok(())
    }

    fn write(&mut self, step: &Step) -> io::Result<()> {
        if let Some(record) = &step.record {
            if let Some(base) = &step.base {
                self.folder.back_up(base)?;
            }
            let old = self.state.files.insert(step.path.clone(), record.clone());
            // Before they are made: after a kill between the two they go with the rest of ours.
            let known = self.state.folders.len();
            self.state.folders.extend(self.host.missing_folders(&step.path));
            if old.as_ref() != Some(record) || self.state.folders.len() != known {
                self.folder.save(&self.state)?;
            }
        }
        if step.target != step.current {
            match &step.target {
                Some(text) => {
                    if step.base.is_none() && step.mode & 0o077 == 0 && self.is_open(&step.path) {
                        self.host.remove(&step.path)?;
                    }
                    self.host.write(&step.path, text, step.mode)?;
                }
                None => self.host.remove(&step.path)?,
            }
        }
        if step.record.is_none() && self.state.files.remove(&step.path).is_some() {
            self.host.remove_unfinished(&step.path);
            self.folder.save(&self.state)?;
        }
        Ok(())
    }

    fn roll_back(&self, step: &Step) -> io::Result<()> {
        // One that could not be written is as it was, and perhaps cannot be written now either.
        if step.target == step.current || self.host.read(&step.path).is_ok_and(|now| now == step.current) {
            return Ok(());
        }
        match &step.current {
            Some(text) => self.host.write(&step.path, text, step.mode).map(drop),
            None => self.host.remove(&step.path),
        }
    }

    /// Removes the folders that we made and that nothing of ours is in any more.
    fn sweep(&mut self) -> io::Result<()> {
        let files = &self.state.files;
        let in_use = |folder: &String| files.keys().any(|path| path.starts_with(&format!("{folder}/")));
        let idle: Vec<String> =
            self.state.folders.iter().rev().filter(|folder| !in_use(folder)).cloned().collect();
        for folder in &idle {
            self.host.remove_if_empty(folder);
            self.state.folders.remove(folder);
        }
        if idle.is_empty() { Ok(()) } else { self.folder.save(&self.state) }
    }

    fn judge(&self, group: Group, steps: &[Step]) -> Result<Option<String>, String> {
        let config = |wanted: fn(&FileEdit) -> bool| {
            steps.iter().find(|step| step.record.as_ref().is_some_and(|record| wanted(&record.edit)))
        };
        match group {
            Group::Containerd => match config(|edit| matches!(edit, FileEdit::ContainerdConfig { .. })) {
                Some(step) => {
                    judge::containerd(self.commands, &step.path, step.target.as_deref().unwrap_or_default())
                }
                None => Ok(None),
            },
            Group::Docker => match config(|edit| matches!(edit, FileEdit::Docker { .. })) {
                Some(step) => judge::docker(self.commands, &step.path),
                None => Ok(None),
            },
            Group::Containers => judge::containers(self.commands),
            Group::K3s | Group::Rke2 => Ok(None),
        }
    }
}

fn refused(path: &str, why: String) -> Step {
    Step {
        path: path.to_owned(),
        current: None,
        base: None,
        target: None,
        record: None,
        change: Change::Refused(why),
        mode: 0o644,
    }
}

fn rank(path: &str) -> u8 {
    if path.contains(CERTIFICATE) || path.ends_with("/auth.json") {
        0
    } else if path.ends_with("/hosts.toml") {
        1
    } else {
        2
    }
}

/// The runtimes that read a group's files.
fn readers(group: Group) -> &'static [Runtime] {
    match group {
        Group::Containerd => &[Runtime::Containerd],
        Group::Docker => &[Runtime::Docker],
        Group::Containers => &[Runtime::Podman, Runtime::Crio],
        Group::K3s => &[Runtime::K3s],
        Group::Rke2 => &[Runtime::Rke2],
    }
}

/// What `config dump` names as the folder, of a text whose own setting is known.
fn own_folder(text: &str) -> Option<String> {
    config::inspect(text).ok()?.config_path
}

#[cfg(test)]
mod tests;
