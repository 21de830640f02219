//! One vault after the other: who is asked about it, for how long, and which of its subjects judges the answer.

use std::path::Path;
use std::sync::Arc;

use backstay_core::config::VaultKind;

use super::bucket::Bucket;
use super::daemon::Restart;
use super::finding::{Finding, Level};
use super::limit::{ANSWER_TIME, LOOK_TIME, VAULT_TIME, within};
use super::looks::Looks;
use super::vault_inside::{Asked, Inside, Unmade};
use super::{Asking, Doctor, Probing, seen, vault_place};
use crate::failure::Failure;

impl Doctor {
    fn is_bucket(&self, name: &str) -> bool {
        self.config.vaults.get(name).is_some_and(|vault| matches!(vault.kind, VaultKind::S3(_)))
    }

    pub(super) fn vault(
        &self,
        name: &str,
        looks: &Looks,
        restart: &Restart,
        asking: &mut Asking,
    ) -> Vec<Finding> {
        let subject = format!("vault {name}");
        let is_seen = self.has_seen(name);
        let path = self.directories().find(|(known, _)| *known == name).map(|(_, path)| path);
        let mut findings = Vec::new();
        if let Some(path) = path {
            let place = match seen(&subject, looks, path) {
                Ok(place) => place,
                Err(finding) => return vec![*finding],
            };
            let daemon_uid = self.daemon_uid(looks);
            findings =
                vault_place::judge(vault_place::Known { name, is_seen, daemon_uid }, place, &self.words);
            if findings.first().is_some_and(|finding| finding.level > Level::Ok) {
                return findings;
            }
        } else if !self.is_bucket(name) {
            // At another node: what is said of that.
            return findings;
        }
        let (node, state) = (self.config.node.name.as_str(), self.config.node.state.as_path());
        let asked = Asked { name, node, path, state, restart, words: &self.words };
        let Ok(opened) = &self.vaults else {
            findings.push(asked.judge_unopened());
            return findings;
        };
        let (vaults, config, vault) = (Arc::clone(opened), Arc::clone(&self.config), name.to_owned());
        let answer = within(VAULT_TIME, move || {
            let name = vault.clone();
            vaults.within(ANSWER_TIME, &vault, move |vaults| Inside::ask(vaults, &config, &name))
        });
        match answer {
            Some(Ok(inside)) => {
                findings.extend(asked.judge(&inside));
                asking.inside.insert(name.to_owned(), inside);
            }
            Some(Err(failure)) if failure.class == "no_vault" && !is_seen => {
                let (vaults, config, vault) = (Arc::clone(opened), Arc::clone(&self.config), name.to_owned());
                let folder = path.map(Path::to_path_buf);
                let look = move || match folder {
                    Some(folder) => Unmade::look(&vaults, &config, &vault, &folder),
                    None => Unmade::ByHand,
                };
                let unmade = within(LOOK_TIME, look);
                asking.unmade.insert(name.to_owned());
                findings
                    .push(unmade.map_or_else(|| asked.judge_hanging(), |unmade| asked.judge_unmade(&unmade)));
            }
            Some(Err(failure)) if failure.class != "unanswered" => {
                findings.push(asked.judge_failure(&failure));
            }
            _ => findings.push(asked.judge_hanging()),
        }
        findings
    }

    /// What the provider of a bucket does, and what that means. Of a vault that was not made nothing is asked.
    pub(super) fn bucket(&self, name: &str, looks: &Looks, asking: &Asking) -> Vec<Finding> {
        let Some((vault, Ok(vaults))) = self.config.vaults.get(name).map(|vault| (vault, &self.vaults))
        else {
            return Vec::new();
        };
        let (VaultKind::S3(s3), Some(inside)) = (&vault.kind, asking.inside.get(name)) else {
            return Vec::new();
        };
        let (asked, vault_name, probing) = (Arc::clone(vaults), name.to_owned(), self.probing);
        // What root keeps, a daemon of another user could not read.
        let is_kept = self.words.uid == self.daemon_uid(looks);
        let found = within(VAULT_TIME, move || match probing {
            Probing::Remembered => Ok(asked.probed(&vault_name)),
            Probing::Now => {
                let found = asked.probe(&vault_name)?;
                if let Some(found) = found.as_ref().filter(|_| is_kept) {
                    asked.keep_probed(&vault_name, found)?;
                }
                Ok(found)
            }
        });
        let hangs = || Err(Failure::failed("it does not answer"));
        let found = found.unwrap_or_else(hangs);
        let own = &self.config.node.name;
        let bucket = Bucket {
            name,
            s3,
            is_hub: vault.hub.as_ref() == Some(own),
            is_custodian: Some(inside.is_custodian),
            other: self.config.fleet.nodes.keys().find(|node| *node != own),
            words: &self.words,
        };
        bucket.judge(found.as_ref().map(Option::as_ref))
    }
}
