//! How often a bucket is asked, and for what, by processes that begin and end: a stand-in notes each request.

use std::fs;

use backstay_testkit::bucket_stand_in::Settings;
use serde_json::Value;

use crate::bucket::Host;
use crate::daemon::{Daemon, wait_for};

/// Listings of a prune that drops nothing, and of a check that reads all packs.
const PRUNE: usize = 53;
const CHECK: usize = 15;

/// Sources beside the one that every sandbox has.
const OTHERS: [&str; 4] = ["b", "c", "d", "e"];

/// How many of the requests have put, read, and listed something.
fn counts(asked: &[String]) -> [usize; 3] {
    ["PUT ", "GET ", "LIST "].map(|of| asked.iter().filter(|request| request.starts_with(of)).count())
}

/// The listings, by the prefix below that of the vault.
fn listings(asked: &[String]) -> Vec<&str> {
    asked.iter().filter_map(|request| request.strip_prefix("LIST home/")).collect()
}

/// What a command asks for.
fn asked(host: &Host, arguments: &[&str]) -> Vec<String> {
    host.service.take_requests();
    host.sandbox.run(arguments).good();
    host.service.take_requests()
}

/// A node with one source, and with these beside it.
fn host_with(others: &[&str]) -> Host {
    let mut host = Host::new(Settings::default(), "");
    for name in others {
        let path = host.sandbox.path(name);
        fs::create_dir(&path).unwrap();
        host.sandbox.more += &format!("[service.{name}]\nfiles = {{ path = {path:?}, watch = false }}\n");
    }
    host
}

fn write(host: &Host, others: &[&str], content: &str) {
    fs::write(host.sandbox.source.join("file"), content).unwrap();
    others.iter().for_each(|name| fs::write(host.sandbox.path(name).join("file"), content).unwrap());
}

#[test]
fn a_capture_by_a_process_of_its_own_takes_three_listings_and_four_gets() {
    let host = host_with(&[]);
    for content in ["one", "two", "three"] {
        write(&host, &[], content);
        let asked = asked(&host, &["now", "data"]);
        assert_eq!(listings(&asked), ["", "ledger/", "ledger/gc/"], "{asked:#?}");
        // The format, keys, who is trusted; and whether there is a fence.
        assert_eq!(counts(&asked), [7, 4, 3], "{asked:#?}");
    }
    // A head.
    assert_eq!(counts(&asked(&host, &["now", "data"])), [1, 3, 1]);
    // It lists the layout once more when it has pinned the point. And reads the rows, and the contents.
    let target = host.sandbox.path("restored");
    let asked = asked(&host, &["restore", "data", "--to", target.to_str().unwrap()]);
    assert_eq!(counts(&asked)[2], 2, "{asked:#?}");
    assert_eq!(fs::read_to_string(target.join("file")).unwrap(), "three");
}

#[test]
fn sessions_are_read_once_and_folders_listed_once_after_a_collection() {
    let host = host_with(&[]);
    for n in 0..6 {
        write(&host, &[], &n.to_string());
        let asked = asked(&host, &["now", "data"]);
        let sessions = asked.iter().filter(|request| request.starts_with("GET home/ledger/sessions/"));
        assert_eq!(sessions.count(), 0, "its node has put them all: {asked:#?}");
    }
    fs::remove_dir_all(host.sandbox.state.join("objects")).unwrap();
    let of_sessions = |asked: &[String]| {
        asked.iter().filter(|request| request.starts_with("GET home/ledger/sessions/")).count()
    };
    assert_eq!(of_sessions(&asked(&host, &["now", "data"])), 6);
    assert_eq!(of_sessions(&asked(&host, &["now", "data"])), 0);
    host.sandbox.run(["vault", "prune", "offsite"]).good();
    for (n, expected) in [(7, 8), (8, 3)] {
        write(&host, &[], &n.to_string());
        let asked = asked(&host, &["now", "data"]);
        assert_eq!(counts(&asked)[2], expected, "{asked:#?}");
    }
}

#[test]
fn a_prune_and_a_check_list_as_often_for_five_sources_as_for_one() {
    let taken = [&OTHERS[..0], &OTHERS].map(|others| {
        let mut host = host_with(others);
        host.sandbox.targets = "[\"offsite\"]\nkeep = {}";
        for content in ["one", "two"] {
            write(&host, others, content);
            host.sandbox.run(["now"]).good();
        }
        let pruned = asked(&host, &["vault", "prune", "offsite"]);
        let checked = asked(&host, &["vault", "check", "offsite", "--read-data", "1/1"]);
        [listings(&pruned).len(), listings(&checked).len()]
    });
    assert_eq!(taken, [[PRUNE, CHECK]; 2], "prunes and checks, of one source and of five");
}

#[test]
fn a_daemon_that_begins_lists_once_what_its_sources_have() {
    let mut host = host_with(&OTHERS);
    write(&host, &OTHERS, "one");
    host.sandbox.run(["now"]).good();
    host.service.take_requests();
    let daemon = Daemon::start(&mut host.sandbox);
    let is_known = |source: &str| daemon.flow(source, "offsite")["exposure_seconds"] != Value::Null;
    wait_for("what the vault has", || {
        is_known("data.files") && OTHERS.iter().all(|name| is_known(&format!("{name}.files")))
    });
    let asked = host.service.take_requests();
    let listed = listings(&asked);
    assert_eq!(listed.iter().filter(|prefix| prefix.is_empty()).count(), 1, "{asked:#?}");
    let of_sources = ["layout/", "points/", "heads/", "proofs/"];
    let again = listed.iter().filter(|prefix| of_sources.iter().any(|folder| prefix.starts_with(folder)));
    assert_eq!(again.count(), 0, "{asked:#?}");
}
