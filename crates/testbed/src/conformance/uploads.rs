//! Upload sessions: chunked, streamed, asked about, cancelled, and misused.

use bytes::Bytes;
use oci::{Algorithm, Digest};

use super::blobs::{is_absent, is_there};
use super::content::random;
use super::session::{Failure, Session, ensure, with_query};
use super::{Check, checks};

pub(super) const CHECKS: &[Check] = checks! {
    each "chunked: one chunk" => one_chunk,
    each "chunked: three chunks" => three_chunks,
    each "chunked: the last chunk in the put" => last_in_put,
    each "chunked: out of order" => out_of_order,
    each "chunked: out of order in the put" => out_of_order_put,
    each "chunked: a chunk twice" => chunk_twice,
    each "chunked: the first chunk not at 0" => first_not_at_zero,
    each "chunked: wrong digest" => wrong_digest,
    each "chunked: wrong digest with the last chunk in the put" => wrong_digest_in_put,
    once "chunked: length and range differ" => wrong_length,
    once "chunked: malformed range" => malformed_range,
    each "streamed: patch" => streamed_patch,
    each "streamed: two patches" => streamed_twice,
    each "streamed: put" => streamed_put,
    each "streamed: wrong digest" => streamed_wrong_digest,
    each "session: algorithm told at the beginning" => told_algorithm,
    once "session: status" => status,
    once "session: cancel" => cancel,
    once "session: unknown" => unknown,
    once "session: of another repository" => of_another_repository,
    once "session: over when closed" => over_when_closed,
};

/// Sends content in chunks of this size and returns the location after the last.
async fn send_chunks(
    session: &Session,
    mut location: String,
    content: &[u8],
    size: usize,
) -> Result<String, Failure> {
    for (number, chunk) in content.chunks(size).enumerate() {
        let (first, last) = (number * size, number * size + chunk.len() - 1);
        let answer = session
            .patch(&location)
            .header("content-type", "application/octet-stream")
            .header("content-range", &format!("{first}-{last}"))
            .body(chunk)
            .send()
            .await?
            .status(202)?
            .header("range", &format!("0-{last}"))?;
        location = answer.location()?;
    }
    Ok(location)
}

async fn close(session: &Session, location: &str, digest: &Digest) -> Result<(), Failure> {
    session
        .put(&with_query(location, &format!("digest={digest}")))
        .body("")
        .send()
        .await?
        .status(201)?
        .header("docker-content-digest", &digest.to_string())?;
    Ok(())
}

async fn one_chunk(session: &Session, algorithm: Algorithm) -> Result<(), Failure> {
    chunked(session, algorithm, 512, 512).await
}

async fn three_chunks(session: &Session, algorithm: Algorithm) -> Result<(), Failure> {
    chunked(session, algorithm, 3 * 1024 - 5, 1024).await
}

async fn chunked(session: &Session, algorithm: Algorithm, length: usize, size: usize) -> Result<(), Failure> {
    let repository = session.repository();
    let content = random(length);
    let digest = Digest::of(algorithm, &content);
    let location = session.begin(&repository).await?;
    let location = send_chunks(session, location, &content, size).await?;
    is_absent(session, &repository, &digest).await?;
    close(session, &location, &digest).await?;
    is_there(session, &repository, &digest, &content).await
}

async fn last_in_put(session: &Session, algorithm: Algorithm) -> Result<(), Failure> {
    let repository = session.repository();
    let content = random(3000);
    let digest = Digest::of(algorithm, &content);
    let location = session.begin(&repository).await?;
    let location = send_chunks(session, location, &content[..2000], 1000).await?;
    session
        .put(&with_query(&location, &format!("digest={digest}")))
        .header("content-range", "2000-2999")
        .body(&content[2000..])
        .send()
        .await?
        .status(201)?;
    is_there(session, &repository, &digest, &content).await
}

async fn out_of_order(session: &Session, algorithm: Algorithm) -> Result<(), Failure> {
    let repository = session.repository();
    let content = random(3000);
    let digest = Digest::of(algorithm, &content);
    let location = session.begin(&repository).await?;
    let location = send_chunks(session, location, &content[..1000], 1000).await?;
    session
        .patch(&location)
        .header("content-range", "2000-2999")
        .body(&content[2000..])
        .send()
        .await?
        .status(416)?
        .header("range", "0-999")?;
    let status = session.get(&location).send().await?.status(204)?.header("range", "0-999")?;
    let mut location = status.location()?;
    for first in [1000, 2000] {
        let last = first + 999;
        let answer = session
            .patch(&location)
            .header("content-range", &format!("{first}-{last}"))
            .body(&content[first..=last])
            .send()
            .await?
            .status(202)?;
        location = answer.location()?;
    }
    close(session, &location, &digest).await?;
    is_there(session, &repository, &digest, &content).await
}

async fn out_of_order_put(session: &Session, algorithm: Algorithm) -> Result<(), Failure> {
    let repository = session.repository();
    let content = random(3000);
    let digest = Digest::of(algorithm, &content);
    let location = session.begin(&repository).await?;
    let location = send_chunks(session, location, &content[..1000], 1000).await?;
    session
        .put(&with_query(&location, &format!("digest={digest}")))
        .header("content-range", "2000-2999")
        .body(&content[2000..])
        .send()
        .await?
        .status(416)?
        .header("range", "0-999")?;
    is_absent(session, &repository, &digest).await?;
    session
        .put(&with_query(&location, &format!("digest={digest}")))
        .header("content-range", "1000-2999")
        .body(&content[1000..])
        .send()
        .await?
        .status(201)?;
    is_there(session, &repository, &digest, &content).await
}

async fn chunk_twice(session: &Session, algorithm: Algorithm) -> Result<(), Failure> {
    let repository = session.repository();
    let content = random(1000);
    let digest = Digest::of(algorithm, &content);
    let location = session.begin(&repository).await?;
    let location = send_chunks(session, location, &content, 1000).await?;
    session
        .patch(&location)
        .header("content-range", "0-999")
        .body(content.clone())
        .send()
        .await?
        .status(416)?;
    close(session, &location, &digest).await?;
    is_there(session, &repository, &digest, &content).await
}

async fn first_not_at_zero(session: &Session, _: Algorithm) -> Result<(), Failure> {
    let location = session.begin(&session.repository()).await?;
    session.patch(&location).header("content-range", "5-9").body("12345").send().await?.status(416)?;
    session.get(&location).send().await?.status(204)?;
    Ok(())
}

async fn wrong_digest(session: &Session, algorithm: Algorithm) -> Result<(), Failure> {
    let repository = session.repository();
    let digest = Digest::of(algorithm, b"not these bytes");
    let location = session.begin(&repository).await?;
    let location = send_chunks(session, location, &random(3000), 1000).await?;
    session
        .put(&with_query(&location, &format!("digest={digest}")))
        .body("")
        .send()
        .await?
        .error(400, "DIGEST_INVALID")?;
    is_absent(session, &repository, &digest).await
}

async fn wrong_digest_in_put(session: &Session, algorithm: Algorithm) -> Result<(), Failure> {
    let repository = session.repository();
    let digest = Digest::of(algorithm, b"not these bytes");
    let location = session.begin(&repository).await?;
    let location = send_chunks(session, location, &random(2000), 1000).await?;
    session
        .put(&with_query(&location, &format!("digest={digest}")))
        .header("content-range", "2000-2099")
        .body(random(100))
        .send()
        .await?
        .error(400, "DIGEST_INVALID")?;
    is_absent(session, &repository, &digest).await
}

async fn wrong_length(session: &Session, _: Algorithm) -> Result<(), Failure> {
    let location = session.begin(&session.repository()).await?;
    session
        .patch(&location)
        .header("content-range", "0-9")
        .body("12345")
        .send()
        .await?
        .error(400, "SIZE_INVALID")?;
    Ok(())
}

async fn malformed_range(session: &Session, _: Algorithm) -> Result<(), Failure> {
    for range in ["9-0", "a-b", "-5", "0-99999999999999999999", "x"] {
        let location = session.begin(&session.repository()).await?;
        let answer = session.patch(&location).header("content-range", range).body("12345").send().await?;
        ensure(matches!(answer.status.as_u16(), 400 | 416), || format!("{range}: {}", answer.status))?;
        session.get(&location).send().await?.status(204)?;
    }
    Ok(())
}

fn pieces(content: &[u8]) -> Vec<Bytes> {
    content.chunks(333).map(Bytes::copy_from_slice).collect()
}

async fn streamed_patch(session: &Session, algorithm: Algorithm) -> Result<(), Failure> {
    let repository = session.repository();
    let content = random(5000);
    let digest = Digest::of(algorithm, &content);
    let location = session.begin(&repository).await?;
    let answer = session
        .patch(&location)
        .header("content-type", "application/octet-stream")
        .stream(pieces(&content))
        .send()
        .await?
        .status(202)?
        .header("range", "0-4999")?;
    close(session, &answer.location()?, &digest).await?;
    is_there(session, &repository, &digest, &content).await
}

async fn streamed_twice(session: &Session, algorithm: Algorithm) -> Result<(), Failure> {
    let repository = session.repository();
    let content = random(5000);
    let digest = Digest::of(algorithm, &content);
    let mut location = session.begin(&repository).await?;
    for part in [&content[..1234], &content[1234..]] {
        location = session.patch(&location).stream(pieces(part)).send().await?.status(202)?.location()?;
    }
    close(session, &location, &digest).await?;
    is_there(session, &repository, &digest, &content).await
}

async fn streamed_put(session: &Session, algorithm: Algorithm) -> Result<(), Failure> {
    let repository = session.repository();
    let content = random(5000);
    let digest = Digest::of(algorithm, &content);
    let location = session.begin(&repository).await?;
    session
        .put(&with_query(&location, &format!("digest={digest}")))
        .stream(pieces(&content))
        .send()
        .await?
        .status(201)?;
    is_there(session, &repository, &digest, &content).await
}

async fn streamed_wrong_digest(session: &Session, algorithm: Algorithm) -> Result<(), Failure> {
    let repository = session.repository();
    let digest = Digest::of(algorithm, b"not these bytes");
    let location = session.begin(&repository).await?;
    let location =
        session.patch(&location).stream(pieces(&random(500))).send().await?.status(202)?.location()?;
    session
        .put(&with_query(&location, &format!("digest={digest}")))
        .body("")
        .send()
        .await?
        .error(400, "DIGEST_INVALID")?;
    is_absent(session, &repository, &digest).await
}

async fn told_algorithm(session: &Session, algorithm: Algorithm) -> Result<(), Failure> {
    let repository = session.repository();
    let content = random(3000);
    let digest = Digest::of(algorithm, &content);
    let begun = session
        .post(&format!("/v2/{repository}/blobs/uploads/?digest-algorithm={algorithm}"))
        .body("")
        .send()
        .await?
        .status(202)?;
    let location = send_chunks(session, begun.location()?, &content, 1024).await?;
    close(session, &location, &digest).await?;
    is_there(session, &repository, &digest, &content).await
}

async fn status(session: &Session, _: Algorithm) -> Result<(), Failure> {
    let location = session.begin(&session.repository()).await?;
    session.get(&location).send().await?.status(204)?.location()?;
    let location = send_chunks(session, location, &random(100), 50).await?;
    let answer = session.get(&location).send().await?.status(204)?.header("range", "0-99")?.body(b"")?;
    answer.location()?;
    Ok(())
}

async fn cancel(session: &Session, _: Algorithm) -> Result<(), Failure> {
    let repository = session.repository();
    let content = random(100);
    let location = session.begin(&repository).await?;
    let location = send_chunks(session, location, &content, 50).await?;
    session.delete(&location).send().await?.status(204)?;
    session.get(&location).send().await?.error(404, "BLOB_UPLOAD_UNKNOWN")?;
    session.patch(&location).body("x").send().await?.error(404, "BLOB_UPLOAD_UNKNOWN")?;
    session.delete(&location).send().await?.error(404, "BLOB_UPLOAD_UNKNOWN")?;
    is_absent(session, &repository, &Digest::sha256(&content)).await
}

async fn unknown(session: &Session, _: Algorithm) -> Result<(), Failure> {
    let repository = session.repository();
    let digest = Digest::sha256(b"");
    for id in ["00000000-0000-4000-8000-000000000000", "nonsense", "..%2F..%2Fetc"] {
        let path = format!("/v2/{repository}/blobs/uploads/{id}");
        for (answer, what) in [
            (session.get(&path).send().await?, "get"),
            (session.patch(&path).body("x").send().await?, "patch"),
            (session.put(&with_query(&path, &format!("digest={digest}"))).body("").send().await?, "put"),
            (session.delete(&path).send().await?, "delete"),
        ] {
            let status = answer.status.as_u16();
            ensure(status == 404 || (status == 400 && id.contains('%')), || {
                format!("{what} {id}: {status}")
            })?;
        }
    }
    Ok(())
}

async fn of_another_repository(session: &Session, _: Algorithm) -> Result<(), Failure> {
    let (one, other) = (session.repository(), session.repository());
    let location = session.begin(&one).await?;
    let stolen = location.replace(&one, &other);
    ensure(stolen != location, || format!("the location does not name its repository: {location}"))?;
    session.get(&stolen).send().await?.error(404, "BLOB_UPLOAD_UNKNOWN")?;
    session.patch(&stolen).body("x").send().await?.error(404, "BLOB_UPLOAD_UNKNOWN")?;
    session.delete(&stolen).send().await?.error(404, "BLOB_UPLOAD_UNKNOWN")?;
    session.get(&location).send().await?.status(204)?;
    Ok(())
}

async fn over_when_closed(session: &Session, _: Algorithm) -> Result<(), Failure> {
    let location = session.begin(&session.repository()).await?;
    let content = random(10);
    let digest = Digest::sha256(&content);
    session
        .put(&with_query(&location, &format!("digest={digest}")))
        .body(content)
        .send()
        .await?
        .status(201)?;
    session.get(&location).send().await?.error(404, "BLOB_UPLOAD_UNKNOWN")?;
    session.patch(&location).body("x").send().await?.error(404, "BLOB_UPLOAD_UNKNOWN")?;
    Ok(())
}
