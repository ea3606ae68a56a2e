//! A search for secrets where none may be: in files, and in what the system tells of a process.

use std::path::{Path, PathBuf};

use crate::files;

/// Texts that nobody may come across, each with what it is.
#[derive(Clone, Debug, Default)]
pub struct Secrets {
    known: Vec<(String, Vec<u8>)>,
}

impl Secrets {
    /// Adds a text, as it is and as base64 carries it.
    pub fn add(&mut self, what: &str, text: &str) {
        use base64::Engine as _;
        assert!(text.len() >= 8, "{what} is too short to be looked for");
        self.known.push((what.to_owned(), text.as_bytes().to_vec()));
        let encoded = base64::engine::general_purpose::STANDARD_NO_PAD.encode(text);
        // The last characters depend on what follows.
        let whole = encoded.len() - encoded.len() % 4;
        self.known.push((format!("{what}, in base64"), encoded.as_bytes()[..whole].to_vec()));
    }

    /// How many texts are looked for.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether there is nothing to look for.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    fn in_bytes(&self, place: &str, bytes: &[u8]) -> Vec<String> {
        let holds = |secret: &[u8]| bytes.windows(secret.len()).any(|window| window == secret);
        let mut found: Vec<String> = self
            .known
            .iter()
            .filter(|(_, secret)| holds(secret))
            .map(|(what, _)| format!("{place}: {what}"))
            .collect();
        // A private key needs nobody to know it beforehand.
        for label in ["PRIVATE KEY-----", "OPENSSH PRIVATE KEY"] {
            if holds(label.as_bytes()) {
                found.push(format!("{place}: a private key"));
            }
        }
        found
    }

    /// Where they are in the files below a folder, or in one file; what `allowed` names is left out.
    pub fn in_files(&self, path: &Path, allowed: &[PathBuf]) -> Vec<String> {
        let files = if path.is_file() { vec![path.to_owned()] } else { files::walk(path) };
        let looked_at = files.iter().filter(|file| !allowed.contains(file));
        looked_at
            .flat_map(|file| {
                self.in_bytes(&file.display().to_string(), &files::read(file).unwrap_or_default())
            })
            .collect()
    }

    /// Where they are in the arguments of a process, which everybody may read.
    pub fn in_arguments(&self, pid: u32) -> Vec<String> {
        let place = format!("/proc/{pid}/cmdline");
        self.in_bytes(&place, &std::fs::read(&place).unwrap_or_default())
    }

    /// Where they are in the environment of a process.
    pub fn in_environment(&self, pid: u32) -> Vec<String> {
        let place = format!("/proc/{pid}/environ");
        self.in_bytes(&place, &std::fs::read(&place).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_found() {
        let dir = files::scratch("secrets").unwrap();
        let mut secrets = Secrets::default();
        secrets.add("the token", "0123456789abcdef");
        files::write(&dir.path().join("clean"), "nothing here").unwrap();
        assert!(secrets.in_files(dir.path(), &[]).is_empty());
        files::write(&dir.path().join("a/log"), "token=0123456789abcdef.").unwrap();
        files::write(&dir.path().join("b"), "Basic MDEyMzQ1Njc4OWFiY2RlZg==").unwrap();
        files::write(&dir.path().join("c"), "-----BEGIN PRIVATE KEY-----").unwrap();
        let found = secrets.in_files(dir.path(), &[]);
        assert_eq!(found.len(), 3, "{found:?}");
        assert_eq!(secrets.in_files(dir.path(), &[dir.path().join("c")]).len(), 2);
        assert!(secrets.in_arguments(std::process::id()).is_empty());
    }
}
