//! Tag lists, the catalog, and referrers.

use oci::{Algorithm, Digest, media_type};
use serde_json::{Value, json};

use super::content::{self, ARTIFACT, Manifest, OTHER_ARTIFACT, random};
use super::session::{Failure, Session, ensure};
use super::{Check, checks};

pub(super) const CHECKS: &[Check] = checks! {
    once "tags: unknown repository" => unknown_repository,
    once "tags: repository without tags" => no_tags,
    once "tags: sorted" => sorted,
    once "tags: pages" => pages,
    once "tags: last without n" => last_without_n,
    once "tags: n is zero" => zero,
    once "tags: n is no number" => no_number,
    once "tags: last is no tag of the list" => last_between,
    once "catalog: lists repositories" => catalog,
    once "catalog: pages" => catalog_pages,
    each "referrers: none" => no_referrers,
    each "referrers: listed" => referrers,
    each "referrers: filtered" => filtered,
    each "referrers: of a missing subject" => missing_subject,
    each "referrers: index with a subject" => index_with_subject,
    each "referrers: image without artifactType" => config_type,
    each "referrers: gone when deleted" => gone,
    each "referrers: only of this repository" => other_repository,
    each "referrers: pages" => referrer_pages,
    once "referrers: malformed digest" => malformed,
    once "referrers: subject of the other algorithm" => other_algorithm,
};

fn strings(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(|tag| tag.as_str().map(str::to_owned)).collect()
}

/// A repository with these tags on one image.
async fn tagged(session: &Session, tags: &[&str]) -> Result<String, Failure> {
    let repository = session.repository();
    let image = content::image(session, &repository, Algorithm::Sha256).await?;
    image.push(session, &repository).await?;
    for tag in tags {
        image.push_as(session, &repository, tag).await?;
    }
    Ok(repository)
}

async fn tags(
    session: &Session,
    repository: &str,
    query: &str,
) -> Result<(Vec<String>, Option<String>), Failure> {
    page(session, &format!("/v2/{repository}/tags/list{query}"), "tags").await
}

async fn page(session: &Session, path: &str, key: &str) -> Result<(Vec<String>, Option<String>), Failure> {
    let answer = session.get(path).send().await?.status(200)?;
    let list = answer.json()?;
    ensure(list[key].is_array(), || format!("{path}: `{key}` is no list: {list}"))?;
    Ok((strings(&list[key]), answer.next()))
}

async fn unknown_repository(session: &Session, _: Algorithm) -> Result<(), Failure> {
    let path = format!("/v2/{}/tags/list", session.repository());
    session.get(&path).send().await?.error(404, "NAME_UNKNOWN")?;
    Ok(())
}

async fn no_tags(session: &Session, _: Algorithm) -> Result<(), Failure> {
    let repository = tagged(session, &[]).await?;
    ensure(tags(session, &repository, "").await? == (Vec::new(), None), || "the list is not empty".to_owned())
}

async fn sorted(session: &Session, _: Algorithm) -> Result<(), Failure> {
    let repository = tagged(session, &["b", "a", "B", "1", "_", "a-1", "a.1", "aa"]).await?;
    let answer = session.get(&format!("/v2/{repository}/tags/list")).send().await?.status(200)?;
    let list = answer.json()?;
    ensure(list["name"] == json!(repository), || format!("the name is missing: {list}"))?;
    let expected = ["1", "B", "_", "a", "a-1", "a.1", "aa", "b"];
    ensure(strings(&list["tags"]) == expected, || format!("expected {expected:?}, got {list}"))
}

async fn pages(session: &Session, _: Algorithm) -> Result<(), Failure> {
    let all = ["a", "b", "c", "d", "e"];
    let repository = tagged(session, &all).await?;
    let (first, next) = tags(session, &repository, "?n=2").await?;
    ensure(first == ["a", "b"], || format!("first page: {first:?}"))?;
    let mut seen = first;
    let mut next = next;
    while let Some(path) = next {
        let (more, after) = page(session, &path, "tags").await?;
        ensure(!more.is_empty() && more.len() <= 2, || format!("{path}: {more:?}"))?;
        seen.extend(more);
        next = after;
    }
    ensure(seen == all, || format!("by Link: {seen:?}"))?;
    for (query, expected, more) in [
        ("?n=2&last=b", &all[2..4], true),
        ("?n=2&last=d", &all[4..], false),
        ("?n=5", &all[..], false),
        ("?n=100", &all[..], false),
        ("?n=2&last=e", &[], false),
    ] {
        let (listed, next) = tags(session, &repository, query).await?;
        ensure(listed == expected, || format!("{query}: expected {expected:?}, got {listed:?}"))?;
        ensure(next.is_some() == more, || format!("{query}: Link is {next:?}"))?;
    }
    Ok(())
}

async fn last_without_n(session: &Session, _: Algorithm) -> Result<(), Failure> {
    let repository = tagged(session, &["a", "b", "c"]).await?;
    let (listed, _) = tags(session, &repository, "?last=a").await?;
    ensure(listed == ["b", "c"], || format!("{listed:?}"))
}

async fn zero(session: &Session, _: Algorithm) -> Result<(), Failure> {
    let repository = tagged(session, &["a", "b"]).await?;
    let (listed, next) = tags(session, &repository, "?n=0").await?;
    ensure(listed.is_empty() && next.is_none(), || format!("{listed:?}, Link {next:?}"))
}

async fn no_number(session: &Session, _: Algorithm) -> Result<(), Failure> {
    let repository = tagged(session, &["a"]).await?;
    for n in ["x", "-1", "1.5", "%00"] {
        session.get(&format!("/v2/{repository}/tags/list?n={n}")).send().await?.status(400)?;
    }
    tags(session, &repository, "?n=99999999999999999999999").await?;
    Ok(())
}

async fn last_between(session: &Session, _: Algorithm) -> Result<(), Failure> {
    let repository = tagged(session, &["a", "c"]).await?;
    let (listed, _) = tags(session, &repository, "?last=b").await?;
    ensure(listed == ["c"], || format!("{listed:?}"))
}

async fn whole_catalog(session: &Session, query: &str) -> Result<Vec<String>, Failure> {
    let mut all = Vec::new();
    let mut next = Some(format!("/v2/_catalog{query}"));
    while let Some(path) = next {
        let (names, after) = page(session, &path, "repositories").await?;
        ensure(!names.is_empty() || after.is_none(), || format!("{path}: an empty page with a Link"))?;
        all.extend(names);
        next = after;
    }
    Ok(all)
}

async fn catalog(session: &Session, _: Algorithm) -> Result<(), Failure> {
    let repository = tagged(session, &["a"]).await?;
    let all = whole_catalog(session, "").await?;
    ensure(all.contains(&repository), || format!("{repository} is not in the catalog"))?;
    ensure(all.is_sorted(), || "the catalog is not sorted".to_owned())
}

async fn catalog_pages(session: &Session, _: Algorithm) -> Result<(), Failure> {
    for _ in 0..3 {
        tagged(session, &[]).await?;
    }
    let (names, next) = page(session, "/v2/_catalog?n=2", "repositories").await?;
    ensure(names.len() == 2 && next.is_some(), || format!("n=2: {names:?}, Link {next:?}"))?;
    let (names, next) = page(session, "/v2/_catalog?n=0", "repositories").await?;
    ensure(names.is_empty() && next.is_none(), || format!("n=0: {names:?}, Link {next:?}"))?;
    let (paged, whole) = (whole_catalog(session, "?n=7").await?, whole_catalog(session, "").await?);
    ensure(paged == whole, || format!("{} by pages, {} at once", paged.len(), whole.len()))
}

/// One page of referrers, checked for the form that each has.
async fn referrer_page(
    session: &Session,
    path: &str,
) -> Result<(Vec<Value>, Option<String>, Option<String>), Failure> {
    let answer =
        session.get(path).send().await?.status(200)?.header("content-type", media_type::OCI_INDEX)?;
    let index = answer.json()?;
    ensure(index["schemaVersion"] == json!(2) && index["mediaType"] == json!(media_type::OCI_INDEX), || {
        format!("{path}: no image index: {index}")
    })?;
    let Some(list) = index["manifests"].as_array() else {
        return Err(answer.failure("a list of manifests", &index.to_string()));
    };
    Ok((list.clone(), answer.next(), answer.value("oci-filters-applied")))
}

async fn list(session: &Session, repository: &str, subject: &Digest) -> Result<Vec<Value>, Failure> {
    Ok(referrer_page(session, &format!("/v2/{repository}/referrers/{subject}")).await?.0)
}

fn has(list: &[Value], manifest: &Manifest, artifact_type: Option<&str>) -> Result<(), Failure> {
    let digest = json!(manifest.digest);
    let Some(entry) = list.iter().find(|entry| entry["digest"] == digest) else {
        return Err(Failure::new(format!("{} is not listed: {list:?}", manifest.digest)));
    };
    ensure(entry["mediaType"] == json!(manifest.media_type), || format!("mediaType of {entry}"))?;
    ensure(entry["size"] == json!(manifest.bytes.len()), || format!("size of {entry}"))?;
    ensure(entry.get("artifactType").and_then(Value::as_str) == artifact_type, || {
        format!("artifactType of {entry}, expected {artifact_type:?}")
    })?;
    let document: Value = serde_json::from_slice(&manifest.bytes).unwrap_or_default();
    ensure(entry.get("annotations") == document.get("annotations"), || format!("annotations of {entry}"))
}

async fn no_referrers(session: &Session, algorithm: Algorithm) -> Result<(), Failure> {
    let digest = Digest::of(algorithm, &random(8));
    ensure(list(session, &session.repository(), &digest).await?.is_empty(), || {
        "a repository that is not there".into()
    })?;
    let repository = session.repository();
    let image = content::image(session, &repository, algorithm).await?;
    image.push(session, &repository).await?;
    ensure(list(session, &repository, &image.digest).await?.is_empty(), || "an image without any".into())
}

/// Pushes an artifact about `subject` and checks that the registry says so.
async fn refer(
    session: &Session,
    repository: &str,
    algorithm: Algorithm,
    artifact_type: &str,
    subject: &Manifest,
) -> Result<Manifest, Failure> {
    let artifact =
        content::artifact(session, repository, algorithm, artifact_type, Some(subject.descriptor())).await?;
    session
        .put_manifest(repository, &artifact.digest.to_string(), &artifact.media_type, &artifact.bytes)
        .await?
        .header("oci-subject", &subject.digest.to_string())?;
    Ok(artifact)
}

async fn subject(session: &Session, repository: &str, algorithm: Algorithm) -> Result<Manifest, Failure> {
    let image = content::image(session, repository, algorithm).await?;
    let answer =
        session.put_manifest(repository, &image.digest.to_string(), &image.media_type, &image.bytes).await?;
    answer.no_header("oci-subject")?;
    Ok(image)
}

async fn referrers(session: &Session, algorithm: Algorithm) -> Result<(), Failure> {
    let repository = session.repository();
    let image = subject(session, &repository, algorithm).await?;
    let one = refer(session, &repository, algorithm, ARTIFACT, &image).await?;
    let two = refer(session, &repository, algorithm, OTHER_ARTIFACT, &image).await?;
    // Pushed again under a tag: still one entry.
    one.push_as(session, &repository, "tagged").await?;
    let listed = list(session, &repository, &image.digest).await?;
    has(&listed, &one, Some(ARTIFACT))?;
    has(&listed, &two, Some(OTHER_ARTIFACT))?;
    // By tag it is stored under its sha256 digest, which is another manifest where the digests are sha512.
    let expected = if algorithm == Algorithm::Sha256 { 2..=2 } else { 2..=3 };
    ensure(expected.contains(&listed.len()), || format!("{} entries", listed.len()))
}

async fn filtered(session: &Session, algorithm: Algorithm) -> Result<(), Failure> {
    let repository = session.repository();
    let image = subject(session, &repository, algorithm).await?;
    let one = refer(session, &repository, algorithm, ARTIFACT, &image).await?;
    refer(session, &repository, algorithm, OTHER_ARTIFACT, &image).await?;
    let path = format!("/v2/{repository}/referrers/{}", image.digest);
    // The plus sign as it should be sent, and as it often is.
    for value in [ARTIFACT.replace('+', "%2B"), ARTIFACT.to_owned()] {
        let (listed, _, filters) = referrer_page(session, &format!("{path}?artifactType={value}")).await?;
        ensure(listed.len() == 1, || format!("{value}: {} entries", listed.len()))?;
        has(&listed, &one, Some(ARTIFACT))?;
        ensure(filters.as_deref() == Some("artifactType"), || format!("OCI-Filters-Applied: {filters:?}"))?;
    }
    let (listed, _, filters) =
        referrer_page(session, &format!("{path}?artifactType=application%2Fnone")).await?;
    ensure(listed.is_empty() && filters.is_some(), || {
        format!("{listed:?}, OCI-Filters-Applied: {filters:?}")
    })?;
    let (listed, _, filters) = referrer_page(session, &path).await?;
    ensure(listed.len() == 2 && filters.is_none(), || format!("{listed:?}, OCI-Filters-Applied: {filters:?}"))
}

async fn missing_subject(session: &Session, algorithm: Algorithm) -> Result<(), Failure> {
    let repository = session.repository();
    let absent = Manifest::new(algorithm, media_type::OCI_MANIFEST, &json!({"nonce": rand::random::<u64>()}));
    let artifact = refer(session, &repository, algorithm, ARTIFACT, &absent).await?;
    has(&list(session, &repository, &absent.digest).await?, &artifact, Some(ARTIFACT))
}

async fn index_with_subject(session: &Session, algorithm: Algorithm) -> Result<(), Failure> {
    let repository = session.repository();
    let image = subject(session, &repository, algorithm).await?;
    for artifact_type in [Some(ARTIFACT), None] {
        let mut document = content::index_document(&[]);
        document["subject"] = image.descriptor();
        document["annotations"] = json!({"org.example.nonce": format!("{artifact_type:?}")});
        if let Some(artifact_type) = artifact_type {
            document["artifactType"] = json!(artifact_type);
        }
        let index = Manifest::new(algorithm, media_type::OCI_INDEX, &document);
        index.push(session, &repository).await?;
        has(&list(session, &repository, &image.digest).await?, &index, artifact_type)?;
    }
    Ok(())
}

async fn config_type(session: &Session, algorithm: Algorithm) -> Result<(), Failure> {
    let repository = session.repository();
    let image = subject(session, &repository, algorithm).await?;
    let mut document = content::image_document(session, &repository, algorithm).await?;
    document["subject"] = image.descriptor();
    let referrer = Manifest::new(algorithm, media_type::OCI_MANIFEST, &document);
    referrer.push(session, &repository).await?;
    has(&list(session, &repository, &image.digest).await?, &referrer, Some(media_type::OCI_CONFIG))
}

async fn gone(session: &Session, algorithm: Algorithm) -> Result<(), Failure> {
    let repository = session.repository();
    let image = subject(session, &repository, algorithm).await?;
    let artifact = refer(session, &repository, algorithm, ARTIFACT, &image).await?;
    session.delete(&format!("/v2/{repository}/manifests/{}", artifact.digest)).send().await?.status(202)?;
    ensure(list(session, &repository, &image.digest).await?.is_empty(), || "it is still listed".to_owned())
}

async fn other_repository(session: &Session, algorithm: Algorithm) -> Result<(), Failure> {
    let (one, other) = (session.repository(), session.repository());
    let image = subject(session, &one, algorithm).await?;
    refer(session, &other, algorithm, ARTIFACT, &image).await?;
    ensure(list(session, &one, &image.digest).await?.is_empty(), || "listed in another repository".to_owned())
}

async fn referrer_pages(session: &Session, algorithm: Algorithm) -> Result<(), Failure> {
    let repository = session.repository();
    let image = subject(session, &repository, algorithm).await?;
    let mut expected = Vec::new();
    for _ in 0..5 {
        expected.push(refer(session, &repository, algorithm, ARTIFACT, &image).await?.digest.to_string());
    }
    let query = format!("?n=2&artifactType={}", ARTIFACT.replace('+', "%2B"));
    let mut next = Some(format!("/v2/{repository}/referrers/{}{query}", image.digest));
    let mut seen = Vec::new();
    while let Some(path) = next {
        let (listed, after, filters) = referrer_page(session, &path).await?;
        ensure(listed.len() <= 2 && filters.is_some(), || {
            format!("{path}: {} entries, {filters:?}", listed.len())
        })?;
        seen.extend(listed.iter().filter_map(|entry| entry["digest"].as_str().map(str::to_owned)));
        ensure(seen.len() <= expected.len(), || format!("{path}: pages without an end"))?;
        next = after;
    }
    seen.sort_unstable();
    expected.sort_unstable();
    ensure(seen == expected, || format!("expected {expected:?}, got {seen:?}"))
}

async fn malformed(session: &Session, _: Algorithm) -> Result<(), Failure> {
    let repository = session.repository();
    for digest in ["latest", "sha256:abc", "md5:d41d8cd98f00b204e9800998ecf8427e"] {
        session
            .get(&format!("/v2/{repository}/referrers/{digest}"))
            .send()
            .await?
            .error(400, "DIGEST_INVALID")?;
    }
    Ok(())
}

async fn other_algorithm(session: &Session, _: Algorithm) -> Result<(), Failure> {
    let repository = session.repository();
    let image = subject(session, &repository, Algorithm::Sha512).await?;
    let artifact = refer(session, &repository, Algorithm::Sha256, ARTIFACT, &image).await?;
    has(&list(session, &repository, &image.digest).await?, &artifact, Some(ARTIFACT))
}
