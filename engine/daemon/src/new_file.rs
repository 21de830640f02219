//! A file that is there whole or not at all: written under another name beside its own, made durable, and only then given
//! its name, which nothing may have by then.

use std::fs::{File, Permissions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::failure::Failure;

/// What is written at once, bytes.
const BUFFER_BYTES: usize = 1 << 20;

/// A file that is being written.
#[derive(Debug)]
pub struct NewFile {
    place: PathBuf,
    out: BufWriter<NamedTempFile>,
}

impl NewFile {
    /// Begins a file that will be at `place`, readable by its owner only.
    pub fn create(place: &Path) -> Result<Self, Failure> {
        if place.symlink_metadata().is_ok() {
            return Err(Failure::failed(format!(
                "{} is there already, and is not written over; remove it, or give another name",
                place.display()
            )));
        }
        let name = place.file_name().ok_or_else(|| {
            Failure::usage(format!("{} is not the name of a file; give one", place.display()))
        })?;
        let mut prefix = std::ffi::OsString::from(".");
        prefix.push(name);
        prefix.push(".");
        let begun = tempfile::Builder::new()
            .prefix(&prefix)
            .suffix(".partial")
            .permissions(Permissions::from_mode(0o600))
            .tempfile_in(folder_of(place));
        let begun = begun.map_err(|error| cannot(place, &error))?;
        Ok(Self { place: place.to_path_buf(), out: BufWriter::with_capacity(BUFFER_BYTES, begun) })
    }

    /// Where to write.
    pub fn writer(&mut self) -> &mut (impl Write + Send + use<>) {
        &mut self.out
    }

    /// Makes it durable and gives it its name.
    pub fn finish(self) -> Result<(), Failure> {
        let Self { place, out } = self;
        let named = out.into_inner().map_err(io::IntoInnerError::into_error).and_then(|written| {
            written.as_file().sync_all()?;
            written.persist_noclobber(&place).map_err(|error| error.error)?;
            File::open(folder_of(&place))?.sync_all()
        });
        named.map_err(|error| cannot(&place, &error))
    }
}

fn folder_of(place: &Path) -> &Path {
    place.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn cannot(place: &Path, error: &io::Error) -> Failure {
    Failure::failed(format!("cannot write {}: {error}; nothing was left there", place.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_there_when_it_is_whole_and_nothing_is_left_of_one_that_is_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let place = folder.path().join("archive.tar");
        let names = || std::fs::read_dir(folder.path()).expect("lists").count();
        let mut file = NewFile::create(&place).expect("begins");
        file.writer().write_all(b"half").expect("writes");
        assert!(!place.exists());
        drop(file);
        assert_eq!(names(), 0);
        let mut file = NewFile::create(&place).expect("begins");
        file.writer().write_all(b"whole").expect("writes");
        file.finish().expect("ends");
        assert_eq!(std::fs::read(&place).expect("reads"), b"whole");
        assert_eq!(std::fs::metadata(&place).expect("is there").permissions().mode() & 0o777, 0o600);
        assert_eq!(names(), 1);
    }

    #[test]
    fn what_is_there_is_never_written_over() {
        let folder = tempfile::tempdir().expect("a folder");
        let place = folder.path().join("archive.tar");
        let file = NewFile::create(&place).expect("begins");
        std::fs::write(&place, "came meanwhile").expect("writes");
        assert!(file.finish().expect_err("refused").message.contains("cannot write"));
        assert!(NewFile::create(&place).expect_err("refused").message.contains("there already"));
        assert_eq!(std::fs::read(&place).expect("reads"), b"came meanwhile");
    }
}
