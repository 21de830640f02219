//! Looking at what belongs to an object besides its contents, from any thread.

use rustix::io::Errno;

use crate::observe::{self, Owners, RawAttributes};
use crate::read::SourceFile;
use crate::row::SymlinkTarget;
use crate::stat::{FileKind, FileStat};
use crate::walk::Found;

/// What was seen of one object.
#[derive(Debug)]
pub(crate) struct Observation {
    pub(crate) attributes: RawAttributes,
    /// Of a symbolic link.
    pub(crate) target: Option<SymlinkTarget>,
    pub(crate) user: Option<String>,
    pub(crate) group: Option<String>,
}

/// Looks at objects of one host.
#[derive(Debug)]
pub(crate) struct Observer {
    owners: Owners,
}

impl Observer {
    pub(crate) fn new() -> Self {
        Self { owners: Owners::of_this_host() }
    }

    /// Looks at a file that is open.
    pub(crate) fn file(&self, file: &SourceFile) -> Result<Observation, Errno> {
        let attributes = observe::attributes(file)?;
        Ok(self.observation(file.stat(), attributes, None))
    }

    /// Looks at an object that is no regular file; `None` when another one has its name by now.
    pub(crate) fn object(&self, found: &Found) -> Result<Option<Observation>, Errno> {
        let Some(pinned) = found.pin()? else { return Ok(None) };
        // It is pinned: what is gone then is /proc.
        let attributes = observe::attributes_of(&pinned).map_err(|errno| match errno {
            Errno::NOENT => Errno::STALE,
            errno => errno,
        })?;
        let target = match found.stat.kind {
            FileKind::Symlink => Some(observe::symlink_target(&pinned)?.ok_or(Errno::INVAL)?),
            _ => None,
        };
        Ok(Some(self.observation(&found.stat, attributes, target)))
    }

    /// What is known of an object that cannot be looked at any more.
    pub(crate) fn without_attributes(&self, stat: &FileStat) -> Observation {
        self.observation(stat, RawAttributes::unknown(), None)
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
