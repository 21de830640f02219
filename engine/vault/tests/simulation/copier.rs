//! A copier: brings what a vault has into another one, now and then.

use std::sync::Arc;
use std::time::Duration;

use backstay_testkit::fixture::VaultFixture;
use backstay_testkit::kind::kinds;
use backstay_testkit::random::Random;
use backstay_testkit::sim::{Died, Life, Process};
use backstay_vault::error::VaultError;
use backstay_vault::vault::{Copied, CopyLimits, Copying, ObjectFolder, Vault};

use crate::ledger::Ledger;
use crate::opening::Opening;
use crate::scene::{COPY, VAULT};
use crate::writer::hours;

pub(crate) struct Copier<'a> {
    pub(crate) node: &'a VaultFixture,
    pub(crate) opening: Opening<'a>,
    pub(crate) ledger: &'a Ledger,
}

impl Copier<'_> {
    pub(crate) fn run(&self, process: &Process) {
        let mut random = process.random();
        let mut pause = hours(&mut random, 30);
        while let Some(life) = process.start(pause) {
            let _: Result<(), Died> = self.live(&life, &mut random);
            pause = hours(&mut random, 30);
        }
    }

    fn live(&self, life: &Life, random: &mut Random) -> Result<(), Died> {
        let usage = self.opening.usage(random);
        let (from, to) = loop {
            match self.open(life, usage) {
                Ok(opened) => break opened,
                Err(error) => life.note("cannot open", error),
            }
            life.sleep(Duration::from_secs(60))?;
        };
        while !random.once_in(10) {
            let (faults, before) = (life.faults(), self.ledger.required(VAULT));
            let copied = self.copy(life, random, &from, &to);
            if !life.is_alive() {
                return Err(Died);
            }
            match copied {
                Ok(copied) => {
                    life.note("copied", format!("{} of {}", copied.points, copied.points + copied.already));
                    let failed = |point| copied.failures.iter().any(|(_, failed, _)| *failed == point);
                    let still = self.ledger.required(VAULT);
                    // One that could not be read was left out.
                    for point in before.into_iter().filter(|_| life.faults() == faults) {
                        if still.contains(&point) && !failed(point) {
                            self.ledger.acknowledge_copy(COPY, point);
                        }
                    }
                }
                Err(error) => {
                    life.note("did not copy", &error);
                    let is_told = matches!(
                        error,
                        VaultError::Fenced { .. }
                            | VaultError::Overtaken { .. }
                            | VaultError::Collecting { .. }
                            | VaultError::Unsettled { .. }
                    );
                    let may_be = is_told || life.faults() > 0 || self.ledger.is_fenced(life.name());
                    assert!(may_be, "a copier meets what it should not: {error}");
                }
            }
            life.sleep(hours(random, 40))?;
        }
        Ok(())
    }

    fn open(&self, life: &Life, usage: ObjectFolder) -> Result<(Arc<Vault>, Arc<Vault>), VaultError> {
        let from = self.opening.open(life.store(VAULT), usage)?;
        let to = self.opening.open(life.store(COPY), usage)?;
        for dead in to.dead_sessions(self.node.writer())? {
            to.fence_dead_session(self.node.writer(), &dead, dead.start)?;
        }
        Ok((from, to))
    }

    fn copy(
        &self,
        life: &Life,
        random: &mut Random,
        from: &Arc<Vault>,
        to: &Arc<Vault>,
    ) -> Result<Copied, VaultError> {
        // Now and then one commit for each stretch.
        let all = CopyLimits::default();
        let limits = if random.once_in(2) { all } else { CopyLimits { bytes: 1, ..all } };
        let copying = Copying {
            from: from.clone(),
            to: to.clone(),
            writer: self.node.writer().clone(),
            kinds: kinds(),
            pool: self.node.pool().clone(),
            clock: &life.clock(),
            limits,
        };
        copying.run(&|_| true, &|_| {})
    }
}
