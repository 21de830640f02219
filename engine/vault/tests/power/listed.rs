//! What a process has seen in a listing, others build on: it is there also after a loss of power, though whoever has put it
//! died before it was durable.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use backstay_core::id::{PackId, SessionId};
use backstay_testkit::power::{Death, Forgets, Image, LossyDisk, Model, Record, Step};
use backstay_testkit::random::Random;
use backstay_vault::name::{Named, ObjectName};
use backstay_vault::store::{DirStore, Folder, Store};
use bytes::Bytes;
use tokio::runtime::Runtime;

use crate::after::new_folder;

/// Folders that a put or a bringing back syncs, and more.
const SYNCS_MAX: usize = 12;

/// Where the store is on the disk.
const STORE: &str = "store";

/// Names that are varied one by one, and images that chance makes.
const SINGLES: usize = 16;
const ANY: usize = 8;

/// Something that a process does with one object, in a store in which another has `begun` it.
struct Story {
    named: Named,
    folder: &'static str,
    /// What was done, and ended, before.
    begun: fn(&Runtime, &DirStore, &ObjectName),
    /// What somebody has listed before in the same folder, who lists it again afterwards.
    beside: Option<Named>,
    /// What the process dies of.
    work: fn(&Runtime, &DirStore, &ObjectName) -> bool,
}

fn put(io: &Runtime, store: &DirStore, name: &ObjectName) -> bool {
    io.block_on(store.put(name, Bytes::from_static(b"what it holds"))).is_ok()
}

fn bring_back(io: &Runtime, store: &DirStore, name: &ObjectName) -> bool {
    let trash = io.block_on(store.trash()).expect("lists");
    let thrown = trash.iter().find(|trashed| trashed.object.name == *name).expect("it is in the trash");
    io.block_on(store.bring_back(thrown)).is_ok()
}

/// Gives the folder of an object a time as if it had not been changed for long.
fn long_unchanged(object: &Path) {
    let folder = File::open(object.parent().expect("a folder")).expect("opens");
    folder.set_modified(SystemTime::now() - Duration::from_secs(60)).expect("its time is set");
}

fn images(disk: &LossyDisk<()>) -> Vec<Image> {
    let mut model = Model::new();
    for record in disk.records() {
        let Record::Step(step) = record else { continue };
        model.apply(&step);
    }
    model.images(SINGLES, ANY, &mut Random::new(1))
}

/// Lets a process die at each folder that it would sync. Returns how often the next one saw the object.
fn die_at_every_sync(story: &Story) -> usize {
    let io = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let name = story.named.to_name();
    let mut seen = 0;
    for syncs in 0..SYNCS_MAX {
        let folder = new_folder().expect("a folder");
        let disk = Arc::new(LossyDisk::<()>::new(folder.path(), Forgets::Nothing).expect("a disk"));
        let root = folder.path().join(STORE);
        let process = || DirStore::on(disk.clone(), &root, Some(Duration::from_secs(3600)));
        (story.begun)(&io, &process(), &name);
        let watcher = story.beside.as_ref().map(|beside| {
            assert!(put(&io, &process(), &beside.to_name()));
            long_unchanged(&root.join(beside.to_name().as_str()));
            let watcher = process();
            io.block_on(watcher.list(&Folder::new(&[&story.folder]))).expect("lists");
            watcher
        });
        disk.die(Some(Death::FolderSync(syncs)));
        if (story.work)(&io, &process(), &name) {
            return seen;
        }
        disk.die(None);
        let watcher = watcher.unwrap_or_else(&process);
        let listed = io.block_on(watcher.list(&Folder::new(&[&story.folder]))).expect("lists");
        if !listed.iter().any(|listed| listed.name == name) {
            continue;
        }
        seen += 1;
        for image in images(&disk) {
            let held = image.files.get(&Path::new(STORE).join(name.as_str()));
            assert!(held.is_some(), "death at sync {syncs}: {name} was listed, and the power took it away");
        }
    }
    panic!("it does not come to an end");
}

#[test]
fn what_was_put_and_is_listed_stays_though_its_writer_died_before_it_was_durable() {
    for (named, folder) in [
        (Named::Session(SessionId::new([1; 16])), "ledger/sessions"),
        (Named::Pack(PackId::new([2; 32])), "packs"),
    ] {
        let story = Story { named, folder, begun: |_, _, _| {}, beside: None, work: put };
        assert!(die_at_every_sync(&story) > 0, "nobody saw it before it was durable");
    }
}

#[test]
fn what_was_brought_back_and_is_listed_stays_though_its_process_died_before_it_was_durable() {
    let begun = |io: &Runtime, store: &DirStore, name: &ObjectName| {
        assert!(put(io, store, name));
        io.block_on(store.delete(name)).expect("deletes");
    };
    let named = Named::Pack(PackId::new([2; 32]));
    let story = Story { named, folder: "packs", begun, beside: None, work: bring_back };
    assert!(die_at_every_sync(&story) > 0, "nobody saw it before it was durable");
}

#[test]
fn what_comes_after_a_folder_was_listed_stays_as_well() {
    let story = Story {
        named: Named::Session(SessionId::new([1; 16])),
        folder: "ledger/sessions",
        begun: |_, _, _| {},
        beside: Some(Named::Session(SessionId::new([3; 16]))),
        work: put,
    };
    assert!(die_at_every_sync(&story) > 0, "nobody saw it before it was durable");
}

#[test]
fn a_folder_that_has_not_changed_is_not_made_durable_again() {
    let io = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let folder = new_folder().expect("a folder");
    let disk = Arc::new(LossyDisk::<()>::new(folder.path(), Forgets::Nothing).expect("a disk"));
    let root = folder.path().join(STORE);
    let name = Named::Session(SessionId::new([1; 16])).to_name();
    assert!(put(&io, &DirStore::on(disk.clone(), &root, None), &name));
    long_unchanged(&root.join(name.as_str()));
    let watcher = DirStore::on(disk.clone(), &root, None);
    let syncs = || {
        io.block_on(watcher.list(&Folder::new(&[&"ledger", &"sessions"]))).expect("lists");
        disk.records().iter().filter(|record| matches!(record, Record::Step(Step::SyncFolder(_)))).count()
    };
    let first = syncs();
    assert_eq!(syncs(), first);
}
