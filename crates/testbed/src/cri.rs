//! The image part of a CRI (k8s.io/cri-api, runtime.v1), as the kubelet uses it, over a Unix socket. It shares nothing
//! with the product's client.

use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use prost::Message;
use tokio::net::UnixStream;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use tonic_prost::ProstCodec;
use tower::service_fn;

use crate::{Error, Result};

/// Far more than a call of a test takes.
const LIMIT: Duration = Duration::from_secs(60);

/// A CRI at a socket.
#[derive(Clone, Debug)]
pub struct Cri {
    socket: PathBuf,
}

/// An image as the CRI lists it.
#[derive(Clone, PartialEq, Message)]
pub struct Image {
    /// Digest of its config.
    #[prost(string, tag = "1")]
    pub id: String,
    /// Names with a tag.
    #[prost(string, repeated, tag = "2")]
    pub repo_tags: Vec<String>,
    /// Names with a digest.
    #[prost(string, repeated, tag = "3")]
    pub repo_digests: Vec<String>,
    /// Whether the kubelet's collection leaves it (containerd from 2.0 on tells it).
    #[prost(bool, tag = "8")]
    pub pinned: bool,
}

#[derive(Clone, PartialEq, Message)]
struct ImageSpec {
    #[prost(string, tag = "1")]
    image: String,
}

#[derive(Clone, PartialEq, Message)]
struct ImageRequest {
    #[prost(message, optional, tag = "1")]
    image: Option<ImageSpec>,
}

#[derive(Clone, PartialEq, Message)]
struct PullImageResponse {
    #[prost(string, tag = "1")]
    image_ref: String,
}

#[derive(Clone, PartialEq, Message)]
struct ListImagesResponse {
    #[prost(message, repeated, tag = "1")]
    images: Vec<Image>,
}

#[derive(Clone, PartialEq, Message)]
struct Empty {}

impl Cri {
    /// The CRI at this socket.
    pub fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    /// Pulls an image and gives the digest of its config.
    pub async fn pull(&self, reference: &str) -> Result<String> {
        let answer: PullImageResponse = self.call("PullImage", of(reference)).await?;
        Ok(answer.image_ref)
    }

    /// Removes an image with all its names. That it is not there is no error.
    pub async fn remove(&self, reference: &str) -> Result<()> {
        self.call::<_, Empty>("RemoveImage", of(reference)).await.map(drop)
    }

    /// All images.
    pub async fn images(&self) -> Result<Vec<Image>> {
        let answer: ListImagesResponse = self.call("ListImages", Empty {}).await?;
        Ok(answer.images)
    }

    /// Whether it answers.
    pub async fn answers(&self) -> bool {
        self.images().await.is_ok()
    }

    async fn call<Q, A>(&self, method: &str, question: Q) -> Result<A>
    where
        Q: Message + Default + 'static,
        A: Message + Default + 'static,
    {
        let failed = |status: Status| {
            Error::Content(format!("CRI {method} at {}: {}", self.socket.display(), status.message()))
        };
        let path = PathAndQuery::try_from(format!("/runtime.v1.ImageService/{method}"))
            .map_err(|error| Error::Content(error.to_string()))?;
        let mut grpc = Grpc::new(self.channel());
        let call = async {
            grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
            grpc.unary(Request::new(question), path, ProstCodec::<Q, A>::default()).await
        };
        let answered = tokio::time::timeout(LIMIT, call).await;
        let answered = answered.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer in time")));
        answered.map(tonic::Response::into_inner).map_err(failed)
    }

    fn channel(&self) -> Channel {
        let socket = self.socket.clone();
        Endpoint::from_static("http://cri").connect_with_connector_lazy(service_fn(move |_| {
            let socket = socket.clone();
            async move { Ok::<_, std::io::Error>(TokioIo::new(UnixStream::connect(socket).await?)) }
        }))
    }
}

fn of(reference: &str) -> ImageRequest {
    ImageRequest { image: Some(ImageSpec { image: reference.to_owned() }) }
}
