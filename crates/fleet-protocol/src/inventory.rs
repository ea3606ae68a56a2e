//! One digest for all images of a satellite, so that a list that has not changed need not travel.

use std::collections::BTreeMap;

use oci::Digest;

use crate::heartbeat::CachedImage;

/// The digest (`sha256:…`) of a list of images: equal lists have equal digests, whatever their order. It is taken over the lines
/// `<reference> <size_bytes>\n`, sorted by reference; of a reference that is listed twice the last one counts.
pub fn digest(images: &[CachedImage]) -> String {
    let sorted: BTreeMap<&str, u64> =
        images.iter().map(|image| (image.reference.as_str(), image.size_bytes)).collect();
    let mut text = String::new();
    for (reference, size) in sorted {
        text.push_str(reference);
        text.push(' ');
        text.push_str(&size.to_string());
        text.push('\n');
    }
    Digest::sha256(text.as_bytes()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_depends_on_the_images_and_not_on_their_order() {
        let image = |reference: &str, size_bytes| CachedImage { reference: reference.into(), size_bytes };
        let (a, b) = (image("a", 1), image("b", 2));
        assert_eq!(digest(&[a.clone(), b.clone()]), digest(&[b.clone(), a.clone()]));
        assert_ne!(digest(&[a.clone(), b]), digest(&[a.clone(), image("b", 3)]));
        assert_ne!(digest(&[a]), digest(&[]));
    }
}
