//! What satellites report: one latest report, a bounded history, and the images they hold.

use std::collections::BTreeMap;

use jiff::Timestamp;

pub use fleet_protocol::Heartbeat as Report;
pub use fleet_protocol::heartbeat::CachedImage;

use crate::SatelliteId;

/// How many reports the history of one satellite keeps.
pub const HISTORY: i64 = 64;

/// The most images that are kept of one report.
pub const MAX_IMAGES: usize = 10_000;

/// An authenticated report to be recorded.
#[derive(Debug, Clone)]
pub struct HeartbeatRecord {
    /// Whose report it is, by its credential and never by the name inside.
    pub satellite: SatelliteId,
    /// When it arrived.
    pub received_at: Timestamp,
    /// The report.
    pub report: Report,
}

/// A recorded report.
#[derive(Debug, Clone, PartialEq)]
pub struct Heartbeat {
    /// When it arrived.
    pub received_at: Timestamp,
    /// The report. In a history its list of images is empty.
    pub report: Report,
}

/// What became of one report of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeartbeatOutcome {
    /// It is recorded.
    Recorded {
        /// Whether it is the first that was heard of the satellite since it was `pending`.
        first: bool,
        /// When its robot's secret was made; `None` where it has no robot yet.
        secret_rotated_at: Option<Timestamp>,
    },
    /// The satellite was revoked (or waits for approval) in the meantime: 403.
    Refused,
    /// It was deleted in the meantime: 401.
    Gone,
}

/// The longest interval text that is kept, in bytes.
const MAX_INTERVAL: usize = 64;

impl HeartbeatRecord {
    /// The images as they are kept: sorted, each reference once (the last one counts), at most [`MAX_IMAGES`].
    pub fn images(&self) -> BTreeMap<&str, &CachedImage> {
        self.report
            .cached_images
            .iter()
            .filter(|image| storable(&image.reference, MAX_REFERENCE))
            .take(MAX_IMAGES)
            .map(|image| (image.reference.as_str(), image))
            .collect()
    }

    /// How often the satellite says that it reports, if that is worth keeping.
    pub fn interval(&self) -> Option<&str> {
        Some(self.report.state_report_interval.as_str()).filter(|text| storable(text, MAX_INTERVAL))
    }

    /// The report as it is kept beside its images.
    pub fn summary(&self) -> Report {
        Report { cached_images: Vec::new(), ..self.report.clone() }
    }
}

/// Tells lists of images apart: equal lists have equal fingerprints.
pub fn fingerprint(images: &BTreeMap<&str, &CachedImage>) -> String {
    let mut text = String::new();
    for image in images.values() {
        text.push_str(&image.reference);
        text.push(' ');
        text.push_str(&image.size_bytes.to_string());
        text.push('\n');
    }
    oci::Digest::sha256(text.as_bytes()).to_string()
}

/// The digest within an image's reference; empty where it has none.
pub fn digest_of(reference: &str) -> &str {
    reference.rsplit_once('@').map_or("", |(_, digest)| digest)
}

/// The longest reference that is kept: a host, a repository of 255 characters, a tag and a digest.
const MAX_REFERENCE: usize = 1024;

/// PostgreSQL's text cannot hold NUL, and no list may grow without bound.
fn storable(text: &str, most: usize) -> bool {
    !text.is_empty() && text.len() <= most && !text.contains('\0')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(references: &[(&str, u64)]) -> HeartbeatRecord {
        let cached_images = references
            .iter()
            .map(|(reference, size_bytes)| CachedImage {
                reference: (*reference).into(),
                size_bytes: *size_bytes,
            })
            .collect();
        HeartbeatRecord {
            satellite: SatelliteId::generate(),
            received_at: Timestamp::UNIX_EPOCH,
            report: Report { cached_images, ..Report::default() },
        }
    }

    #[test]
    fn images_are_kept_once_and_in_order() {
        let record = record(&[("b@sha256:1", 1), ("a", 2), ("b@sha256:1", 3), ("", 4), ("nul\0", 5)]);
        let images: Vec<_> = record.images().into_iter().map(|(r, i)| (r, i.size_bytes)).collect();
        assert_eq!(images, [("a", 2), ("b@sha256:1", 3)]);
        assert_eq!(digest_of("b@sha256:1"), "sha256:1");
        assert_eq!(digest_of("a"), "");
    }

    #[test]
    fn a_fingerprint_depends_on_the_images_and_not_on_their_order() {
        let (a, b) = (record(&[("a", 1), ("b", 2)]), record(&[("b", 2), ("a", 1)]));
        assert_eq!(fingerprint(&a.images()), fingerprint(&b.images()));
        assert_ne!(fingerprint(&a.images()), fingerprint(&record(&[("a", 1), ("b", 3)]).images()));
        assert_ne!(fingerprint(&a.images()), fingerprint(&record(&[]).images()));
    }
}
