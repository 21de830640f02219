//! Merging of segments: which, and how. Like sizes are merged, so that there are few segments and an entry is written
//! few times; what belongs to objects that are gone is left out.

use std::sync::Arc;

use super::entry::Entry;
use super::head::SegmentError;
use super::rows::{Rows, Standing};
use super::segment::{Segment, SegmentCursor};
use super::shelf::Unfinished;
use super::sorted::{Merged, Sorted};

/// So many segments of like size are merged into one.
const FAN_IN: usize = 8;

/// A segment is rewritten when more than one of so many of its entries is gone.
const GONE_PARTS: u64 = 4;

/// Segments below eight times this are alike, those up to eight times that, and so on: entries.
const SMALL_ENTRIES: u64 = 1 << 16;

/// How large a segment is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size {
    pub(super) entries: u64,
    /// Of these, those of objects that are gone.
    pub(super) gone: u64,
}

impl Size {
    fn class(self) -> u32 {
        (self.entries / SMALL_ENTRIES).max(1).ilog2() / FAN_IN.ilog2()
    }
}

/// The segments to be merged now, by place: one alone is rewritten. None when all is well.
pub(super) fn due(sizes: &[Size]) -> Vec<usize> {
    let wasteful = sizes.iter().position(|size| size.gone > size.entries / GONE_PARTS);
    if let Some(place) = wasteful {
        return vec![place];
    }
    let classes = sizes.iter().map(|size| size.class());
    for class in 0..=classes.clone().max().unwrap_or(0) {
        let alike = classes.clone().enumerate().filter(|(_, other)| *other == class);
        let alike: Vec<usize> = alike.map(|(place, _)| place).take(FAN_IN).collect();
        if alike.len() == FAN_IN {
            return alike;
        }
    }
    Vec::new()
}

/// A merge that is to be done. Nothing has to be locked meanwhile: what it reads does not change.
#[derive(Debug)]
pub struct Merge {
    /// Which segments of the index, each with how its objects stand.
    pub(super) inputs: Vec<(u32, Arc<Segment>, Vec<Standing>)>,
    pub(super) output: Unfinished,
}

/// What has come of it.
#[derive(Debug)]
pub struct MergeOutcome {
    pub(super) inputs: Vec<u32>,
    /// The segment; `None` inside when nothing is left of them.
    pub(super) merged: Result<Option<Segment>, SegmentError>,
}

impl Merge {
    /// Reads and writes; memory is bounded, time is not.
    pub fn run(self) -> MergeOutcome {
        let Self { inputs, output } = self;
        let mut rows = Rows::default();
        let packs = inputs.iter().map(|(_, segment, stands)| {
            rows.take_over(&segment.rows, |place| stands[place] != Standing::Gone)
        });
        let packs: Vec<Vec<Option<u32>>> = packs.collect();
        let merged = output.complete::<SegmentError>(|writer| {
            let sources = inputs.iter().map(|(_, segment, _)| SegmentCursor::new(Arc::clone(segment)));
            let mut merged = Merged::new(sources.collect())?;
            while let Some((source, entry)) = merged.next()? {
                if let Some(pack) = packs[source][entry.pack as usize] {
                    writer.push(&Entry { pack, ..entry })?;
                }
            }
            Ok(rows)
        });
        MergeOutcome { inputs: inputs.into_iter().map(|(part, ..)| part).collect(), merged }
    }
}

impl Sorted for SegmentCursor {
    fn next(&mut self) -> Result<Option<Entry>, SegmentError> {
        SegmentCursor::next(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(entries: u64) -> Size {
        Size { entries, gone: 0 }
    }

    #[test]
    fn eight_alike_are_merged_and_the_number_of_segments_stays_logarithmic() {
        let mut sizes: Vec<Size> = Vec::new();
        for count in 1..=1000u64 {
            sizes.push(size(1 << 20));
            loop {
                let due = due(&sizes);
                if due.is_empty() {
                    break;
                }
                let merged = due.iter().map(|place| sizes[*place].entries).sum();
                for place in due.iter().rev() {
                    sizes.remove(*place);
                }
                sizes.push(size(merged));
            }
            assert!(sizes.len() <= 28, "{} segments of {count}", sizes.len());
        }
    }

    #[test]
    fn a_segment_of_which_more_than_a_quarter_is_gone_is_rewritten_alone() {
        let sizes = |gone| [size(1 << 20), Size { entries: 100, gone }];
        assert_eq!((due(&sizes(25)), due(&sizes(26))), (vec![], vec![1]));
    }
}
