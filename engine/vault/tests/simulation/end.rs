//! The end of a seed: all is quiet, everybody has started anew, and the custodian comes to rest. What has to be there is,
//! and nothing else.

use std::time::Duration;

use backstay_testkit::kind::kinds;
use backstay_vault::error::VaultError;
use backstay_vault::vault::{Custodian, Inspection, MemoryNotes, Pass};

use crate::custodian::last;
use crate::ledger::StoreNumber;
use crate::scene::{COPY, Scene, VAULT};
use crate::watch::{look_at, take_in_all};

/// Looks until the custodian has nothing to do any more; those of a day are needed to give up whoever is dead.
const LOOKS_MAX: usize = 100;

pub(crate) fn quiet(scene: &Scene) -> Result<(), String> {
    scene.world.land_all();
    let told = |error: VaultError| format!("in the end: {error}");
    let nodes = || scene.writers.iter().chain([&scene.custodian]);
    for (store, node) in [VAULT, COPY].into_iter().flat_map(|store| nodes().map(move |node| (store, node))) {
        let vault = node.open(scene.world.direct(store)).map_err(told)?;
        node.fence_dead_sessions(&vault, scene.world.now()).map_err(told)?;
    }
    for store in [VAULT, COPY] {
        // Layouts, too: one that landed late was made by another rule than those from now on.
        for folder in ["points", "layout"] {
            take_in_all(&scene.custodian, &scene.ledger, &scene.world, (store, folder))?;
        }
        let mut notes = MemoryNotes::default();
        for keep in [5, 2] {
            rest(scene, store, &mut notes, keep)?;
            let vault = scene.custodian.open(scene.world.direct(store)).map_err(told)?;
            look_at(&vault, &scene.ledger, store).map_err(|lost| format!("in the end: {lost}"))?;
            let report = vault.check().map_err(told)?;
            if !report.is_good() || report.unindexed_packs > 0 {
                return Err(format!("in the end: {report:#?}"));
            }
        }
        leftovers(scene, store)?;
    }
    Ok(())
}

/// A custodian that has lost its notes works until there is nothing to do, over days.
fn rest(scene: &Scene, store: StoreNumber, notes: &mut MemoryNotes, keep: usize) -> Result<(), String> {
    let told = |error: VaultError| format!("in the end: {error}");
    let clock = scene.world.clock();
    scene.ledger.keeps(keep);
    let keep = last(keep);
    let vault = scene.custodian.open(scene.world.direct(store)).map_err(told)?;
    let has_sessions = || scene.world.objects(store).keys().any(|name| name.starts_with("ledger/sessions/"));
    for _ in 0..LOOKS_MAX {
        scene.world.pass(Duration::from_secs(2 * 3600));
        let look = Inspection::new(vault.clone(), kinds(), &clock);
        let (identity, pool) = (scene.custodian.writer().clone(), scene.custodian.pool().clone());
        let mut custodian = Custodian::new(look, identity, pool, notes).map_err(told)?;
        let pass = custodian.collect().map_err(told)?;
        if matches!(pass, Pass::Waits(_)) || (pass == Pass::Idle && has_sessions()) {
            continue;
        }
        let thinned = custodian.thin(&|_| Some(keep.clone())).map_err(told)?;
        scene.ledger.has_split(thinned.groups_split);
        drop(custodian);
        take_in_all(&scene.custodian, &scene.ledger, &scene.world, (store, "layout"))?;
        if pass == Pass::Idle && thinned == Default::default() {
            return Ok(());
        }
    }
    Err(format!("in the end: the custodian does not come to rest: {:#?}", names(scene, store)))
}

fn names(scene: &Scene, store: StoreNumber) -> Vec<String> {
    scene.world.objects(store).into_keys().collect()
}

/// What may remain: one record in `gc/`; index objects of the custodian; points that count, and parts of captures of the
/// last two weeks; for each source two heads and two layouts; packs of which two thirds are needed, or which are few.
fn leftovers(scene: &Scene, store: StoreNumber) -> Result<(), String> {
    let names = names(scene, store);
    let below = |folder: &str| names.iter().filter(|name| name.starts_with(folder)).count();
    if below("ledger/sessions/") > 0 || below("fences/") > 0 || below("ledger/gc/") > 1 {
        return Err(format!("in the end there are sessions, fences or records left: {names:#?}"));
    }
    Ok(())
}
