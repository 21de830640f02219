//! Looking at what belongs to an object besides its contents, from any thread.

use rustix::io::Errno;

use crate::observe::{self, Owners, RawAttributes};
use crate::read::SourceFile;
use crate::row::SymlinkTarget;
use crate::stat::{FileKind, FileStat};
use crate::walk::Found;

/// What was seen of one object.
#[derive(Debug)]
pub(super) struct Observation {
    pub(super) attributes: RawAttributes,
    /// Of a symbolic link.
    pub(super) target: Option<SymlinkTarget>,
    pub(super) user: Option<String>,
    pub(super) group: Option<String>,
}

/// Looks at objects of one host.
#[derive(Debug)]
pub(super) struct Observer {
    owners: Owners,
}

impl Observer {
    pub(super) fn new() -> Self {
        Self { owners: Owners::of_this_host() }
    }

    /// Looks at a file that is open.
    pub(super) fn file(&self, found: &Found, file: &SourceFile) -> Result<Observation, Errno> {
        let attributes = observe::attributes(found, Some(file))?;
        Ok(self.observation(file.stat(), attributes, None))
    }

    /// Looks at an object that is no regular file, or is an empty one.
    pub(super) fn object(&self, found: &Found) -> Result<Observation, Errno> {
        let attributes = observe::attributes(found, None)?;
        let target = match found.stat.kind {
            // A symbolic link that is none by now has vanished as such.
            FileKind::Symlink => Some(observe::symlink_target(found)?.ok_or(Errno::NOENT)?),
            _ => None,
        };
        Ok(self.observation(&found.stat, attributes, target))
    }

    fn observation(
        &self,
        stat: &FileStat,
        attributes: RawAttributes,
        target: Option<SymlinkTarget>,
    ) -> Observation {
        Observation {
            attributes,
            target,
            user: self.owners.user(stat.uid).map(str::to_owned),
            group: self.owners.group(stat.gid).map(str::to_owned),
        }
    }
}
