//! What is on a disk when there is power again.

use std::collections::BTreeMap;
use std::fs::{self, File, FileTimes};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use backstay_vault::store::Disk;
use bytes::Bytes;

/// Folders and files, by their paths.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Image {
    /// Each after the one in which it is.
    pub folders: Vec<PathBuf>,
    /// With what is in them.
    pub files: BTreeMap<PathBuf, Bytes>,
}

impl Image {
    /// What is in a folder now.
    pub fn of(root: &Path) -> io::Result<Self> {
        let mut image = Self::default();
        image.read(root, Path::new(""))?;
        Ok(image)
    }

    fn read(&mut self, root: &Path, below: &Path) -> io::Result<()> {
        let mut entries = fs::read_dir(root.join(below))?.collect::<io::Result<Vec<_>>>()?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let path = below.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                self.folders.push(path.clone());
                self.read(root, &path)?;
            } else {
                self.files.insert(path, fs::read(entry.path())?.into());
            }
        }
        Ok(())
    }

    /// Puts it into an empty folder, with files that were written at this time.
    pub fn write(&self, root: &Path, time: SystemTime) -> io::Result<()> {
        self.folders.iter().try_for_each(|path| fs::create_dir(root.join(path)))?;
        for (path, content) in &self.files {
            fs::write(root.join(path), content)?;
            let file = File::options().write(true).open(root.join(path))?;
            file.set_times(FileTimes::new().set_modified(time))?;
        }
        Ok(())
    }

    /// Two images of the same mark are the same but for names of files below folders of this name; whether there are any
    /// is part of it.
    pub fn mark(&self, nameless: &str) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        let mut has_nameless = false;
        let mut tell = |path: &Path, content: &[u8]| {
            let path = path.as_os_str().as_encoded_bytes();
            for part in [path, content] {
                hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
            }
        };
        self.folders.iter().for_each(|path| tell(path, b"a folder"));
        for (path, content) in &self.files {
            match path.parent() {
                Some(folder) if folder.ends_with(nameless) => has_nameless = true,
                _ => tell(path, content),
            }
        }
        tell(Path::new(nameless), &[u8::from(has_nameless)]);
        *hasher.finalize().as_bytes()
    }
}

/// The disk of the system, without the time that syncing takes: for tests of what is done after a loss of power.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoSync;

impl Disk for NoSync {
    fn sync_file(&self, _: &File, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn sync_folder(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }
}
