//! Proofs: `verify` finds what is damaged, names it by path, keeps to its budget and goes on where it was; `proofs` and the
//! metrics tell of it.

use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use backstay_testkit::random::Random;
use serde_json::Value;

use crate::daemon::{Daemon, get, wait_for};
use crate::damage::packs;
use crate::mistakes::as_nobody;
use crate::mount::Mount;
use crate::outcome::{Outcome, run};
use crate::sandbox::{Sandbox, text};
use crate::tree;

/// The only proof that a command tells of.
#[track_caller]
fn only(outcome: &Outcome) -> Value {
    let proofs = outcome.json();
    assert_eq!(proofs.as_array().unwrap().len(), 1, "{proofs:#}");
    proofs[0].clone()
}

#[test]
fn a_whole_vault_is_proven_at_every_level_and_the_proofs_are_kept() {
    let sandbox = Sandbox::new();
    tree::make_everything(&sandbox.source);
    sandbox.capture();
    tree::edit_everything(&sandbox.source);
    let newest = sandbox.capture().point;
    for level in ["structure", "data", "restore"] {
        let proof = only(&sandbox.run(["verify", "data", "--level", level, "--json"]).good());
        assert_eq!(
            (proof["good"].as_bool(), text(&proof["level"]).as_str()),
            (Some(true), level),
            "{proof:#}"
        );
        assert_eq!(proof["unproven"].as_array().unwrap().len(), 0, "{proof:#}");
        let of_point = (level != "data").then_some(newest.as_str());
        assert_eq!(proof["point"].as_str(), of_point);
        assert_eq!(proof["round_whole"].as_bool(), (level == "data").then_some(true));
    }
    let kept = sandbox.run(["proofs", "data", "--json"]).good().json();
    let levels: Vec<String> = kept.as_array().unwrap().iter().map(|proof| text(&proof["level"])).collect();
    assert_eq!(levels, ["structure", "data", "restore"]);
    assert!(sandbox.run(["proofs"]).good().text().contains("entries, "));
    // Nothing is left of what was restored.
    assert_eq!(fs::read_dir(sandbox.state.join("scratch")).unwrap().count(), 0);
    sandbox.run(["vault", "prune", "local"]).good();
    sandbox.check_vault();
}

/// What is done to a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Damage {
    Gone,
    Flipped,
    Shorter,
    Zeroed,
}

impl Damage {
    const ALL: [Self; 4] = [Self::Gone, Self::Flipped, Self::Shorter, Self::Zeroed];

    fn do_to(self, pack: &Path, random: &mut Random) {
        let length = fs::metadata(pack).unwrap().len();
        match self {
            Self::Gone => fs::remove_file(pack).unwrap(),
            Self::Flipped => {
                let mut bytes = fs::read(pack).unwrap();
                // Where records are: neither the head nor the padding.
                let at = 64 + random.below(bytes.len() / 2);
                bytes[at] ^= 1 << random.below(8);
                fs::write(pack, bytes).unwrap();
            }
            Self::Shorter => fs::File::options().write(true).open(pack).unwrap().set_len(length / 2).unwrap(),
            Self::Zeroed => {
                let file = fs::File::options().write(true).open(pack).unwrap();
                file.write_all_at(&vec![0; length as usize / 2], 64).unwrap();
            }
        }
    }
}

#[test]
fn every_damage_of_contents_is_found_by_the_levels_that_read_them_and_named_by_path() {
    let mut random = Random::new(11);
    for damage in Damage::ALL {
        let sandbox = Sandbox::new();
        fs::create_dir(sandbox.source.join("folder")).unwrap();
        fs::write(sandbox.source.join("folder/large"), random.bytes(900_000)).unwrap();
        sandbox.capture();
        let with_contents = packs(&sandbox.vault).pop().unwrap();
        damage.do_to(&with_contents, &mut random);
        let structure = only(&sandbox.run(["verify", "data", "--level", "structure", "--json"]).good());
        assert_eq!(structure["good"], true, "{damage:?}: contents are not its business");
        for level in ["data", "restore"] {
            let outcome = sandbox.run(["verify", "data", "--level", level, "--json"]);
            let outcome = outcome.refused(1, &["proofs have failed", "vault repair"]);
            let proof = only(&outcome);
            assert_eq!(proof["good"], false);
            let told = proof["told"].to_string();
            assert!(told.contains("folder/large"), "{damage:?}, {level}: {told}");
        }
        let said = sandbox.run(["verify", "data", "--level", "data"]).ended_with(1);
        assert!(said.text().contains("FAILED") && said.stderr.contains("folder/large"), "{said:?}");
        let kept = sandbox.run(["proofs", "data", "--json"]).good().json();
        assert_eq!(kept.as_array().unwrap().iter().filter(|proof| proof["good"] == false).count(), 3);
    }
}

#[test]
fn every_damage_of_rows_is_found_by_every_level() {
    let mut random = Random::new(12);
    for damage in Damage::ALL {
        let sandbox = Sandbox::new();
        for n in 0..3000 {
            fs::write(sandbox.source.join(format!("a file with a rather long name {n}")), n.to_string())
                .unwrap();
        }
        sandbox.capture();
        let metadata: Vec<_> =
            packs(&sandbox.vault).into_iter().filter(|pack| is_of_metadata(pack)).collect();
        assert!(!metadata.is_empty());
        for pack in &metadata {
            damage.do_to(pack, &mut random);
        }
        for level in ["structure", "data", "restore"] {
            let outcome = sandbox.run(["verify", "data", "--level", level, "--json"]).ended_with(1);
            let proof = only(&outcome);
            assert!(proof["failures"].as_u64().unwrap() > 0, "{damage:?}, {level}: {proof:#}");
        }
    }
}

/// The kind of a pack stands in its sixth byte behind the magic (docs/format.md, section 5).
fn is_of_metadata(pack: &Path) -> bool {
    fs::read(pack).unwrap()[9] == 2
}

#[test]
fn what_only_older_points_need_is_found_by_the_level_that_reads_all() {
    let mut random = Random::new(13);
    let sandbox = Sandbox::new();
    fs::write(sandbox.source.join("old"), random.bytes(900_000)).unwrap();
    sandbox.capture();
    let of_old = packs(&sandbox.vault).pop().unwrap();
    fs::remove_file(sandbox.source.join("old")).unwrap();
    fs::write(sandbox.source.join("new"), random.bytes(900_000)).unwrap();
    sandbox.capture();
    fs::remove_file(of_old).unwrap();
    let restore = only(&sandbox.run(["verify", "data", "--level", "restore", "--json"]).good());
    assert_eq!(restore["good"], true, "the newest point is whole");
    let data = only(&sandbox.run(["verify", "data", "--level", "data", "--json"]).ended_with(1));
    let told = data["told"].to_string();
    assert!(told.contains("old (point ") && !told.contains("new (point "), "{told}");
}

#[test]
fn shares_keep_to_their_budget_and_together_read_everything_once() {
    let mut random = Random::new(14);
    let sandbox = Sandbox::new();
    for n in 0..40 {
        fs::write(sandbox.source.join(format!("file {n:02}")), random.bytes(2 << 20)).unwrap();
    }
    sandbox.capture();
    let victim = packs(&sandbox.vault).pop().unwrap();
    let stored: u64 = packs(&sandbox.vault).iter().map(|pack| fs::metadata(pack).unwrap().len()).sum();
    fs::remove_file(victim).unwrap();
    let (mut read, mut failures, mut shares) = (0, 0, 0);
    loop {
        let share = only(&sandbox.run(["verify", "data", "--level", "data", "--budget", "16MiB", "--json"]));
        let bytes = share["bytes"].as_u64().unwrap();
        // What is read together is read to its end.
        assert!(bytes <= (16 << 20) + (6 << 20), "{share:#}");
        read += bytes;
        failures += share["failures"].as_u64().unwrap();
        shares += 1;
        if share["round_whole"] == true {
            assert_eq!(share["round_bytes"].as_u64(), Some(read));
            break;
        }
        assert!(shares < 20, "it never ends");
    }
    // Between two records that are read lie some of the next share.
    assert!(shares >= 4 && read <= stored + stored / 20, "{shares} shares, {read} of {stored} bytes");
    assert!(failures > 0);
}

#[test]
fn a_proof_that_cannot_be_made_says_why() {
    let sandbox = Sandbox::new();
    sandbox.run(["vault", "init", "local"]).ended_with(0);
    sandbox
        .run(["verify", "data"])
        .refused(1, &["has no point in local", "backstay now data.files", "nothing was shown"]);
    fs::write(sandbox.source.join("file"), "contents").unwrap();
    sandbox.capture();
    sandbox.run(["verify", "data", "--from", "elsewhere"]).refused(2, &["does not go to elsewhere", "local"]);
    let small = sandbox.path("small");
    let Some(_mount) = Mount::tmpfs(&small, "4m") else { return };
    let refused = sandbox.run(["verify", "data", "--level", "restore", "--scratch", small.to_str().unwrap()]);
    refused.refused(1, &["are needed to restore data.files there", "--scratch"]);
}

#[test]
fn the_daemon_proves_what_is_due_and_says_in_status_and_metrics_what_came_of_it() {
    let mut sandbox = Sandbox::new();
    let mut random = Random::new(15);
    fs::write(sandbox.source.join("large"), random.bytes(900_000)).unwrap();
    sandbox.source_lines = r#", verify = { every = "1s" }"#;
    let daemon = Daemon::start(&mut sandbox);
    let metric = |name: &str, more: &str| {
        let page = get(daemon.port, "/metrics")?;
        let line = page.lines().find(|line| line.starts_with(&format!("{name}{{")) && line.contains(more))?;
        line.rsplit(' ').next().unwrap().parse::<f64>().ok()
    };
    let proven = |level: &str| metric("backstay_last_proof_timestamp_seconds", &format!("level=\"{level}\""));
    wait_for("both proofs", || proven("restore").is_some() && proven("data").is_some());
    assert_eq!(metric("backstay_last_proof_success", "target=\"local\""), Some(1.0));
    assert!(metric("backstay_restore_seconds", "target=\"local\"").is_some_and(|seconds| seconds < 600.0));
    let status = sandbox.run(["status", "--json"]).good().json();
    assert!(status["flows"][0]["last_proof"].is_string(), "{status:#}");
    sandbox.run(["status", "--check"]).good();

    let first = proven("restore");
    fs::remove_file(packs(&sandbox.vault).pop().unwrap()).unwrap();
    daemon.running.terminate().good();
    // A daemon that begins looks soon whether something is due.
    let daemon = Daemon::start(&mut sandbox);
    let metric = |name: &str, more: &str| {
        let page = get(daemon.port, "/metrics")?;
        let line = page.lines().find(|line| line.starts_with(&format!("{name}{{")) && line.contains(more))?;
        line.rsplit(' ').next().unwrap().parse::<f64>().ok()
    };
    wait_for("a failed proof", || metric("backstay_last_proof_success", "target=\"local\"") == Some(0.0));
    let again = || metric("backstay_last_proof_timestamp_seconds", "level=\"restore\"");
    wait_for("another restore", || again() > first);
    let status = sandbox.run(["status", "--check"]).ended_with(2);
    assert!(status.text().contains("the last proof has failed"), "{status:?}");
    let told = sandbox.run(["proofs", "data", "--json"]).good().json();
    assert!(told.to_string().contains("large"), "{told:#}");
    let said = daemon.running.terminate().good().stderr;
    assert!(said.contains("has FAILED") && said.contains("vault repair local"), "{said}");
}

#[test]
fn run_once_proves_what_is_due_and_not_more() {
    let sandbox = Sandbox::new();
    fs::write(sandbox.source.join("file"), "contents").unwrap();
    for _ in 0..3 {
        sandbox.run(["run", "--once"]).good();
    }
    let kept = sandbox.run(["proofs", "--json"]).good().json();
    let levels: Vec<String> = kept.as_array().unwrap().iter().map(|proof| text(&proof["level"])).collect();
    assert_eq!(levels, ["restore", "data"], "{kept:#}");
    // Without a daemon the status is read from the vault.
    let status = sandbox.run(["status", "--json"]).good().json();
    assert!(status["flows"][0]["last_proof"].is_string(), "{status:#}");
}

#[test]
fn where_there_is_no_room_to_restore_to_contents_are_read_instead() {
    let mut sandbox = Sandbox::new();
    let small = sandbox.path("small");
    let Some(_mount) = Mount::tmpfs(&small, "4m") else { return };
    sandbox.node_lines = format!("scratch = \"{}\"", small.display());
    fs::write(sandbox.source.join("file"), "contents").unwrap();
    let daemon = Daemon::start(&mut sandbox);
    wait_for("a proof", || {
        let proofs = sandbox.run(["proofs", "--json"]);
        proofs.code == Some(0) && proofs.json().to_string().contains("\"data\"")
    });
    let said = daemon.running.terminate().good().stderr;
    assert_eq!(said.matches("are needed to restore data.files there").count(), 1, "{said}");
}

#[test]
fn the_output_of_a_program_is_proven_as_well() {
    let mut sandbox = Sandbox::new();
    sandbox.more =
        "[allow]\ncommands = true\n[service.dump]\ncommand.db = { run = [\"seq\", \"100000\"] }\n".to_owned();
    fs::write(sandbox.source.join("file"), "contents").unwrap();
    sandbox.run(["now", "dump.db"]).good();
    for level in ["structure", "data", "restore"] {
        let proof = only(&sandbox.run(["verify", "dump.db", "--level", level, "--json"]).good());
        assert_eq!((proof["good"].as_bool(), &proof["entries"]), (Some(true), &Value::from(1)), "{proof:#}");
    }
    fs::remove_file(packs(&sandbox.vault).pop().unwrap()).unwrap();
    let failed = only(&sandbox.run(["verify", "dump.db", "--level", "restore", "--json"]).ended_with(1));
    assert!(failed["told"].to_string().contains("stdout"), "{failed:#}");
}

#[test]
fn another_user_than_root_and_a_file_system_without_devices_prove_what_they_can() {
    let sandbox = Sandbox::new();
    tree::make_everything(&sandbox.source);
    sandbox.capture();
    // Everything is there and belongs to somebody else: state and vault as well.
    let scratch = sandbox.path("scratch of nobody");
    fs::create_dir(&scratch).unwrap();
    for path in [&sandbox.state, &sandbox.vault, &scratch] {
        let mut chown = Command::new("chown");
        chown.args(["-R", "nobody"]).arg(path);
        run(chown).good();
    }
    let scratch_text = scratch.to_str().unwrap();
    let arguments = ["verify", "data", "--level", "restore", "--json", "--scratch", scratch_text];
    let outcome = run(as_nobody(&sandbox, arguments));
    let proof = only(&outcome);
    assert_eq!((proof["good"].as_bool(), outcome.code), (Some(true), Some(0)), "{proof:#}");
    let unproven = proof["unproven"].to_string();
    assert!(unproven.contains("this is not root"), "{unproven}");
    assert_eq!(fs::read_dir(&scratch).unwrap().count(), 0, "nothing is left");
}

#[test]
fn what_is_restored_for_a_proof_can_be_read_by_nobody_else() {
    let mut sandbox = Sandbox::new();
    let mut random = Random::new(16);
    (0..30).for_each(|n| fs::write(sandbox.source.join(n.to_string()), random.bytes(3 << 20)).unwrap());
    sandbox.capture();
    let scratch = sandbox.path("scratch");
    fs::create_dir(&scratch).unwrap();
    sandbox.node_lines = format!("scratch = \"{}\"", scratch.display());
    let mut running = sandbox.start(["verify", "data", "--level", "restore"]);
    let mut seen = false;
    while running.is_running() {
        for entry in fs::read_dir(&scratch).unwrap().flatten() {
            seen = true;
            let mode =
                fs::metadata(entry.path()).map_or(0o700, |metadata| metadata.permissions().mode() & 0o777);
            assert_eq!(mode, 0o700, "{}", entry.path().display());
        }
    }
    running.wait().good();
    assert!(seen, "it was restored there");
}

#[test]
fn a_damaged_point_fails_every_level_though_the_one_before_it_is_whole() {
    let sandbox = Sandbox::new();
    let folder = sandbox.vault.join("points");
    let points = || -> Vec<std::path::PathBuf> {
        let sources = fs::read_dir(&folder).unwrap();
        let points = sources.flat_map(|source| fs::read_dir(source.unwrap().path()).unwrap());
        points.map(|point| point.unwrap().path()).collect()
    };
    fs::write(sandbox.source.join("file"), "first").unwrap();
    sandbox.capture();
    let first = points();
    fs::write(sandbox.source.join("file"), "second").unwrap();
    sandbox.capture();
    let newest = points().into_iter().find(|point| !first.contains(point)).unwrap();
    let mut bytes = fs::read(&newest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&newest, bytes).unwrap();
    for level in ["structure", "data", "restore"] {
        let proof = only(&sandbox.run(["verify", "data", "--level", level, "--json"]).ended_with(1));
        assert!(proof["told"].to_string().contains("points/"), "{level}: {proof:#}");
        assert!(level != "data" || proof["round_failures"].as_u64() > Some(0), "{proof:#}");
    }
    let listed = sandbox.run(["proofs"]).good().text();
    assert_eq!(listed.matches("  points/").count(), 3, "what has failed is told: {listed}");
    sandbox.run(["status", "--check"]).ended_with(2);
}
