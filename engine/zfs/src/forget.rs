//! What flows that are none any more have left on datasets: their holds, which keep snapshots for ever, and their cursors. Owns neither
//! the question which flows there are, nor snapshots themselves: these are retention's.

use crate::error::ZfsError;
use crate::name::{BookmarkName, Cursor, FlowId, SnapshotName};
use crate::state::Dataset;
use crate::zfs::Zfs;

/// What was undone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Forgotten {
    /// Snapshots that are held no more by such a flow.
    pub released: Vec<SnapshotName>,
    /// Bookmarks that are gone.
    pub destroyed: Vec<BookmarkName>,
}

/// Releases all holds of flows that are over, and destroys their cursors. Holds and bookmarks of others stay.
pub fn forget(
    zfs: &dyn Zfs,
    datasets: &[Dataset],
    is_over: &dyn Fn(FlowId) -> bool,
) -> Result<Forgotten, ZfsError> {
    let mut forgotten = Forgotten::default();
    for dataset in datasets {
        let answer =
            |what: String| ZfsError::Answer { doing: format!("forget flows of {}", dataset.name), what };
        for held in dataset.snapshots.iter().filter(|snapshot| snapshot.holds > 0) {
            let held =
                SnapshotName::new(&dataset.name, &held.mark).map_err(|error| answer(error.to_string()))?;
            let tags = zfs.holds(&held)?;
            let over: Vec<_> = tags.iter().filter(|tag| tag.flow().is_some_and(is_over)).collect();
            for tag in &over {
                zfs.release(&held, tag)?;
            }
            if !over.is_empty() {
                forgotten.released.push(held);
            }
        }
        let cursors = dataset.bookmarks.iter();
        let over =
            cursors.filter(|mark| Cursor::parse(&mark.mark).is_some_and(|cursor| is_over(cursor.flow)));
        let over: Result<Vec<_>, _> = over.map(|mark| BookmarkName::new(&dataset.name, &mark.mark)).collect();
        let over = over.map_err(|error| answer(error.to_string()))?;
        zfs.destroy_bookmarks(&over)?;
        forgotten.destroyed.extend(over);
    }
    Ok(forgotten)
}
