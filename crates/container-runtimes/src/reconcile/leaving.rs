//! Docker's file on the way out. A reload takes over only the keys that a file has: without `registry-mirrors` the engine
//! goes on with the mirrors that it knows, so that the file first says an empty list, and then what it said before us.

use std::io;

use super::{Change, Shell};
use crate::docker;
use crate::plan::{FileEdit, Group, Plan};
use crate::state::{Record, digest};

/// A file of Docker's from which our mirrors are about to go, and the key with them.
#[derive(Debug)]
pub(crate) struct Leaving {
    /// The file.
    pub(crate) path: String,
    /// Whether it was edited since we wrote it.
    pub(crate) edited: bool,
    /// What stands in it until the engine has seen it.
    until: String,
    /// What it will hold.
    base: Option<String>,
}

impl Shell<'_> {
    /// The file that is to lose the key, if there is one.
    pub(crate) fn leaving(&self, plan: &Plan) -> io::Result<Option<Leaving>> {
        if !self.groups(plan).contains(&Group::Docker) {
            return Ok(None);
        }
        let steps = self.steps(plan, Group::Docker)?;
        if steps.iter().any(|step| matches!(step.change, Change::Refused(_))) {
            return Ok(None);
        }
        let is_ours = |path: &str| {
            let record = self.state.files.get(path);
            record.is_some_and(|record| matches!(record.edit, FileEdit::Docker { .. }))
        };
        let leaving = steps.into_iter().filter(|step| step.record.is_none() && is_ours(&step.path));
        Ok(leaving
            .filter(|step| step.current.is_some())
            .filter_map(|step| {
                let edit = docker::with_empty_list(step.target.as_deref()).ok()?;
                edit.is_change().then(|| Leaving {
                    path: step.path,
                    edited: step.change == Change::Stripped,
                    until: edit.text,
                    base: step.target,
                })
            })
            .next())
    }

    /// Writes the empty list. The record goes on telling what was there before us, so that a later run of ours, whatever
    /// happened to this one, completes it.
    pub(crate) fn empty(&mut self, leaving: &Leaving) -> io::Result<()> {
        let Some(old) = self.state.files.get(&leaving.path).cloned() else { return Ok(()) };
        if let Some(base) = &leaving.base {
            self.folder.back_up(base)?;
        }
        let before = leaving.base.as_deref().map(digest);
        let record = Record { before, ..old.clone() }.rewritten(digest(&leaving.until), Some(&old));
        if record != old {
            self.state.files.insert(leaving.path.clone(), record);
            self.folder.save(&self.state)?;
        }
        if self.host.read(&leaving.path)?.as_ref() != Some(&leaving.until) {
            self.host.write(&leaving.path, &leaving.until, 0o644)?;
        }
        Ok(())
    }
}
