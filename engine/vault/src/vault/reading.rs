//! The reading of one point: pinned where that is possible, and gone on with when the custodian has merged its runs
//! meanwhile (docs/collection.md, "Rules of readers that pin").

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use backstay_core::clock::Clock;
use backstay_core::fold::{FoldRule, KeyValue};
use backstay_core::id::SourceId;
use backstay_core::layout::StackError;
use backstay_core::point::PointLink;
use backstay_core::run::Run;

use super::pin::Pin;
use super::state::fold;
use super::{Catalogue, StateFold, Vault, WriterIdentity};
use crate::error::VaultError;
use crate::read::ChunkReader;

/// How often one reading looks for other runs. Each time some have been merged; more often something else is wrong.
const LOOKS_MAX: u32 = 64;

/// A point that is being read.
#[derive(Debug)]
pub struct Reading {
    vault: Arc<Vault>,
    /// Where its runs are looked up anew; nowhere when whoever reads holds them.
    point: Option<(SourceId, PointLink)>,
    stack: Mutex<Vec<Run>>,
    looks: AtomicU32,
    pin: Option<Pin>,
    /// Reads some of the rows, and all of them.
    some_rows: ChunkReader,
    all_rows: ChunkReader,
}

impl Reading {
    /// Begins to read a point that counts in the catalogue. `reader` is who pins it: nobody on the worst day, or when
    /// its node may not write to the vault.
    ///
    /// # Errors
    /// Also when the point was dropped before it was pinned.
    pub fn begin(
        vault: &Arc<Vault>,
        catalogue: &Catalogue,
        point: PointLink,
        reader: Option<&Arc<WriterIdentity>>,
        clock: &dyn Clock,
    ) -> Result<Arc<Self>, VaultError> {
        let source = catalogue.source;
        let pin = match reader.map(|reader| Pin::put(vault, reader, point, clock)) {
            None | Some(Ok(None)) => None,
            Some(Ok(pin)) => pin,
            Some(Err(error)) => {
                tracing::info!(%error, "the point is read without a pin");
                None
            }
        };
        let stack = match &pin {
            // What was dropped before the pin was there is not protected by it.
            Some(_) if !vault.requests_cost() || !vault.has_layout_still(catalogue)? => {
                let stack = counting_stack(&vault.catalogue(source)?, point)?;
                vault.refresh_index(None)?;
                stack
            }
            // By the same layout the point counts as before. What was moved since the index was read is looked for when it is
            // missed.
            _ => counting_stack(catalogue, point)?,
        };
        Ok(Self::of(vault, Some((source, point)), stack, pin))
    }

    /// Reads runs that nobody takes away meanwhile, since a session holds them.
    pub fn of_held_runs(vault: &Arc<Vault>, stack: Vec<Run>) -> Arc<Self> {
        Self::of(vault, None, stack, None)
    }

    fn of(
        vault: &Arc<Vault>,
        point: Option<(SourceId, PointLink)>,
        stack: Vec<Run>,
        pin: Option<Pin>,
    ) -> Arc<Self> {
        Arc::new(Self {
            vault: Arc::clone(vault),
            point,
            stack: Mutex::new(stack),
            looks: AtomicU32::new(0),
            pin,
            some_rows: ChunkReader::of_rows(Arc::clone(vault)),
            all_rows: ChunkReader::of_all_rows(Arc::clone(vault)),
        })
    }

    /// The vault.
    pub fn vault(&self) -> &Arc<Vault> {
        &self.vault
    }

    /// Whether the point stays until this is dropped.
    pub fn is_pinned(&self) -> bool {
        self.pin.is_some()
    }

    /// The state of the point, entry by entry, from the first key that is not below `from`: as far as it is asked for.
    pub fn fold<R: FoldRule + Default>(self: &Arc<Self>, from: &[u8]) -> PointFold<R> {
        self.fold_by(&self.some_rows, from)
    }

    /// All of it.
    pub fn fold_all<R: FoldRule + Default>(self: &Arc<Self>) -> PointFold<R> {
        self.fold_by(&self.all_rows, &[])
    }

    fn fold_by<R: FoldRule + Default>(self: &Arc<Self>, reader: &ChunkReader, from: &[u8]) -> PointFold<R> {
        let stack = self.stack();
        PointFold {
            fold: fold(reader, &stack, R::default(), from),
            reader: reader.clone(),
            reading: Arc::clone(self),
            stack,
            from: from.to_vec(),
            last: None,
            value: Vec::new(),
        }
    }

    /// The runs that make it up, the newest first.
    pub(super) fn stack(&self) -> Vec<Run> {
        self.stack.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Other runs than these that make up the same point now; `None` when there are none.
    pub(super) fn other_than(&self, stack: &[Run]) -> Result<Option<Vec<Run>>, VaultError> {
        let Some((source, point)) = self.point else { return Ok(None) };
        if self.looks.fetch_add(1, Ordering::Relaxed) >= LOOKS_MAX {
            return Ok(None);
        }
        let catalogue = self.vault.catalogue(source)?;
        let now = match catalogue.stack_of(point) {
            Ok(now) => now,
            // Dropped: what was missing is gone, and the error that says so stands.
            Err(error) => {
                self.vault.check_not_outdated()?;
                tracing::info!(%error, "the point that is being read has gone");
                return Ok(None);
            }
        };
        self.vault.refresh_index(None)?;
        self.stack.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&now);
        Ok((now != stack).then_some(now))
    }
}

fn counting_stack(catalogue: &Catalogue, point: PointLink) -> Result<Vec<Run>, VaultError> {
    let counts = catalogue.point(point.point).is_some_and(|found| found.link == point);
    if !counts {
        return Err(StackError::DoesNotCount { point: point.point }.into());
    }
    catalogue.stack_of(point)
}

/// The state of a point that is being read. When a chunk of a run is gone, it is looked whether other runs make up the
/// point now; they are read from the first key on, or that of the last leap, and what was told already is passed over:
/// rules of kinds remember what came before a key.
#[derive(Debug)]
pub struct PointFold<R> {
    reading: Arc<Reading>,
    reader: ChunkReader,
    fold: StateFold<R>,
    stack: Vec<Run>,
    from: Vec<u8>,
    /// Key of the entry that was told last, and its value.
    last: Option<Vec<u8>>,
    value: Vec<u8>,
}

impl<R: FoldRule + Default> PointFold<R> {
    /// The next entry: key and value; `None` at the end.
    #[expect(clippy::should_implement_trait, reason = "lends from self, which Iterator cannot")]
    pub fn next(&mut self) -> Result<Option<KeyValue<'_>>, VaultError> {
        while !self.step()? {}
        Ok(self.told())
    }

    /// The entry that was told last, once more.
    pub fn told(&self) -> Option<KeyValue<'_>> {
        self.last.as_deref().map(|key| (key, self.value.as_slice()))
    }

    /// Passes over the entries below `key`, which must be that of no further row: the next one that is told is not below it.
    pub fn seek(&mut self, key: &[u8]) -> Result<(), VaultError> {
        self.from.clear();
        self.from.extend_from_slice(key);
        match self.fold.seek(key).map_err(VaultError::from) {
            Ok(()) => Ok(()),
            Err(error) => self.go_on_with_others(error),
        }
    }

    /// False when nothing new has come: a key that was told, or a beginning anew.
    fn step(&mut self) -> Result<bool, VaultError> {
        let error = match self.fold.next().map_err(VaultError::from) {
            Ok(None) => {
                self.last = None;
                return Ok(true);
            }
            Ok(Some((key, value))) => {
                if self.last.as_deref().is_some_and(|last| key <= last) {
                    return Ok(false);
                }
                let last = self.last.get_or_insert_default();
                last.clear();
                last.extend_from_slice(key);
                self.value.clear();
                self.value.extend_from_slice(value);
                return Ok(true);
            }
            Err(error) => error,
        };
        self.go_on_with_others(error)?;
        Ok(false)
    }

    /// Begins anew with other runs that make up the point now; the error stands when there are none.
    fn go_on_with_others(&mut self, error: VaultError) -> Result<(), VaultError> {
        if !matches!(error, VaultError::Chunk { .. }) {
            return Err(error);
        }
        let Some(stack) = self.reading.other_than(&self.stack)? else { return Err(error) };
        tracing::info!("runs of the point were merged while it was read: going on with the others");
        self.fold = fold(&self.reader, &stack, R::default(), &self.from);
        self.stack = stack;
        Ok(())
    }
}
