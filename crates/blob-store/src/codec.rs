//! The byte encoding of journal records and index rows: little-endian integers, length-prefixed strings.

use oci::{Algorithm, Digest};

/// Appends values to a buffer.
#[derive(Debug, Default)]
pub(crate) struct Encoder(pub(crate) Vec<u8>);

impl Encoder {
    pub(crate) fn u8(&mut self, value: u8) -> &mut Self {
        self.0.push(value);
        self
    }

    pub(crate) fn u32(&mut self, value: u32) -> &mut Self {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    pub(crate) fn u64(&mut self, value: u64) -> &mut Self {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    pub(crate) fn str(&mut self, value: &str) -> &mut Self {
        // Everything that is encoded was bounded at the border, far below 4 GiB; the cut only keeps this total.
        let bytes = value.as_bytes();
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.u32(length);
        self.0.extend_from_slice(&bytes[..length as usize]);
        self
    }

    pub(crate) fn option_str(&mut self, value: Option<&str>) -> &mut Self {
        self.u8(u8::from(value.is_some()));
        if let Some(value) = value {
            self.str(value);
        }
        self
    }

    pub(crate) fn digest(&mut self, value: &Digest) -> &mut Self {
        self.u8(algorithm_code(value.algorithm()));
        self.0.extend_from_slice(value.bytes());
        self
    }
}

/// Takes values from a buffer; `None` where it holds something else.
#[derive(Debug)]
pub(crate) struct Decoder<'a>(pub(crate) &'a [u8]);

impl<'a> Decoder<'a> {
    pub(crate) fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(n)?;
        self.0 = tail;
        Some(head)
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.take(1).map(|b| b[0])
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.take(4)?.try_into().ok().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.take(8)?.try_into().ok().map(u64::from_le_bytes)
    }

    pub(crate) fn str(&mut self) -> Option<&'a str> {
        let length = self.u32()?;
        std::str::from_utf8(self.take(length as usize)?).ok()
    }

    pub(crate) fn option_str(&mut self) -> Option<Option<&'a str>> {
        match self.u8()? {
            0 => Some(None),
            1 => self.str().map(Some),
            _ => None,
        }
    }

    pub(crate) fn digest(&mut self) -> Option<Digest> {
        let algorithm = code_algorithm(self.u8()?)?;
        let length = raw_length(algorithm);
        Digest::from_bytes(algorithm, self.take(length)?)
    }

    /// A list whose length was written as `u32`; memory is taken as items come, not by what the length claims.
    pub(crate) fn list<T>(&mut self, mut item: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let count = self.u32()?;
        let mut items = Vec::new();
        for _ in 0..count {
            items.push(item(self)?);
        }
        Some(items)
    }
}

fn algorithm_code(algorithm: Algorithm) -> u8 {
    match algorithm {
        Algorithm::Sha256 => 1,
        Algorithm::Sha512 => 2,
    }
}

fn code_algorithm(code: u8) -> Option<Algorithm> {
    match code {
        1 => Some(Algorithm::Sha256),
        2 => Some(Algorithm::Sha512),
        _ => None,
    }
}

fn raw_length(algorithm: Algorithm) -> usize {
    match algorithm {
        Algorithm::Sha256 => 32,
        Algorithm::Sha512 => 64,
    }
}
