//! From where a capture begins, and where it looks.

use std::path::Path;

use backstay_core::clock::{Clock, Moment};
use backstay_core::point::DefectCount;
use backstay_core::units::Timestamp;
use backstay_vault::targets::Standing;

use super::resume::state_of;
use super::{CaptureError, CaptureMeans, CaptureOptions, CaptureProgress};
use crate::devices::file_system_of;
use crate::state::State;
use crate::touched::Touched;
use crate::walk::Walk;

/// Opens what a capture needs before it begins: the tree, and the state before.
pub(super) fn prepare(
    options: &CaptureOptions,
    means: &CaptureMeans,
    standing: &Standing,
    has_lost: bool,
    clock: &dyn Clock,
    progress: &CaptureProgress,
) -> Result<(Walk, Option<State>, Start), CaptureError> {
    check_root(&options.root)?;
    if !Path::new("/proc/self/fd").is_dir() {
        return Err(CaptureError::NoProc);
    }
    let previous = match &standing.parent {
        Some(point) => Some(state_of(&means.states, standing, point, progress)?),
        None => None,
    };
    let now = options.snapshot.as_ref().map_or_else(|| clock.moment(), |snapshot| snapshot.as_of);
    let parent = standing.parent.as_ref().map(|point| &point.common);
    let is_same_file_system =
        parent.is_some_and(|common| common.facts.root_file_system == file_system_of(&options.root));
    let mut start = Start { now, whole_until: None, defects: Vec::new(), is_same_file_system };
    let touched = match (&previous, parent) {
        (Some(previous), Some(common))
            if !has_lost && is_same_file_system && builds_on(previous, options, now)? =>
        {
            start.whole_until = Some(previous.header().scan_start);
            start.defects.clone_from(&common.defects);
            options.touched.clone()
        }
        _ => Touched::Everywhere,
    };
    Ok((Walk::start_where(options.tree(), options.walk.clone(), touched)?, previous, start))
}

/// Whether what is not looked at can be taken to be as the state before says: not in another tree than it is of, and not if it is
/// of a time to come, since nobody would know then up to when it is complete.
fn builds_on(previous: &State, options: &CaptureOptions, now: Moment) -> Result<bool, CaptureError> {
    if options.touched == Touched::Everywhere || previous.header().scan_start > now.wall {
        return Ok(false);
    }
    let root = rustix::fs::stat(options.tree()).ok().map(|stat| stat.st_ino);
    Ok(root.is_some() && root == previous.root()?.map(|root| root.inode))
}

fn check_root(root: &Path) -> Result<(), CaptureError> {
    let Ok(metadata) = std::fs::metadata(root) else { return Ok(()) };
    if metadata.is_dir() {
        return Ok(());
    }
    let kind = if metadata.is_file() { "file" } else { "special file" };
    Err(CaptureError::NotADirectory { path: root.to_path_buf(), kind })
}

/// From where a capture begins.
#[derive(Debug, Clone)]
pub(super) struct Start {
    /// When its scan begins, or has begun.
    pub(super) now: Moment,
    /// Of a scan that looks only at what was touched: everything that was done before this is in the state.
    pub(super) whole_until: Option<Timestamp>,
    /// And what was not as it should be in the point before, which may be where nobody looks now.
    pub(super) defects: Vec<DefectCount>,
    /// Whether the root is in the file system in which it was then.
    pub(super) is_same_file_system: bool,
}
