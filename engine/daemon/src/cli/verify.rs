//! `verify` and `proofs`: show now that points can be had back, and what was shown before.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use backstay_core::config::Source;
use backstay_core::proof::{Proof, ProofLevel};
use backstay_core::units::{ByteSize, Timestamp};
use backstay_vault::write::CpuPool;
use clap::{Args, ValueEnum};
use serde::Serialize;

use super::status::show_table;
use super::{Context, capture, print_json};
use crate::clock::SystemClock;
use crate::failure::Failure;
use crate::proving::{ProofProgress, Prover, Wanted};
use crate::terminal::{self, print, remark};
use crate::vaults::{Absent, Vaults};

/// Lines that are shown of a proof that has failed.
const LINES_MAX: usize = 10;

/// How far a proof goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Level {
    /// All rows of the newest point are there and add up to what its node has signed.
    Structure,
    /// Contents of all points are read, from where the last proof has ended.
    Data,
    /// The newest point is restored, and what lies on the disk is compared.
    Restore,
}

#[derive(Debug, Args)]
pub(super) struct VerifyArgs {
    /// The sources; all of this node where none is given.
    #[arg(value_name = "SOURCE")]
    sources: Vec<String>,
    /// How far; where none is given, as `verify` of the policy says.
    #[arg(long, value_enum, value_name = "LEVEL")]
    level: Option<Level>,
    /// The vault; all that the source goes to where none is given.
    #[arg(long, value_name = "VAULT")]
    from: Option<String>,
    /// How much may be read of contents, as 20GiB; the next `verify` goes on there. Of a restore, all is read.
    #[arg(long, value_name = "SIZE")]
    budget: Option<ByteSize>,
    /// The directory to restore to; what comes there goes again.
    #[arg(long, value_name = "DIR")]
    scratch: Option<PathBuf>,
    /// Read with this recovery key instead of the node's own identity; the proof is not kept.
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct ProofsArgs {
    /// The source; all of this node where none is given.
    #[arg(value_name = "SOURCE")]
    source: Option<String>,
    /// The vault; all where none is given.
    #[arg(long, value_name = "VAULT")]
    from: Option<String>,
    /// Read with this recovery key instead of the node's own identity.
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
}

#[derive(Serialize)]
struct ShownProof {
    source: String,
    vault: String,
    level: &'static str,
    good: bool,
    start: String,
    end: String,
    node: String,
    point: Option<String>,
    entries: u64,
    bytes: u64,
    failures: u64,
    told: Vec<String>,
    unproven: Vec<String>,
    /// Of a share: whether everything was read since the beginning of the round.
    #[serde(skip_serializing_if = "Option::is_none")]
    round_whole: Option<bool>,
    /// Bytes that were read in the round so far.
    #[serde(skip_serializing_if = "Option::is_none")]
    round_bytes: Option<u64>,
    /// How much was not as it should be in the round so far.
    #[serde(skip_serializing_if = "Option::is_none")]
    round_failures: Option<u64>,
}

impl ShownProof {
    fn of(proof: &Proof, source: &str, vault: &str) -> Self {
        Self {
            // Not as the proof calls it: that may be anybody's text.
            source: source.to_owned(),
            vault: vault.to_owned(),
            level: proof.level.word(),
            good: proof.failures == 0,
            start: proof.start.to_string(),
            end: proof.end.to_string(),
            node: proof.node.clone(),
            point: proof.point.map(|link| link.point.to_string()),
            entries: proof.entries,
            bytes: proof.bytes,
            failures: proof.failures,
            told: proof.told.clone(),
            unproven: proof.unproven.clone(),
            round_whole: proof.share.as_ref().map(|share| share.next.is_none()),
            round_bytes: proof.share.as_ref().map(|share| share.round.bytes),
            round_failures: proof.share.as_ref().map(|share| share.round.failures),
        }
    }

    /// What was shown, in words.
    fn what(&self) -> String {
        let size = ByteSize(self.bytes);
        match (self.level, self.round_whole) {
            ("data", Some(true)) if self.round_failures == Some(0) => {
                format!("{size} read, which ends a round: all contents of all points were read and are there")
            }
            ("data", Some(true)) => format!(
                "{size} read, which ends a round in which {} things were not as they should be",
                self.round_failures.unwrap_or_default()
            ),
            ("data", _) => format!("{size} read; the next one goes on there"),
            ("restore", _) => format!("{} entries, {size} restored and compared", self.entries),
            _ => format!("{} rows read", self.entries),
        }
    }
}

pub(super) fn verify(context: &Context, arguments: &VerifyArgs) -> Result<u8, Failure> {
    let vaults = Arc::new(context.vaults_to_read(arguments.key_file.as_deref())?);
    let pool =
        Arc::new(CpuPool::new().map_err(|error| Failure::failed(format!("cannot start threads: {error}")))?);
    let prover = Prover::new(Arc::clone(&vaults), pool, Arc::new(SystemClock));
    let prover = if arguments.key_file.is_some() { prover.without_trace() } else { prover };
    let scratch = arguments.scratch.as_ref().unwrap_or(&context.config.node.scratch);
    let (mut shown, mut failed, mut not_made) = (Vec::new(), 0u64, Vec::new());
    for source in capture::named_anywhere(context, &arguments.sources)? {
        let level = arguments.level.map_or_else(|| source.verify.level.into(), ProofLevel::from);
        for vault in vaults_of(&vaults, source, arguments.from.as_deref())? {
            let bytes_max = arguments.budget.map(|budget| budget.as_u64());
            let wanted = Wanted { source, vault: &vault, level, bytes_max, scratch };
            let progress = ProofProgress::default();
            let start = Instant::now();
            let what = format!("verifying {} in {vault}", source.name);
            let proof = terminal::watched(&what, || progress.told(), || prover.prove(&wanted, &progress));
            match proof {
                Ok(proof) => {
                    failed += u64::from(proof.failures > 0);
                    let proof = ShownProof::of(&proof, source.name.as_str(), &vault);
                    if !context.json {
                        show(&proof, start.elapsed().as_secs_f64());
                    }
                    shown.push(proof);
                }
                Err(failure) => not_made.push(format!("{} in {vault}: {failure}", source.name)),
            }
        }
    }
    if context.json {
        print_json(&shown)?;
    }
    not_made.iter().for_each(|line| remark(&format!("warning: nothing was shown of {line}")));
    match (failed, not_made.len(), shown.len()) {
        (0, 0, 0) => Err(Failure::failed(
            "there is nothing to verify: no source of the configuration is at home on this node; name a source",
        )),
        (0, 0, _) => Ok(0),
        (0, _, 0) => Err(Failure::failed("nothing was shown; see above")),
        (0, some, _) => Err(Failure::partly(format!("of {some} nothing was shown; see above"))),
        (some, ..) => Err(Failure::failed(format!(
            "{some} proofs have failed; `backstay vault check VAULT` and `backstay vault repair VAULT` say more and mend"
        ))),
    }
}

impl From<Level> for ProofLevel {
    fn from(level: Level) -> Self {
        match level {
            Level::Structure => Self::Structure,
            Level::Data => Self::Data,
            Level::Restore => Self::Restore,
        }
    }
}

fn show(proof: &ShownProof, seconds: f64) {
    let verdict = if proof.good { "good" } else { "FAILED" };
    print(&format!(
        "{} in {}: {} proof {verdict}: {} in {seconds:.1} s",
        proof.source,
        proof.vault,
        proof.level,
        proof.what()
    ));
    proof.told.iter().for_each(|line| remark(&format!("  {line}")));
    let more = proof.failures - proof.told.len() as u64;
    if more > 0 {
        remark(&format!("  and {more} more"));
    }
    proof.unproven.iter().for_each(|line| remark(&format!("  not shown: {line}")));
}

/// The vaults in which a source is looked at.
fn vaults_of(vaults: &Vaults, source: &Source, from: Option<&str>) -> Result<Vec<String>, Failure> {
    let own = vaults.to_read(source);
    match from {
        None => Ok(own),
        // That says who has it.
        Some(from) if vaults.via(from).is_some() => vaults.open(from, Absent::Refuse).map(|_| Vec::new()),
        Some(from) if own.iter().any(|name| name == from) => Ok(vec![from.to_owned()]),
        Some(from) => Err(Failure::usage(format!(
            "{} does not go to {from}; it goes to {}",
            source.name,
            own.join(", ")
        ))),
    }
}

pub(super) fn proofs(context: &Context, arguments: &ProofsArgs) -> Result<u8, Failure> {
    let vaults = context.vaults_to_read(arguments.key_file.as_deref())?;
    let typed: Vec<String> = arguments.source.iter().cloned().collect();
    let (mut found_proofs, mut failures) = (Vec::new(), Vec::new());
    for source in capture::named_anywhere(context, &typed)? {
        for name in vaults_of(&vaults, source, arguments.from.as_deref())? {
            let found = vaults.open(&name, Absent::Refuse).and_then(|vault| {
                Ok(vault.proofs(vault.ring().source_id(source.name.as_str()), Timestamp::MAX)?)
            });
            match found {
                Ok(proofs) => found_proofs
                    .extend(proofs.into_iter().map(|proof| (source.name.as_str(), proof, name.clone()))),
                Err(failure) => failures.push(failure),
            }
        }
    }
    found_proofs.sort_by(|(a_source, a, _), (b_source, b, _)| (a_source, a.end).cmp(&(b_source, b.end)));
    let shown: Vec<ShownProof> =
        found_proofs.iter().map(|(source, proof, vault)| ShownProof::of(proof, source, vault)).collect();
    if context.json {
        print_json(&shown)?;
    } else {
        let head = ["SOURCE", "VAULT", "LEVEL", "TIME", "RESULT", "WHAT"].map(str::to_owned);
        let rows = shown.iter().map(|proof| {
            let result = if proof.good { "good".to_owned() } else { format!("{} failures", proof.failures) };
            [
                proof.source.clone(),
                proof.vault.clone(),
                proof.level.to_owned(),
                proof.end.clone(),
                result,
                proof.what(),
            ]
        });
        let table: Vec<_> = std::iter::once(head).chain(rows).collect();
        show_table(&table);
        for proof in shown.iter().filter(|proof| !proof.good) {
            print(&format!("{} in {}, {} of {}:", proof.source, proof.vault, proof.level, proof.end));
            // Whoever has made the proof has written them: nothing in them may move a cursor.
            let lines = proof.told.iter().take(LINES_MAX);
            lines.for_each(|line| print(&format!("  {}", line.replace(char::is_control, "?"))));
            let more = proof.failures.saturating_sub(proof.told.len().min(LINES_MAX) as u64);
            if more > 0 {
                print(&format!("  and {more} more; --json tells up to 100"));
            }
        }
    }
    match (shown.is_empty(), failures.pop()) {
        (_, None) => Ok(0),
        (true, Some(failure)) => Err(failure),
        (false, Some(failure)) => Err(Failure::partly(format!("not all vaults could be asked: {failure}"))),
    }
}
