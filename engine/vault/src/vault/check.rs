//! `vault check`: is everything there that the points need? Reads all metadata and no payload; payload is read
//! a share at a time by [`Vault::check_data`]. Owns the report and what concerns single objects; points are
//! `check_points`'s, sessions and collections `check_commits`'s.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use backstay_core::id::PackId;

use super::Vault;
use super::check_commits::noted;
use super::older::{OlderMark, READ_FROM_OLDER};
use crate::chunk::ChunkClass;
use crate::error::VaultError;
use crate::name::{Named, ObjectName};
use crate::pack::{bad_records, read_pack};
use crate::record::RecordOpener;
use crate::store::{Folder, Listed};

/// Most findings that are listed one by one.
const FINDINGS_MAX: usize = 1000;

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What it concerns: an object, or a source and point.
    pub what: String,
    /// What is wrong with it.
    pub wrong: String,
}

/// What a check has seen.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct CheckReport {
    /// What is wrong; at most 1000 are listed.
    pub findings: Vec<Finding>,
    /// How many findings were not listed.
    pub more_findings: u64,
    /// Points whose metadata is complete and all of whose chunks are indexed in packs that exist.
    pub good_points: u64,
    /// Points that lack something.
    pub bad_points: u64,
    /// Packs seen.
    pub packs: u64,
    /// Bytes of the packs seen.
    pub pack_bytes: u64,
    /// Packs that no index object names: left by commits that did not finish.
    pub unindexed_packs: u64,
}

impl CheckReport {
    /// Whether nothing is wrong.
    pub fn is_good(&self) -> bool {
        self.findings.is_empty() && self.more_findings == 0
    }

    pub(super) fn add(&mut self, what: impl Into<String>, wrong: impl ToString) {
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(Finding { what: what.into(), wrong: wrong.to_string() });
        } else {
            self.more_findings += 1;
        }
    }
}

/// Which packs [`Vault::check_data`] reads: those whose id leaves the remainder `part` when divided by `of`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackShare {
    /// From 0, below `of`.
    pub part: u8,
    /// How many shares there are; at least 1, which is all packs at once.
    pub of: u8,
}

impl PackShare {
    /// All packs.
    pub const ALL: Self = Self { part: 0, of: 1 };

    fn has(self, pack: &PackId) -> bool {
        pack.as_bytes()[1] % self.of.max(1) == self.part
    }
}

/// How often a check looks until it finds the same twice.
const LOOKS_MAX: usize = 5;

/// How every age file begins.
pub(super) const AGE_MAGIC: &[u8] = b"age-encryption.org/v1\n";

impl Vault {
    /// Checks the structure: every key object, index object, session, fence, `gc/` record, layout and point and the newest
    /// head of each source opens, every pack that is indexed exists with its size, every point has a complete stack of runs all of whose chunks are indexed, and no point is missing that
    /// another object speaks of.
    ///
    /// What is found wrong is looked for again: a collection may have taken something away between two listings.
    pub fn check(self: &Arc<Self>) -> Result<CheckReport, VaultError> {
        let mut report = self.check_once()?;
        for _ in 1..LOOKS_MAX {
            if report.is_good() {
                break;
            }
            let again = self.check_once()?;
            if again.findings == report.findings {
                break;
            }
            report = again;
        }
        Ok(report)
    }

    fn check_once(self: &Arc<Self>) -> Result<CheckReport, VaultError> {
        let mut report = CheckReport::default();
        // Against the order in which a commit writes: what came meanwhile is whole.
        let catalogues = self.catalogues()?;
        self.refresh_index(None)?;
        self.check_keys(&mut report)?;
        self.check_index_objects(&mut report)?;
        let sessions = self.check_commits(&mut report)?;
        let packs = self.check_packs(&mut report)?;
        self.check_points(&catalogues, &packs, &sessions, &mut report)?;
        self.look_again_at_older()?;
        for name in self.read_from_older_since(OlderMark::FIRST) {
            report.add(name.as_str(), READ_FROM_OLDER);
        }
        Ok(report)
    }

    /// Reads a share of the packs whole, compares them with their ids and tables of contents, and opens every record.
    pub fn check_data(&self, share: PackShare) -> Result<CheckReport, VaultError> {
        let mut report = CheckReport::default();
        let packs = self.packs_to_check()?;
        for first in 0..=255u8 {
            self.check_data_of(&packs, share, first, &mut report)?;
        }
        Ok(report)
    }

    /// The packs that are to be read.
    pub fn packs_to_check(&self) -> Result<PacksToCheck, VaultError> {
        // A page of a listing has a thousand; where nothing is paid for it, a part at a time takes less memory.
        let all = self.requests_cost().then(|| self.list(&Folder::new(&[&"packs"])));
        Ok(PacksToCheck(all.transpose()?))
    }

    fn packs_that_begin_with<'p>(
        &self,
        first: u8,
        packs: &'p PacksToCheck,
    ) -> Result<Cow<'p, [Listed]>, VaultError> {
        let folder = packs_of(first);
        Ok(match &packs.0 {
            None => self.list(&folder)?.into(),
            Some(all) => {
                let from = all.partition_point(|listed| listed.name.as_str() < folder.as_str());
                let of_it = |listed: &Listed| listed.name.as_str().starts_with(folder.as_str());
                let count = all[from..].iter().take_while(|listed| of_it(listed)).count();
                all[from..from + count].into()
            }
        })
    }

    /// The same, of the packs whose ids begin with this byte: whoever wants to stop and go on later asks for one
    /// beginning after the other.
    pub fn check_data_of(
        &self,
        packs: &PacksToCheck,
        share: PackShare,
        first: u8,
        report: &mut CheckReport,
    ) -> Result<(), VaultError> {
        let mut opener = RecordOpener::new();
        for listed in &*self.packs_that_begin_with(first, packs)? {
            let Named::Pack(id) = listed.named else { continue };
            if !share.has(&id) {
                continue;
            }
            let Some(content) = noted(self.get_if_there(&listed.name), listed, report)?.flatten() else {
                continue;
            };
            report.packs += 1;
            report.pack_bytes += listed.bytes;
            match read_pack(self.ring(), id, content) {
                Err(wrong) => report.add(listed.name.as_str(), wrong),
                Ok(pack) => {
                    for (chunk, wrong) in bad_records(self.ring(), &mut opener, &pack) {
                        report.add(listed.name.as_str(), format!("chunk {chunk}: {wrong}"));
                    }
                }
            }
        }
        Ok(())
    }

    /// Whether the bundles are whole only their holders can tell; that they are there, everybody.
    fn check_keys(&self, report: &mut CheckReport) -> Result<(), VaultError> {
        let listed = self.list(&Folder::new(&[&"keys"]))?;
        if listed.is_empty() {
            report.add("keys/", "nobody's keys are kept here: whoever loses the node loses the vault");
        }
        for listed in listed {
            let content = noted(self.get_if_there(&listed.name), &listed, report)?.flatten();
            if content.is_some_and(|content| !content.starts_with(AGE_MAGIC)) {
                report.add(listed.name.as_str(), "it is no age file: its holder's key opens nothing");
            }
        }
        Ok(())
    }

    /// `None` when it has gone since it was listed.
    fn get_if_there(&self, name: &ObjectName) -> Result<Option<bytes::Bytes>, VaultError> {
        match self.get(name) {
            Ok(content) => Ok(Some(content)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn check_index_objects(&self, report: &mut CheckReport) -> Result<(), VaultError> {
        for listed in self.list(&Folder::new(&[&"index"]))? {
            noted(self.read_index_object(&listed), &listed, report)?;
        }
        Ok(())
    }

    /// Compares the packs that are listed with those that are indexed; returns the good ones.
    fn check_packs(&self, report: &mut CheckReport) -> Result<HashSet<PackId>, VaultError> {
        let mut indexed: HashMap<PackId, (ChunkClass, u32)> = self.index().packs();
        let mut good = HashSet::with_capacity(indexed.len());
        let packs = self.packs_to_check()?;
        for first in 0..=255u8 {
            for listed in &*self.packs_that_begin_with(first, &packs)? {
                let Named::Pack(id) = listed.named else { continue };
                report.packs += 1;
                report.pack_bytes += listed.bytes;
                match indexed.remove(&id) {
                    None => report.unindexed_packs += 1,
                    Some((_, bytes)) if u64::from(bytes) != listed.bytes => {
                        let wrong = format!("it has {} bytes, the index says {bytes}", listed.bytes);
                        report.add(listed.name.as_str(), wrong);
                    }
                    Some(_) => {
                        good.insert(id);
                    }
                }
            }
        }
        // In order: a second look has to find the same.
        let mut missing: Vec<PackId> = indexed.into_keys().collect();
        missing.sort_unstable();
        for id in &missing {
            report.add(Named::Pack(*id).to_name().as_str(), "it is missing, and the index names it");
        }
        Ok(good)
    }
}

/// The packs of a vault, listed at once where requests cost.
#[derive(Debug)]
pub struct PacksToCheck(Option<Vec<Listed>>);

fn packs_of(first: u8) -> Folder {
    Folder::new(&[&"packs", &format!("{first:02x}")])
}
