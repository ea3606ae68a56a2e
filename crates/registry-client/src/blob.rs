//! Blobs: their bytes from an offset on, with the answer's promises checked while they stream.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, CONTENT_RANGE, RANGE};
use http::{HeaderValue, Method, StatusCode};
use oci::{Digest, RepositoryName};

use crate::auth::Scope;
use crate::client::Client;
use crate::error::{Error, ErrorKind};
use crate::manifest::length;
use crate::send::{Call, transport};

/// So many bytes within the stall timeout are progress. Fewer are a connection that holds a place and brings
/// nothing.
const PROGRESS: u64 = 4096;

/// The bytes of a blob as they arrive. They are not verified: whoever keeps them hashes them.
#[derive(Debug)]
pub struct BlobBody {
    offset: u64,
    total: Option<u64>,
    position: u64,
    answer: reqwest::Response,
    stall: Duration,
    /// How long was waited since the last progress, and what came in that time. Time that the reader takes
    /// for itself does not count.
    waited: Duration,
    came: u64,
    operation: String,
    registry: String,
}

impl BlobBody {
    /// Where in the blob the first byte stands.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The size of the whole blob in bytes, as far as the registry tells it.
    pub fn total(&self) -> Option<u64> {
        self.total
    }

    /// Where in the blob the next byte stands.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Holds the body to the size that the blob must have, for example by its descriptor.
    ///
    /// # Errors
    /// [`ErrorKind::Length`] if the registry already told another one.
    pub fn expect_total(&mut self, size: u64) -> Result<(), Error> {
        match self.total {
            Some(total) if total != size => {
                Err(self.error(ErrorKind::Length { expected: size, actual: total }))
            }
            _ => {
                self.total = Some(size);
                Ok(())
            }
        }
    }

    /// The next piece, or `None` at the end, which is reached exactly at the promised size.
    ///
    /// # Errors
    /// [`ErrorKind::Interrupted`] where the connection broke, [`ErrorKind::Stalled`] where next to nothing came
    /// in the stall timeout, [`ErrorKind::Length`] where fewer or more bytes came than promised.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        let began = Instant::now();
        let patience = self.stall.saturating_sub(self.waited);
        let chunk = match tokio::time::timeout(patience, self.answer.chunk()).await {
            Ok(Ok(chunk)) => chunk,
            Ok(Err(error)) => return Err(self.error(transport(error))),
            Err(_) => return Err(self.error(ErrorKind::Stalled(self.stall))),
        };
        match (chunk, self.total) {
            (Some(chunk), total) => {
                self.position += chunk.len() as u64;
                self.came += chunk.len() as u64;
                self.waited += began.elapsed();
                if self.came >= PROGRESS {
                    (self.came, self.waited) = (0, Duration::ZERO);
                }
                match total {
                    Some(total) if self.position > total => {
                        Err(self.error(ErrorKind::Length { expected: total, actual: self.position }))
                    }
                    _ => Ok(Some(chunk)),
                }
            }
            (None, Some(total)) if self.position < total => {
                Err(self.error(ErrorKind::Length { expected: total, actual: self.position }))
            }
            (None, _) => Ok(None),
        }
    }

    fn error(&self, kind: ErrorKind) -> Error {
        Error::new(&self.operation, &self.registry, kind)
    }
}

impl Client {
    /// Opens a blob for reading from byte `offset` on.
    ///
    /// # Errors
    /// [`ErrorKind::RangeIgnored`] where an offset above 0 is answered with the whole blob, and
    /// [`ErrorKind::RangeMismatch`] where it is answered with another range: the bytes would land in the
    /// wrong place. The caller starts again at 0, a bounded number of times.
    pub async fn blob(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        offset: u64,
    ) -> Result<BlobBody, Error> {
        let operation = format!("get blob {repository}@{digest}");
        let url = self.repository_url(repository, &format!("blobs/{digest}"));
        let mut call = Call::new(Method::GET, url, Scope::Pull(repository.clone()), &operation)
            .header(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if offset > 0 {
            let range = HeaderValue::from_str(&format!("bytes={offset}-"))
                .map_err(|e| self.error(&operation, ErrorKind::Malformed(e.to_string())))?;
            call = call.header(RANGE, range);
        }
        let answer = self.call(&call).await?;
        let announced = length(answer.headers());
        let total = match (offset, answer.status()) {
            (0, StatusCode::OK) => announced,
            (_, StatusCode::OK) => return Err(self.error(&operation, ErrorKind::RangeIgnored { offset })),
            (1.., StatusCode::PARTIAL_CONTENT) => {
                let text =
                    answer.headers().get(CONTENT_RANGE).and_then(|v| v.to_str().ok()).unwrap_or_default();
                let range = matching_range(text, offset, announced);
                range.ok_or_else(|| {
                    self.error(&operation, ErrorKind::RangeMismatch { offset, got: text.to_owned() })
                })?
            }
            (_, status) => {
                let text = format!("status {} to a blob", status.as_u16());
                return Err(self.error(&operation, ErrorKind::Malformed(text)));
            }
        };
        Ok(BlobBody {
            offset,
            total,
            position: offset,
            answer,
            stall: self.inner.options.stall_timeout,
            waited: Duration::ZERO,
            came: 0,
            operation,
            registry: self.inner.name.clone(),
        })
    }

    /// Whether the repository shows this blob; its size where the registry tells it.
    pub async fn has_blob(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<BlobHead>, Error> {
        let operation = format!("look for blob {repository}@{digest}");
        let url = self.repository_url(repository, &format!("blobs/{digest}"));
        let call = Call::new(Method::HEAD, url, Scope::Pull(repository.clone()), &operation);
        match self.call(&call).await {
            Ok(answer) => Ok(Some(BlobHead { size: length(answer.headers()) })),
            Err(e) if e.is_not_found() => Ok(None),
            Err(e) => Err(e),
        }
    }
}

/// What a registry says about a blob without sending it.
#[derive(Clone, Copy, Debug)]
pub struct BlobHead {
    /// The size in bytes, where the registry tells it.
    pub size: Option<u64>,
}

/// Reads `bytes <first>-<last>/<total>`; gives back the total (`None` inside for `*`) if the range is the rest
/// of the blob from `offset` on and as long as announced.
fn matching_range(text: &str, offset: u64, announced: Option<u64>) -> Option<Option<u64>> {
    let (range, total) = text.strip_prefix("bytes ")?.trim().split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let first: u64 = first.trim().parse().ok()?;
    let last: u64 = last.trim().parse().ok()?;
    let end = last.checked_add(1)?;
    if first != offset || end <= first || announced.is_some_and(|length| length != end - first) {
        return None;
    }
    match total.trim() {
        "*" => Some(None),
        // A shorter range than the rest is legal HTTP, and would look like a cut: the caller asks again from there.
        total => total.parse::<u64>().ok().filter(|total| end <= *total).map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::matching_range;

    #[test]
    fn only_the_range_that_was_asked_for() {
        assert_eq!(matching_range("bytes 5-9/10", 5, Some(5)), Some(Some(10)));
        assert_eq!(matching_range("bytes 5-9/*", 5, None), Some(None));
        assert_eq!(matching_range("bytes 5-7/10", 5, Some(3)), Some(Some(10)));
        for (text, announced) in [
            ("bytes 0-9/10", Some(10)),
            ("bytes 4-9/10", None),
            ("bytes 5-9/10", Some(6)),
            ("bytes 5-10/10", None),
            ("bytes 5-4/10", None),
            ("bytes 5-18446744073709551615/*", None),
            ("items 5-9/10", None),
            ("bytes */10", None),
            ("", None),
        ] {
            assert_eq!(matching_range(text, 5, announced), None, "{text}");
        }
    }
}
