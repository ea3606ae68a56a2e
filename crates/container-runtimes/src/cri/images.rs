//! The images of a node as the kubelet sees them: CRI's `ImageService` (k8s.io/cri-api). It can pull and list. Removing
//! is not offered: there it drops every name of an image, whoever made them.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use tonic::Request;

use super::{VERSION, VersionRequest, VersionResponse};
use crate::socket::{CallError, Socket};

/// The longest that a question may take.
const LIMIT: Duration = Duration::from_secs(30);
const PULL: [&str; 2] = ["/runtime.v1.ImageService/PullImage", "/runtime.v1alpha2.ImageService/PullImage"];
const LIST: [&str; 2] = ["/runtime.v1.ImageService/ListImages", "/runtime.v1alpha2.ImageService/ListImages"];

/// What a runtime calls itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RuntimeVersion {
    /// `containerd`, `cri-o`.
    pub name: String,
    /// Its own version.
    pub version: String,
}

/// One image, with everything that it is called.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeImage {
    /// The digest of its configuration.
    pub id: String,
    /// Names with a tag, as `docker.io/library/busybox:latest`.
    pub tags: Vec<String>,
    /// Names with a digest, as `docker.io/library/busybox@sha256:…`.
    pub digests: Vec<String>,
    /// Bytes, as the runtime counts them.
    pub size: u64,
    /// Whether the kubelet leaves it alone when it collects.
    pub pinned: bool,
}

/// A runtime's `ImageService`.
#[derive(Debug, Clone)]
pub struct CriImages {
    socket: Socket,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ImageSpec {
    #[prost(string, tag = "1")]
    image: String,
    #[prost(btree_map = "string, string", tag = "2")]
    annotations: BTreeMap<String, String>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PullImageRequest {
    #[prost(message, optional, tag = "1")]
    image: Option<ImageSpec>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PullImageResponse {
    #[prost(string, tag = "1")]
    image_ref: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ListImagesRequest {}

#[derive(Clone, PartialEq, prost::Message)]
struct Image {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(string, repeated, tag = "2")]
    repo_tags: Vec<String>,
    #[prost(string, repeated, tag = "3")]
    repo_digests: Vec<String>,
    #[prost(uint64, tag = "4")]
    size: u64,
    #[prost(bool, tag = "8")]
    pinned: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ListImagesResponse {
    #[prost(message, repeated, tag = "1")]
    images: Vec<Image>,
}

impl From<Image> for NodeImage {
    fn from(image: Image) -> Self {
        Self {
            id: image.id,
            tags: image.repo_tags,
            digests: image.repo_digests,
            size: image.size,
            pinned: image.pinned,
        }
    }
}

fn spec(name: &str) -> Option<ImageSpec> {
    Some(ImageSpec { image: name.to_owned(), annotations: BTreeMap::new() })
}

impl CriImages {
    /// The service at a socket; nothing is asked yet.
    ///
    /// Needs a running tokio runtime.
    pub fn new(socket: &Path) -> Self {
        Self { socket: Socket::new(socket) }
    }

    /// Asks by the present version of the interface; older runtimes have only the one before.
    async fn ask<Asked, Answer>(
        &self,
        calls: [&'static str; 2],
        message: Asked,
        limit: Duration,
    ) -> Result<Answer, CallError>
    where
        Asked: prost::Message + Clone + Default + Send + Sync + 'static,
        Answer: prost::Message + Default + Send + Sync + 'static,
    {
        let [now, before] = calls;
        match self.socket.call(now, Request::new(message.clone()), limit).await {
            Err(error) if error.is_unknown_call() => {
                self.socket.call(before, Request::new(message), limit).await
            }
            answered => answered,
        }
    }

    /// Which runtime it is.
    ///
    /// # Errors
    /// [`CallError`] where it does not answer.
    pub async fn runtime(&self) -> Result<RuntimeVersion, CallError> {
        let request = VersionRequest { version: "0.1.0".to_owned() };
        let answer: VersionResponse = self.ask(VERSION, request, LIMIT).await?;
        Ok(RuntimeVersion { name: answer.runtime_name, version: answer.runtime_version })
    }

    /// Pulls an image by its whole name, from wherever the runtime's own configuration says, and gives its identifier.
    ///
    /// # Errors
    /// [`CallError`] with what the runtime says; [`CallError::Slow`] after `limit`. The runtime ends a pull that nobody
    /// waits for.
    pub async fn pull(&self, name: &str, limit: Duration) -> Result<String, CallError> {
        let request = PullImageRequest { image: spec(name) };
        let answer: PullImageResponse = self.ask(PULL, request, limit).await?;
        Ok(answer.image_ref)
    }

    /// All images.
    ///
    /// # Errors
    /// [`CallError`] where it does not answer.
    pub async fn list(&self) -> Result<Vec<NodeImage>, CallError> {
        let request = ListImagesRequest {};
        let answer: ListImagesResponse = self.ask(LIST, request, LIMIT).await?;
        Ok(answer.images.into_iter().map(NodeImage::from).collect())
    }
}
