//! Programs of a machine whose root is mounted somewhere: the program starts itself again, enters that root, and becomes
//! the other one. An image from scratch has no `chroot` of its own to do that.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

/// The first argument of a process that shall do so. It stands in no help: nobody types it.
const WORD: &str = "in-root";
/// What a shell says of a program that is not there.
const NOT_RUN: u8 = 127;

/// The words that start this program in that way: the root, a program and its arguments follow. The link names the program
/// also while its file is being replaced.
pub(crate) const ENTER: [&str; 2] = ["/proc/self/exe", WORD];

/// Becomes another program, where the arguments say so. It comes back where that is not asked, or cannot be done.
pub fn answer(arguments: impl IntoIterator<Item = OsString>) -> Option<ExitCode> {
    let mut arguments = arguments.into_iter().skip(1);
    if arguments.next()? != WORD {
        return None;
    }
    let (Some(root), Some(program)) = (arguments.next(), arguments.next()) else {
        return Some(ExitCode::from(NOT_RUN));
    };
    let entered = std::os::unix::fs::chroot(&root).and_then(|()| std::env::set_current_dir("/"));
    let error = match entered {
        Ok(()) => Command::new(&program).args(arguments).exec(),
        Err(error) => error,
    };
    crate::commands::complain(&format!("{} in {}: {error}", program.display(), root.display()));
    Some(ExitCode::from(NOT_RUN))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_its_own_word_is_answered() {
        let asked = |words: &[&str]| answer(words.iter().map(OsString::from));
        assert!(asked(&["satellite"]).is_none() && asked(&["satellite", "status"]).is_none());
        assert!(asked(&["satellite", "mirrors", WORD]).is_none());
        assert!(asked(&["satellite", WORD, "/no/such/root", "sh"]).is_some());
    }
}
