//! Sorted records in a file without a name, and reading them in order. Several readers share a file: each
//! reads at its own place.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use backstay_core::fold::{Cursor, Fold, NewestStands};
use backstay_core::run::{Change, Entry};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;

use super::{KEY_BYTES_MAX, VALUE_BYTES_MAX};

/// How much is read or written at a time, bytes.
const BUFFER_BYTES: usize = 64 * 1024;

/// Two lengths of 4 bytes come before each record.
const HEADER_BYTES: usize = 8;

/// How many names are tried where files without one cannot be made.
const NAMES_TRIED_MAX: u32 = 1000;

/// A run on disk. Nobody else can open it; it is gone when it is dropped.
#[derive(Debug)]
pub(super) struct RunFile {
    file: File,
    length_bytes: u64,
}

impl RunFile {
    /// Writes all of `records` to a new file in `directory`.
    pub(super) fn write<C>(directory: &Path, mut records: Fold<C, NewestStands>) -> io::Result<Self>
    where
        C: Cursor,
        C::Error: IntoIoError,
    {
        let mut out = BufWriter::with_capacity(BUFFER_BYTES, unnamed_file(directory)?);
        let mut length_bytes = 0;
        while let Some((key, value)) = records.next().map_err(IntoIoError::into_io_error)? {
            // Both lengths were compared with their bounds when the record was pushed.
            out.write_all(&(key.len() as u32).to_le_bytes())?;
            out.write_all(&(value.len() as u32).to_le_bytes())?;
            out.write_all(key)?;
            out.write_all(value)?;
            length_bytes += (HEADER_BYTES + key.len() + value.len()) as u64;
        }
        let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
        Ok(Self { file, length_bytes })
    }

    pub(super) fn cursor(&self) -> RunCursor<'_> {
        RunCursor { run: self, buffer: Vec::new(), at: 0, read_bytes: 0, key: 0..0, value: 0..0 }
    }
}

/// Errors of the cursors whose records are written.
pub(super) trait IntoIoError {
    fn into_io_error(self) -> io::Error;
}

impl IntoIoError for io::Error {
    fn into_io_error(self) -> io::Error {
        self
    }
}

impl IntoIoError for std::convert::Infallible {
    fn into_io_error(self) -> io::Error {
        match self {}
    }
}

/// Reads a run from its start.
#[derive(Debug)]
pub(super) struct RunCursor<'r> {
    run: &'r RunFile,
    buffer: Vec<u8>,
    /// Place in the buffer behind the current record.
    at: usize,
    /// How much of the file is or was in the buffer.
    read_bytes: u64,
    key: std::ops::Range<usize>,
    value: std::ops::Range<usize>,
}

impl RunCursor<'_> {
    /// Makes the next `length` bytes available in the buffer.
    fn fill(&mut self, length: usize) -> io::Result<()> {
        if self.buffer.len() - self.at >= length {
            return Ok(());
        }
        self.buffer.drain(..self.at);
        self.at = 0;
        let have = self.buffer.len();
        let left = usize::try_from(self.run.length_bytes - self.read_bytes).unwrap_or(usize::MAX);
        let more = left.min(BUFFER_BYTES.max(length - have));
        self.buffer.resize(have + more, 0);
        self.run.file.read_exact_at(&mut self.buffer[have..], self.read_bytes)?;
        self.read_bytes += more as u64;
        if self.buffer.len() < length { Err(damaged()) } else { Ok(()) }
    }

    fn at_end(&self) -> bool {
        self.at == self.buffer.len() && self.read_bytes == self.run.length_bytes
    }

    fn take_length(&mut self, max: usize) -> io::Result<usize> {
        let bytes = self.buffer[self.at..].first_chunk::<4>().ok_or_else(damaged)?;
        self.at += 4;
        let length = u32::from_le_bytes(*bytes) as usize;
        if length > max { Err(damaged()) } else { Ok(length) }
    }
}

impl Cursor for RunCursor<'_> {
    type Error = io::Error;

    fn advance(&mut self) -> io::Result<bool> {
        if self.at_end() {
            return Ok(false);
        }
        self.fill(HEADER_BYTES)?;
        let key_length = self.take_length(KEY_BYTES_MAX)?;
        let value_length = self.take_length(VALUE_BYTES_MAX)?;
        self.fill(key_length + value_length)?;
        self.key = self.at..self.at + key_length;
        self.value = self.key.end..self.key.end + value_length;
        self.at = self.value.end;
        Ok(true)
    }

    fn entry(&self) -> Entry<'_> {
        let change = Change::Put(&self.buffer[self.value.clone()]);
        Entry { key: &self.buffer[self.key.clone()], change, replaced: None }
    }
}

fn damaged() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "it does not hold what was written to it")
}

/// A file without a name, or where the file system cannot do that, one whose name is gone.
fn unnamed_file(directory: &Path) -> io::Result<File> {
    std::fs::create_dir_all(directory)?;
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    let mode = Mode::RUSR | Mode::WUSR;
    match rustix::fs::openat(CWD, directory, flags | OFlags::TMPFILE, mode) {
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => {}
        opened => return Ok(opened?.into()),
    }
    for number in 0..NAMES_TRIED_MAX {
        let path = directory.join(format!(".backstay-spill-{}-{number}", std::process::id()));
        match rustix::fs::openat(CWD, &path, flags | OFlags::CREATE | OFlags::EXCL, mode) {
            Err(Errno::EXIST) => {}
            opened => {
                let file = opened?;
                std::fs::remove_file(&path)?;
                return Ok(file.into());
            }
        }
    }
    Err(Errno::EXIST.into())
}
