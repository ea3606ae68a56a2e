//! Pushes, lists and referrers.

use crate::hostile::{Hostile, Reply};
use crate::setup::client;
use bytes::Bytes;
use futures_util::stream;
use oci::{Digest, Reference, RepositoryName};
use registry_client::{ErrorKind, Fault, Mounted, fallback_tag};

fn repository() -> RepositoryName {
    "library/app".parse().unwrap()
}

fn pieces(content: &[u8]) -> impl futures_util::Stream<Item = Result<Bytes, String>> + Send + 'static {
    let pieces: Vec<_> = content.chunks(1000).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
    stream::iter(pieces)
}

#[tokio::test]
async fn a_blob_is_pushed_in_one_streamed_request() {
    let content = vec![7_u8; 10_500];
    let digest = Digest::sha256(&content);
    let server = Hostile::start(|request, _| match request.method.as_str() {
        "POST" => Reply::status(202).header("Location", "/v2/library/app/blobs/uploads/1?state=abc"),
        _ => Reply::status(201),
    })
    .await;
    client(&server.url()).push_blob(&repository(), &digest, 10_500, pieces(&content)).await.unwrap();
    let requests = server.requests();
    assert_eq!(requests[0].target, "/v2/library/app/blobs/uploads/");
    let escaped = digest.to_string().replace(':', "%3A");
    assert_eq!(requests[1].target, format!("/v2/library/app/blobs/uploads/1?state=abc&digest={escaped}"));
    assert_eq!(requests[1].header("content-length"), Some("10500"));
    assert_eq!(requests[1].header("transfer-encoding"), None);
    assert_eq!(requests[1].body, content);
}

#[tokio::test]
async fn a_push_whose_content_fails_says_so() {
    let server = Hostile::start(|request, _| match request.method.as_str() {
        "POST" => Reply::status(202).header("Location", "/v2/library/app/blobs/uploads/1"),
        _ => Reply::status(201),
    })
    .await;
    let content = stream::iter([Ok(Bytes::from_static(b"12345")), Err("the disk is gone".to_owned())]);
    let error =
        client(&server.url()).push_blob(&repository(), &Digest::sha256(b"x"), 10, content).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Body(text) if text.contains("the disk is gone")), "{error}");
    assert_eq!(error.fault(), Fault::Caller);
}

#[tokio::test]
async fn a_push_into_a_void_ends() {
    let server = Hostile::start(|request, _| match request.method.as_str() {
        "POST" => Reply::status(202).header("Location", "/v2/library/app/blobs/uploads/1"),
        _ => Reply::status(201),
    })
    .await;
    let content = stream::pending::<Result<Bytes, String>>();
    let error =
        client(&server.url()).push_blob(&repository(), &Digest::sha256(b"x"), 10, content).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Stalled(_)), "{error}");
}

#[tokio::test]
async fn mounts() {
    let server = Hostile::start(|request, _| match request.method.as_str() {
        "POST" if request.target.contains("from=other") => Reply::status(201),
        "POST" => Reply::status(202).header("Location", "/v2/library/app/blobs/uploads/9"),
        _ => Reply::status(204),
    })
    .await;
    let client = client(&server.url());
    let digest = Digest::sha256(b"x");
    let other: RepositoryName = "other".parse().unwrap();
    assert_eq!(client.mount_blob(&repository(), &digest, Some(&other)).await.unwrap(), Mounted::Yes);
    assert_eq!(client.mount_blob(&repository(), &digest, None).await.unwrap(), Mounted::No);
    assert_eq!(server.lines().last().unwrap(), "DELETE /v2/library/app/blobs/uploads/9");
}

#[tokio::test]
async fn manifests_are_pushed_as_they_are() {
    let bytes = Bytes::from_static(b"{\"schemaVersion\":2 }");
    let server = Hostile::start(|_, n| match n {
        0 => Reply::status(201).header("OCI-Subject", "sha256:x"),
        _ => Reply::status(201),
    })
    .await;
    let client = client(&server.url());
    let digest = Digest::sha256(&bytes);
    let media_type = oci::media_type::OCI_MANIFEST;
    let pushed = client
        .put_manifest(&repository(), &Reference::Digest(digest), media_type, bytes.clone())
        .await
        .unwrap();
    assert!(pushed.subject_recorded && pushed.digest == digest);
    let pushed =
        client.put_manifest(&repository(), &"v1".parse().unwrap(), media_type, bytes.clone()).await.unwrap();
    assert!(!pushed.subject_recorded);
    let requests = server.requests();
    assert_eq!(requests[0].body, bytes);
    assert_eq!(requests[1].header("content-type"), Some(media_type));
    let wrong = Reference::Digest(Digest::sha256(b"other"));
    let error = client.put_manifest(&repository(), &wrong, media_type, bytes).await.unwrap_err();
    assert_eq!(error.fault(), Fault::Caller);
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn deletes_and_looks() {
    let server = Hostile::start(|request, _| {
        if request.target.contains("gone") { Reply::status(404) } else { Reply::status(200).body("12345") }
    })
    .await;
    let client = client(&server.url());
    let gone: Reference = "gone".parse().unwrap();
    let here: Reference = "here".parse().unwrap();
    assert!(client.delete_manifest(&repository(), &here).await.unwrap());
    assert!(!client.delete_manifest(&repository(), &gone).await.unwrap());
    assert!(client.head_manifest(&repository(), &gone).await.unwrap().is_none());
    assert_eq!(client.head_manifest(&repository(), &here).await.unwrap().unwrap().size, Some(5));
    assert_eq!(client.has_blob(&repository(), &Digest::sha256(b"")).await.unwrap().unwrap().size, Some(5));
}

#[tokio::test]
async fn tag_lists_are_followed_to_their_end() {
    let server = Hostile::start(|request, _| {
        if request.target.contains("last=b") {
            return Reply::json(200, r#"{"name":"library/app","tags":["c","not a tag"]}"#);
        }
        Reply::json(200, r#"{"name":"library/app","tags":["a","b"]}"#)
            .header("Link", r#"</v2/library/app/tags/list?n=2&last=b>; rel="next""#)
    })
    .await;
    let tags = client(&server.url()).tags(&repository()).await.unwrap();
    assert_eq!(tags.iter().map(|t| t.as_str()).collect::<Vec<_>>(), ["a", "b", "c"]);

    let server = Hostile::start(|_, n| {
        Reply::json(200, r#"{"tags":null}"#).header("Link", &format!(r#"<?last={n}>; rel="next""#))
    })
    .await;
    let error = client(&server.url()).tags(&repository()).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Malformed(_)), "{error}");
}

fn index(types: &[&str]) -> String {
    let entries: Vec<String> = types
        .iter()
        .map(|t| {
            format!(
                r#"{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{}","size":2,"artifactType":"{t}"}}"#,
                Digest::sha256(t.as_bytes())
            )
        })
        .collect();
    format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{}]}}"#,
        entries.join(",")
    )
}

fn index_reply(types: &[&str]) -> Reply {
    Reply::status(200).header("Content-Type", oci::media_type::OCI_INDEX).body(index(types))
}

#[tokio::test]
async fn referrers_with_and_without_a_filter_and_in_pages() {
    let subject = Digest::sha256(b"subject");
    let server = Hostile::start(|request, _| {
        if request.target.contains("page=2") {
            return index_reply(&["application/sbom"]);
        }
        if request.target.contains("artifactType") {
            return index_reply(&["application/sig"]).header("OCI-Filters-Applied", "artifactType");
        }
        index_reply(&["application/sig"]).header("Link", r#"<?page=2>; rel="next""#)
    })
    .await;
    let client = client(&server.url());
    let all = client.referrers(&repository(), &subject, None).await.unwrap();
    assert_eq!((all.descriptors.len(), all.from_tag), (2, false));
    let some = client.referrers(&repository(), &subject, Some("application/sig")).await.unwrap();
    assert_eq!(some.descriptors.len(), 1);
    assert!(server.lines().last().unwrap().ends_with("?artifactType=application%2Fsig"));
}

#[tokio::test]
async fn a_registry_that_does_not_filter_is_filtered_here() {
    let server = Hostile::start(|_, _| index_reply(&["a/x", "a/y"])).await;
    let found =
        client(&server.url()).referrers(&repository(), &Digest::sha256(b"s"), Some("a/y")).await.unwrap();
    assert_eq!(
        found.descriptors.iter().map(|d| d.artifact_type.as_deref()).collect::<Vec<_>>(),
        [Some("a/y")]
    );
}

#[tokio::test]
async fn without_a_referrers_api_the_tag_is_read() {
    let subject = Digest::sha256(b"subject");
    let tag = fallback_tag(&subject).unwrap();
    assert_eq!(tag.as_str(), format!("sha256-{}", subject.hex()));
    for status in [404, 405] {
        let path = format!("/v2/library/app/manifests/{tag}");
        let server = Hostile::start(move |request, _| {
            if request.path() == path { index_reply(&["a/x", "a/y"]) } else { Reply::status(status) }
        })
        .await;
        let found = client(&server.url()).referrers(&repository(), &subject, Some("a/x")).await.unwrap();
        assert_eq!((found.descriptors.len(), found.from_tag), (1, true));
    }
    let server = Hostile::start(|_, _| Reply::status(404)).await;
    let found = client(&server.url()).referrers(&repository(), &subject, None).await.unwrap();
    assert!(found.descriptors.is_empty());
    // 403 is no answer about the API.
    let server = Hostile::start(|_, _| Reply::status(403)).await;
    assert!(client(&server.url()).referrers(&repository(), &subject, None).await.unwrap_err().is_forbidden());
}
