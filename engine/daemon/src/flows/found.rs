//! What a vault says of a flow when it is asked.

use backstay_core::config::{SourceName, Target};
use backstay_core::id::PointId;
use backstay_core::rpo::Durable;
use backstay_core::units::Timestamp;
use backstay_vault::vault::{Catalogue, Vault};
use backstay_wire::peer::Standing;

use crate::failure::Failure;
use crate::flow_proofs::FlowProofs;
use crate::vaults::{Absent, Vaults};

/// What a vault knows of a flow: that to which it is captured. Nothing, by default.
#[derive(Debug, Clone)]
pub struct Found {
    pub(super) durable: Durable,
    pub(super) cursor: Option<PointId>,
    pub(super) last_point: Option<Timestamp>,
    /// Where they were asked for.
    pub(super) proofs: Option<FlowProofs>,
    /// What the hub says of a flow that goes on from there, or why it says nothing.
    pub(super) standing: Option<Result<Standing, String>>,
}

impl Default for Found {
    fn default() -> Self {
        Self { durable: Durable::Unknown, cursor: None, last_point: None, proofs: None, standing: None }
    }
}

impl Found {
    /// Asks the vault what it has; waits for it.
    pub fn ask(vaults: &Vaults, source: &SourceName, target: &Target) -> Result<Self, Failure> {
        Self::ask_as_of(AsOf::Now, vaults, source, target)
    }

    /// The same for who has just begun: where requests cost, what was seen when the vault was opened is good enough.
    pub fn ask_at_first(vaults: &Vaults, source: &SourceName, target: &Target) -> Result<Self, Failure> {
        Self::ask_as_of(AsOf::Opening, vaults, source, target)
    }

    fn ask_as_of(
        as_of: AsOf,
        vaults: &Vaults,
        source: &SourceName,
        target: &Target,
    ) -> Result<Self, Failure> {
        let Target::Vault(name) = target else {
            return Err(Failure::failed("this version cannot keep replicas yet"));
        };
        if vaults.via(name.as_str()).is_some() {
            return Self::ask_hub(vaults, source, name.as_str());
        }
        // Nothing of the flow is decided by proofs.
        let (vault, catalogue, proofs) = match as_of {
            AsOf::Now => {
                let vault = vaults.open(name.as_str(), Absent::Refuse)?;
                let catalogue = vault.catalogue(vault.ring().source_id(source.as_str()))?;
                let proofs = FlowProofs::in_vault(&vault, catalogue.source);
                (vault, catalogue, proofs)
            }
            AsOf::Opening => {
                let vault = vaults.open_often(name.as_str(), Absent::Refuse)?;
                let catalogue = vaults.catalogue_at_first(&vault, vault.ring().source_id(source.as_str()))?;
                let proofs = FlowProofs::in_vault_at_first(&vault, catalogue.source);
                (vault, catalogue, proofs)
            }
        };
        Ok(Self { proofs, ..Self::in_catalogue(&catalogue, &vault) })
    }

    /// Asks this node's vault at the hub of a vault, and the hub for that itself.
    fn ask_hub(vaults: &Vaults, source: &SourceName, name: &str) -> Result<Self, Failure> {
        let vault = vaults.open(vaults.entry(name), Absent::Refuse)?;
        let catalogue = vault.catalogue(vault.ring().source_id(source.as_str()))?;
        let standing = vaults.standing(name, source.as_str()).map_err(|failure| failure.message);
        Ok(Self { standing: Some(standing), ..Self::in_catalogue(&catalogue, &vault) })
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
            ..Self::default()
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

/// What an answer may go by.
#[derive(Debug, Clone, Copy)]
enum AsOf {
    /// What the vault has now.
    Now,
    /// Where requests cost, what it had when this process opened it.
    Opening,
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
