//! A damaged vault as its operator meets it: what `vault check` says, and what `vault repair` makes of it.

use std::fs;
use std::path::{Path, PathBuf};

use backstay_testkit::random::Random;

use crate::judge::assert_same;
use crate::sandbox::Sandbox;

/// All packs of a vault, the largest last.
pub(crate) fn packs(vault: &Path) -> Vec<PathBuf> {
    let folders = fs::read_dir(vault.join("packs")).unwrap();
    let mut packs: Vec<PathBuf> = folders
        .flat_map(|folder| fs::read_dir(folder.unwrap().path()).unwrap())
        .map(|pack| pack.unwrap().path())
        .collect();
    packs.sort_by_key(|pack| fs::metadata(pack).unwrap().len());
    packs
}

/// A source of large files that do not compress, captured once.
fn captured(random: &mut Random) -> Sandbox {
    let sandbox = Sandbox::new();
    for n in 0..8 {
        fs::write(sandbox.source.join(format!("large {n}")), random.bytes(600_000)).unwrap();
    }
    sandbox.capture();
    sandbox
}

fn flip_bits(pack: &Path, places: impl IntoIterator<Item = usize>) {
    let mut content = fs::read(pack).unwrap();
    places.into_iter().for_each(|place| content[place] ^= 1);
    fs::write(pack, content).unwrap();
}

#[test]
fn bits_that_have_flipped_are_found_by_reading_and_the_next_capture_stores_the_contents_again() {
    let sandbox = captured(&mut Random::new(1));
    let data = packs(&sandbox.vault).pop().unwrap();
    sandbox.run(["vault", "check", "local", "--read-data", "1/1"]).good();
    flip_bits(&data, [500_000]);
    sandbox.check_vault();
    let name = data.file_name().unwrap().to_str().unwrap();
    sandbox.run(["vault", "check", "local", "--read-data", "1/1"]).refused(1, &["vault repair local"]);
    let found = sandbox.run(["vault", "check", "local", "--read-data", "1/1", "--json"]);
    let findings = found.json()["findings"].to_string();
    assert!(findings.contains(name), "{findings}");

    let repaired = sandbox.run(["vault", "repair", "local", "--read-data", "--json"]);
    let shown = repaired.json();
    assert_eq!(repaired.code, Some(3), "{shown:#}");
    assert_eq!((&shown["chunks_lost"], &shown["points_lost"]), (&1.into(), &0.into()), "{shown:#}");
    let lost = shown["losses"][0]["path"].as_str().unwrap();
    assert!(lost.contains("large "), "{shown:#}");
    // Everything else can be had.
    let destination = sandbox.path("partly");
    let restored = sandbox.run(["restore", "data", "--to", destination.to_str().unwrap()]);
    assert_eq!(restored.code, Some(3));

    // Nothing of the source has changed, and what was lost is read again all the same.
    let point = sandbox.points();
    assert!(!sandbox.capture().is_new);
    assert_eq!(sandbox.points(), point);
    sandbox.run(["vault", "check", "local", "--read-data", "1/1"]).good();
    assert_same(&sandbox.source, &sandbox.restore("whole"));
    sandbox.run(["vault", "prune", "local"]).good();
    sandbox.check_vault();
}

#[test]
fn small_files_whose_pack_is_lost_are_stored_again_by_the_next_capture() {
    let mut random = Random::new(7);
    let sandbox = Sandbox::new();
    for n in 0..40 {
        fs::write(sandbox.source.join(format!("small {n}")), random.bytes(9_000)).unwrap();
    }
    sandbox.capture();
    fs::remove_file(packs(&sandbox.vault).pop().unwrap()).unwrap();
    sandbox.run(["vault", "repair", "local"]).refused(3, &["things are lost in vault local"]);
    sandbox.capture();
    sandbox.run(["vault", "check", "local", "--read-data", "1/1"]).good();
    assert_same(&sandbox.source, &sandbox.restore("whole"));
}

#[test]
fn points_that_lack_contents_can_be_dropped_and_the_others_restore_as_before() {
    let mut random = Random::new(4);
    let sandbox = captured(&mut random);
    let first = fs::read(sandbox.source.join("large 0")).unwrap();
    let before = packs(&sandbox.vault);
    fs::write(sandbox.source.join("large 0"), random.bytes(600_000)).unwrap();
    sandbox.capture();
    let new = packs(&sandbox.vault).into_iter().rfind(|pack| !before.contains(pack)).unwrap();
    fs::write(sandbox.source.join("large 0"), random.bytes(600_000)).unwrap();
    sandbox.capture();
    let points = sandbox.points();
    fs::remove_file(new).unwrap();

    sandbox.run(["vault", "repair", "local"]).refused(3, &["things are lost in vault local"]);
    assert_eq!(sandbox.points(), points);
    sandbox.run(["vault", "check", "local"]).refused(1, &["vault repair local"]);

    let repaired = sandbox.run(["vault", "repair", "local", "--drop-damaged", "--json"]);
    let shown = repaired.json();
    assert_eq!(repaired.code, Some(3), "{shown:#}");
    assert_eq!((&shown["points_lost"], &shown["chunks_lost"]), (&1.into(), &0.into()), "{shown:#}");
    assert_eq!(shown["losses"][0]["point"], points[1].as_str(), "{shown:#}");
    assert_eq!(sandbox.points(), [points[0].clone(), points[2].clone()]);
    sandbox.run(["vault", "check", "local", "--read-data", "1/1"]).good();
    assert_same(&sandbox.source, &sandbox.restore("newest"));
    let older = sandbox.restore_with("older", &["--point", &points[0]]);
    assert!(fs::read(older.join("large 0")).unwrap() == first);
    sandbox.run(["vault", "repair", "local"]).good();
}

#[test]
fn missing_packs_and_a_lost_index_come_back_from_the_other_vault() {
    let mut sandbox = Sandbox::new();
    let usb = sandbox.path("usb");
    sandbox.more = format!("[vault.usb]\nkind = \"dir\"\npath = \"{}\"\n", usb.display());
    sandbox.targets = r#"["local", "usb"]"#;
    let mut random = Random::new(2);
    for n in 0..30 {
        fs::write(sandbox.source.join(format!("file {n}")), random.bytes(40_000)).unwrap();
    }
    sandbox.capture();
    for pack in packs(&sandbox.vault) {
        fs::remove_file(pack).unwrap();
    }
    fs::remove_dir_all(sandbox.vault.join("index")).unwrap();
    sandbox.run(["vault", "check", "local"]).refused(1, &["vault repair local"]);
    sandbox.run(["vault", "repair", "local", "--from", "local"]).refused(2, &["another vault"]);
    let shown = sandbox.run(["vault", "repair", "local", "--from", "usb", "--json"]).good().json();
    assert!(shown["chunks_fetched"].as_u64().unwrap() > 1, "{shown:#}");
    sandbox.run(["vault", "check", "local", "--read-data", "1/1"]).good();
    assert_same(&sandbox.source, &sandbox.restore_with("restored", &["--from", "local"]));
}

#[test]
fn newer_points_that_do_not_count_are_named_where_an_older_one_is_taken() {
    let sandbox = Sandbox::new();
    let objects = || {
        let sources = fs::read_dir(sandbox.vault.join("points")).unwrap();
        let points = sources.flat_map(|source| fs::read_dir(source.unwrap().path()).unwrap());
        points.map(|point| point.unwrap().path()).collect::<Vec<_>>()
    };
    let captured = |n: u32| {
        fs::write(sandbox.source.join("file"), format!("contents {n}")).unwrap();
        let before = if n == 1 { Vec::new() } else { objects() };
        let point = sandbox.capture().point;
        (point, objects().into_iter().find(|object| !before.contains(object)).unwrap())
    };
    let [(first, _), (middle, object), (last, _)] = [1, 2, 3].map(captured);
    fs::remove_file(object).unwrap();
    let restored = |name: &str| {
        let to = sandbox.path(name);
        let outcome = sandbox.run(["restore", "data", "--to", to.to_str().unwrap()]).good();
        assert_eq!(fs::read_to_string(to.join("file")).unwrap(), "contents 1");
        outcome
    };
    let of_last = format!("point {last} of ");
    let builds_on = format!("cannot be restored: point {middle}, which it builds on, is missing");
    for told in [restored("middle gone"), sandbox.run(["points", "data"]).good()] {
        for fragment in [&of_last, &builds_on, "backstay vault check local"] {
            assert!(told.stderr.contains(fragment), "{fragment:?} is not in {told:?}");
        }
    }
    assert_eq!(sandbox.points(), [first]);
    // Nothing is there that builds on it: the head alone tells.
    let last_object = objects().into_iter().find(|object| object.to_str().unwrap().contains(&last)).unwrap();
    fs::remove_file(last_object).unwrap();
    let of_head = format!("point {last} is missing, which the newest head names");
    assert!(restored("last gone").stderr.contains(&of_head));
}

#[test]
fn a_share_is_read_at_a_time_and_the_next_time_the_next() {
    let sandbox = captured(&mut Random::new(3));
    let read = |share: &str| {
        let shown = sandbox.run(["vault", "check", "local", "--read-data", share, "--json"]).good().json();
        (shown["read_share"].as_str().unwrap().to_owned(), shown["read_packs"].as_u64().unwrap())
    };
    let shares = [read("next/3"), read("next/3"), read("next/3")];
    assert_eq!(shares.iter().map(|(share, _)| share.as_str()).collect::<Vec<_>>(), ["1/3", "2/3", "3/3"]);
    let all: u64 = shares.iter().map(|(_, packs)| packs).sum();
    assert_eq!(all as usize, packs(&sandbox.vault).len());
    assert_eq!(read("next/3"), shares[0]);
    assert_eq!(read("2/3"), shares[1]);
    sandbox.run(["vault", "check", "local", "--read-data", "4/3"]).refused(2, &["is no share", "next/7"]);
}
