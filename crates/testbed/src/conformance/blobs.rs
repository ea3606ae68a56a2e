//! Blobs: pulled, pushed in one or two requests, mounted, and seen only where they were pushed.

use oci::{Algorithm, Digest};

use super::content::random;
use super::session::{Failure, Session, ensure, with_query};
use super::{Check, checks};

pub(super) const CHECKS: &[Check] = checks! {
    once "base: /v2/ answers" => ping,
    once "base: /v2 answers as well" => ping_bare,
    each "blob: missing is 404" => missing,
    each "blob push: post and put" => post_put,
    each "blob push: single post" => single_post,
    each "blob push: empty blob" => empty,
    each "blob push: empty JSON" => empty_json,
    each "blob push: again what is there" => again,
    each "blob push: wrong digest in post and put" => wrong_digest_post_put,
    each "blob push: wrong digest in single post" => wrong_digest_single_post,
    once "blob push: put without a digest" => put_without_digest,
    once "blob push: put with a malformed digest" => put_with_malformed_digest,
    once "blob push: single post with a malformed digest" => post_with_malformed_digest,
    each "blob push: the same blob twice at once" => concurrent,
    each "blob push: one megabyte" => large,
    each "mount: from a repository" => mount,
    each "mount: anonymous" => mount_anonymous,
    each "mount: nobody has it" => mount_missing,
    each "mount: the source does not have it" => mount_wrong_source,
    each "mount: what is here already" => mount_same,
    each "sharing: unseen in other repositories" => unseen_elsewhere,
    each "sharing: deleted in one repository only" => deleted_in_one,
    each "sharing: not to be mounted after its deletion" => mount_after_delete,
};

async fn ping(session: &Session, _: Algorithm) -> Result<(), Failure> {
    session.get("/v2/").send().await?.status(200)?;
    session.head("/v2/").send().await?.status(200)?;
    Ok(())
}

async fn ping_bare(session: &Session, _: Algorithm) -> Result<(), Failure> {
    session.get("/v2").send().await?.status(200)?;
    Ok(())
}

async fn missing(session: &Session, algorithm: Algorithm) -> Result<(), Failure> {
    let repository = session.repository();
    let path = format!("/v2/{repository}/blobs/{}", Digest::of(algorithm, &random(32)));
    session.get(&path).send().await?.error(404, "BLOB_UNKNOWN")?;
    session.head(&path).send().await?.status(404)?.body(b"")?;
    session.get(&path).header("range", "bytes=0-1").send().await?.error(404, "BLOB_UNKNOWN")?;
    Ok(())
}

/// A blob is there: HEAD and GET say so, with everything that belongs to it.
pub(super) async fn is_there(
    session: &Session,
    repository: &str,
    digest: &Digest,
    content: &[u8],
) -> Result<(), Failure> {
    let path = format!("/v2/{repository}/blobs/{digest}");
    let (length, digest) = (content.len().to_string(), digest.to_string());
    session
        .head(&path)
        .send()
        .await?
        .status(200)?
        .header("content-length", &length)?
        .header("docker-content-digest", &digest)?
        .body(b"")?;
    session
        .get(&path)
        .send()
        .await?
        .status(200)?
        .header("content-length", &length)?
        .header("docker-content-digest", &digest)?
        .header("accept-ranges", "bytes")?
        .body(content)?;
    Ok(())
}

/// A blob is not there, in HEAD and in GET.
pub(super) async fn is_absent(session: &Session, repository: &str, digest: &Digest) -> Result<(), Failure> {
    let path = format!("/v2/{repository}/blobs/{digest}");
    session.head(&path).send().await?.status(404)?.body(b"")?;
    session.get(&path).send().await?.error(404, "BLOB_UNKNOWN")?;
    Ok(())
}

async fn pushed(
    session: &Session,
    algorithm: Algorithm,
    content: &[u8],
) -> Result<(String, Digest), Failure> {
    let repository = session.repository();
    let digest = session.push_blob(&repository, algorithm, content).await?;
    is_there(session, &repository, &digest, content).await?;
    Ok((repository, digest))
}

async fn post_put(session: &Session, algorithm: Algorithm) -> Result<(), Failure> {
    let repository = session.repository();
    let content = random(513);
    let digest = Digest::of(algorithm, &content);
    let begun =
        session.post(&format!("/v2/{repository}/blobs/uploads/")).body("").send().await?.status(202)?;
    ensure(begun.value("docker-upload-uuid").is_some(), || "no Docker-Upload-UUID".to_owned())?;
    let location = begun.location()?;
    is_absent(session, &repository, &digest).await?;
    let answer = session
        .put(&with_query(&location, &format!("digest={}", digest.to_string().replace(':', "%3A"))))
        .header("content-type", "application/octet-stream")
        .body(content.clone())
        .send()
        .await?
        .status(201)?
        .header("docker-content-digest", &digest.to_string())?;
    session.get(&answer.location()?).send().await?.status(200)?.body(&content)?;
    is_there(session, &repository, &digest, &content).await
}

async fn single_post(session: &Session, algorithm: Algorithm) -> Result<(), Failure> {
    let repository = session.repository();
    let content = random(513);
    let digest = Digest::of(algorithm, &content);
    let answer = session
        .post(&format!("/v2/{repository}/blobs/uploads/?digest={digest}"))
        .header("content-type", "application/octet-stream")
        .body(content.clone())
        .send()
        .await?
        .status(201)?;
    session.get(&answer.location()?).send().await?.status(200)?.body(&content)?;
    is_there(session, &repository, &digest, &content).await
}

async fn empty(session: &Session, algorithm: Algorithm) -> Result<(), Failure> {
    let (repository, digest) = pushed(session, algorithm, b"").await?;
    let path = format!("/v2/{repository}/blobs/{digest}");
    session
        .get(&path)
        .header("range", "bytes=0-")
        .send()
        .await?
        .status(416)?
        .header("content-range", "bytes */0")?;
    Ok(())
}

async fn empty_json(session: &Session, algorithm: Algorithm) -> Result<(), Failure> {
    pushed(session, algorithm, b"{}").await?;
    Ok(())
}

async fn again(session: &Session, algorithm: Algorithm) -> Result<(), Failure> {
    let content = random(64);
    let (repository, digest) = pushed(session, algorithm, &content).await?;
    session.push_blob(&repository, algorithm, &content).await?;
    is_there(session, &repository, &digest, &content).await
}

async fn wrong_digest_post_put(session: &Session, algorithm: Algorithm) -> Result<(), Failure> {
    let repository = session.repository();
    let content = random(64);
    let digest = Digest::of(algorithm, b"something else entirely");
    let location = session.begin(&repository).await?;
    session
        .put(&with_query(&location, &format!("digest={digest}")))
        .body(content.clone())
        .send()
        .await?
        .error(400, "DIGEST_INVALID")?;
    is_absent(session, &repository, &digest).await?;
    is_absent(session, &repository, &Digest::of(algorithm, &content)).await
}

async fn wrong_digest_single_post(session: &Session, algorithm: Algorithm) -> Result<(), Failure> {
    let repository = session.repository();
    let digest = Digest::of(algorithm, b"something else entirely");
    session
        .post(&format!("/v2/{repository}/blobs/uploads/?digest={digest}"))
        .body(random(64))
        .send()
        .await?
        .error(400, "DIGEST_INVALID")?;
    is_absent(session, &repository, &digest).await
}

async fn put_without_digest(session: &Session, _: Algorithm) -> Result<(), Failure> {
    let location = session.begin(&session.repository()).await?;
    session.put(&location).body(random(8)).send().await?.error(400, "DIGEST_INVALID")?;
    Ok(())
}

async fn put_with_malformed_digest(session: &Session, _: Algorithm) -> Result<(), Failure> {
    for digest in ["sha256:abc", "md5:d41d8cd98f00b204e9800998ecf8427e", "x", "", "sha256:..%2F.."] {
        let location = session.begin(&session.repository()).await?;
        session
            .put(&with_query(&location, &format!("digest={digest}")))
            .body(random(8))
            .send()
            .await?
            .error(400, "DIGEST_INVALID")?;
    }
    Ok(())
}

async fn post_with_malformed_digest(session: &Session, _: Algorithm) -> Result<(), Failure> {
    let path = format!("/v2/{}/blobs/uploads/", session.repository());
    for query in ["digest=sha256:abc", "mount=sha256:abc", "digest-algorithm=md5"] {
        session.post(&with_query(&path, query)).body("").send().await?.error(400, "DIGEST_INVALID")?;
    }
    Ok(())
}

async fn concurrent(session: &Session, algorithm: Algorithm) -> Result<(), Failure> {
    let repository = session.repository();
    let content = random(40_000);
    let pushes = (0..4).map(|_| session.push_blob(&repository, algorithm, &content));
    for outcome in futures_util::future::join_all(pushes).await {
        outcome?;
    }
    is_there(session, &repository, &Digest::of(algorithm, &content), &content).await
}

async fn large(session: &Session, algorithm: Algorithm) -> Result<(), Failure> {
    pushed(session, algorithm, &random((1 << 20) + 7)).await?;
    Ok(())
}

async fn mount(session: &Session, algorithm: Algorithm) -> Result<(), Failure> {
    let content = random(256);
    let (source, digest) = pushed(session, algorithm, &content).await?;
    let target = session.repository();
    let answer = session
        .post(&format!("/v2/{target}/blobs/uploads/?mount={digest}&from={source}"))
        .body("")
        .send()
        .await?
        .status(201)?;
    session.get(&answer.location()?).send().await?.status(200)?.body(&content)?;
    is_there(session, &target, &digest, &content).await
}

async fn mount_anonymous(session: &Session, algorithm: Algorithm) -> Result<(), Failure> {
    let content = random(256);
    let (_, digest) = pushed(session, algorithm, &content).await?;
    let target = session.repository();
    session
        .post(&format!("/v2/{target}/blobs/uploads/?mount={digest}"))
        .body("")
        .send()
        .await?
        .status(201)?;
    is_there(session, &target, &digest, &content).await
}

async fn mount_missing(session: &Session, algorithm: Algorithm) -> Result<(), Failure> {
    let (target, source) = (session.repository(), session.repository());
    let content = random(256);
    let digest = Digest::of(algorithm, &content);
    for from in [format!("&from={source}"), String::new(), "&from=NO..name".to_owned()] {
        let begun = session
            .post(&format!("/v2/{target}/blobs/uploads/?mount={digest}{from}"))
            .body("")
            .send()
            .await?
            .status(202)?;
        is_absent(session, &target, &digest).await?;
        // What begins instead is an ordinary upload.
        session
            .put(&with_query(&begun.location()?, &format!("digest={digest}")))
            .body(content.clone())
            .send()
            .await?
            .status(201)?;
        is_there(session, &target, &digest, &content).await?;
        session.delete(&format!("/v2/{target}/blobs/{digest}")).send().await?.status(202)?;
    }
    Ok(())
}

async fn mount_wrong_source(session: &Session, algorithm: Algorithm) -> Result<(), Failure> {
    let content = random(256);
    let (_, digest) = pushed(session, algorithm, &content).await?;
    let (target, source) = (session.repository(), session.repository());
    session.push_blob(&source, algorithm, &random(8)).await?;
    session
        .post(&format!("/v2/{target}/blobs/uploads/?mount={digest}&from={source}"))
        .body("")
        .send()
        .await?
        .status(202)?;
    is_absent(session, &target, &digest).await
}

async fn mount_same(session: &Session, algorithm: Algorithm) -> Result<(), Failure> {
    let content = random(256);
    let (repository, digest) = pushed(session, algorithm, &content).await?;
    session
        .post(&format!("/v2/{repository}/blobs/uploads/?mount={digest}&from={repository}"))
        .body("")
        .send()
        .await?
        .status(201)?;
    is_there(session, &repository, &digest, &content).await
}

async fn unseen_elsewhere(session: &Session, algorithm: Algorithm) -> Result<(), Failure> {
    let (_, digest) = pushed(session, algorithm, &random(256)).await?;
    let other = session.repository();
    session.push_blob(&other, algorithm, &random(8)).await?;
    is_absent(session, &other, &digest).await
}

async fn deleted_in_one(session: &Session, algorithm: Algorithm) -> Result<(), Failure> {
    let content = random(256);
    let (one, digest) = pushed(session, algorithm, &content).await?;
    let other = session.repository();
    session.push_blob(&other, algorithm, &content).await?;
    session.delete(&format!("/v2/{one}/blobs/{digest}")).send().await?.status(202)?;
    is_absent(session, &one, &digest).await?;
    is_there(session, &other, &digest, &content).await
}

async fn mount_after_delete(session: &Session, algorithm: Algorithm) -> Result<(), Failure> {
    let (source, digest) = pushed(session, algorithm, &random(256)).await?;
    session.delete(&format!("/v2/{source}/blobs/{digest}")).send().await?.status(202)?;
    let target = session.repository();
    for from in [format!("&from={source}"), String::new()] {
        session
            .post(&format!("/v2/{target}/blobs/uploads/?mount={digest}{from}"))
            .body("")
            .send()
            .await?
            .status(202)?;
        is_absent(session, &target, &digest).await?;
    }
    Ok(())
}
