//! A registry client of a few lines that shares nothing with the product's, so that each finds the other's mistakes.

use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use bytes::Bytes;
use oci::{Descriptor, Digest, Hasher, Kind, Manifest, media_type};
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, LOCATION};
use reqwest::{Method, RequestBuilder, Response, StatusCode};

use crate::image::Image;
use crate::layout::Layout;
use crate::{Error, Result};

/// A registry at a URL.
#[derive(Clone, Debug)]
pub struct Registry {
    url: String,
    credentials: Option<(String, String)>,
    http: reqwest::Client,
}

/// A manifest as it came.
#[derive(Clone, Debug)]
pub struct Answered {
    /// Digest of the bytes, computed here.
    pub digest: Digest,
    /// `Content-Type`.
    pub media_type: String,
    /// The bytes.
    pub bytes: Bytes,
}

/// What a whole graph came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Manifests that were read.
    pub manifests: usize,
    /// Blobs that were read.
    pub blobs: usize,
    /// Bytes of those blobs.
    pub bytes: u64,
}

fn client_builder() -> reqwest::ClientBuilder {
    // A second installation of the provider is refused, and it is the same one.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(Duration::from_secs(5))
        .read_timeout(Duration::from_secs(30))
}

/// [`http_client`] that also trusts the authorities in a file.
pub fn http_client_trusting(ca_file: Option<&Path>) -> Result<reqwest::Client> {
    let mut builder = client_builder();
    if let Some(file) = ca_file {
        builder = builder.tls_certs_merge(crate::harbor::certificate(file)?);
    }
    builder.build().map_err(|error| Error::Content(format!("no HTTP client: {error}")))
}

/// A client of plain HTTP that goes through no proxy of the machine's and gives up on a server that is silent.
pub fn http_client() -> reqwest::Client {
    let built = client_builder().build();
    #[expect(
        clippy::expect_used,
        reason = "only fixed options and an installed provider go into this client"
    )]
    built.expect("a client of fixed options")
}

impl Registry {
    /// A registry without credentials.
    pub fn anonymous(url: &str) -> Self {
        Self { url: url.trim_end_matches('/').to_owned(), credentials: None, http: http_client() }
    }

    /// A registry that takes HTTP Basic.
    pub fn basic(url: &str, user: &str, password: &str) -> Self {
        Self { credentials: Some((user.to_owned(), password.to_owned())), ..Self::anonymous(url) }
    }

    /// It, trusting the authorities in a file, too.
    pub fn trusting(self, ca_file: Option<&Path>) -> Result<Self> {
        Ok(Self { http: http_client_trusting(ca_file)?, ..self })
    }

    /// Its URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let url = if path.starts_with("http") { path.to_owned() } else { format!("{}{path}", self.url) };
        let request = self.http.request(method, url);
        match &self.credentials {
            Some((user, password)) => {
                let pair = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
                request.header(AUTHORIZATION, format!("Basic {pair}"))
            }
            None => request,
        }
    }

    /// Sends a request of any kind; every status is an answer.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Response> {
        let request = self.request(method.clone(), path).headers(headers).body(body);
        request.send().await.map_err(|source| Error::Request {
            method: method.to_string(),
            url: format!("{}{path}", self.url),
            source,
        })
    }

    async fn get(&self, path: &str, accept: &str) -> Result<Response> {
        let mut headers = HeaderMap::new();
        if let Ok(value) = accept.parse() {
            headers.insert(ACCEPT, value);
        }
        self.send(Method::GET, path, headers, Bytes::new()).await
    }

    /// Whether anybody answers `GET /v2/`, with whatever status.
    pub async fn ping(&self) -> Result<StatusCode> {
        Ok(self.get("/v2/", "*/*").await?.status())
    }

    /// A manifest by tag or digest; `None` where there is none.
    pub async fn manifest(&self, repository: &str, reference: &str) -> Result<Option<Answered>> {
        let path = format!("/v2/{repository}/manifests/{reference}");
        let response = self.get(&path, &media_type::MANIFESTS.join(", ")).await?;
        if response.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let response = expect(response, "GET", &path, &[StatusCode::OK]).await?;
        let text = |name: &str| {
            response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
        };
        let (media_type, claimed) = (text("content-type"), text("docker-content-digest"));
        let bytes = body(response, &path).await?;
        let digest = Digest::sha256(&bytes);
        if claimed != digest.to_string() && !claimed.starts_with("sha512:") {
            return Err(Error::Content(format!(
                "{path}: the registry claims {claimed}, the bytes are {digest}"
            )));
        }
        Ok(Some(Answered { digest, media_type, bytes }))
    }

    /// The digest that a tag points at; `None` where there is none.
    pub async fn digest(&self, repository: &str, tag: &str) -> Result<Option<Digest>> {
        Ok(self.manifest(repository, tag).await?.map(|manifest| manifest.digest))
    }

    /// Reads a blob and hashes it on the way; `None` where there is none.
    pub async fn check_blob(&self, repository: &str, digest: &Digest) -> Result<Option<u64>> {
        let path = format!("/v2/{repository}/blobs/{digest}");
        let response = self.get(&path, "*/*").await?;
        if response.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let mut response = expect(response, "GET", &path, &[StatusCode::OK]).await?;
        let mut hasher = Hasher::new(digest.algorithm());
        let mut length = 0;
        while let Some(chunk) = response.chunk().await.map_err(|source| broken("GET", &path, source))? {
            hasher.update(&chunk);
            length += chunk.len() as u64;
        }
        let actual = hasher.finish();
        if actual != *digest {
            return Err(Error::Content(format!("{path}: the bytes are {actual}")));
        }
        Ok(Some(length))
    }

    /// A small blob, hashed; `None` where there is none.
    pub async fn blob(&self, repository: &str, digest: &Digest) -> Result<Option<Bytes>> {
        let path = format!("/v2/{repository}/blobs/{digest}");
        let response = self.get(&path, "*/*").await?;
        if response.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let bytes = body(expect(response, "GET", &path, &[StatusCode::OK]).await?, &path).await?;
        let mut hasher = Hasher::new(digest.algorithm());
        hasher.update(&bytes);
        let actual = hasher.finish();
        if actual != *digest {
            return Err(Error::Content(format!("{path}: the bytes are {actual}")));
        }
        Ok(Some(bytes))
    }

    /// Artifacts that refer to a digest.
    pub async fn referrers(&self, repository: &str, digest: &Digest) -> Result<Vec<Descriptor>> {
        let path = format!("/v2/{repository}/referrers/{digest}");
        let response = expect(self.get(&path, "*/*").await?, "GET", &path, &[StatusCode::OK]).await?;
        let bytes = body(response, &path).await?;
        let index = Manifest::parse(Some(media_type::OCI_INDEX), &bytes)
            .map_err(|error| Error::Content(format!("{path}: {error}")))?;
        Ok(index.manifests)
    }

    /// Tags of a repository, as far as one answer holds them; empty where there is no such repository.
    pub async fn tags(&self, repository: &str) -> Result<Vec<String>> {
        let path = format!("/v2/{repository}/tags/list");
        let response = self.get(&path, "*/*").await?;
        if response.status() == StatusCode::NOT_FOUND {
            return Ok(Vec::new());
        }
        let bytes = body(expect(response, "GET", &path, &[StatusCode::OK]).await?, &path).await?;
        let list: serde_json::Value =
            serde_json::from_slice(&bytes).map_err(|error| Error::Content(format!("{path}: {error}")))?;
        let tags = list["tags"].as_array().cloned().unwrap_or_default();
        Ok(tags.iter().filter_map(|tag| tag.as_str().map(str::to_owned)).collect())
    }

    /// Reads a manifest, all below it and every blob, and checks each byte against its digest. What is missing is an
    /// error that names it; `None` where the manifest itself is not there.
    pub async fn verify(&self, repository: &str, reference: &str) -> Result<Option<Verified>> {
        let Some(root) = self.manifest(repository, reference).await? else { return Ok(None) };
        let mut verified = Verified::default();
        let mut open = vec![root];
        let mut seen = std::collections::BTreeSet::new();
        while let Some(answered) = open.pop() {
            verified.manifests += 1;
            let manifest = Manifest::parse(Some(&answered.media_type), &answered.bytes)
                .map_err(|error| Error::Content(format!("{repository}@{}: {error}", answered.digest)))?;
            if manifest.kind == Kind::Index {
                for child in &manifest.manifests {
                    if seen.insert(child.digest) {
                        let answered = self.manifest(repository, &child.digest.to_string()).await?;
                        open.push(answered.ok_or_else(|| half(repository, &child.digest))?);
                    }
                }
            }
            for blob in manifest.blobs().filter(|blob| !blob.is_non_distributable()) {
                if seen.insert(blob.digest) {
                    let length = self.check_blob(repository, &blob.digest).await?;
                    verified.blobs += 1;
                    verified.bytes += length.ok_or_else(|| half(repository, &blob.digest))?;
                }
            }
        }
        Ok(Some(verified))
    }

    /// Whether a blob is visible in a repository.
    pub async fn has_blob(&self, repository: &str, digest: &Digest) -> Result<bool> {
        let path = format!("/v2/{repository}/blobs/{digest}");
        let response = self.send(Method::HEAD, &path, HeaderMap::new(), Bytes::new()).await?;
        Ok(response.status() == StatusCode::OK)
    }

    /// Pushes one blob of a layout.
    pub async fn push_blob(&self, repository: &str, layout: &Layout, blob: &Descriptor) -> Result<()> {
        if self.has_blob(repository, &blob.digest).await? {
            return Ok(());
        }
        let path = format!("/v2/{repository}/blobs/uploads/");
        let response = self.send(Method::POST, &path, HeaderMap::new(), Bytes::new()).await?;
        let response = expect(response, "POST", &path, &[StatusCode::ACCEPTED]).await?;
        let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
        let location = location.ok_or_else(|| Error::Content(format!("POST {path}: no Location")))?;
        let separator = if location.contains('?') { '&' } else { '?' };
        let target = format!("{location}{separator}digest={}", blob.digest);
        let file = tokio::fs::File::from_std(layout.open_blob(&blob.digest)?);
        let stream = futures_util::stream::unfold(file, async |mut file| {
            use tokio::io::AsyncReadExt;
            let mut chunk = vec![0; 256 * 1024];
            match file.read(&mut chunk).await {
                Ok(0) => None,
                Ok(length) => {
                    chunk.truncate(length);
                    Some((Ok(Bytes::from(chunk)), file))
                }
                Err(error) => Some((Err(error), file)),
            }
        });
        let request = self
            .request(Method::PUT, &target)
            .header(CONTENT_TYPE, "application/octet-stream")
            .header(CONTENT_LENGTH, blob.size)
            .body(reqwest::Body::wrap_stream(stream));
        let response = request.send().await.map_err(|source| broken("PUT", &target, source))?;
        expect(response, "PUT", &target, &[StatusCode::CREATED]).await.map(drop)
    }

    /// Puts a manifest under a tag or its digest.
    pub async fn push_manifest(
        &self,
        repository: &str,
        reference: &str,
        media_type: &str,
        bytes: Vec<u8>,
    ) -> Result<()> {
        let path = format!("/v2/{repository}/manifests/{reference}");
        let mut headers = HeaderMap::new();
        let value =
            media_type.parse().map_err(|_| Error::Content(format!("`{media_type}` is no media type")))?;
        headers.insert(CONTENT_TYPE, value);
        let response = self.send(Method::PUT, &path, headers, bytes.into()).await?;
        expect(response, "PUT", &path, &[StatusCode::CREATED]).await.map(drop)
    }

    /// Pushes a manifest of a layout and all that it names; under `tag` where one is given.
    pub async fn push_graph(
        &self,
        repository: &str,
        tag: Option<&str>,
        layout: &Layout,
        root: &Descriptor,
    ) -> Result<()> {
        let graph = layout.graph(root)?;
        for blob in &graph.blobs {
            self.push_blob(repository, layout, blob).await?;
        }
        for (descriptor, bytes) in graph.manifests {
            let digest = descriptor.digest.to_string();
            let reference = tag.filter(|_| descriptor.digest == root.digest).unwrap_or(&digest);
            self.push_manifest(repository, reference, &descriptor.media_type, bytes).await?;
        }
        Ok(())
    }

    /// Pushes an image with its referrers.
    pub async fn push(&self, repository: &str, tag: &str, image: &Image) -> Result<()> {
        self.push_graph(repository, Some(tag), &image.layout, &image.root).await?;
        for referrer in &image.referrers {
            self.push_graph(repository, None, &image.layout, referrer).await?;
        }
        Ok(())
    }
}

fn half(repository: &str, digest: &Digest) -> Error {
    Error::Content(format!("{repository} serves half an image: {digest} is missing"))
}

fn broken(method: &str, url: &str, source: reqwest::Error) -> Error {
    Error::Request { method: method.to_owned(), url: url.to_owned(), source }
}

async fn body(response: Response, path: &str) -> Result<Bytes> {
    response.bytes().await.map_err(|source| broken("GET", path, source))
}

/// Turns every status but the given ones into an error with the beginning of the body.
pub(crate) async fn expect(
    response: Response,
    method: &str,
    url: &str,
    statuses: &[StatusCode],
) -> Result<Response> {
    let status = response.status();
    if statuses.contains(&status) {
        return Ok(response);
    }
    let body = response.text().await.unwrap_or_default();
    Err(Error::Answer {
        method: method.to_owned(),
        url: url.to_owned(),
        status: status.as_u16(),
        body: body.chars().take(500).collect(),
    })
}
