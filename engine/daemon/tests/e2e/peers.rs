//! Two nodes, each a process of its own: how they come to belong together, what one holds for the other, and what is left when one
//! of them dies.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use backstay_testkit::random::Random;
use serde_json::Value;

use crate::daemon::wait_for;
use crate::judge::{Picture, assert_same};
use crate::outcome::run;
use crate::pair::{NODES, Pair};
use crate::sandbox::seeded;
use crate::tree;

const EXPOSURE: &str = "backstay_rpo_exposure_seconds{";
const HELD_EXPOSURE: &str = "backstay_held_exposure_seconds{node=\"alpha\",source=\"data.files\"}";

#[test]
fn what_one_node_captures_is_restored_on_the_other_when_it_is_dead() {
    let pair = Pair::together();
    let beta = pair.daemon(1);
    pair.run(0, ["now"]).good();
    let before = Picture::of(&pair.source());
    assert_same(&pair.source(), &pair.restore(0, "from twin", &[]));
    // From now on there is no alpha: its state and its source are gone.
    fs::remove_dir_all(pair.folder.path().join("state-alpha")).unwrap();
    fs::remove_dir_all(pair.source()).unwrap();
    before.assert_same(&Picture::of(&pair.restore(1, "on beta", &[])));
    // And with the recovery key alone, as on a machine that knows nothing.
    fs::remove_dir_all(pair.folder.path().join("state-beta").join("identity")).unwrap();
    let key = pair.recovery();
    before.assert_same(&Picture::of(&pair.restore(1, "by key", &["--key-file", key.to_str().unwrap()])));
    drop(beta);
}

#[test]
fn the_daemons_keep_the_objective_and_both_tell_how_far_behind_it_is() {
    let mut pair = Pair::together();
    pair.policy = "rpo = \"8s\"";
    let beta = pair.daemon(1);
    let alpha = pair.daemon(0);
    wait_for("the first point", || pair.figure(0, EXPOSURE).is_some());
    wait_for("the holder's word", || pair.figure(1, HELD_EXPOSURE).is_some());
    let began = Instant::now();
    let mut n = 0;
    while began.elapsed() < Duration::from_secs(12) {
        pair.change(n);
        n += 1;
        let exposure = pair.figure(0, EXPOSURE).expect("it is known");
        assert!(exposure < 30.0, "{exposure}");
        std::thread::sleep(Duration::from_millis(300));
    }
    // The holder dies: what would be lost grows, and is never said to be nothing.
    drop(beta.kill());
    let mut last = pair.figure(0, EXPOSURE).expect("it is known");
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(12) {
        std::thread::sleep(Duration::from_millis(500));
        if let Some(exposure) = pair.figure(0, EXPOSURE) {
            assert!(exposure >= last - 9.0, "{exposure} after {last}");
            last = exposure;
        }
    }
    assert!(last > 10.0, "{last}");
    // It comes back, and the flow catches up by itself.
    let _beta = pair.daemon(1);
    wait_for("the flow to catch up", || pair.figure(0, EXPOSURE).is_some_and(|exposure| exposure < 9.0));
    alpha.terminate().good();
    assert_same(&pair.source(), &pair.restore(1, "caught up", &[]));
}

#[test]
fn a_node_that_is_removed_is_refused_at_once_and_one_that_was_never_enrolled_is_told_what_to_do() {
    let pair = Pair::together();
    let beta = pair.daemon(1);
    pair.run(0, ["now"]).good();
    let listed = pair.run(1, ["node", "list", "--json"]);
    assert_eq!(listed.json()[1]["certificate_valid_until"].as_str().map(str::len), Some(20), "{listed:?}");
    let recovery = pair.recovery();
    let dry = pair.run(0, ["node", "remove", "beta", "--dry-run"]).good();
    assert!(dry.stderr.contains("its only copy is at beta"), "{dry:?}");
    pair.run(0, ["node", "remove", "beta"]).refused(2, &["--recovery FILE"]);
    pair.run(0, ["node", "remove", "beta", "--recovery", recovery.to_str().unwrap()]).good();
    pair.run(0, ["now"]).refused(1, &["beta is not, or not any more, a node of the fleet test"]);
    // By another invitation it belongs to it again, with what it holds.
    drop(beta.kill());
    pair.invite_beta();
    let _beta = pair.daemon(1);
    pair.change(1);
    pair.run(0, ["now"]).good();
    assert_same(&pair.source(), &pair.restore(1, "again", &[]));
    let alone = Pair::apart();
    alone.run(0, ["now"]).refused(1, &["belongs to no fleet yet", "backstay init alpha"]);
}

#[test]
fn a_fleet_begins_where_its_state_is_said_to_be() {
    let folder = tempfile::tempdir().unwrap();
    let mut begin = Command::new(env!("CARGO_BIN_EXE_backstay"));
    begin.current_dir(folder.path()).args(["--config", "etc", "init", "alpha", "--no-recovery"]);
    begin.args(["--listen", "127.0.0.1:7420", "--state", "state"]);
    run(begin).good();
    assert!(folder.path().join("state/identity").is_dir());
    let mut look = Command::new(env!("CARGO_BIN_EXE_backstay"));
    look.current_dir("/").arg("--config").arg(folder.path().join("etc")).args(["node", "list"]);
    assert!(run(look).good().text().contains("alpha"));
}

#[test]
fn an_invitation_is_good_once_and_only_as_a_whole() {
    let pair = Pair::apart();
    pair.run(0, ["invite", "beta"]).refused(2, &["belongs to no fleet yet"]);
    pair.run(0, ["init", "alpha", "--recovery", pair.recovery().to_str().unwrap()]).good();
    pair.run(0, ["invite", "gamma"]).refused(2, &["add it to `nodes` of [fleet]"]);
    let (inviting, text) = pair.open_invitation();
    pair.run(1, ["join", "nonsense"]).refused(2, &["this is no invitation"]);
    pair.run(1, ["join", &text[..text.len() - 5]]).refused(2, &["damaged"]);
    pair.run(0, ["join", &text]).refused(2, &["the invitation is for beta, and this node is alpha"]);
    pair.run(1, ["join", &text]).good();
    inviting.wait().good();
    pair.run(1, ["join", &text]).refused(1, &["nothing answers there"]);
}

#[test]
fn whatever_was_there_before_and_comes_later_opens_with_the_recovery_key() {
    let mut pair = Pair::apart();
    let local = pair.folder.path().join("local");
    pair.more_of_fleet = format!("[vault.local]\nkind = \"dir\"\npath = {:?}\n", local.to_str().unwrap());
    pair.policy = "to = [\"local\"]";
    let (recovery, key) = (pair.recovery(), pair.recovery());
    let (recovery, key) = (recovery.to_str().unwrap(), key.to_str().unwrap());
    pair.run(0, ["init", "alpha", "--no-recovery"]).good();
    pair.run(0, ["now"]).good();
    pair.run(0, ["restore", "data", "--to", "/nonexistent/x", "--key-file", key]).ended_with(2);
    pair.run(0, ["init", "alpha", "--recovery", recovery]).good();
    assert_same(&pair.source(), &pair.restore(0, "before", &["--from", "local", "--key-file", key]));
    // A new epoch reaches what is made after it.
    pair.run(0, ["vault", "keys", "rotate", "--recovery", recovery]).good();
    pair.invite_beta();
    pair.policy = "to = [\"local\", \"twin\"]";
    let _beta = pair.daemon(1);
    // Nothing was signed for that when beta joined.
    pair.run(0, ["now"]).refused(3, &["backstay vault init twin --recovery FILE"]);
    pair.run(0, ["vault", "init", "twin", "--recovery", recovery]).good();
    pair.run(0, ["now"]).good();
    assert_same(&pair.source(), &pair.restore(0, "twin", &["--from", "twin", "--key-file", key]));
    assert_same(&pair.source(), &pair.restore(1, "from held", &["--from", "held.alpha", "--key-file", key]));
    pair.run(1, ["points", "data"]).good();
    pair.run(1, ["verify", "data"]).good();
}

#[test]
fn a_holder_that_was_started_anew_is_reached_at_once_however_it_ended() {
    let pair = Pair::together();
    let mut beta = pair.daemon(1);
    let alpha = pair.daemon(0);
    for (n, kills) in [false, true].into_iter().enumerate() {
        pair.change(n as u32);
        pair.run(0, ["now"]).good();
        match kills {
            false => drop(beta.terminate()),
            true => drop(beta.kill()),
        }
        beta = pair.daemon(1);
        pair.change(10 + n as u32);
        let began = Instant::now();
        pair.run(0, ["now"]).good();
        // By silence alone it would take 30 s to find out that the connection is no more.
        assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    }
    alpha.terminate().good();
    drop(beta);
}

/// The node loses all that it has, and is built anew and invited by the other one.
fn rebuild(pair: &Pair, node: usize) {
    let (lost, other) = (NODES[node], 1 - node);
    fs::remove_dir_all(pair.folder.path().join(format!("state-{lost}"))).unwrap();
    let recovery = pair.recovery();
    let invite = ["invite", lost, "--again", "--recovery", recovery.to_str().unwrap()];
    let inviting = pair.start(other, invite);
    wait_for("the invitation", || inviting.stdout_so_far().contains('\n'));
    pair.run(node, ["join", inviting.stdout_so_far().trim()]).good();
    inviting.wait().good();
}

#[test]
fn a_node_that_was_lost_and_built_anew_goes_on_where_it_was() {
    let pair = Pair::together();
    let beta = pair.daemon(1);
    pair.run(0, ["now"]).good();
    let before = Picture::of(&pair.source());
    rebuild(&pair, 0);
    before.assert_same(&Picture::of(&pair.restore(0, "what was there", &[])));
    pair.change(1);
    pair.run(0, ["now"]).good();
    let points = pair.run(1, ["points", "data", "--json"]).good().json();
    assert_eq!(points.as_array().map(Vec::len), Some(2), "{points}");
    assert_same(&pair.source(), &pair.restore(1, "what came after", &[]));
    pair.run(1, ["vault", "check", "held.alpha", "--read-data", "1/1"]).good();
    pair.run(1, ["vault", "prune", "held.alpha"]).good();
    drop(beta);
}

#[test]
fn a_holder_that_was_lost_with_all_that_it_held_is_captured_to_again() {
    let pair = Pair::together();
    let beta = pair.daemon(1);
    pair.run(0, ["now"]).good();
    // Gone while its node is the one that it was: its disk is not mounted, as a rule.
    drop(beta.kill());
    fs::remove_dir_all(pair.held()).unwrap();
    let beta = pair.daemon(1);
    pair.run(0, ["now"]).refused(1, &["its holder has probably not mounted its disk"]);
    drop(beta.kill());
    rebuild(&pair, 1);
    let beta = pair.daemon(1);
    pair.run(0, ["now"]).good();
    assert_same(&pair.source(), &pair.restore(1, "on the new one", &[]));
    pair.run(1, ["vault", "check", "held.alpha", "--read-data", "1/1"]).good();
    pair.run(1, ["vault", "prune", "held.alpha"]).good();
    drop(beta);
}

#[test]
fn a_holder_that_has_lost_its_state_alone_is_the_custodian_again_when_its_vault_is_told() {
    let pair = Pair::together();
    let beta = pair.daemon(1);
    pair.run(0, ["now"]).good();
    drop(beta.kill());
    rebuild(&pair, 1);
    let recovery = pair.recovery();
    pair.run(1, ["vault", "init", "held.alpha", "--recovery", recovery.to_str().unwrap()]).good();
    let beta = pair.daemon(1);
    pair.run(0, ["now"]).good();
    pair.run(1, ["vault", "prune", "held.alpha"]).good();
    assert_same(&pair.source(), &pair.restore(1, "on the new one", &[]));
    drop(beta);
}

#[test]
fn commands_that_look_at_a_vault_again_and_again_keep_nobody_out() {
    let pair = Pair::together();
    let _beta = pair.daemon(1);
    let alpha = pair.daemon(0);
    pair.run(0, ["now"]).good();
    for n in 0..12 {
        pair.run(0, ["vault", "stat", "twin"]).good();
        // One that is killed takes leave of nobody.
        let killed = pair.start(0, ["vault", "check", "twin"]);
        std::thread::sleep(Duration::from_millis(30));
        drop(killed.kill());
        pair.change(n);
        pair.run(0, ["now"]).good();
    }
    alpha.terminate().good();
}

/// What `doctor` finds of the fleet: check and level.
fn fleet_findings(pair: &Pair, node: usize) -> Vec<(String, String)> {
    let examined = pair.run(node, ["doctor", "--json"]).json();
    let findings = examined["checks"].as_array().unwrap().iter();
    let of_fleet = findings.filter(|finding| {
        let subject = finding["subject"].as_str().unwrap();
        subject == "fleet" || subject.starts_with("node ")
    });
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    of_fleet.map(|finding| (text(&finding["check"]), text(&finding["level"]))).collect()
}

#[test]
fn doctor_says_on_both_nodes_what_is_missing_between_them() {
    let mut pair = Pair::apart();
    let found = |pair: &Pair, node| {
        let all = fleet_findings(pair, node);
        all.into_iter().map(|(check, level)| format!("{check} {level}")).collect::<Vec<_>>()
    };
    assert_eq!(found(&pair, 0), ["enrolled problem"]);
    assert_eq!(found(&pair, 1), ["enrolled problem"]);
    pair.run(0, ["init", "alpha", "--no-recovery"]).good();
    assert_eq!(found(&pair, 0), ["enrolled ok", "certificate ok", "enrolled warning"]);
    let inviting = pair.start(0, ["invite", "beta"]);
    wait_for("the invitation", || inviting.stdout_so_far().contains('\n'));
    pair.run(1, ["join", inviting.stdout_so_far().trim()]).good();
    inviting.wait().good();
    assert_eq!(found(&pair, 0), ["enrolled ok", "certificate ok", "reached problem"]);
    let beta = pair.daemon(1);
    assert_eq!(found(&pair, 0), ["enrolled ok", "certificate ok", "reached ok", "holds ok"]);
    // A file that was changed on one of them.
    pair.more_of_fleet = "# of today\n".to_owned();
    assert_eq!(found(&pair, 0)[4], "fleet_file warning");
    // A holder whose file does not name the other.
    drop(beta.kill());
    pair.holds_nothing = true;
    let _beta = pair.daemon(1);
    assert_eq!(found(&pair, 0), ["enrolled ok", "certificate ok", "reached ok", "holds problem"]);
    assert_eq!(found(&pair, 1)[2], "hold warning", "and the one that has to be changed says so as well");
    pair.holds_nothing = false;
    pair.more_of_beta = ", floor = \"1000PiB\"".to_owned();
    assert_eq!(found(&pair, 1)[2], "floor problem");
}

#[test]
fn what_is_held_here_is_listed_also_when_the_other_node_is_gone() {
    let mut pair = Pair::together();
    let theirs = Value::from(pair.source().to_str().unwrap());
    pair.more_of_fleet = format!(
        "[service.other]\nprimary = \"beta\"\nsecondary = [\"alpha\"]\nfiles = {{ path = {theirs}, watch = false }}\n"
    );
    let beta = pair.daemon(1);
    pair.run(0, ["now"]).good();
    let listed = pair.run(1, ["points"]).refused(3, &["other.files", "nothing answers there"]);
    assert!(String::from_utf8_lossy(&listed.stdout).contains("data.files"), "{listed:?}");
    let listed = pair.run(1, ["points", "--json"]).refused(3, &["other.files"]);
    assert_eq!(listed.json().as_array().map(Vec::len), Some(1));
    drop(beta);
}

#[test]
fn an_invitation_is_not_used_up_by_what_is_typed_wrongly() {
    let pair = Pair::apart();
    pair.run(0, ["init", "alpha", "--no-recovery"]).good();
    let inviting = pair.start(0, ["invite", "beta"]);
    wait_for("the invitation", || inviting.stdout_so_far().contains('\n'));
    let text = inviting.stdout_so_far().trim().to_owned();
    let elsewhere = pair.folder.path().join("elsewhere");
    let join = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_backstay"));
        command.arg("--config").arg(&elsewhere).args(["join", &text]).args(more);
        run(command)
    };
    let state = elsewhere.join("state");
    let state = ["--state", state.to_str().unwrap()];
    join(&[&state[..], &["--listen", "192.0.2.1:7420"]].concat()).refused(2, &["no address of this host"]);
    fs::create_dir_all(&elsewhere).unwrap();
    fs::write(elsewhere.join("node.toml"), "[node]\nname = \"delta\"\n").unwrap();
    join(&state).refused(2, &["the invitation is for beta, and this node is delta"]);
    fs::remove_file(elsewhere.join("node.toml")).unwrap();
    join(&[&state[..], &["--listen", "127.0.0.1:7420"]].concat()).good();
    inviting.wait().good();
    pair.run(0, ["node", "remove", "nobody", "--dry-run"]).refused(2, &["nobody is no node of the fleet"]);
    let shown = pair.run(0, ["node", "remove", "beta", "--dry-run", "--json"]).good().json();
    assert_eq!(shown["lost"].as_array().map(Vec::len), Some(1), "{shown}");
}

/// A pack of the vault that beta holds, the largest: it has contents.
fn largest_pack(pair: &Pair) -> PathBuf {
    let folders = fs::read_dir(pair.held().join("packs")).unwrap();
    let packs = folders.flat_map(|folder| fs::read_dir(folder.unwrap().path()).unwrap());
    let largest = packs.map(|pack| pack.unwrap()).max_by_key(|pack| pack.metadata().unwrap().len());
    largest.unwrap().path()
}

#[test]
fn a_holder_finds_by_itself_what_has_rotted_on_its_disk() {
    let mut pair = Pair::together();
    pair.more_of_beta = ", scrub = \"1s\"".to_owned();
    let beta = pair.daemon(1);
    pair.run(0, ["now"]).good();
    const DAMAGED: &str = "backstay_held_damaged{node=\"alpha\"}";
    wait_for("the first scrub", || {
        pair.figure(1, "backstay_held_scrub_timestamp_seconds{node=\"alpha\"}").is_some()
    });
    assert_eq!(pair.figure(1, DAMAGED), Some(0.0));
    let pack = largest_pack(&pair);
    let mut content = fs::read(&pack).unwrap();
    let middle = content.len() / 2;
    content[middle] ^= 0x40;
    fs::write(&pack, &content).unwrap();
    wait_for("the scrub that finds it", || pair.figure(1, DAMAGED) == Some(1.0));
    let name = pack.file_name().unwrap().to_str().unwrap();
    assert!(beta.stderr_so_far().contains(name), "the log names it");
    assert!(fleet_findings(&pair, 1).contains(&("scrub".to_owned(), "problem".to_owned())));
    content[middle] ^= 0x40;
    fs::write(&pack, &content).unwrap();
    wait_for("the scrub that finds it whole", || pair.figure(1, DAMAGED) == Some(0.0));
}

#[test]
fn a_node_that_is_enrolled_is_not_replaced_by_mistake() {
    let pair = Pair::together();
    let recovery = pair.recovery();
    pair.run(0, ["invite", "beta", "--recovery", recovery.to_str().unwrap()]).refused(2, &["--again"]);
    // Built anew, with another certificate, it is.
    fs::remove_dir_all(pair.folder.path().join("state-beta")).unwrap();
    let inviting = pair.start(0, ["invite", "beta", "--again", "--recovery", recovery.to_str().unwrap()]);
    wait_for("the invitation", || inviting.stdout_so_far().contains('\n'));
    pair.run(1, ["join", inviting.stdout_so_far().trim()]).good();
    inviting.wait().good();
    let _beta = pair.daemon(1);
    pair.run(0, ["now"]).good();
}

#[test]
fn a_holder_says_early_when_there_is_no_room_and_what_was_there_stays() {
    let mut pair = Pair::together();
    pair.more_of_beta = ", quota = \"6MiB\"".to_owned();
    let _beta = pair.daemon(1);
    pair.run(0, ["now"]).good();
    tree::make_plain(&pair.source().join("more"), 40, 300_000, &mut Random::new(32));
    pair.run(0, ["now"]).refused(1, &["the holder gives this node 6MiB"]);
    let restored = pair.restore(1, "before", &[]);
    assert!(!restored.join("more").exists());
    pair.run(1, ["vault", "check", "held.alpha", "--read-data", "1/1"]).good();
}

#[test]
fn whichever_side_is_killed_nothing_acknowledged_is_missing_and_nothing_needs_repair() {
    kill_sides(8);
}

#[test]
#[ignore = "long: kills either side 100 times"]
fn whichever_side_is_killed_a_hundred_times() {
    kill_sides(100);
}

#[test]
fn what_was_captured_while_the_holder_was_away_is_copied_to_it_whichever_side_is_killed_and_only_once() {
    let (mut pair, mut random) = (Pair::together(), seeded());
    let folder = pair.folder.path().to_path_buf();
    let dir = |name: &str| {
        let path = Value::from(folder.join(name).to_str().unwrap());
        format!("[vault.{name}]\nkind = \"dir\"\npath = {path}\n")
    };
    pair.more_of_fleet = dir("local") + &dir("usb");
    pair.policy = "to = [\"local\", \"twin\"]";
    let mut beta = pair.daemon(1);
    for name in ["local", "usb"] {
        pair.run(0, ["vault", "init", name, "--recovery", pair.recovery().to_str().unwrap()]).good();
    }
    pair.run(0, ["now"]).good();
    drop(beta.kill());
    for n in 0..3 {
        tree::make_plain(&pair.source().join(format!("more {n}")), 30, 400_000, &mut random);
        pair.run(0, ["now"]).refused(3, &["twin"]);
    }
    beta = pair.daemon(1);
    for n in 0..6 {
        let copying = pair.start(0, ["vault", "copy", "local", "twin"]);
        std::thread::sleep(Duration::from_millis(random.number() % 1500));
        if n % 2 == 0 {
            drop(copying.kill());
        } else {
            drop(beta.kill());
            beta = pair.daemon(1);
            copying.wait();
        }
    }
    let copy = |from: &str, to: &str| pair.run(0, ["vault", "copy", from, to, "--json"]).good().json();
    copy("local", "twin");
    let again = copy("local", "twin");
    assert_eq!((again["points"].as_u64(), again["bytes"].as_u64()), (Some(0), Some(0)), "{again}");
    assert_eq!(again["already"], 5, "four of the source, and the configuration: {again}");
    pair.run(1, ["vault", "check", "held.alpha", "--read-data", "1/1"]).good();
    assert_same(&pair.source(), &pair.restore(1, "on beta", &[]));
    // And back, as into a vault that is new.
    assert_eq!(copy("twin", "usb")["points"], 5);
    assert_same(&pair.source(), &pair.restore(0, "from usb", &["--from", "usb"]));
    drop(beta);
}

/// Kills one side at a random moment of a capture, again and again.
fn kill_sides(kills: u32) {
    let (pair, mut random) = (Pair::together(), seeded());
    let mut beta = pair.daemon(1);
    let began = Instant::now();
    pair.run(0, ["now"]).good();
    let usual = began.elapsed().max(Duration::from_millis(200));
    let mut acknowledged = Picture::of(&pair.source());
    for n in 0..kills {
        tree::make_plain(&pair.source().join(format!("more {}", n % 4)), 30, 80_000, &mut random);
        let wanted = Picture::of(&pair.source());
        let capture = pair.start(0, ["now"]);
        let moment = usual.mul_f64(random.number() as f64 / u64::MAX as f64 * 1.5);
        std::thread::sleep(moment);
        let is_done = if random.number() % 2 == 0 {
            capture.kill().code == Some(0)
        } else {
            drop(beta.kill());
            beta = pair.daemon(1);
            capture.wait().code == Some(0)
        };
        let name = format!("after {n}");
        let restored = Picture::of(&pair.restore(1, &name, &[]));
        // One that was not acknowledged may be there all the same.
        if is_done || restored == wanted {
            acknowledged = wanted;
        }
        acknowledged.assert_same(&restored);
        fs::remove_dir_all(pair.folder.path().join(&name)).unwrap();
    }
    pair.run(0, ["now"]).good();
    assert_same(&pair.source(), &pair.restore(1, "at last", &[]));
    pair.run(1, ["vault", "check", "held.alpha", "--read-data", "1/1"]).good();
    drop(beta);
}
