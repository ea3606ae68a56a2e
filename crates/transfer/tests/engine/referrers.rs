//! What refers to a graph comes with it: to any depth, of every manifest in it, and later too.

use oci::{Digest, media_type};
use serde_json::json;
use transfer::Event;

use crate::content::{Content, bytes};
use crate::upstream::{Site, Upstream};

const REPOSITORY: &str = "library/app";

/// An index of one image; signatures of both, and a signature of the index's signature.
fn signed() -> (Content, Digest, [Digest; 3]) {
    let mut content = Content::default();
    let image = content.image(1, &[bytes(1, 10_000)]);
    let index = content.index(&[(image, Some("linux/amd64"))]);
    let of_image = content.referrer(&image, b"signature of the image");
    let of_index = content.referrer(&index, b"signature of the index");
    let of_signature = content.referrer(&of_index, b"signature of the signature");
    (content, index, [of_image, of_index, of_signature])
}

#[tokio::test(flavor = "multi_thread")]
async fn referrers_of_everything_at_any_depth() {
    let (content, index, signatures) = signed();
    let (upstream, site) = (Upstream::new(content.clone()).await, Site::new());
    let mut request = upstream.request(REPOSITORY, index);
    request.referrers = true;
    let outcome = site.engine.copy(&request).await.unwrap();
    assert_eq!(outcome.referrers, 3);
    site.assert_holds(REPOSITORY, &content).await;
    let listed = site.store.referrers(&REPOSITORY.parse().unwrap(), &index).unwrap();
    assert_eq!(listed.iter().map(|d| d.digest).collect::<Vec<_>>(), [signatures[1]]);

    // A second look costs one question for each of the five manifests, and nothing else.
    let again = site.engine.copy(&request).await.unwrap();
    assert_eq!((again.requests, again.bytes_fetched), (5, 0));
    assert!(again.was_whole && !again.changed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signature_that_comes_later_is_found_at_the_next_look() {
    let (content, index, _) = signed();
    let (upstream, site) = (Upstream::new(content).await, Site::new());
    let mut request = upstream.request(REPOSITORY, index);
    request.tags = vec!["1".parse().unwrap()];
    site.engine.copy(&request).await.unwrap();
    let mut late = index;
    upstream.change(|content| late = content.referrer(&index, b"an SBOM"));
    request.tags = vec!["not-moved-by-a-look".parse().unwrap()];
    let outcome = site.engine.copy_referrers(&request).await.unwrap();
    assert!(outcome.changed() && outcome.tags_moved == 0, "{outcome:?}");
    assert!(site.has_manifest(REPOSITORY, &late));
    assert_eq!(site.tag(REPOSITORY, "not-moved-by-a-look"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_that_name_what_is_gone_or_unrelated_harm_nothing() {
    let (mut content, index, [_, of_index, _]) = signed();
    let unrelated = content.image(7, &[]);
    let (of_other, gone) = {
        let other = content.referrer(&unrelated, b"signature of something else");
        let gone = content.referrer(&index, b"to be deleted");
        (content.entry(&other, None), gone)
    };
    content.manifests.remove(&gone);
    let itself = content.entry(&index, None);
    content.referrers.get_mut(&index).unwrap().extend([of_other.clone(), itself]);
    let (upstream, site) = (Upstream::new(content).await, Site::new());
    let mut request = upstream.request(REPOSITORY, index);
    request.referrers = true;
    request.tags = vec!["1".parse().unwrap()];
    let outcome = site.engine.copy(&request).await.unwrap();
    assert_eq!(outcome.referrers_skipped, 2);
    assert_eq!(site.tag(REPOSITORY, "1"), Some(index));
    assert!(site.has_manifest(REPOSITORY, &of_index));
    let other: Digest = of_other["digest"].as_str().unwrap().parse().unwrap();
    assert!(!site.has_manifest(REPOSITORY, &other));
    assert!(
        site.events().iter().any(|e| matches!(e, Event::ReferrerSkipped { digest, .. } if *digest == gone))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn referrers_that_go_in_a_circle_end() {
    // A list, unlike a digest, can lie: two artifacts that are listed as each other's referrers.
    let (mut content, index, [_, of_index, of_signature]) = signed();
    let entry = content.entry(&of_index, None);
    content.referrers.entry(of_signature).or_default().push(entry);
    let document = json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": []});
    content.manifest(media_type::OCI_INDEX, &document);
    let (upstream, site) = (Upstream::new(content).await, Site::new());
    let mut request = upstream.request(REPOSITORY, index);
    request.referrers = true;
    assert_eq!(site.engine.copy(&request).await.unwrap().referrers, 3);
}
