//! Who holds keys of vaults, and who is their custodian.

use std::collections::BTreeMap;

use backstay_vault::keys::{AgeIdentity, FormerKeys, Role};
use backstay_wire::secret::SecretText;
use backstay_wire::upkeep::{KeyRecipient, KeyRole, OldKeys, UpkeepReport};

use crate::failure::Failure;
use crate::vaults::{Recipient, Vaults};

pub(super) fn take_custody(
    vaults: &Vaults,
    vault: &str,
    recovery: Option<&SecretText>,
) -> Result<UpkeepReport, Failure> {
    let recovery = recovery.map(identity).transpose()?;
    let term = vaults.take_custody(vault, recovery.as_ref())?;
    Ok(UpkeepReport::CustodyTaken { term })
}

pub(super) fn add(
    vaults: &Vaults,
    vault: &str,
    holder: &str,
    to: &KeyRecipient,
) -> Result<UpkeepReport, Failure> {
    vaults.add_key(vault, holder, &recipient(to))?;
    Ok(UpkeepReport::KeyAdded)
}

pub(super) fn remove(vaults: &Vaults, vault: &str, holder: &str) -> Result<UpkeepReport, Failure> {
    vaults.remove_key(vault, holder)?;
    Ok(UpkeepReport::KeyRemoved)
}

pub(super) fn rotate(
    vaults: &Vaults,
    recovery: Option<&SecretText>,
    recipients: &BTreeMap<String, KeyRecipient>,
    old: OldKeys,
) -> Result<UpkeepReport, Failure> {
    let former = match old {
        OldKeys::Trusted => FormerKeys::Trusted,
        OldKeys::Compromised => FormerKeys::Compromised,
    };
    let recovery = recovery.map(identity).transpose()?;
    let others = recipients.iter().map(|(holder, to)| (holder.clone(), recipient(to))).collect();
    let count = vaults.rotate_keys(former, recovery.as_ref(), &others)?;
    Ok(UpkeepReport::KeysRotated { vaults: count as u64 })
}

fn identity(text: &SecretText) -> Result<AgeIdentity, Failure> {
    AgeIdentity::from_file(text.reveal())
        .map_err(|error| Failure::usage(format!("the recovery key is {error}")))
}

fn recipient(to: &KeyRecipient) -> Recipient {
    let role = match to.role {
        KeyRole::Full => Role::Full,
        KeyRole::Custodian => Role::Custodian,
    };
    Recipient { recipient: to.recipient.clone(), role }
}
