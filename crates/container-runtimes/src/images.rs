//! containerd's own records of images (`containerd.services.images.v1.Images`): one for each name, with labels. Where CRI
//! knows images with all their names at once, here a single name can be labelled and removed.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use tonic::Request;
use tonic::metadata::MetadataValue;

use crate::socket::{CallError, Socket};

/// The namespace of what the kubelet and CRI see.
pub const KUBERNETES: &str = "k8s.io";
/// The label that keeps the kubelet from collecting an image, and its value.
pub const PINNED: (&str, &str) = ("io.cri-containerd.pinned", "pinned");

const LIMIT: Duration = Duration::from_secs(30);
/// A removal that waits for the collection of what nothing names any more.
const COLLECTION: Duration = Duration::from_secs(120);
const GET: &str = "/containerd.services.images.v1.Images/Get";
const LIST: &str = "/containerd.services.images.v1.Images/List";
const UPDATE: &str = "/containerd.services.images.v1.Images/Update";
const DELETE: &str = "/containerd.services.images.v1.Images/Delete";

/// What a record points at.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Target {
    /// Media type of the manifest or index.
    #[prost(string, tag = "1")]
    pub media_type: String,
    /// Its digest.
    #[prost(string, tag = "2")]
    pub digest: String,
    /// Its bytes.
    #[prost(int64, tag = "3")]
    pub size: i64,
    /// What stands beside it.
    #[prost(btree_map = "string, string", tag = "5")]
    pub annotations: BTreeMap<String, String>,
}

/// A moment as containerd tells it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, prost::Message)]
pub struct Moment {
    /// Seconds since the epoch.
    #[prost(int64, tag = "1")]
    pub seconds: i64,
    /// Nanoseconds beside them.
    #[prost(int32, tag = "2")]
    pub nanos: i32,
}

/// One name of an image.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ImageRecord {
    /// The name: `host/repository:tag`, `host/repository@digest`, or the digest of the image's configuration.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Labels.
    #[prost(btree_map = "string, string", tag = "2")]
    pub labels: BTreeMap<String, String>,
    /// What it points at.
    #[prost(message, optional, tag = "3")]
    pub target: Option<Target>,
    /// When it was made. A name that is removed and made again has another moment; one that is pulled again has not.
    #[prost(message, optional, tag = "7")]
    pub created_at: Option<Moment>,
    /// When it was changed last.
    #[prost(message, optional, tag = "8")]
    pub updated_at: Option<Moment>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct GetRequest {
    #[prost(string, tag = "1")]
    name: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct OneImage {
    #[prost(message, optional, tag = "1")]
    image: Option<ImageRecord>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ListRequest {
    #[prost(string, repeated, tag = "1")]
    filters: Vec<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ListResponse {
    #[prost(message, repeated, tag = "1")]
    images: Vec<ImageRecord>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct FieldMask {
    #[prost(string, repeated, tag = "1")]
    paths: Vec<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct UpdateRequest {
    #[prost(message, optional, tag = "1")]
    image: Option<ImageRecord>,
    #[prost(message, optional, tag = "2")]
    update_mask: Option<FieldMask>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct DeleteRequest {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(bool, tag = "2")]
    sync: bool,
    /// From 2.0 on: only if it still points there.
    #[prost(message, optional, tag = "3")]
    target: Option<Target>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Nothing {}

/// containerd's records of images in one namespace.
#[derive(Debug, Clone)]
pub struct Images {
    socket: Socket,
    namespace: MetadataValue<tonic::metadata::Ascii>,
}

impl Images {
    /// The records of [`KUBERNETES`] at a socket; nothing is asked yet.
    ///
    /// Needs a running tokio runtime.
    pub fn new(socket: &Path) -> Self {
        Self { socket: Socket::new(socket), namespace: MetadataValue::from_static(KUBERNETES) }
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("containerd-namespace", self.namespace.clone());
        request
    }

    /// One record, if it is there.
    ///
    /// # Errors
    /// [`CallError`] where containerd does not answer.
    pub async fn get(&self, name: &str) -> Result<Option<ImageRecord>, CallError> {
        let request = self.request(GetRequest { name: name.to_owned() });
        match self.socket.call::<_, OneImage>(GET, request, LIMIT).await {
            Ok(answer) => Ok(answer.image),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All records.
    ///
    /// # Errors
    /// [`CallError`] where containerd does not answer.
    pub async fn list(&self) -> Result<Vec<ImageRecord>, CallError> {
        let request = self.request(ListRequest { filters: Vec::new() });
        Ok(self.socket.call::<_, ListResponse>(LIST, request, LIMIT).await?.images)
    }

    /// Sets labels of a record, each by itself, so that what others set meanwhile stays; an empty value takes one away. That
    /// there is no such record is no error.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn label(&self, name: &str, labels: BTreeMap<String, String>) -> Result<(), CallError> {
        // Of an update without a target containerd 2.2 dies, whatever the mask says.
        let Some(ImageRecord { target: Some(target), .. }) = self.get(name).await? else { return Ok(()) };
        let paths = labels.keys().map(|key| format!("labels.{key}")).collect();
        let record =
            ImageRecord { name: name.to_owned(), labels, target: Some(target), ..ImageRecord::default() };
        let request =
            self.request(UpdateRequest { image: Some(record), update_mask: Some(FieldMask { paths }) });
        match self.socket.call::<_, OneImage>(UPDATE, request, LIMIT).await {
            Ok(_) => Ok(()),
            Err(error) if error.is_not_found() => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Removes one record, and no other; from containerd 2.0 on only while it points at `target`. Where it is the last
    /// name of content, `collect` waits until that is gone.
    ///
    /// # Errors
    /// [`CallError`]; that there is no such record is none.
    pub async fn delete(&self, name: &str, target: Option<Target>, collect: bool) -> Result<(), CallError> {
        let request = self.request(DeleteRequest { name: name.to_owned(), sync: collect, target });
        match self.socket.call::<_, Nothing>(DELETE, request, COLLECTION).await {
            Ok(Nothing {}) => Ok(()),
            Err(error) if error.is_not_found() => Ok(()),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn where_nobody_listens_that_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let error = Images::new(&folder.path().join("none.sock")).list().await.unwrap_err();
        assert!(matches!(error, CallError::Unreachable { .. }), "{error}");
        assert!(error.to_string().contains("none.sock"), "{error}");
    }
}
