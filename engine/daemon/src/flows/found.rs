//! What a vault says of a flow when it is asked.

use backstay_core::clock::Clock;
use backstay_core::config::{SourceName, Target};
use backstay_core::id::PointId;
use backstay_core::proof::{ProofHistory, TIME_TO_COME};
use backstay_core::rpo::Durable;
use backstay_core::units::Timestamp;
use backstay_vault::vault::{Catalogue, Vault};

use crate::clock::SystemClock;
use crate::failure::Failure;
use crate::flow_proofs::FlowProofs;
use crate::vaults::{Absent, Vaults};

/// What a vault knows of a flow.
#[derive(Debug)]
pub struct Found {
    pub(super) durable: Durable,
    pub(super) cursor: Option<PointId>,
    pub(super) last_point: Option<Timestamp>,
    /// Where they were asked for.
    pub(super) proofs: Option<FlowProofs>,
}

impl Found {
    /// Asks the vault what it has; waits for it.
    pub fn ask(vaults: &Vaults, source: &SourceName, target: &Target) -> Result<Self, Failure> {
        let Target::Vault(name) = target else {
            return Err(Failure::failed("this version cannot keep replicas yet"));
        };
        let vault = vaults.open(name.as_str(), Absent::Refuse)?;
        let catalogue = vault.catalogue(vault.ring().source_id(source.as_str()))?;
        let now = SystemClock.now();
        // Nothing of the flow is decided by proofs.
        let proofs = vault.proofs(catalogue.source, now.saturating_add(TIME_TO_COME)).ok();
        let proofs = proofs.map(|proofs| FlowProofs::of(&ProofHistory::new(proofs, now)));
        Ok(Self { proofs, ..Self::in_catalogue(&catalogue, &vault) })
    }

    /// What is durable there.
    pub fn durable(&self) -> Durable {
        self.durable
    }

    /// What a vault has by the catalogue of the source.
    pub fn in_catalogue(catalogue: &Catalogue, vault: &Vault) -> Self {
        Self {
            durable: catalogue.durable_until(vault.id()).map_or(Durable::Nothing, Durable::Since),
            cursor: catalogue.newest().map(|point| point.link.point),
            last_point: catalogue.newest().map(|point| point.common.capture_start),
            proofs: None,
        }
    }

    /// Whether it is less than what was known, or all that is known.
    pub(super) fn corrects(&self, known: Durable) -> bool {
        match (self.durable, known) {
            (_, Durable::Unknown) | (Durable::Nothing, Durable::Since(_)) => true,
            (Durable::Since(found), Durable::Since(known)) => found < known,
            _ => false,
        }
    }
}

/// What a vault is asked again, and as of when: an answer is worth nothing that a capture has overtaken.
#[derive(Debug)]
pub struct Question {
    /// The source.
    pub source: SourceName,
    /// The target.
    pub target: Target,
    pub(super) captures: u64,
}

/// What became of a vault in a job, as far as flows depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aftermath {
    /// It has what it had, or more.
    Kept,
    /// It was mended: what it had may be gone, but nothing is known to be lost.
    Mended,
    /// It was mended, and something is lost. The next capture stores what the source still has of it.
    Lost,
}
