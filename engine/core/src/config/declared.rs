//! What a configuration declares, as far as its services refer to it.

use std::collections::{BTreeMap, BTreeSet};

use super::name::{NodeName, PolicyName, ServiceName, VaultName};
use super::policy::PolicyKeys;
use super::vault::Vault;

/// The names are complete even where the things named are faulty, so that one fault is not reported again at
/// every reference.
pub(super) struct Declared {
    pub(super) nodes: BTreeSet<NodeName>,
    pub(super) vault_names: BTreeSet<VaultName>,
    pub(super) vaults: BTreeMap<VaultName, Vault>,
    pub(super) policy_names: BTreeSet<PolicyName>,
    pub(super) policies: BTreeMap<PolicyName, PolicyKeys>,
    pub(super) services: BTreeSet<ServiceName>,
}
