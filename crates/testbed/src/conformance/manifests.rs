//! Manifests of every kind, pushed and pulled with the bytes that came, and what is refused.

use oci::{Algorithm, Digest, media_type};
use serde_json::{Value, json};

use super::content::{self, ARTIFACT, Manifest, descriptor, random};
use super::session::{Failure, Session, ensure};
use super::{Check, checks};

pub(super) const CHECKS: &[Check] = checks! {
    each "manifest: missing is 404" => missing,
    each "manifest: image by digest" => image,
    once "manifest: image by tag" => image_by_tag,
    each "manifest: layers that are not compressed" => uncompressed,
    each "manifest: index" => index,
    each "manifest: nested index" => nested_index,
    each "manifest: empty index" => empty_index,
    each "manifest: sparse index" => sparse_index,
    each "manifest: artifact" => artifact,
    each "manifest: artifact index" => artifact_index,
    each "manifest: image without layers" => no_layers,
    each "manifest: data in descriptors" => data_field,
    each "manifest: non-distributable layers" => non_distributable,
    each "manifest: unknown fields" => custom_fields,
    each "manifest: of nearly 4 MiB" => large,
    each "manifest: docker schema 2" => docker,
    each "manifest: docker foreign layers" => docker_foreign,
    each "manifest: of an unknown type" => unknown_type,
    once "manifest: without Content-Type" => no_content_type,
    once "manifest: Content-Type with parameters" => content_type_parameters,
    each "manifest: any Accept" => accept,
    each "manifest: if-none-match" => if_none_match,
    each "manifest: tags in the query" => tag_parameters,
    once "manifest: a tag moves" => tag_moves,
    each "manifest: again what is there" => again,
    each "manifest: wrong digest" => wrong_digest,
    once "manifest: malformed digest" => malformed_digest,
    once "manifest: malformed tag" => malformed_tag,
    once "manifest: malformed tag in the query" => malformed_tag_parameter,
    once "manifest: no JSON" => no_json,
    once "manifest: mediaType differs from Content-Type" => media_type_differs,
    once "manifest: schemaVersion 1" => schema_version,
    once "manifest: too large" => too_large,
    once "manifest: endless" => endless,
    each "manifest: a blob is missing" => blob_missing,
    each "manifest: a blob is in another repository only" => blob_elsewhere,
};

fn path(repository: &str, reference: impl std::fmt::Display) -> String {
    format!("/v2/{repository}/manifests/{reference}")
}

/// A manifest is there under this reference: HEAD and GET say so, with everything that belongs to it.
pub(super) async fn is_there(
    session: &Session,
    repository: &str,
    reference: &str,
    manifest: &Manifest,
) -> Result<(), Failure> {
    let length = manifest.bytes.len().to_string();
    let by_digest = reference.contains(':');
    let digest = if by_digest { manifest.digest } else { Digest::sha256(&manifest.bytes) }.to_string();
    for (head, request) in [
        (true, session.head(&path(repository, reference))),
        (false, session.get(&path(repository, reference))),
    ] {
        let answer = request
            .send()
            .await?
            .status(200)?
            .header("content-type", &manifest.media_type)?
            .header("content-length", &length)?;
        // A tag may answer with the digest that it was pushed by, of either algorithm.
        let shown = answer.value("docker-content-digest").unwrap_or_default();
        ensure(shown == digest || (!by_digest && shown == manifest.digest.to_string()), || {
            format!("{reference}: Docker-Content-Digest is `{shown}`, expected {digest}")
        })?;
        answer.body(if head { b"" } else { &manifest.bytes })?;
    }
    Ok(())
}

/// A manifest is not there, in HEAD and in GET.
pub(super) async fn is_absent(session: &Session, repository: &str, reference: &str) -> Result<(), Failure> {
    session.get(&path(repository, reference)).send().await?.error(404, "MANIFEST_UNKNOWN")?;
    session.head(&path(repository, reference)).send().await?.status(404)?.body(b"")?;
    Ok(())
}

async fn push_and_pull(session: &Session, repository: &str, manifest: &Manifest) -> Result<(), Failure> {
    manifest.push(session, repository).await?;
    is_there(session, repository, &manifest.digest.to_string(), manifest).await
}

/// Pushes an image whose document a check has changed.
async fn changed_image(
    session: &Session,
    algorithm: Algorithm,
    change: impl FnOnce(&mut Value),
) -> Result<(), Failure> {
    let repository = session.repository();
    let mut document = content::image_document(session, &repository, algorithm).await?;
    change(&mut document);
    let kind = document["mediaType"].as_str().unwrap_or(media_type::OCI_MANIFEST).to_owned();
    push_and_pull(session, &repository, &Manifest::new(algorithm, &kind, &document)).await
}

async fn missing(session: &Session, algorithm: Algorithm) -> Result<(), Failure> {
    let repository = session.repository();
    is_absent(session, &repository, &Digest::of(algorithm, &random(8)).to_string()).await?;
    is_absent(session, &repository, "missing").await?;
    // What can be no tag is not there either.
    is_absent(session, &repository, ".no-tag").await
}

async fn image(session: &Session, algorithm: Algorithm) -> Result<(), Failure> {
    changed_image(session, algorithm, |_| {}).await
}

async fn image_by_tag(session: &Session, algorithm: Algorithm) -> Result<(), Failure> {
    let repository = session.repository();
    let manifest = content::image(session, &repository, algorithm).await?;
    let longest = "t".repeat(128);
    for tag in ["latest", "_1.2-x", longest.as_str()] {
        manifest.push_as(session, &repository, tag).await?;
        is_there(session, &repository, tag, &manifest).await?;
    }
    is_there(session, &repository, &manifest.digest.to_string(), &manifest).await
}

async fn uncompressed(session: &Session, algorithm: Algorithm) -> Result<(), Failure> {
    changed_image(session, algorithm, |document| {
        document["layers"][0]["mediaType"] = json!(media_type::OCI_LAYER);
    })
    .await
}

async fn index(session: &Session, algorithm: Algorithm) -> Result<(), Failure> {
    let repository = session.repository();
    let one = content::image(session, &repository, algorithm).await?;
    let two = content::image(session, &repository, algorithm).await?;
    one.push(session, &repository).await?;
    two.push(session, &repository).await?;
    push_and_pull(session, &repository, &content::index(algorithm, &[&one, &two])).await
}

async fn nested_index(session: &Session, algorithm: Algorithm) -> Result<(), Failure> {
    let repository = session.repository();
    let image = content::image(session, &repository, algorithm).await?;
    image.push(session, &repository).await?;
    let inner = content::index(algorithm, &[&image]);
    inner.push(session, &repository).await?;
    push_and_pull(session, &repository, &content::index(algorithm, &[&inner, &image])).await
}

async fn empty_index(session: &Session, algorithm: Algorithm) -> Result<(), Failure> {
    push_and_pull(session, &session.repository(), &content::index(algorithm, &[])).await
}

async fn sparse_index(session: &Session, algorithm: Algorithm) -> Result<(), Failure> {
    let repository = session.repository();
    let here = content::image(session, &repository, algorithm).await?;
    here.push(session, &repository).await?;
    let absent = Manifest::new(algorithm, media_type::OCI_MANIFEST, &json!({"nonce": rand::random::<u64>()}));
    push_and_pull(session, &repository, &content::index(algorithm, &[&here, &absent])).await?;
    is_absent(session, &repository, &absent.digest.to_string()).await
}

async fn artifact(session: &Session, algorithm: Algorithm) -> Result<(), Failure> {
    let repository = session.repository();
    let artifact = content::artifact(session, &repository, algorithm, ARTIFACT, None).await?;
    push_and_pull(session, &repository, &artifact).await
}

async fn artifact_index(session: &Session, algorithm: Algorithm) -> Result<(), Failure> {
    let repository = session.repository();
    let artifact = content::artifact(session, &repository, algorithm, ARTIFACT, None).await?;
    artifact.push(session, &repository).await?;
    let mut document = content::index_document(&[&artifact]);
    document["artifactType"] = json!(ARTIFACT);
    push_and_pull(session, &repository, &Manifest::new(algorithm, media_type::OCI_INDEX, &document)).await
}

async fn no_layers(session: &Session, algorithm: Algorithm) -> Result<(), Failure> {
    changed_image(session, algorithm, |document| document["layers"] = json!([])).await
}

async fn data_field(session: &Session, algorithm: Algorithm) -> Result<(), Failure> {
    let repository = session.repository();
    let mut document = content::image_document(session, &repository, algorithm).await?;
    let digest = session.push_blob(&repository, algorithm, b"{}").await?;
    document["config"] = descriptor(media_type::OCI_EMPTY, &digest, 2);
    document["config"]["data"] = json!("e30=");
    push_and_pull(session, &repository, &Manifest::new(algorithm, media_type::OCI_MANIFEST, &document)).await
}

fn foreign(algorithm: Algorithm, media_type: &str) -> Value {
    let digest = Digest::of(algorithm, &random(16));
    let mut layer = descriptor(media_type, &digest, 123_456);
    layer["urls"] = json!([format!("https://store.example.com/{}", digest.hex())]);
    layer
}

async fn non_distributable(session: &Session, algorithm: Algorithm) -> Result<(), Failure> {
    changed_image(session, algorithm, |document| {
        for kind in ["tar", "tar+gzip"] {
            let layer =
                foreign(algorithm, &format!("application/vnd.oci.image.layer.nondistributable.v1.{kind}"));
            if let Some(layers) = document["layers"].as_array_mut() {
                layers.insert(0, layer);
            }
        }
    })
    .await
}

async fn custom_fields(session: &Session, algorithm: Algorithm) -> Result<(), Failure> {
    changed_image(session, algorithm, |document| {
        document["org.example.extra"] = json!({"nested": [1, 2.50, null, "ü"]});
        document["layers"][0]["org.example.extra"] = json!(true);
    })
    .await
}

async fn large(session: &Session, algorithm: Algorithm) -> Result<(), Failure> {
    changed_image(session, algorithm, |document| {
        let mut annotations = serde_json::Map::new();
        for number in 0..390 {
            annotations.insert(format!("large-annotation-{number}"), json!("A".repeat(10_000)));
        }
        document["annotations"] = Value::Object(annotations);
    })
    .await
}

async fn docker_image(
    session: &Session,
    repository: &str,
    algorithm: Algorithm,
) -> Result<Manifest, Failure> {
    let mut document = content::image_document(session, repository, algorithm).await?;
    document["mediaType"] = json!(media_type::DOCKER_MANIFEST);
    document["config"]["mediaType"] = json!(media_type::DOCKER_CONFIG);
    for number in 0..2 {
        document["layers"][number]["mediaType"] = json!(media_type::DOCKER_LAYER_GZIP);
    }
    Ok(Manifest::new(algorithm, media_type::DOCKER_MANIFEST, &document))
}

async fn docker(session: &Session, algorithm: Algorithm) -> Result<(), Failure> {
    let repository = session.repository();
    let image = docker_image(session, &repository, algorithm).await?;
    push_and_pull(session, &repository, &image).await?;
    let mut list = content::index_document(&[&image]);
    list["mediaType"] = json!(media_type::DOCKER_LIST);
    push_and_pull(session, &repository, &Manifest::new(algorithm, media_type::DOCKER_LIST, &list)).await
}

async fn docker_foreign(session: &Session, algorithm: Algorithm) -> Result<(), Failure> {
    let repository = session.repository();
    let image = docker_image(session, &repository, algorithm).await?;
    let mut document: Value = serde_json::from_slice(&image.bytes).unwrap_or_default();
    if let Some(layers) = document["layers"].as_array_mut() {
        layers.insert(0, foreign(algorithm, media_type::DOCKER_FOREIGN_LAYER));
    }
    push_and_pull(session, &repository, &Manifest::new(algorithm, media_type::DOCKER_MANIFEST, &document))
        .await
}

async fn unknown_type(session: &Session, algorithm: Algorithm) -> Result<(), Failure> {
    let repository = session.repository();
    let kind = "application/vnd.example.manifest.v7+json";
    let document = json!({"mediaType": kind, "whatever": [1, 2, 3], "nonce": rand::random::<u64>()});
    push_and_pull(session, &repository, &Manifest::new(algorithm, kind, &document)).await
}

async fn no_content_type(session: &Session, algorithm: Algorithm) -> Result<(), Failure> {
    let repository = session.repository();
    let manifest = content::image(session, &repository, algorithm).await?;
    session.put(&path(&repository, "latest")).body(manifest.bytes.clone()).send().await?.status(201)?;
    is_there(session, &repository, "latest", &manifest).await
}

async fn content_type_parameters(session: &Session, algorithm: Algorithm) -> Result<(), Failure> {
    let repository = session.repository();
    let manifest = content::image(session, &repository, algorithm).await?;
    let kind = format!("{}; charset=utf-8", manifest.media_type);
    session.put_manifest(&repository, "latest", &kind, &manifest.bytes).await?;
    is_there(session, &repository, "latest", &manifest).await
}

async fn accept(session: &Session, algorithm: Algorithm) -> Result<(), Failure> {
    let repository = session.repository();
    let image = content::image(session, &repository, algorithm).await?;
    image.push(session, &repository).await?;
    let index = content::index(algorithm, &[&image]);
    index.push(session, &repository).await?;
    let lines: [&[&str]; 5] = [
        &["*/*"],
        &[media_type::OCI_INDEX, media_type::OCI_MANIFEST, media_type::DOCKER_LIST],
        &["application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json;q=0.5, */*"],
        &[media_type::DOCKER_MANIFEST, "application/json"],
        &[],
    ];
    for accepted in lines {
        let mut request = session.get(&path(&repository, index.digest));
        for line in accepted {
            request = request.header("accept", line);
        }
        request
            .send()
            .await?
            .status(200)?
            .header("content-type", media_type::OCI_INDEX)?
            .body(&index.bytes)?;
    }
    Ok(())
}

async fn if_none_match(session: &Session, algorithm: Algorithm) -> Result<(), Failure> {
    let repository = session.repository();
    let manifest = content::image(session, &repository, algorithm).await?;
    manifest.push(session, &repository).await?;
    let path = path(&repository, manifest.digest);
    let etag = session.head(&path).send().await?.status(200)?.value("etag").unwrap_or_default();
    ensure(etag.starts_with('"'), || format!("no strong ETag: `{etag}`"))?;
    session
        .get(&path)
        .header("if-none-match", &format!("\"x\", {etag}"))
        .send()
        .await?
        .status(304)?
        .header("docker-content-digest", &manifest.digest.to_string())?
        .body(b"")?;
    session.get(&path).header("if-none-match", "\"x\"").send().await?.status(200)?.body(&manifest.bytes)?;
    Ok(())
}

async fn tag_parameters(session: &Session, algorithm: Algorithm) -> Result<(), Failure> {
    let repository = session.repository();
    let manifest = content::image(session, &repository, algorithm).await?;
    let tags: Vec<String> = (0..12).map(|number| format!("v1.{number}")).collect();
    let query = tags.iter().map(|tag| format!("tag={tag}")).collect::<Vec<_>>().join("&");
    let answer = session
        .put_manifest(
            &repository,
            &format!("{}?{query}", manifest.digest),
            &manifest.media_type,
            &manifest.bytes,
        )
        .await?;
    let mut told: Vec<String> = answer
        .headers
        .get_all("oci-tag")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(',').map(|tag| tag.trim().to_owned()))
        .collect();
    told.sort_unstable();
    let mut expected = tags.clone();
    expected.sort_unstable();
    ensure(told == expected, || format!("OCI-Tag: expected {expected:?}, got {told:?}"))?;
    for tag in &tags {
        let answer = session.get(&path(&repository, tag)).send().await?.status(200)?;
        answer.header("docker-content-digest", &manifest.digest.to_string())?.body(&manifest.bytes)?;
    }
    Ok(())
}

async fn tag_moves(session: &Session, algorithm: Algorithm) -> Result<(), Failure> {
    let repository = session.repository();
    let first = content::image(session, &repository, algorithm).await?;
    let second = content::image(session, &repository, algorithm).await?;
    first.push_as(session, &repository, "latest").await?;
    second.push_as(session, &repository, "latest").await?;
    is_there(session, &repository, "latest", &second).await?;
    is_there(session, &repository, &first.digest.to_string(), &first).await
}

async fn again(session: &Session, algorithm: Algorithm) -> Result<(), Failure> {
    let repository = session.repository();
    let manifest = content::image(session, &repository, algorithm).await?;
    push_and_pull(session, &repository, &manifest).await?;
    push_and_pull(session, &repository, &manifest).await
}

/// A PUT that has to be refused and to leave nothing behind.
async fn refused(
    session: &Session,
    repository: &str,
    reference: &str,
    media_type: &str,
    body: &[u8],
    (status, code): (u16, &str),
) -> Result<(), Failure> {
    session
        .put(&path(repository, reference))
        .header("content-type", media_type)
        .body(body)
        .send()
        .await?
        .error(status, code)?;
    Ok(())
}

async fn wrong_digest(session: &Session, algorithm: Algorithm) -> Result<(), Failure> {
    let repository = session.repository();
    let manifest = content::image(session, &repository, algorithm).await?;
    let mut longer = manifest.bytes.clone();
    longer.extend_from_slice(b"  ");
    let reference = manifest.digest.to_string();
    let refusal = (400, "DIGEST_INVALID");
    refused(session, &repository, &reference, &manifest.media_type, &longer, refusal).await?;
    is_absent(session, &repository, &reference).await?;
    is_absent(session, &repository, &Digest::of(algorithm, &longer).to_string()).await
}

async fn malformed_digest(session: &Session, algorithm: Algorithm) -> Result<(), Failure> {
    let repository = session.repository();
    let manifest = content::image(session, &repository, algorithm).await?;
    for reference in ["sha256:baddigeststring", "md5:d41d8cd98f00b204e9800998ecf8427e", "sha256:"] {
        let refusal = (400, "DIGEST_INVALID");
        refused(session, &repository, reference, &manifest.media_type, &manifest.bytes, refusal).await?;
        session.get(&path(&repository, reference)).send().await?.error(400, "DIGEST_INVALID")?;
    }
    Ok(())
}

async fn malformed_tag(session: &Session, algorithm: Algorithm) -> Result<(), Failure> {
    let repository = session.repository();
    let manifest = content::image(session, &repository, algorithm).await?;
    let long = "t".repeat(129);
    for reference in [".hidden", "-dash", "a%20b", long.as_str()] {
        let refusal = (400, "MANIFEST_INVALID");
        refused(session, &repository, reference, &manifest.media_type, &manifest.bytes, refusal).await?;
    }
    is_absent(session, &repository, &manifest.digest.to_string()).await
}

async fn malformed_tag_parameter(session: &Session, algorithm: Algorithm) -> Result<(), Failure> {
    let repository = session.repository();
    let manifest = content::image(session, &repository, algorithm).await?;
    let reference = format!("{}?tag=good&tag=..%2Fbad", manifest.digest);
    let refusal = (400, "MANIFEST_INVALID");
    refused(session, &repository, &reference, &manifest.media_type, &manifest.bytes, refusal).await?;
    is_absent(session, &repository, "good").await
}

async fn no_json(session: &Session, _: Algorithm) -> Result<(), Failure> {
    let repository = session.repository();
    let deep = "[".repeat(100_000);
    for body in ["", "{", "not json", "[]", "{\"schemaVersion\":2,\"layers\":7}", deep.as_str()] {
        for kind in [media_type::OCI_MANIFEST, media_type::OCI_INDEX, media_type::DOCKER_MANIFEST] {
            refused(session, &repository, "latest", kind, body.as_bytes(), (400, "MANIFEST_INVALID")).await?;
        }
    }
    refused(session, &repository, "latest", "application/vnd.example+json", b"{", (400, "MANIFEST_INVALID"))
        .await?;
    is_absent(session, &repository, "latest").await
}

async fn media_type_differs(session: &Session, algorithm: Algorithm) -> Result<(), Failure> {
    let repository = session.repository();
    let manifest = content::image(session, &repository, algorithm).await?;
    for kind in [media_type::DOCKER_MANIFEST, media_type::OCI_INDEX, "application/vnd.example+json"] {
        refused(session, &repository, "latest", kind, &manifest.bytes, (400, "MANIFEST_INVALID")).await?;
    }
    is_absent(session, &repository, "latest").await
}

async fn schema_version(session: &Session, algorithm: Algorithm) -> Result<(), Failure> {
    let repository = session.repository();
    let mut document = content::image_document(session, &repository, algorithm).await?;
    document["schemaVersion"] = json!(1);
    let body = document.to_string();
    refused(
        session,
        &repository,
        "latest",
        media_type::OCI_MANIFEST,
        body.as_bytes(),
        (400, "MANIFEST_INVALID"),
    )
    .await
}

async fn too_large(session: &Session, _: Algorithm) -> Result<(), Failure> {
    let repository = session.repository();
    let body = vec![b' '; (4 << 20) + 1];
    refused(session, &repository, "latest", media_type::OCI_MANIFEST, &body, (413, "SIZE_INVALID")).await
}

async fn endless(session: &Session, _: Algorithm) -> Result<(), Failure> {
    let repository = session.repository();
    let pieces = vec![bytes::Bytes::from(vec![b' '; 1 << 20]); 6];
    session
        .put(&path(&repository, "latest"))
        .header("content-type", media_type::OCI_MANIFEST)
        .stream(pieces)
        .send()
        .await?
        .error(413, "SIZE_INVALID")?;
    is_absent(session, &repository, "latest").await
}

async fn blob_missing(session: &Session, algorithm: Algorithm) -> Result<(), Failure> {
    for field in ["config", "layer"] {
        let repository = session.repository();
        let mut document = content::image_document(session, &repository, algorithm).await?;
        let absent = descriptor(media_type::OCI_LAYER, &Digest::of(algorithm, &random(8)), 8);
        match field {
            "config" => document["config"] = absent,
            _ => document["layers"][1] = absent,
        }
        let manifest = Manifest::new(algorithm, media_type::OCI_MANIFEST, &document);
        let (reference, refusal) = (manifest.digest.to_string(), (404, "MANIFEST_BLOB_UNKNOWN"));
        refused(session, &repository, &reference, &manifest.media_type, &manifest.bytes, refusal).await?;
        is_absent(session, &repository, &reference).await?;
    }
    Ok(())
}

async fn blob_elsewhere(session: &Session, algorithm: Algorithm) -> Result<(), Failure> {
    let (one, other) = (session.repository(), session.repository());
    let manifest = content::image(session, &one, algorithm).await?;
    manifest.push(session, &one).await?;
    let (reference, refusal) = (manifest.digest.to_string(), (404, "MANIFEST_BLOB_UNKNOWN"));
    refused(session, &other, &reference, &manifest.media_type, &manifest.bytes, refusal).await?;
    is_absent(session, &other, &reference).await
}
