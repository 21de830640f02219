//! From where a capture begins, and where it looks.

use std::path::Path;

use backstay_core::clock::{Clock, Moment};
use backstay_core::point::DefectCount;
use backstay_core::units::Timestamp;
use backstay_vault::targets::Standing;

use super::resume::state_of;
use super::{CaptureError, CaptureMeans, CaptureOptions, CaptureProgress};
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
    let (touched, start) = match (&previous, &standing.parent) {
        // Without a state before, or where something of it is lost, everything is looked at.
        (Some(previous), Some(parent)) if !has_lost && options.touched != Touched::Everywhere => {
            let (whole_until, defects) = (Some(previous.header().scan_start), parent.common.defects.clone());
            (options.touched.clone(), Start { now, whole_until, defects })
        }
        _ => (Touched::Everywhere, Start { now, whole_until: None, defects: Vec::new() }),
    };
    Ok((Walk::start_where(options.tree(), options.walk.clone(), touched)?, previous, start))
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
}
