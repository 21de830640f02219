//! Restoring a directory tree: the rows of a point are placed in the order of their keys, contents follow window
//! by window. Owns which rows are restored and the comparison with the point's signed state; placing is `place`'s.

mod ahead;
mod foresight;
mod kept;
mod piece;
mod report;
mod select;
mod stretches;
mod under_way;
mod window;

use std::path::Path;
use std::sync::Arc;

use backstay_vault::error::VaultError;
use backstay_vault::read::ChunkReader;
use backstay_vault::vault::{PointObject, Reading};
use backstay_vault::write::CpuPool;

use self::ahead::{Ahead, WantedRow};
use self::piece::Target;
use self::report::Collected;
pub use self::report::{PROBLEMS_MAX, RestoreProgress, RestoreReport};
pub use self::select::Selection;
use self::under_way::Failure;
use self::window::Windows;
use crate::heads::FoundRow;
use crate::keys::{HeadKey, KeyError, split_further};
use crate::place::{Begin, Defect, Destination, Existing, PlaceError, Placed, Placer, Reproduced};
use crate::point_rows::{all_rows_of, rows_of};
use crate::row::{
    AttributeValue, HeadRow, Object, Reference, ReferenceCheck, Restored, RowError, decode_further,
};

/// Why a restore failed. What it has placed stays; the same command continues it.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The vault has a problem.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The destination has a problem.
    #[error("{}{}", .0, advice(.0))]
    Place(#[from] PlaceError),
    /// A row breaks the rules of its format.
    #[error(transparent)]
    Row(#[from] RowError),
    /// A key breaks the rules of its format.
    #[error("a key of the run is damaged: {0}; run `backstay vault check`")]
    Key(#[from] KeyError),
    /// A path that was asked for is not in the point.
    #[error("{path} is not in the point; `backstay ls SOURCE` shows what is")]
    NotThere {
        /// The path, as it was typed.
        path: String,
    },
    /// The rows do not add up to what the source's node has signed.
    #[error(
        "the state of point {point} is not what its node has signed: its runs are damaged; run `backstay vault check`, or restore another point"
    )]
    Digest {
        /// The point.
        point: String,
    },
    /// The system gives no threads.
    #[error("cannot start threads: {0}; raise the limit on tasks (ulimit -u) and run the same command again")]
    Thread(std::io::Error),
    /// It was asked to stop.
    #[error("stopped; run the same command again to go on")]
    Stopped,
}

impl RestoreError {
    /// Whether only what one chunk holds is lost.
    fn is_of_contents(&self) -> bool {
        matches!(self, Self::Vault(VaultError::Chunk { .. } | VaultError::Table(_)))
    }
}

impl From<Failure> for RestoreError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Vault(error) => Self::Vault(error),
            Failure::Place(error) => Self::Place(error),
        }
    }
}

/// What is restored, and where to.
#[derive(Debug)]
pub struct RestoreRequest<'r> {
    /// Reads the point.
    pub reading: &'r Arc<Reading>,
    /// The point.
    pub point: &'r PointObject,
    /// Which rows of it.
    pub selection: &'r Selection,
    /// The destination.
    pub destination: &'r Path,
    /// What may happen to what is there.
    pub existing: Existing,
}

/// Restores.
pub fn restore(
    request: &RestoreRequest<'_>,
    pool: &Arc<CpuPool>,
    progress: &Arc<RestoreProgress>,
) -> Result<RestoreReport, RestoreError> {
    let vault = request.reading.vault();
    let marker = format!(
        "vault {}\npoint {}\n{}",
        vault.id(),
        request.point.link.point,
        request.selection.marker_line()
    );
    let links = request.selection.links(request.reading)?;
    let destination = Destination::open(request.destination, marker.as_bytes(), request.existing)?;
    let collected = Arc::new(Collected::default());
    let reader = ChunkReader::new(Arc::clone(vault));
    let windows =
        Windows::new(reader.clone(), Arc::clone(pool), Arc::clone(&collected), Arc::clone(progress))
            .map_err(RestoreError::Thread)?;
    let rows = match request.selection.is_all() {
        true => all_rows_of(request.reading),
        false => rows_of(request.reading, &[]),
    };
    let mut ahead = Ahead::new(rows, request.selection, links);
    let heard = Arc::clone(&collected);
    let placer = destination.placer(move |defect: Defect| heard.problem(defect.to_string()));
    let mut run = RestoreRun { reader, windows, placer, collected: &collected, progress, already_done: 0 };
    while let Some(row) = ahead.next(&mut run.windows)? {
        if progress.is_stopped() {
            return Err(RestoreError::Stopped);
        }
        run.place(row)?;
    }
    let RestoreRun { windows, placer, already_done, .. } = run;
    windows.finish()?;
    let finished = placer.finish();
    if ahead.digest().is_some_and(|digest| digest != request.point.common.digest) {
        return Err(RestoreError::Digest { point: request.point.link.point.to_string() });
    }
    let resumed = destination.begin() == Begin::Resumed;
    let lacking = destination.complete(finished)?;
    collected.defects(lacking);
    let (problems, problems_total) = collected.take();
    debug_assert!(
        resumed || already_done == 0 || request.existing == Existing::Replace,
        "only resumed files are done"
    );
    Ok(RestoreReport {
        entries: progress.entries(),
        bytes: progress.bytes(),
        already_done,
        problems,
        problems_total,
    })
}

struct RestoreRun<'d> {
    reader: ChunkReader,
    windows: Windows,
    placer: Placer<'d>,
    collected: &'d Collected,
    progress: &'d RestoreProgress,
    already_done: u64,
}

impl RestoreRun<'_> {
    fn place(&mut self, row: WantedRow) -> Result<(), RestoreError> {
        let WantedRow { key, head, references, told, .. } = row;
        let key = &key;
        self.progress.placed();
        match (&head.restored, key) {
            (Restored::Link(link), HeadKey::Path(path)) => {
                let linked = self.placer.link(path, link);
                self.collected.judge(linked)?;
                Ok(())
            }
            (Restored::Link(_), HeadKey::Link(_)) => Err(KeyError::Form.into()),
            (Restored::Object { object, meta }, _) => {
                let large_values = match large_values(&self.reader, &head) {
                    Err(error) if error.is_of_contents() => {
                        self.collected
                            .problem(format!("{key}: its attributes cannot be had, it is left out: {error}"));
                        return Ok(());
                    }
                    values => values?,
                };
                let wanted = Reproduced { meta: meta.clone(), large_values };
                let at_once = is_written_at_once(&references, object.size_bytes());
                let placed = match at_once {
                    true => self.placer.place_later(key, object, wanted),
                    false => self.placer.place(key, object, wanted),
                };
                match self.collected.judge(placed)? {
                    Some(Placed::File(file)) => {
                        let size_bytes = (!at_once).then(|| object.size_bytes());
                        let sized = size_bytes.map_or(Ok(()), |size_bytes| file.set_size(size_bytes));
                        match self.collected.judge(sized)? {
                            Some(()) => Ok(self.windows.add(Target::Made(file), &references, told)?),
                            None => Ok(()),
                        }
                    }
                    Some(Placed::Later(file)) => {
                        Ok(self.windows.add(Target::Pending(file), &references, told)?)
                    }
                    Some(Placed::AlreadyDone) => {
                        self.already_done += 1;
                        let lengths = references.iter().map(|reference| u64::from(reference.length_bytes));
                        self.progress.was_there(lengths.sum());
                        Ok(())
                    }
                    Some(Placed::Done) | None => Ok(()),
                }
            }
        }
    }
}

/// The values of attributes that are stored elsewhere.
pub(crate) fn large_values(reader: &ChunkReader, head: &HeadRow) -> Result<Vec<Vec<u8>>, RestoreError> {
    let Restored::Object { meta, .. } = &head.restored else { return Ok(Vec::new()) };
    let large = meta.attributes.iter().filter(|a| matches!(a.value, AttributeValue::Large { .. })).count();
    if large == 0 {
        return Ok(Vec::new());
    }
    let values = head.facts.attribute_references.iter().map(|reference| {
        let plain = reader.fetch(reference.chunk)?;
        let begins = reference.chunk_offset_bytes as usize;
        let value = plain.get(begins..begins.saturating_add(reference.length_bytes as usize));
        value.map(<[u8]>::to_vec).ok_or_else(|| {
            let what = "a row refers to bytes that its chunk does not have: the run is damaged; run `backstay vault check`";
            VaultError::Table(what.to_owned()).into()
        })
    });
    values.collect()
}

/// Whether one write makes the file as long as it is to be: most files are small.
fn is_written_at_once(references: &[Reference], size_bytes: u64) -> bool {
    matches!(references, [only] if only.offset_bytes == 0 && only.end_bytes() == size_bytes)
}

/// All references of a file, checked against its size.
pub(crate) fn references(
    object: &Object,
    row: &FoundRow,
    head: &HeadRow,
) -> Result<Vec<Reference>, RestoreError> {
    let mut references = head.facts.references.clone();
    let mut check = ReferenceCheck::new(object.size_bytes(), &head.facts)?;
    for (key, value) in &row.further {
        let (_, first) = split_further(key);
        let further = decode_further(first.unwrap_or_default(), value)?;
        check.row(&further)?;
        references.extend(further);
    }
    check.finish()?;
    Ok(references)
}

fn advice(error: &PlaceError) -> &'static str {
    use rustix::io::Errno;
    match error {
        PlaceError::Entry { error: Errno::NOSPC | Errno::DQUOT, .. } => {
            "; make room there and run the same command again: it goes on where it was"
        }
        PlaceError::Entry { error: Errno::ROFS, .. } => "; mount it writable and run the same command again",
        _ => "",
    }
}
