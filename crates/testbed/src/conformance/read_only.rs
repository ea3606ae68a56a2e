//! A registry that is only read: known content is pulled and found, and every write is refused and changes nothing.

use std::collections::{BTreeSet, VecDeque};

use oci::{Digest, media_type};
use reqwest::Method;
use serde_json::Value;

use super::session::{Answer, Failure, Session, ensure, with_query};
use super::{CheckResult, KnownContent, Report};

/// Everything that hangs on the known digest.
#[derive(Default)]
struct Graph {
    manifests: BTreeSet<Digest>,
    blobs: BTreeSet<(Digest, u64)>,
}

pub(super) async fn run(session: &Session, known: &KnownContent, report: &mut Report) {
    let mut add = |name: &str, outcome: Result<(), Failure>| {
        report.results.push(CheckResult {
            name: name.to_owned(),
            failure: outcome.err().map(|failure| failure.to_string()),
        });
    };
    let graph = match walk(session, known).await {
        Ok(graph) => {
            add("read-only: the whole graph is there by digest", Ok(()));
            graph
        }
        Err(failure) => {
            add("read-only: the whole graph is there by digest", Err(failure));
            Graph::default()
        }
    };
    add("read-only: base", base(session).await);
    add("read-only: by tag", by_tag(session, known).await);
    add("read-only: conditional manifest", conditional(session, known).await);
    add("read-only: blobs, whole and head", blobs(session, known, &graph).await);
    add("read-only: blobs by range", ranges(session, known, &graph).await);
    add("read-only: missing manifests and blobs", missing(session, known).await);
    add("read-only: tags", tags(session, known).await);
    add("read-only: catalog", catalog(session, known).await);
    add("read-only: referrers", referrers(session, known).await);
    add("read-only: foreign ns", foreign_namespace(session, known).await);
    for (name, method, path, body) in writes(known, &graph) {
        add(&format!("refused: {name}"), refused(session, known, method, &path, body).await);
    }
    let after = walk(session, known).await.and_then(|after| {
        ensure(after.manifests == graph.manifests && after.blobs == graph.blobs, || {
            "the graph changed".to_owned()
        })
    });
    add("refused: everything is as it was", after);
    add("refused: tags are as they were", tags(session, known).await);
}

fn manifest_path(known: &KnownContent, reference: impl std::fmt::Display) -> String {
    format!("/v2/{}/manifests/{reference}", known.repository)
}

fn blob_path(known: &KnownContent, digest: impl std::fmt::Display) -> String {
    format!("/v2/{}/blobs/{digest}", known.repository)
}

/// Gets a manifest and checks that it is what its digest says.
async fn manifest(session: &Session, known: &KnownContent, digest: &Digest) -> Result<Answer, Failure> {
    let path = manifest_path(known, digest);
    let answer =
        session.get(&path).send().await?.status(200)?.header("docker-content-digest", &digest.to_string())?;
    ensure(Digest::of(digest.algorithm(), &answer.body) == *digest, || format!("{path}: other bytes"))?;
    session
        .head(&path)
        .send()
        .await?
        .status(200)?
        .header("content-length", &answer.body.len().to_string())?
        .header("docker-content-digest", &digest.to_string())?;
    Ok(answer)
}

/// Walks from the known digest and its referrers through all children. A child that a platform filter left out is not
/// counted, as long as one child of its index is there.
async fn walk(session: &Session, known: &KnownContent) -> Result<Graph, Failure> {
    let mut graph = Graph::default();
    let mut queue: VecDeque<Digest> =
        std::iter::once(known.digest).chain(known.referrers.iter().copied()).collect();
    while let Some(digest) = queue.pop_front() {
        if !graph.manifests.insert(digest) {
            continue;
        }
        let document = manifest(session, known, &digest).await?.json()?;
        let children: Vec<Digest> = digests(&document["manifests"]).map(|(digest, _)| digest).collect();
        let mut here = 0;
        for child in &children {
            if session.head(&manifest_path(known, child)).send().await?.status.as_u16() == 200 {
                here += 1;
                queue.push_back(*child);
            }
        }
        ensure(children.is_empty() || here > 0, || format!("{digest}: no child of this index is here"))?;
        let config = serde_json::json!([document["config"]]);
        graph.blobs.extend(digests(&config));
        graph.blobs.extend(digests(&document["layers"]));
    }
    Ok(graph)
}

fn digests(list: &Value) -> impl Iterator<Item = (Digest, u64)> {
    list.as_array()
        .into_iter()
        .flatten()
        .filter(|entry| !entry["mediaType"].as_str().is_some_and(media_type::is_non_distributable))
        .filter_map(|entry| Some((entry["digest"].as_str()?.parse().ok()?, entry["size"].as_u64()?)))
}

async fn base(session: &Session) -> Result<(), Failure> {
    session.get("/v2/").send().await?.status(200)?;
    Ok(())
}

async fn by_tag(session: &Session, known: &KnownContent) -> Result<(), Failure> {
    let by_digest = manifest(session, known, &known.digest).await?;
    let path = manifest_path(known, &known.tag);
    session
        .get(&path)
        .header("accept", media_type::OCI_INDEX)
        .header("accept", media_type::OCI_MANIFEST)
        .header("accept", media_type::DOCKER_LIST)
        .header("accept", media_type::DOCKER_MANIFEST)
        .send()
        .await?
        .status(200)?
        .header("docker-content-digest", &known.digest.to_string())?
        .header("content-type", &by_digest.value("content-type").unwrap_or_default())?
        .body(&by_digest.body)?;
    session
        .head(&path)
        .send()
        .await?
        .status(200)?
        .header("docker-content-digest", &known.digest.to_string())?
        .header("content-length", &by_digest.body.len().to_string())?;
    Ok(())
}

async fn conditional(session: &Session, known: &KnownContent) -> Result<(), Failure> {
    let path = manifest_path(known, known.digest);
    let etag = session.head(&path).send().await?.status(200)?.value("etag").unwrap_or_default();
    session.get(&path).header("if-none-match", &etag).send().await?.status(304)?.body(b"")?;
    Ok(())
}

async fn blobs(session: &Session, known: &KnownContent, graph: &Graph) -> Result<(), Failure> {
    ensure(!graph.blobs.is_empty(), || "the known content names no blobs".to_owned())?;
    for (digest, size) in &graph.blobs {
        let path = blob_path(known, digest);
        session
            .head(&path)
            .send()
            .await?
            .status(200)?
            .header("content-length", &size.to_string())?
            .header("docker-content-digest", &digest.to_string())?;
        let answer = session.get(&path).send().await?.status(200)?;
        ensure(Digest::of(digest.algorithm(), &answer.body) == *digest, || format!("{path}: other bytes"))?;
    }
    Ok(())
}

async fn ranges(session: &Session, known: &KnownContent, graph: &Graph) -> Result<(), Failure> {
    let Some((digest, size)) = graph.blobs.iter().max_by_key(|(_, size)| *size) else {
        return Err(Failure::new("the known content names no blobs"));
    };
    ensure(*size >= 2, || "the known content has no blob of two bytes".to_owned())?;
    let path = blob_path(known, digest);
    let whole = session.get(&path).send().await?.status(200)?.body;
    let middle = whole.len() / 2;
    for (range, part) in [
        (format!("bytes={middle}-"), &whole[middle..]),
        (format!("bytes=0-{}", middle - 1), &whole[..middle]),
        ("bytes=-1".to_owned(), &whole[whole.len() - 1..]),
    ] {
        session.get(&path).header("range", &range).send().await?.status(206)?.body(part)?;
    }
    session.get(&path).header("range", &format!("bytes={size}-")).send().await?.status(416)?;
    Ok(())
}

async fn missing(session: &Session, known: &KnownContent) -> Result<(), Failure> {
    let digest = Digest::sha256(b"nobody has pushed this");
    session.get(&manifest_path(known, digest)).send().await?.error(404, "MANIFEST_UNKNOWN")?;
    session.get(&manifest_path(known, "no-such-tag")).send().await?.error(404, "MANIFEST_UNKNOWN")?;
    session.head(&manifest_path(known, "no-such-tag")).send().await?.status(404)?;
    session.get(&blob_path(known, digest)).send().await?.error(404, "BLOB_UNKNOWN")?;
    session.get("/v2/no/such/repository/tags/list").send().await?.error(404, "NAME_UNKNOWN")?;
    session.get("/v2/UPPER/tags/list").send().await?.error(400, "NAME_INVALID")?;
    session.get(&manifest_path(known, "sha256:abc")).send().await?.error(400, "DIGEST_INVALID")?;
    Ok(())
}

async fn tags(session: &Session, known: &KnownContent) -> Result<(), Failure> {
    let path = format!("/v2/{}/tags/list", known.repository);
    let list = session.get(&path).send().await?.status(200)?.json()?;
    let tags: Vec<&str> = list["tags"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    ensure(tags.contains(&known.tag.as_str()), || format!("{list}"))?;
    ensure(tags.is_sorted(), || format!("not sorted: {list}"))?;
    ensure(!tags.contains(&WRITTEN_TAG), || format!("a refused write left its tag: {list}"))?;
    let none = session.get(&format!("{path}?n=0")).send().await?.status(200)?.json()?;
    ensure(none["tags"].as_array().is_some_and(Vec::is_empty), || format!("n=0: {none}"))
}

async fn catalog(session: &Session, known: &KnownContent) -> Result<(), Failure> {
    let mut next = Some("/v2/_catalog".to_owned());
    while let Some(path) = next {
        let answer = session.get(&path).send().await?.status(200)?;
        let list = answer.json()?;
        if list["repositories"].as_array().into_iter().flatten().any(|name| name == &known.repository) {
            return Ok(());
        }
        next = answer.next();
    }
    Err(Failure::new(format!("{} is not in the catalog", known.repository)))
}

async fn referrers(session: &Session, known: &KnownContent) -> Result<(), Failure> {
    let path = format!("/v2/{}/referrers/{}", known.repository, known.digest);
    let answer =
        session.get(&path).send().await?.status(200)?.header("content-type", media_type::OCI_INDEX)?;
    let index = answer.json()?;
    let listed: Vec<Digest> = digests(&index["manifests"]).map(|(digest, _)| digest).collect();
    for referrer in &known.referrers {
        ensure(listed.contains(referrer), || format!("{referrer} is not listed: {index}"))?;
    }
    for entry in index["manifests"].as_array().into_iter().flatten() {
        let Some(artifact_type) = entry["artifactType"].as_str() else { continue };
        let query = format!("artifactType={}", artifact_type.replace('+', "%2B"));
        let filtered = session
            .get(&with_query(&path, &query))
            .send()
            .await?
            .status(200)?
            .header("oci-filters-applied", "artifactType")?
            .json()?;
        let all = filtered["manifests"].as_array().cloned().unwrap_or_default();
        ensure(!all.is_empty() && all.iter().all(|entry| entry["artifactType"] == artifact_type), || {
            format!("filtered by {artifact_type}: {filtered}")
        })?;
    }
    let none = format!("/v2/{}/referrers/{}", known.repository, Digest::sha256(b"no subject"));
    let empty = session.get(&none).send().await?.status(200)?.json()?;
    ensure(empty["manifests"].as_array().is_some_and(Vec::is_empty), || format!("{none}: {empty}"))
}

async fn foreign_namespace(session: &Session, known: &KnownContent) -> Result<(), Failure> {
    // A host may have a place of its own below its name, where there is nothing; one with a port has none.
    let path = format!("{}?ns=registry.example.invalid", manifest_path(known, &known.tag));
    session.get(&path).send().await?.status(404)?;
    session.get(&format!("{path}:5000")).send().await?.error(404, "NAME_UNKNOWN")?;
    Ok(())
}

const WRITTEN_TAG: &str = "refused-write";

/// Every kind of write.
fn writes(known: &KnownContent, graph: &Graph) -> Vec<(&'static str, Method, String, &'static str)> {
    let uploads = format!("/v2/{}/blobs/uploads/", known.repository);
    let session = format!("{uploads}00000000-0000-4000-8000-000000000000");
    let fresh = Digest::sha256(b"fresh");
    let held = graph.blobs.iter().next().map_or(fresh, |(digest, _)| *digest);
    vec![
        ("begin an upload", Method::POST, uploads.clone(), ""),
        (
            "begin an upload in a new repository",
            Method::POST,
            "/v2/a/new/repository/blobs/uploads/".to_owned(),
            "",
        ),
        ("push a blob in one post", Method::POST, format!("{uploads}?digest={fresh}"), "fresh"),
        (
            "mount a blob",
            Method::POST,
            format!("/v2/other/blobs/uploads/?mount={held}&from={}", known.repository),
            "",
        ),
        ("mount a blob anonymously", Method::POST, format!("/v2/other/blobs/uploads/?mount={held}"), ""),
        ("append to an upload", Method::PATCH, session.clone(), "fresh"),
        ("close an upload", Method::PUT, format!("{session}?digest={fresh}"), "fresh"),
        ("cancel an upload", Method::DELETE, session, ""),
        ("put a manifest by a new tag", Method::PUT, manifest_path(known, WRITTEN_TAG), "{}"),
        ("put a manifest by the known tag", Method::PUT, manifest_path(known, &known.tag), "{}"),
        ("put a manifest by digest", Method::PUT, manifest_path(known, known.digest), "{}"),
        ("delete the known tag", Method::DELETE, manifest_path(known, &known.tag), ""),
        ("delete the known manifest", Method::DELETE, manifest_path(known, known.digest), ""),
        ("delete a blob", Method::DELETE, blob_path(known, held), ""),
    ]
}

async fn refused(
    session: &Session,
    known: &KnownContent,
    method: Method,
    path: &str,
    body: &'static str,
) -> Result<(), Failure> {
    let request = session.request(method, path).header("content-type", media_type::OCI_MANIFEST);
    request.body(body).send().await?.error(405, "UNSUPPORTED")?;
    session
        .head(&manifest_path(known, &known.tag))
        .send()
        .await?
        .status(200)?
        .header("docker-content-digest", &known.digest.to_string())?;
    Ok(())
}
