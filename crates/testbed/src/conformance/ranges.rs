//! Parts of blobs and conditional requests (RFC 9110 sections 13 and 14).

use oci::{Algorithm, Digest};

use super::content::random;
use super::session::{Failure, Session, ensure};
use super::{Check, checks};

pub(super) const CHECKS: &[Check] = checks! {
    each "range: parts" => parts,
    each "range: outside" => outside,
    each "range: ignored forms" => ignored,
    each "range: if-range" => if_range,
    once "range: not for head" => head,
    once "range: of a large blob" => large,
    each "condition: if-none-match on a blob" => if_none_match,
};

const LENGTH: usize = 2048;

async fn blob(session: &Session, algorithm: Algorithm) -> Result<(String, Digest, Vec<u8>), Failure> {
    let repository = session.repository();
    let content = random(LENGTH);
    let digest = session.push_blob(&repository, algorithm, &content).await?;
    Ok((format!("/v2/{repository}/blobs/{digest}"), digest, content))
}

async fn parts(session: &Session, algorithm: Algorithm) -> Result<(), Failure> {
    let (path, digest, content) = blob(session, algorithm).await?;
    for (range, first, end) in [
        ("bytes=500-1499", 500, 1500),
        ("bytes=500-", 500, LENGTH),
        ("bytes=-500", LENGTH - 500, LENGTH),
        ("bytes=-5000", 0, LENGTH),
        ("bytes=2000-5000", 2000, LENGTH),
        ("bytes=0-0", 0, 1),
        ("bytes=0-", 0, LENGTH),
        ("bytes=2047-", 2047, LENGTH),
    ] {
        session
            .get(&path)
            .header("range", range)
            .send()
            .await?
            .status(206)?
            .header("content-range", &format!("bytes {first}-{}/{LENGTH}", end - 1))?
            .header("content-length", &(end - first).to_string())?
            .header("docker-content-digest", &digest.to_string())?
            .body(&content[first..end])?;
    }
    Ok(())
}

async fn outside(session: &Session, algorithm: Algorithm) -> Result<(), Failure> {
    let (path, ..) = blob(session, algorithm).await?;
    for range in
        ["bytes=5000-10000", "bytes=2048-", "bytes=500-0", "bytes=-0", "bytes=99999999999999999999999-"]
    {
        session
            .get(&path)
            .header("range", range)
            .send()
            .await?
            .status(416)?
            .header("content-range", &format!("bytes */{LENGTH}"))?;
    }
    Ok(())
}

async fn ignored(session: &Session, algorithm: Algorithm) -> Result<(), Failure> {
    let (path, _, content) = blob(session, algorithm).await?;
    for range in ["pages=1-2", "bytes=x-y", "bytes", "bytes=0-1,5-6"] {
        session.get(&path).header("range", range).send().await?.status(200)?.body(&content)?;
    }
    Ok(())
}

async fn if_range(session: &Session, algorithm: Algorithm) -> Result<(), Failure> {
    let (path, _, content) = blob(session, algorithm).await?;
    let etag = etag(session, &path).await?;
    let asked =
        |value: String| session.get(&path).header("range", "bytes=1-2").header("if-range", &value).send();
    asked(etag).await?.status(206)?.body(&content[1..3])?;
    asked("\"sha256:other\"".to_owned()).await?.status(200)?.body(&content)?;
    asked("Wed, 21 Oct 2015 07:28:00 GMT".to_owned()).await?.status(200)?.body(&content)?;
    Ok(())
}

async fn etag(session: &Session, path: &str) -> Result<String, Failure> {
    let answer = session.head(path).send().await?.status(200)?;
    let etag = answer.value("etag").unwrap_or_default();
    ensure(etag.len() > 2 && etag.starts_with('"'), || format!("no strong ETag on {path}: `{etag}`"))?;
    Ok(etag)
}

async fn head(session: &Session, algorithm: Algorithm) -> Result<(), Failure> {
    let (path, ..) = blob(session, algorithm).await?;
    session
        .head(&path)
        .header("range", "bytes=0-1")
        .send()
        .await?
        .status(200)?
        .header("content-length", &LENGTH.to_string())?;
    Ok(())
}

async fn large(session: &Session, algorithm: Algorithm) -> Result<(), Failure> {
    let repository = session.repository();
    let content = random(3 << 20);
    let digest = session.push_blob(&repository, algorithm, &content).await?;
    let path = format!("/v2/{repository}/blobs/{digest}");
    for first in [1, 65_536, 262_143, 1 << 20, content.len() - 1] {
        session
            .get(&path)
            .header("range", &format!("bytes={first}-"))
            .send()
            .await?
            .status(206)?
            .body(&content[first..])?;
    }
    Ok(())
}

async fn if_none_match(session: &Session, algorithm: Algorithm) -> Result<(), Failure> {
    let (path, digest, content) = blob(session, algorithm).await?;
    let etag = etag(session, &path).await?;
    session
        .get(&path)
        .header("if-none-match", &etag)
        .send()
        .await?
        .status(304)?
        .header("docker-content-digest", &digest.to_string())?
        .body(b"")?;
    session.get(&path).header("if-none-match", "\"other\"").send().await?.status(200)?.body(&content)?;
    Ok(())
}
