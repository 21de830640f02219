//! Proofs: one source in one vault, at one level, made and put into the vault. Used by the daemon and by `verify`. What a proof
//! is, and when one is due, is core's.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use backstay_core::config::Source;
use backstay_core::kind::Kinds;
use backstay_core::proof::{DueProof, Proof, ProofHistory, ProofLevel, Round, Share, TOLD_BYTES_MAX};
use backstay_core::units::{ByteSize, Timestamp};
use backstay_files::prove::{Proven, bytes_without_holes, prove_restore, prove_structure};
use backstay_files::restore::RestoreProgress;
use backstay_vault::vault::{
    Catalogue, PointObject, Reading, ShareLimit, Vault, VerifyProgress, WriterIdentity,
};
use backstay_vault::write::CpuPool;

use crate::care::kinds;
use crate::failure::Failure;
use crate::vaults::{Absent, ClockDebug, Vaults};

/// How long a share of contents is read at most: then its place is remembered.
const SHARE_TIME: Duration = Duration::from_secs(3600);

/// What stays free in the directory for restores, beside what the point has.
const FREE_LEAST_BYTES: u64 = 256 << 20;

/// The class of a failure when nowhere is room to restore to.
pub const NO_SCRATCH: &str = "no_scratch";

/// What an entry takes beside its contents, bytes: more than any file system needs.
const ENTRY_BYTES: u64 = 4096;

/// How far a proof is, for people.
#[derive(Debug, Default)]
pub struct ProofProgress {
    restore: Arc<RestoreProgress>,
    data: VerifyProgress,
}

impl ProofProgress {
    /// Entries and bytes so far.
    pub fn figures(&self) -> (u64, u64) {
        (self.restore.entries() + self.data.entries(), self.restore.bytes() + self.data.bytes())
    }
}

/// What is to be proven.
#[derive(Debug)]
pub struct Wanted<'w> {
    /// The source.
    pub source: &'w Source,
    /// The vault.
    pub vault: &'w str,
    /// How far.
    pub level: ProofLevel,
    /// How much of the contents may be read; of a restore all is.
    pub bytes_max: Option<u64>,
    /// Where a point is restored to.
    pub scratch: &'w Path,
}

/// Makes proofs.
#[derive(Debug)]
pub struct Prover {
    vaults: Arc<Vaults>,
    pool: Arc<CpuPool>,
    clock: Arc<dyn ClockDebug>,
    /// Who signs them; nobody on the worst day, when they are not kept.
    prover: Option<Arc<WriterIdentity>>,
    kinds: Arc<Kinds>,
}

impl Prover {
    /// A prover that signs as this node.
    pub fn new(vaults: Arc<Vaults>, pool: Arc<CpuPool>, clock: Arc<dyn ClockDebug>) -> Self {
        let prover = Some(Arc::clone(vaults.writer()));
        Self { vaults, pool, clock, prover, kinds: kinds() }
    }

    /// One whose proofs are not kept.
    pub fn without_trace(self) -> Self {
        Self { prover: None, ..self }
    }

    /// The proofs of a source in a vault.
    pub fn history(&self, source: &Source, vault: &str) -> Result<ProofHistory, Failure> {
        let vault = self.vaults.open(vault, Absent::Refuse)?;
        let proofs = vault.proofs(vault.ring().source_id(source.name.as_str()))?;
        Ok(ProofHistory::new(proofs, self.clock.now()))
    }

    /// The proof that is due of a source in a vault, as its policy says, and of no higher level than `top`; none while there
    /// is no point.
    pub fn due(&self, source: &Source, vault: &str, top: ProofLevel) -> Result<Option<DueProof>, Failure> {
        let opened = match self.vaults.open(vault, Absent::Refuse) {
            Err(failure) if failure.class == "no_vault" => return Ok(None),
            opened => opened?,
        };
        let catalogue = opened.catalogue(opened.ring().source_id(source.name.as_str()))?;
        let Some(newest) = catalogue.newest() else { return Ok(None) };
        if !self.kinds.contains_key(newest.common.kind.as_str()) {
            return Ok(None);
        }
        let history = self.history(source, vault)?;
        let top = top.min(source.verify.level.into());
        Ok(history.due_up_to(top, &source.verify, newest.common.bytes, self.clock.now()))
    }

    /// Makes a proof and puts it into the vault. A proof that fails is no error: it says what is not as it should be.
    pub fn prove(&self, wanted: &Wanted<'_>, progress: &ProofProgress) -> Result<Proof, Failure> {
        let Wanted { source, level, .. } = *wanted;
        let vault = self.vaults.open(wanted.vault, Absent::Refuse)?;
        let catalogue = vault.catalogue(vault.ring().source_id(source.name.as_str()))?;
        vault.refresh_index(None)?;
        let newest = catalogue.newest().cloned().ok_or_else(|| {
            Failure::failed(format!(
                "{} has no point in {} that could be proven; `backstay now {}` makes one",
                source.name, wanted.vault, source.name
            ))
            .of_class("no_point")
        })?;
        let start = self.clock.now();
        let mut proof = match level {
            ProofLevel::Data => self.share(&vault, &catalogue, &newest, wanted, start, progress)?,
            ProofLevel::Structure | ProofLevel::Restore => {
                let reading =
                    Reading::begin(&vault, &catalogue, newest.link, self.prover.as_ref(), &*self.clock)?;
                let proven = match level {
                    ProofLevel::Restore => self.restored(&reading, &newest, wanted, progress)?,
                    _ => prove_structure(&reading, &newest)?,
                };
                self.proof_of(&catalogue, &newest, level, start, proven)
            }
        };
        proof.end = self.clock.now();
        if let Some(share) = &mut proof.share {
            share.round.end = proof.end;
        }
        for line in &mut proof.told {
            line.truncate(line.floor_char_boundary(TOLD_BYTES_MAX));
        }
        if let Some(prover) = &self.prover {
            vault.put_proof(prover, &proof)?;
        }
        Ok(proof)
    }

    fn proof_of(
        &self,
        catalogue: &Catalogue,
        point: &PointObject,
        level: ProofLevel,
        start: Timestamp,
        proven: Proven,
    ) -> Proof {
        Proof {
            source: catalogue.source,
            source_name: point.common.source_name.clone(),
            level,
            node: self.vaults.writer().node.clone(),
            start,
            end: start,
            point: Some(point.link),
            entries: proven.entries,
            bytes: proven.bytes,
            failures: proven.failures,
            told: proven.told,
            unproven: proven.unproven,
            share: None,
        }
    }

    /// Reads on where the last share has ended.
    fn share(
        &self,
        vault: &Arc<Vault>,
        catalogue: &Catalogue,
        newest: &PointObject,
        wanted: &Wanted<'_>,
        start: Timestamp,
        progress: &ProofProgress,
    ) -> Result<Proof, Failure> {
        let kind = self.kinds.get(newest.common.kind.as_str()).ok_or_else(|| {
            Failure::failed(format!("this version cannot read sources of kind {}", newest.common.kind))
        })?;
        let history = match self.prover {
            Some(_) => ProofHistory::new(vault.proofs(catalogue.source)?, start),
            None => ProofHistory::default(),
        };
        let (place, round) = history.go_on_from();
        let limit = ShareLimit { bytes: wanted.bytes_max.unwrap_or(u64::MAX), time: SHARE_TIME };
        let found = vault.verify_data(catalogue, &**kind, place.as_ref(), limit, &progress.data)?;
        let begun = round.unwrap_or(Round { start, end: start, bytes: 0, failures: 0 });
        let round = Round {
            bytes: begun.bytes.saturating_add(found.bytes),
            failures: begun.failures.saturating_add(found.failures),
            ..begun
        };
        let share = Share { round, next: found.next, before: history.whole_round() };
        let proven = Proven {
            entries: found.entries,
            bytes: found.bytes,
            failures: found.failures,
            told: found.told,
            unproven: Vec::new(),
        };
        let proof = self.proof_of(catalogue, newest, ProofLevel::Data, start, proven);
        Ok(Proof { point: None, share: Some(share), ..proof })
    }

    fn restored(
        &self,
        reading: &Arc<Reading>,
        point: &PointObject,
        wanted: &Wanted<'_>,
        progress: &ProofProgress,
    ) -> Result<Proven, Failure> {
        let scratch = Scratch::make(wanted.scratch, reading, point)?;
        let proven = prove_restore(reading, point, &scratch.folder, &self.pool, &progress.restore);
        drop(scratch);
        Ok(proven?)
    }
}

/// Says in the log what a proof has shown.
pub fn log(proof: &Proof, vault: &str) {
    let Proof { source_name, level, failures, entries, bytes, told, .. } = proof;
    match failures {
        0 => tracing::info!(
            "{source_name} in {vault}: {} proof good, {entries} entries, {}",
            level.word(),
            ByteSize(*bytes)
        ),
        _ => tracing::error!(
            failures,
            "{source_name} in {vault}: the {} proof has FAILED: {}; `backstay proofs {source_name}` tells more, `backstay vault check {vault}` and `backstay vault repair {vault}` mend",
            level.word(),
            told.first().map_or("", String::as_str)
        ),
    }
}

/// A directory of this process to restore to, which goes when it is dropped.
#[derive(Debug)]
struct Scratch {
    folder: PathBuf,
}

impl Scratch {
    fn make(scratch: &Path, reading: &Arc<Reading>, point: &PointObject) -> Result<Self, Failure> {
        let failed = |error: std::io::Error| {
            Failure::failed(format!(
                "cannot restore to {}: {error}; give another directory (`scratch` in [node], or --scratch)",
                scratch.display()
            ))
        };
        fs::create_dir_all(scratch).map_err(failed)?;
        remove_left(scratch);
        let stat = rustix::fs::statvfs(scratch).map_err(|errno| failed(errno.into()))?;
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        let common = &point.common;
        let of_entries = common.entries.saturating_mul(ENTRY_BYTES).saturating_add(FREE_LEAST_BYTES);
        let mut needed = common.bytes.saturating_add(of_entries);
        if free < needed {
            // Files with holes take less. That is looked at only where it matters: it takes a while.
            needed = bytes_without_holes(reading)?.saturating_add(of_entries);
        }
        if free < needed {
            return Err(Failure::failed(format!(
                "{} has {} free, and {} are needed to restore {} there; give another directory (`scratch` in [node], or --scratch), or verify = {{ level = \"data\" }}",
                scratch.display(),
                ByteSize(free),
                ByteSize(needed),
                common.source_name
            ))
            .of_class(NO_SCRATCH));
        }
        let folder = scratch.join(format!("proof-{}-{}", std::process::id(), common.id));
        match fs::symlink_metadata(&folder) {
            Ok(_) => Err(failed(std::io::Error::from(std::io::ErrorKind::AlreadyExists))),
            Err(_) => Ok(Self { folder }),
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.folder) {
            // Nothing may have come that far.
            if error.kind() != std::io::ErrorKind::NotFound {
                tracing::warn!(folder = %self.folder.display(), %error, "what was restored for a proof is still there");
            }
        }
    }
}

/// Removes what proofs of processes have left that are gone.
fn remove_left(scratch: &Path) {
    let Ok(entries) = fs::read_dir(scratch) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let process = name.to_str().and_then(|name| name.strip_prefix("proof-")).and_then(|rest| {
            let (process, point) = rest.split_once('-')?;
            point.parse::<backstay_core::id::PointId>().ok()?;
            process.parse::<u32>().ok()
        });
        let is_gone = process.is_some_and(|process| !Path::new(&format!("/proc/{process}")).exists());
        if is_gone && let Err(error) = fs::remove_dir_all(entry.path()) {
            tracing::warn!(folder = %entry.path().display(), %error, "what was restored for a proof is still there");
        }
    }
}
