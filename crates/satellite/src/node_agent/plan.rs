//! The site's plan as an agent takes it: checked entry by entry, and kept on disk for starts without the site.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use blob_store::durable;
use oci::{Digest, ImageReference, Reference};

use super::decide::{Name, Wanted};
use crate::site::wire::{LARGEST_PLAN, LONGEST_NAME, MOST_IMAGES, PlannedImage, SitePlan};

const FILE: &str = "plan.json";

/// What is wanted by a plan. What is no name of an image with a tag or a digest is left out, and said.
#[must_use]
pub fn wanted(plan: &SitePlan) -> (Wanted, Vec<String>) {
    let mut names = BTreeMap::new();
    let mut left_out = Vec::new();
    for image in plan.images.iter().take(MOST_IMAGES) {
        match checked(image) {
            Some(digest) => {
                let digest = digest.map(|digest| digest.to_string());
                names.insert(image.name.clone(), Name { digest, local: image.local });
            }
            None => left_out.push(image.name.chars().take(LONGEST_NAME).collect()),
        }
    }
    // Of a plan that is not whole nothing follows for what is not in it.
    let whole = plan.whole && plan.images.len() <= MOST_IMAGES;
    (Wanted { names, whole }, left_out)
}

/// The digest of an entry whose name is written as runtimes write it; before it is local, there may be none.
fn checked(image: &PlannedImage) -> Option<Option<Digest>> {
    let name = image.name.as_str();
    let digest = match image.digest.as_str() {
        "" if !image.local => None,
        digest => Some(digest.parse::<Digest>().ok()?),
    };
    let reference: ImageReference = name.parse().ok()?;
    let is_one = match reference.reference()? {
        Reference::Tag(_) => true,
        Reference::Digest(named) => reference.tag.is_none() && digest.is_none_or(|digest| digest == named),
    };
    let as_written = reference.scheme.is_none() && reference.to_string() == name;
    (is_one && as_written && name.len() <= LONGEST_NAME).then_some(digest)
}

/// Where the last plan is kept.
#[derive(Debug, Clone)]
pub struct PlanFile(PathBuf);

impl PlanFile {
    /// Below the agent's state folder.
    #[must_use]
    pub fn new(state_dir: &Path) -> Self {
        Self(state_dir.join(FILE))
    }

    /// What the last plan wanted. It is old: nothing is pulled or removed by it, but what is here stays pinned.
    #[must_use]
    pub fn load(&self) -> Wanted {
        let bytes = match std::fs::metadata(&self.0) {
            Ok(metadata) if metadata.len() <= LARGEST_PLAN as u64 => {
                std::fs::read(&self.0).unwrap_or_default()
            }
            _ => return Wanted::default(),
        };
        let plan: SitePlan = serde_json::from_slice(&bytes).unwrap_or_default();
        old(wanted(&plan).0)
    }

    /// Keeps a plan.
    ///
    /// # Errors
    /// Where the disk does not take it.
    pub fn store(&self, plan: &SitePlan) -> io::Result<()> {
        durable::write_file(&self.0, &serde_json::to_vec(plan)?, durable::PRIVATE_FILE)
    }
}

/// What a plan means that the site may have changed since: nothing is pulled, and nothing goes.
#[must_use]
pub fn old(mut wanted: Wanted) -> Wanted {
    wanted.whole = false;
    wanted.names.values_mut().for_each(|name| name.local = false);
    wanted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(name: &str, digest: &str) -> PlannedImage {
        PlannedImage { name: name.to_owned(), digest: digest.to_owned(), local: true, ..Default::default() }
    }

    #[test]
    fn only_names_of_images_are_taken() {
        let (d, other) = (Digest::sha256(b"1").to_string(), Digest::sha256(b"2").to_string());
        let good = ["docker.io/library/a:1".to_owned(), "h:5000/a/b:v".to_owned(), format!("q.io/a@{d}")];
        let bad = [
            String::new(),
            "docker.io/library/a".to_owned(),
            "https://docker.io/library/a:1".to_owned(),
            "library:1".to_owned(),
            format!("q.io/a@{other}"),
            format!("q.io/a:1@{d}"),
            "q.io/A:1".to_owned(),
            "q.io/a:1\n".to_owned(),
            format!("q.io/{}:1", "a".repeat(LONGEST_NAME)),
        ];
        let mut images: Vec<PlannedImage> = good.iter().chain(&bad).map(|name| image(name, &d)).collect();
        images.push(image("docker.io/library/b:1", "sha256:1"));
        let (wanted, left_out) = wanted(&SitePlan { images, whole: true });
        assert_eq!(wanted.names.keys().collect::<Vec<_>>(), good.iter().collect::<Vec<_>>());
        assert!(wanted.whole && left_out.len() == bad.len() + 1, "{left_out:?}");
    }

    #[test]
    fn without_a_digest_there_is_nothing_to_ask_for_yet() {
        let plan = |image| SitePlan { images: vec![image], whole: true };
        assert!(wanted(&plan(image("q.io/a:1", ""))).0.names.is_empty());
        let waiting = PlannedImage { local: false, ..image("q.io/a:1", "") };
        assert_eq!(wanted(&plan(waiting)).0.names["q.io/a:1"], Name { digest: None, local: false });
    }

    #[test]
    fn a_kept_plan_pulls_and_removes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = PlanFile::new(folder.path());
        assert_eq!(file.load(), Wanted::default());
        let d = Digest::sha256(b"1").to_string();
        file.store(&SitePlan { images: vec![image("q.io/a:1", &d)], whole: true }).unwrap();
        let kept = file.load();
        assert!(!kept.whole && !kept.names["q.io/a:1"].local);
        durable::write_file(&folder.path().join(FILE), b"{", 0o600).unwrap();
        assert_eq!(file.load(), Wanted::default());
    }
}
