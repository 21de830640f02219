//! Looking into points: what is in them, what differs between them, and their contents as a stream. Reads only, and of
//! packs of contents only what is asked for.

mod archive;
mod between;
mod contents;
mod difference;
mod entry;
mod file;
mod listing;
mod live;
mod names;
mod pattern;
mod search;

pub use archive::{ArchiveError, ArchiveProgress, Archived, archive};
pub use between::Between;
pub use contents::{ContentsError, ContentsWriter};
pub(crate) use difference::aspects;
pub use difference::{Aspect, Difference};
pub use entry::ListedEntry;
pub use file::{FileError, StoredFile};
pub use listing::{Depth, Listing};
pub use live::{Compared, Live, LiveError, Reread};
pub(crate) use names::{ResolvedRow, ResolvedRows};
pub use pattern::{Letters, Pattern, PatternError};
pub use search::Search;
