//! Proofs in `proofs/`: what nodes have shown of points. They decide nothing about what counts, and whoever may not read them,
//! or lacks them, proves anew.

use backstay_core::id::SourceId;
use backstay_core::proof::Proof;
use backstay_core::units::Timestamp;

use super::{Vault, WriterIdentity};
use crate::envelope::EnvelopeKind;
use crate::error::VaultError;
use crate::malformed::{Malformed, encode_cbor};
use crate::name::{NUMBER_END, Named};
use crate::store::{Folder, Listed};

/// Proofs of a source that a custodian keeps, the newest.
pub(super) const PROOFS_KEPT: usize = 512;

/// Proofs of a source that are read, the newest.
pub const PROOFS_READ_MAX: usize = 48;

impl Vault {
    /// Puts a proof, signed by the node that has made it.
    pub fn put_proof(&self, prover: &WriterIdentity, proof: &Proof) -> Result<(), VaultError> {
        let (source, time) = (proof.source, number_of(proof.end));
        self.put_hashed(&prover.signer, EnvelopeKind::Proof, &encode_cbor(proof), |hash| {
            Named::Proof(source, time, hash)
        })?;
        Ok(())
    }

    /// The newest proofs of a source until a time, at most [`PROOFS_READ_MAX`], the newest first. What is damaged, or of a node
    /// that is not trusted, is left out: it proves nothing.
    pub fn proofs(&self, source: SourceId, until: Timestamp) -> Result<Vec<Proof>, VaultError> {
        self.newest_proofs(source, until, self.list(&Folder::new(&[&"proofs", &source]))?)
    }

    /// The same in a vault that was opened just now, as it was seen then.
    pub fn proofs_at_first(&self, source: SourceId, until: Timestamp) -> Result<Vec<Proof>, VaultError> {
        self.newest_proofs(source, until, self.list_at_first(&Folder::new(&[&"proofs", &source]))?)
    }

    fn newest_proofs(
        &self,
        source: SourceId,
        until: Timestamp,
        mut listed: Vec<Listed>,
    ) -> Result<Vec<Proof>, VaultError> {
        let is_past =
            |listed: &Listed| matches!(listed.named, Named::Proof(_, time, _) if time <= number_of(until));
        listed.retain(is_past);
        listed.reverse();
        listed.truncate(PROOFS_READ_MAX);
        let mut proofs = Vec::new();
        self.get_each(&listed, |listed, object| {
            let read =
                object.map_err(VaultError::from).and_then(|object| self.proof_in(source, listed, &object));
            match read {
                Ok(proof) => proofs.push(proof),
                Err(VaultError::Store(error)) if error.is_not_found() => {}
                Err(error) if error.is_of_one_object() => tracing::warn!(%error, "left out"),
                Err(error) => return Err(error),
            }
            Ok(())
        })?;
        Ok(proofs)
    }

    pub(super) fn read_proof(&self, source: SourceId, listed: &Listed) -> Result<Proof, VaultError> {
        self.proof_in(source, listed, &self.get(&listed.name)?)
    }

    fn proof_in(&self, source: SourceId, listed: &Listed, object: &[u8]) -> Result<Proof, VaultError> {
        let (proof, _): (Proof, _) =
            self.value_in(&listed.name, &listed.named, EnvelopeKind::Proof, object)?;
        let is_named = matches!(listed.named, Named::Proof(named, time, _)
            if named == source && proof.source == source && time == number_of(proof.end));
        match is_named {
            true => Ok(proof),
            false => Err(self.damaged(&listed.name, Malformed::Field("source or time of a proof"))),
        }
    }
}

/// The number of a time in a name.
fn number_of(time: Timestamp) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(0).min(NUMBER_END - 1)
}
