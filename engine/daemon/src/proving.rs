//! Proofs: one source in one vault, at one level, made and put into the vault. Used by the daemon and by `verify`. What a proof
//! is, and when one is due, is core's.

mod scratch;

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use backstay_core::config::Source;
use backstay_core::id::SourceId;
use backstay_core::kind::Kinds;
use backstay_core::proof::{
    DueProof, Proof, ProofHistory, ProofLevel, Round, Share, TIME_TO_COME, TOLD_BYTES_MAX, TOLD_MAX,
};
use backstay_core::units::{ByteSize, Timestamp};
use backstay_files::prove::{Proven, prove_restore, prove_structure};
use backstay_files::restore::RestoreProgress;
use backstay_vault::vault::{
    Catalogue, OlderMark, PointObject, READ_FROM_OLDER, Reading, ShareLimit, Vault, VerifyProgress,
    WriterIdentity,
};
use backstay_vault::write::CpuPool;
use backstay_wire::progress::{Expected, Progress};

use self::scratch::Scratch;
pub use self::scratch::{BUSY, sweep};
use crate::care::kinds;
use crate::failure::Failure;
use crate::progress::all_of;
use crate::vaults::{Absent, ClockDebug, Vaults};

/// How long a share of contents is read at most: then its place is remembered.
const SHARE_TIME: Duration = Duration::from_secs(3600);

/// How far a proof is, for people.
#[derive(Debug, Default)]
pub struct ProofProgress {
    restore: Arc<RestoreProgress>,
    data: VerifyProgress,
    expected: OnceLock<Expected>,
}

impl ProofProgress {
    /// As it is told.
    pub fn told(&self) -> Progress {
        Progress {
            entries: self.restore.entries() + self.data.entries(),
            read_bytes: self.restore.bytes() + self.data.bytes(),
            expected: self.expected.get().copied(),
            ..Progress::default()
        }
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

/// What proofs are of.
struct Subject<'s> {
    vault: &'s Arc<Vault>,
    catalogue: &'s Catalogue,
    newest: &'s PointObject,
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
        self.history_in(&vault, vault.ring().source_id(source.name.as_str()))
    }

    fn history_in(&self, vault: &Vault, source: SourceId) -> Result<ProofHistory, Failure> {
        let now = self.clock.now();
        Ok(ProofHistory::new(vault.proofs(source, now.saturating_add(TIME_TO_COME))?, now))
    }

    /// The proofs of a source in a vault, and the one that is due, as its policy says, and of no higher level than `top`; none
    /// while there is no point.
    pub fn due(
        &self,
        source: &Source,
        vault: &str,
        top: ProofLevel,
    ) -> Result<Option<(ProofHistory, Option<DueProof>)>, Failure> {
        let opened = match self.vaults.open(vault, Absent::Refuse) {
            Err(failure) if failure.class == "no_vault" => return Ok(None),
            opened => opened?,
        };
        let catalogue = opened.catalogue(opened.ring().source_id(source.name.as_str()))?;
        let Some(newest) = catalogue.newest() else { return Ok(None) };
        if !self.kinds.contains_key(newest.common.kind.as_str()) {
            return Ok(None);
        }
        let history = self.history_in(&opened, catalogue.source)?;
        let top = top.min(source.verify.level.into());
        let due = history.due_up_to(top, &source.verify, newest.common.bytes, self.clock.now());
        Ok(Some((history, due)))
    }

    /// Makes a proof and puts it into the vault. A proof that fails is no error: it says what is not as it should be.
    pub fn prove(&self, wanted: &Wanted<'_>, progress: &ProofProgress) -> Result<Proof, Failure> {
        let Wanted { source, level, .. } = *wanted;
        let vault = self.vaults.open(wanted.vault, Absent::Refuse)?;
        let before = vault.older_mark();
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
        let history = match self.prover {
            Some(_) => self.history_in(&vault, catalogue.source)?,
            None => ProofHistory::default(),
        };
        let mut proof = match level {
            ProofLevel::Data => {
                let subject = Subject { vault: &vault, catalogue: &catalogue, newest: &newest };
                self.share(&subject, wanted, &history, start, progress)?
            }
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
        proof.others = history.summaries();
        let mut beside = uncounted(&vault, &catalogue)?;
        beside.extend(replaced(&vault, before)?);
        proof.failures += beside.len() as u64;
        if let Some(share) = &mut proof.share {
            // By the round it is told whether all is well.
            share.round.failures = share.round.failures.saturating_add(beside.len() as u64);
        }
        proof.told.extend(beside);
        proof.told.truncate(TOLD_MAX);
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
            others: Vec::new(),
        }
    }

    /// Reads on where the last share has ended.
    fn share(
        &self,
        subject: &Subject<'_>,
        wanted: &Wanted<'_>,
        history: &ProofHistory,
        start: Timestamp,
        progress: &ProofProgress,
    ) -> Result<Proof, Failure> {
        let Subject { vault, catalogue, newest } = *subject;
        let kind = self.kinds.get(newest.common.kind.as_str()).ok_or_else(|| {
            Failure::failed(format!("this version cannot read sources of kind {}", newest.common.kind))
        })?;
        let (place, round) = history.go_on_from();
        // Without a trace the next one could not go on.
        let time = if self.prover.is_some() { SHARE_TIME } else { Duration::MAX };
        let limit = ShareLimit { bytes: wanted.bytes_max.unwrap_or(u64::MAX), time };
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
        let _ = progress.expected.set(all_of(point));
        let proven = prove_restore(reading, point, &scratch.tree(), &self.pool, &progress.restore);
        drop(scratch);
        Ok(proven?)
    }
}

/// Points that are there and do not count, and objects that are left out because they cannot be read: what is newest may not
/// be what it ought to be.
fn uncounted(vault: &Vault, catalogue: &Catalogue) -> Result<Vec<String>, Failure> {
    let left_out = catalogue.left_out.iter().map(|error| error.to_string());
    let uncounted = vault.uncounted(catalogue)?;
    let uncounted = uncounted.iter().map(|one| format!("point {} {one}", one.point()));
    Ok(left_out.chain(uncounted).collect())
}

/// Objects whose older versions were read in their place: that all could be read is not how the vault should be.
fn replaced(vault: &Vault, before: OlderMark) -> Result<Vec<String>, Failure> {
    let taken = vault.read_from_older_since(before);
    vault.look_again_at_older()?;
    let still = taken.into_iter().filter(|name| vault.was_read_from_older(name));
    Ok(still.map(|name| format!("{name}: {READ_FROM_OLDER}")).collect())
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
