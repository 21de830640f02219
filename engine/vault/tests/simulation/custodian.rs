//! The custodian: looks every hour or so, collects, and thins by rules that change.

use std::sync::Arc;
use std::time::Duration;

use backstay_core::config::{Keep, KeepRules};
use backstay_testkit::fixture::VaultFixture;
use backstay_testkit::kind::kinds;
use backstay_testkit::random::Random;
use backstay_testkit::sim::{Died, Life, Process};
use backstay_vault::error::VaultError;
use backstay_vault::vault::{Custodian, Inspection, MemoryNotes, Pass, Vault};

use crate::ledger::Ledger;
use crate::opening::Opening;
use crate::scene::{COPY, VAULT};
use crate::writer::hours;

/// Passes of one look: more and it does not come to rest.
const PASSES_MAX: usize = 30;

pub(crate) struct Keeper<'a> {
    pub(crate) node: &'a VaultFixture,
    pub(crate) opening: Opening<'a>,
    pub(crate) ledger: &'a Ledger,
}

impl Keeper<'_> {
    pub(crate) fn run(&self, process: &Process) {
        let mut random = process.random();
        let mut notes = [MemoryNotes::default(), MemoryNotes::default()];
        let mut keep = 1 + random.below(4);
        self.ledger.keeps(keep);
        let mut pause = hours(&mut random, 3);
        while let Some(life) = process.start(pause) {
            let _: Result<(), Died> = self.live(&life, &mut notes, &mut keep, &mut random);
            pause = hours(&mut random, 5);
            // Without its layout another could land later than it knows of, which costs data (rule 9).
            for notes in notes.iter_mut().filter(|notes| notes.notes.layout.is_none()) {
                if random.once_in(3) {
                    *notes = MemoryNotes::default();
                }
            }
        }
    }

    fn live(
        &self,
        life: &Life,
        notes: &mut [MemoryNotes; 2],
        keep: &mut usize,
        random: &mut Random,
    ) -> Result<(), Died> {
        let usage = self.opening.usage(random);
        let vaults = loop {
            let opened = [VAULT, COPY].map(|store| self.opening.open(life.store(store), usage));
            match opened.into_iter().collect::<Result<Vec<_>, _>>() {
                Ok(vaults) => break vaults,
                Err(error) => self.excuse(life, "cannot open", &error),
            }
            life.sleep(Duration::from_secs(60))?;
        };
        while !random.once_in(60) {
            life.sleep(Duration::from_secs(600) + hours(random, 3))?;
            // A layout that was decided by the rule of before comes whatever the rule is by then.
            if random.once_in(8) && notes[VAULT].notes.layout.is_none() {
                *keep = 1 + random.below(5);
                self.ledger.keeps(*keep);
            }
            let faults = life.faults();
            let outcome = match random.below(16) {
                // A vault of copies is collected and not thinned.
                0 | 1 => self.with(life, &vaults[COPY], &mut notes[COPY], |custodian| {
                    collect(custodian).map(|_| "collected copies".into())
                }),
                2 => self.undelete(life, &vaults[VAULT], &mut notes[VAULT], random),
                3 => self.with(life, &vaults[VAULT], &mut notes[VAULT], |custodian| {
                    custodian.release(&|_, _| true).map(|released| format!("{} released", released.len()))
                }),
                _ => self.with(life, &vaults[VAULT], &mut notes[VAULT], |custodian| {
                    care(custodian, *keep, self.ledger)
                }),
            };
            match outcome {
                Ok(told) => life.note("cared", told),
                Err(error) if life.faults() > faults => life.note("did not care", error),
                Err(error) => self.excuse(life, "did not care", &error),
            }
            if !life.is_alive() {
                return Err(Died);
            }
        }
        Ok(())
    }

    fn undelete(
        &self,
        life: &Life,
        vault: &Arc<Vault>,
        notes: &mut MemoryNotes,
        random: &mut Random,
    ) -> Result<String, VaultError> {
        let dropped = self.ledger.dropped(VAULT);
        if dropped.is_empty() {
            return Ok("nothing to bring back".into());
        }
        let wanted = dropped[random.below(dropped.len())];
        let hold = random.once_in(2).then_some("undeleted");
        self.with(life, vault, notes, |custodian| {
            if !collect(custodian)? {
                return Ok("waits".into());
            }
            let back = custodian.undelete(&|_, point| point == wanted, hold)?;
            Ok(format!("brought back: {:?}", back.iter().map(|point| &point.failure).collect::<Vec<_>>()))
        })
    }

    fn with(
        &self,
        life: &Life,
        vault: &Arc<Vault>,
        notes: &mut MemoryNotes,
        work: impl FnOnce(&mut Custodian<'_>) -> Result<String, VaultError>,
    ) -> Result<String, VaultError> {
        let clock = life.clock();
        let look = Inspection::new(vault.clone(), kinds(), &clock);
        let (identity, pool) = (self.node.writer().clone(), self.node.pool().clone());
        work(&mut Custodian::new(look, identity, pool, notes)?)
    }

    fn excuse(&self, life: &Life, what: &str, error: &VaultError) {
        life.note(what, error);
        assert!(
            life.faults() > 0 || !life.is_alive(),
            "the custodian meets what it should not: {what}: {error}"
        );
    }
}

/// What a prune does.
fn care(custodian: &mut Custodian<'_>, keep: usize, ledger: &Ledger) -> Result<String, VaultError> {
    if matches!(custodian.accept()?, Pass::Waits(_)) {
        return Ok("waits".into());
    }
    let keep = last(keep);
    let thinned = custodian.thin(&|_| Some(keep.clone()))?;
    ledger.has_split(thinned.groups_split);
    collect(custodian)?;
    Ok(format!("{} points dropped, {} groups split", thinned.points_dropped, thinned.groups_split))
}

pub(crate) fn last(count: usize) -> Keep {
    Keep::Rules(KeepRules { last: Some(count as u32), ..KeepRules::default() })
}

/// Passes until there is nothing more to go; false when one has to wait.
pub(crate) fn collect(custodian: &mut Custodian<'_>) -> Result<bool, VaultError> {
    for _ in 0..PASSES_MAX {
        match custodian.collect()? {
            Pass::Done(done) if !done.is_cut => return Ok(true),
            Pass::Done(_) => {}
            Pass::Idle => return Ok(true),
            Pass::Waits(_) => return Ok(false),
        }
    }
    panic!("a custodian does not come to rest");
}
