//! What the journal says: each record is one change, small enough to be applied again and again with the same result.

use std::collections::{BTreeMap, BTreeSet};

use oci::{Descriptor, Digest, Manifest};

use crate::codec::{Decoder, Encoder};

/// One change of metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Record {
    /// Content is in its file, whole. `at` begins its grace (milliseconds of Unix time).
    Content { digest: Digest, size: u64, at: u64 },
    /// The file of this content is gone or was damaged.
    Lost { digest: Digest },
    /// Content was collected: nothing knows it any more.
    Forget { digest: Digest },
    /// A blob was pushed or mounted into a repository.
    Link { repository: String, digest: Digest },
    /// A blob was deleted from a repository.
    Unlink { repository: String, digest: Digest },
    /// A repository has a manifest.
    PutManifest { repository: String, digest: Digest, row: ManifestRow },
    /// A manifest was deleted, with its tags.
    DeleteManifest { repository: String, digest: Digest },
    /// A tag points at a manifest.
    SetTag { repository: String, tag: String, digest: Digest },
    /// A tag was deleted.
    DeleteTag { repository: String, tag: String },
}

/// What the index keeps of a manifest beside its bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ManifestRow {
    pub(crate) media_type: String,
    pub(crate) size: u64,
    /// As a referrers list shows it.
    pub(crate) artifact_type: Option<String>,
    pub(crate) subject: Option<Digest>,
    /// Kept only where there is a subject: nobody else asks for them.
    pub(crate) annotations: BTreeMap<String, String>,
    /// Config and layers, each once.
    pub(crate) blobs: Vec<Named>,
    /// Manifests that an index names, each once.
    pub(crate) children: Vec<Named>,
}

/// A reference from a manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    /// Need not be here: a foreign layer, or a child of a sparse index.
    pub(crate) optional: bool,
}

impl ManifestRow {
    pub(crate) fn of(manifest: &Manifest, size: u64) -> Self {
        let annotations = match manifest.subject {
            Some(_) => manifest.annotations.clone().unwrap_or_default(),
            None => BTreeMap::new(),
        };
        let mut seen = BTreeSet::new();
        let blobs = manifest
            .blobs()
            .filter(|d| seen.insert(d.digest))
            .map(|d| Named { digest: d.digest, size: d.size, optional: d.is_non_distributable() })
            .collect();
        let children = manifest
            .manifests
            .iter()
            .filter(|d| seen.insert(d.digest))
            .map(|d| Named { digest: d.digest, size: d.size, optional: true })
            .collect();
        Self {
            media_type: manifest.media_type.clone(),
            size,
            artifact_type: manifest.effective_artifact_type().map(str::to_owned),
            subject: manifest.subject.as_ref().map(|s| s.digest),
            annotations,
            blobs,
            children,
        }
    }

    /// As it stands in a list of referrers (OCI distribution-spec, "Listing referrers").
    pub(crate) fn descriptor(&self, digest: Digest) -> Descriptor {
        let mut descriptor = Descriptor::new(self.media_type.clone(), digest, self.size);
        descriptor.artifact_type.clone_from(&self.artifact_type);
        descriptor.annotations = Some(self.annotations.clone()).filter(|a| !a.is_empty());
        descriptor
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut e = Encoder::default();
        self.encode_into(&mut e);
        e.0
    }

    fn encode_into(&self, e: &mut Encoder) {
        e.str(&self.media_type).u64(self.size).option_str(self.artifact_type.as_deref());
        e.u8(u8::from(self.subject.is_some()));
        if let Some(subject) = &self.subject {
            e.digest(subject);
        }
        e.u32(count(self.annotations.len()));
        for (key, value) in &self.annotations {
            e.str(key).str(value);
        }
        for list in [&self.blobs, &self.children] {
            e.u32(count(list.len()));
            for named in list {
                e.digest(&named.digest).u64(named.size).u8(u8::from(named.optional));
            }
        }
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        Self::decode_from(&mut Decoder(bytes))
    }

    fn decode_from(d: &mut Decoder<'_>) -> Option<Self> {
        let named =
            |d: &mut Decoder<'_>| Some(Named { digest: d.digest()?, size: d.u64()?, optional: d.u8()? != 0 });
        Some(Self {
            media_type: d.str()?.to_owned(),
            size: d.u64()?,
            artifact_type: d.option_str()?.map(str::to_owned),
            subject: if d.u8()? == 0 { None } else { Some(d.digest()?) },
            annotations: d.list(|d| Some((d.str()?.to_owned(), d.str()?.to_owned())))?.into_iter().collect(),
            blobs: d.list(named)?,
            children: d.list(named)?,
        })
    }
}

fn count(n: usize) -> u32 {
    // A manifest is a few MiB at most, so its lists are far shorter than this.
    u32::try_from(n).unwrap_or(u32::MAX)
}

impl Record {
    pub(crate) fn encode_into(&self, e: &mut Encoder) {
        match self {
            Self::Content { digest, size, at } => e.u8(1).digest(digest).u64(*size).u64(*at),
            Self::Lost { digest } => e.u8(2).digest(digest),
            Self::Forget { digest } => e.u8(3).digest(digest),
            Self::Link { repository, digest } => e.u8(4).str(repository).digest(digest),
            Self::Unlink { repository, digest } => e.u8(5).str(repository).digest(digest),
            Self::PutManifest { repository, digest, row } => {
                e.u8(6).str(repository).digest(digest);
                row.encode_into(e);
                e
            }
            Self::DeleteManifest { repository, digest } => e.u8(7).str(repository).digest(digest),
            Self::SetTag { repository, tag, digest } => e.u8(8).str(repository).str(tag).digest(digest),
            Self::DeleteTag { repository, tag } => e.u8(9).str(repository).str(tag),
        };
    }

    pub(crate) fn decode_from(d: &mut Decoder<'_>) -> Option<Self> {
        Some(match d.u8()? {
            1 => Self::Content { digest: d.digest()?, size: d.u64()?, at: d.u64()? },
            2 => Self::Lost { digest: d.digest()? },
            3 => Self::Forget { digest: d.digest()? },
            4 => Self::Link { repository: d.str()?.to_owned(), digest: d.digest()? },
            5 => Self::Unlink { repository: d.str()?.to_owned(), digest: d.digest()? },
            6 => Self::PutManifest {
                repository: d.str()?.to_owned(),
                digest: d.digest()?,
                row: ManifestRow::decode_from(d)?,
            },
            7 => Self::DeleteManifest { repository: d.str()?.to_owned(), digest: d.digest()? },
            8 => Self::SetTag {
                repository: d.str()?.to_owned(),
                tag: d.str()?.to_owned(),
                digest: d.digest()?,
            },
            9 => Self::DeleteTag { repository: d.str()?.to_owned(), tag: d.str()?.to_owned() },
            _ => return None,
        })
    }
}

/// Records that were committed together: all of them happened, or none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Batch {
    /// When, in milliseconds of Unix time; 0 in a snapshot, which moves no grace.
    pub(crate) at: u64,
    pub(crate) records: Vec<Record>,
}

impl Batch {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut e = Encoder::default();
        e.u64(self.at).u32(count(self.records.len()));
        for record in &self.records {
            record.encode_into(&mut e);
        }
        e.0
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut d = Decoder(bytes);
        let batch = Self { at: d.u64()?, records: d.list(Record::decode_from)? };
        d.0.is_empty().then_some(batch)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn digest() -> impl Strategy<Value = Digest> {
        (any::<[u8; 4]>(), any::<bool>()).prop_map(|(seed, long)| {
            let algorithm = if long { oci::Algorithm::Sha512 } else { oci::Algorithm::Sha256 };
            Digest::of(algorithm, &seed)
        })
    }

    fn named() -> impl Strategy<Value = Named> {
        (digest(), any::<u64>(), any::<bool>()).prop_map(|(digest, size, optional)| Named {
            digest,
            size,
            optional,
        })
    }

    prop_compose! {
        fn row()(
            media_type in ".{0,40}",
            size in any::<u64>(),
            artifact_type in proptest::option::of(".{0,20}"),
            subject in proptest::option::of(digest()),
            annotations in proptest::collection::btree_map(".{0,10}", ".{0,30}", 0..4),
            blobs in proptest::collection::vec(named(), 0..5),
            children in proptest::collection::vec(named(), 0..5),
        ) -> ManifestRow {
            ManifestRow { media_type, size, artifact_type, subject, annotations, blobs, children }
        }
    }

    fn record() -> impl Strategy<Value = Record> {
        let name = "[a-z/]{1,20}";
        prop_oneof![
            (digest(), any::<u64>(), any::<u64>()).prop_map(|(digest, size, at)| Record::Content {
                digest,
                size,
                at
            }),
            digest().prop_map(|digest| Record::Lost { digest }),
            digest().prop_map(|digest| Record::Forget { digest }),
            (name, digest()).prop_map(|(repository, digest)| Record::Link { repository, digest }),
            (name, digest()).prop_map(|(repository, digest)| Record::Unlink { repository, digest }),
            (name, digest(), row()).prop_map(|(repository, digest, row)| Record::PutManifest {
                repository,
                digest,
                row
            }),
            (name, digest()).prop_map(|(repository, digest)| Record::DeleteManifest { repository, digest }),
            (name, name, digest()).prop_map(|(repository, tag, digest)| Record::SetTag {
                repository,
                tag,
                digest
            }),
            (name, name).prop_map(|(repository, tag)| Record::DeleteTag { repository, tag }),
        ]
    }

    proptest! {
        #[test]
        fn a_batch_comes_back_as_it_was(at in any::<u64>(), records in proptest::collection::vec(record(), 0..8)) {
            let batch = Batch { at, records };
            prop_assert_eq!(Batch::decode(&batch.encode()), Some(batch));
        }

        #[test]
        fn damaged_bytes_are_refused_and_never_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Batch::decode(&bytes);
            let _ = ManifestRow::decode(&bytes);
        }
    }
}
