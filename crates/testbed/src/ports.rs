//! Free ports for programs that have to be told one.
//!
//! A port that the system picks is free only until somebody else connects. So ports are taken below the range from which
//! the system picks, and each is reserved by a lock on a file for as long as its handle lives: two tests, in two
//! processes, never get the same one, and a program can be killed and started again on its own.

use std::fs::File;
use std::net::TcpListener;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::{Error, Result};

const FIRST: u32 = 12_000;
const LAST: u32 = 32_000;

/// A reserved port of 127.0.0.1.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _lock: File,
}

impl Port {
    /// Reserves a port that nobody listens on.
    pub fn reserve() -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let folder = std::env::temp_dir().join("testbed-ports");
        crate::files::create_dir(&folder)?;
        let range = LAST - FIRST;
        let start = std::process::id().wrapping_mul(97);
        for _ in 0..range {
            let step = NEXT.fetch_add(1, Ordering::Relaxed);
            let number = FIRST + start.wrapping_add(step) % range;
            let Ok(number) = u16::try_from(number) else { continue };
            let path = folder.join(number.to_string());
            let Ok(lock) = File::options().create(true).append(true).open(&path) else { continue };
            if lock.try_lock().is_ok() && TcpListener::bind(("127.0.0.1", number)).is_ok() {
                return Ok(Self { number, _lock: lock });
            }
        }
        Err(Error::Missing {
            what: "a free port".into(),
            remedy: format!("end some of the programs that listen on {FIRST} to {LAST}"),
        })
    }

    /// The number.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// `127.0.0.1:<port>`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_the_same_twice() {
        let ports: Vec<Port> = (0..20).map(|_| Port::reserve().unwrap()).collect();
        let numbers: std::collections::BTreeSet<u16> = ports.iter().map(Port::number).collect();
        assert_eq!(numbers.len(), ports.len());
    }
}
