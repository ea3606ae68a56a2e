//! Reading the journal again: frame by frame, over damage to the next frame that is whole.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use crate::journal::{FRAME_HEADER, FRAME_MAGIC, MAX_FRAME, checksum};
use crate::record::Batch;

/// Bytes looked at in one go in search of a frame.
const WINDOW: usize = 64 << 10;

/// An iterator over the batches, each with the offset behind it.
#[derive(Debug)]
pub(crate) struct Scan<'a> {
    file: &'a File,
    position: u64,
    length: u64,
    damaged: Vec<Range<u64>>,
    error: Option<io::Error>,
    buffer: Vec<u8>,
    buffered_from: u64,
}

impl<'a> Scan<'a> {
    pub(super) fn new(file: &'a File, offset: u64, length: u64) -> Self {
        Self {
            file,
            position: offset,
            length,
            damaged: Vec::new(),
            error: None,
            buffer: Vec::new(),
            buffered_from: 0,
        }
    }

    /// Where the last whole frame ended: what is behind it is torn.
    pub(crate) fn end(&self) -> u64 {
        self.position
    }

    /// What lies between whole frames and could not be read.
    pub(crate) fn damaged(&self) -> &[Range<u64>] {
        &self.damaged
    }

    /// The error of the disk that ended the scan, if one did.
    pub(crate) fn error(&mut self) -> Option<io::Error> {
        self.error.take()
    }

    /// Bytes at `offset`, fewer at the end of the file.
    fn bytes(&mut self, offset: u64, n: usize) -> io::Result<&[u8]> {
        let n = n.min(usize::try_from(self.length.saturating_sub(offset)).unwrap_or(usize::MAX));
        let have = self.buffered_from..self.buffered_from + self.buffer.len() as u64;
        if !(have.start <= offset && offset + n as u64 <= have.end) {
            let want = n.max(WINDOW).min(usize::try_from(self.length - offset).unwrap_or(usize::MAX));
            self.buffer.resize(want, 0);
            self.buffered_from = offset;
            if let Err(e) = self.file.read_exact_at(&mut self.buffer, offset) {
                self.buffer.clear();
                return Err(e);
            }
        }
        let start = usize::try_from(offset - self.buffered_from).unwrap_or_default();
        Ok(&self.buffer[start..start + n])
    }

    /// The batch of a whole frame at `offset`, and the offset behind it.
    fn frame_at(&mut self, offset: u64) -> io::Result<Option<(u64, Batch)>> {
        let header = self.bytes(offset, FRAME_HEADER)?;
        if header.len() < FRAME_HEADER || header[..4] != FRAME_MAGIC {
            return Ok(None);
        }
        let length = [header[4], header[5], header[6], header[7]];
        let crc = u32::from_le_bytes([header[8], header[9], header[10], header[11]]);
        let n = u32::from_le_bytes(length) as usize;
        let begin = offset + FRAME_HEADER as u64;
        if n > MAX_FRAME || begin + n as u64 > self.length {
            return Ok(None);
        }
        let payload = self.bytes(begin, n)?;
        if checksum(length, payload) != crc {
            return Ok(None);
        }
        Ok(Batch::decode(payload).map(|batch| (begin + n as u64, batch)))
    }

    /// The next whole frame behind damage that begins at `offset`.
    fn resync(&mut self, offset: u64) -> io::Result<Option<(u64, u64, Batch)>> {
        let mut from = offset + 1;
        while from < self.length {
            let window = self.bytes(from, WINDOW)?;
            let hits: Vec<u64> = window
                .windows(FRAME_MAGIC.len())
                .enumerate()
                .filter(|(_, w)| *w == FRAME_MAGIC)
                .map(|(i, _)| from + i as u64)
                .collect();
            let step = window.len().saturating_sub(FRAME_MAGIC.len() - 1).max(1) as u64;
            for hit in hits {
                if let Some((end, batch)) = self.frame_at(hit)? {
                    return Ok(Some((hit, end, batch)));
                }
            }
            from += step;
        }
        Ok(None)
    }
}

impl Iterator for Scan<'_> {
    type Item = (u64, Batch);

    fn next(&mut self) -> Option<Self::Item> {
        if self.error.is_some() || self.position >= self.length {
            return None;
        }
        let at = self.position;
        let found = match self.frame_at(at) {
            Ok(Some((end, batch))) => Ok(Some((at, end, batch))),
            Ok(None) => self.resync(at),
            Err(e) => Err(e),
        };
        match found {
            Ok(Some((begin, end, batch))) => {
                if begin != at {
                    self.damaged.push(at..begin);
                }
                self.position = end;
                Some((end, batch))
            }
            Ok(None) => None,
            Err(e) => {
                self.error = Some(e);
                None
            }
        }
    }
}
