//! What a vault says of a flow when it is asked.

use backstay_core::clock::Clock;
use backstay_core::config::{SourceName, Target};
use backstay_core::id::PointId;
use backstay_core::proof::ProofHistory;
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
        let history = ProofHistory::new(vault.proofs(catalogue.source)?, SystemClock.now());
        Ok(Self { proofs: Some(FlowProofs::of(&history)), ..Self::in_catalogue(&catalogue, &vault) })
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
