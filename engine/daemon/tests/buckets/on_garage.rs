//! What is in a bucket.

mod trouble;

use std::fs;
use std::time::Duration;

use backstay_testkit::random::Random;
use backstay_testkit::tls_proxy::TlsProxy;

use crate::concurrently::two_nodes_and_a_custodian;
use crate::daemon;
use crate::fleet::{Fleet, assert_same};
use crate::host::Host;

#[test]
#[ignore = "needs Garage: cargo xtask test s3"]
fn what_was_captured_to_a_bucket_is_restored_from_it_with_the_recovery_key_alone() {
    let host = Host::new();
    let mut random = Random::new(1);
    for n in 0..40 {
        host.write(&format!("file {n}"), random.bytes(1000 * n));
    }
    host.write("large", random.bytes(40 << 20));
    let refused = host.run(&["now"]);
    assert_eq!(refused.code, Some(1));
    assert!(refused.errors.contains("vault init offsite --recovery"), "{}", refused.errors);
    let key = host.path("recovery.key");
    host.run(&["vault", "init", "offsite", "--recovery", key.to_str().unwrap()]).good();
    host.run(&["now"]).good();
    host.write("file 3", "something else");
    host.run(&["now"]).good();
    let points = host.run(&["points", "--json"]).good().json();
    assert_eq!(points.as_array().map(Vec::len), Some(2));
    host.run(&["vault", "check", "offsite", "--read-data", "1/1"]).good();
    host.run(&["verify", "--level", "restore"]).good();
    let restored = host.path("restored");
    host.run(&["restore", "data", "--to", restored.to_str().unwrap()]).good();
    assert_same(&host.source(), &restored);
    // Another machine, with the recovery key and access to the bucket.
    fs::remove_dir_all(host.path("state")).unwrap();
    let by_key = host.path("by key");
    host.run(&["restore", "data", "--to", by_key.to_str().unwrap(), "--key-file", key.to_str().unwrap()])
        .good();
    assert_same(&host.source(), &by_key);
}

#[test]
#[ignore = "needs Garage: cargo xtask test s3"]
fn what_retention_drops_leaves_the_bucket() {
    let mut host = Host::new();
    host.policy = "keep = { last = 1 }".to_owned();
    let mut random = Random::new(2);
    host.run(&["vault", "init", "offsite", "--no-recovery"]).good();
    for n in 0..3 {
        host.write("changing", random.bytes(3_000_000 + n));
        host.run(&["now"]).good();
    }
    let before = host.run(&["vault", "stat", "offsite", "--json"]).good().json();
    for _ in 0..2 {
        host.run(&["vault", "prune", "offsite"]).good();
    }
    let after = host.run(&["vault", "stat", "offsite", "--json"]).good().json();
    assert_eq!(
        (before["points"].as_u64(), after["points"].as_u64()),
        (Some(4), Some(2)),
        "and the configuration"
    );
    let bytes = |stat: &serde_json::Value| stat["data_pack_bytes"].as_u64().unwrap();
    assert!(bytes(&after) < bytes(&before) / 2, "{before} {after}");
    host.run(&["vault", "check", "offsite", "--read-data", "1/1"]).good();
    let restored = host.path("restored");
    host.run(&["restore", "data", "--to", restored.to_str().unwrap()]).good();
    assert_same(&host.source(), &restored);
}

/// What both nodes have.
fn fill(fleet: &Fleet) {
    let mut random = Random::new(3);
    let alike = random.bytes(6 << 20);
    for node in crate::fleet::NODES {
        fs::write(fleet.source(node).join("alike"), &alike).unwrap();
        fs::write(fleet.source(node).join("own"), random.bytes(300_000)).unwrap();
    }
}

#[test]
#[ignore = "needs Garage: cargo xtask test s3"]
fn two_nodes_write_to_one_bucket_share_what_they_have_alike_and_one_of_them_cares_for_it() {
    let mut fleet = Fleet::apart();
    fleet.vault = "custodian = \"alpha\"".to_owned();
    fleet.policy = "keep = { last = 2 }".to_owned();
    fleet.nodes = [fleet.secret(), fleet.secret()];
    fill(&fleet);
    let recovery = fleet.recovery();
    fleet.run(0, &["init", "alpha", "--recovery", &recovery]).good();
    fleet.run(0, &["vault", "init", "offsite", "--recovery", &recovery]).good();
    fleet.run(0, &["now"]).good();
    // The vault was there before the other node was: it knows it all the same.
    fleet.join();
    assert!(fleet.run(0, &["vault", "keys", "list", "offsite"]).good().out.contains("beta"));
    fleet.run(1, &["now"]).good();
    // Of what one has put the other one uses what a pass of the custodian has accepted.
    fleet.run(0, &["vault", "prune", "offsite"]).good();
    for n in 0..3u8 {
        fs::write(fleet.source("beta").join("own"), Random::new(u64::from(n)).bytes(300_000)).unwrap();
        fleet.run(1, &["now"]).good();
    }
    fs::copy(fleet.source("alpha").join("alike"), fleet.source("beta").join("alike again")).unwrap();
    fleet.run(1, &["now"]).good();
    let refused = fleet.run(1, &["vault", "prune", "offsite"]);
    assert!(refused.errors.contains("alpha"), "{}", refused.errors);
    for _ in 0..2 {
        fleet.run(0, &["vault", "prune", "offsite"]).good();
    }
    let stat = fleet.run(0, &["vault", "stat", "offsite", "--json"]).good().json();
    assert_eq!(
        stat["points"].as_u64(),
        Some(5),
        "one of alpha, two of beta, and of each its configuration: {stat}"
    );
    assert!(stat["data_pack_bytes"].as_u64().unwrap() < 8 << 20, "what is alike is there once: {stat}");
    for (reader, writer) in [(0, "beta"), (1, "alpha")] {
        let restored = fleet.path(&format!("{writer} restored"));
        fleet.run(reader, &["restore", writer, "--to", restored.to_str().unwrap()]).good();
        assert_same(&fleet.source(writer), &restored);
    }
    fleet.run(0, &["vault", "check", "offsite", "--read-data", "1/1"]).good();
}

#[test]
#[ignore = "needs Garage: cargo xtask test s3"]
fn a_hub_alone_has_the_key_of_the_bucket() {
    let mut fleet = Fleet::apart();
    fleet.vault = "via = \"alpha\"".to_owned();
    let held = format!("[hold.beta]\nvault = {{ path = \"{}\" }}\n", fleet.path("held").display());
    fleet.nodes = [fleet.secret() + &held, String::new()];
    fill(&fleet);
    let recovery = fleet.recovery();
    fleet.run(0, &["init", "alpha", "--recovery", &recovery]).good();
    fleet.run(0, &["vault", "init", "offsite", "--recovery", &recovery]).good();
    fleet.join();
    let alpha = fleet.daemon(0);
    fleet.run(0, &["now"]).good();
    fleet.run(1, &["now"]).good();
    let points = fleet.run(0, &["points", "beta", "--from", "offsite", "--json"]).good().json();
    assert_eq!(points.as_array().map(Vec::len), Some(1), "{points}");
    drop(alpha);
    let restored = fleet.path("restored");
    let by_key =
        ["restore", "beta", "--from", "offsite", "--key-file", &recovery, "--to", restored.to_str().unwrap()];
    fleet.run(0, &by_key).good();
    assert_same(&fleet.source("beta"), &restored);
}

#[test]
#[ignore = "needs Garage: cargo xtask test s3"]
fn a_daemon_takes_seven_puts_a_get_and_two_listings_for_what_changed_and_a_put_for_what_did_not() {
    let mut host = Host::new();
    let metrics = daemon::free_address();
    host.node = format!("metrics = \"{metrics}\"");
    host.write("file", "one");
    host.run(&["vault", "init", "offsite", "--no-recovery"]).good();
    let _daemon = host.daemon();
    host.run(&["now", "data"]).good();
    host.write("file", "two");
    // After the first capture retention is looked after, and all is read anew.
    daemon::requests_at_rest(metrics);
    host.run(&["now", "data"]).good();
    let mut before = daemon::requests_at_rest(metrics);
    let mut taken = || {
        let now = daemon::requests_at_rest(metrics);
        let taken = ["put", "get", "list"].map(|of| now.get(of).unwrap_or(&0) - before.get(of).unwrap_or(&0));
        before = now;
        taken
    };
    host.write("file", "three");
    host.run(&["now", "data"]).good();
    assert_eq!(taken(), [7, 1, 2], "changed: puts, gets, listings");
    host.run(&["now", "data"]).good();
    assert_eq!(taken(), [1, 0, 0], "not changed");
    let target = host.path("restored");
    host.run(&["restore", "data", "--to", target.to_str().unwrap()]).good();
    assert_eq!(fs::read_to_string(target.join("file")).unwrap(), "three");
}

#[test]
#[ignore = "needs Garage: cargo xtask test s3"]
fn keys_of_the_environment_are_used_where_node_toml_names_none() {
    let mut host = Host::new();
    host.has_secret = false;
    host.write("file", "of today");
    // No profile, and no metadata of a virtual machine.
    host.environment = vec![
        ("HOME", host.path("nobody").display().to_string()),
        ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
    ];
    let refused = host.run(&["vault", "init", "offsite", "--no-recovery"]);
    assert_eq!(refused.code, Some(1));
    assert!(refused.errors.contains("there is no access key: add [secret]"), "{}", refused.errors);
    let key = host.garage.key().clone();
    host.environment.extend([("AWS_ACCESS_KEY_ID", key.id), ("AWS_SECRET_ACCESS_KEY", key.secret)]);
    host.run(&["vault", "init", "offsite", "--no-recovery"]).good();
    host.run(&["now"]).good();
}

#[test]
#[ignore = "needs Garage: cargo xtask test s3"]
fn a_service_behind_tls_is_believed_if_its_authority_is_known() {
    let mut host = Host::new();
    let io = tokio::runtime::Runtime::new().unwrap();
    let proxy = io.block_on(TlsProxy::start(host.garage.address(), &host.path("")));
    host.endpoint = proxy.endpoint();
    host.write("file", "of today");
    let refused = host.run(&["vault", "init", "offsite", "--no-recovery"]);
    assert_eq!(refused.code, Some(1));
    assert!(refused.errors.contains("SSL_CERT_FILE"), "{}", refused.errors);
    host.environment = vec![("SSL_CERT_FILE", proxy.authority().display().to_string())];
    host.run(&["vault", "init", "offsite", "--no-recovery"]).good();
    host.run(&["now"]).good();
    let restored = host.path("restored");
    host.run(&["restore", "data", "--to", restored.to_str().unwrap()]).good();
    assert_same(&host.source(), &restored);
}

#[test]
#[ignore = "needs Garage: cargo xtask test s3"]
fn two_nodes_and_a_custodian_share_a_bucket() {
    two_nodes_and_a_custodian(Duration::from_secs(30));
}

/// Listings of a prune that drops points of four sources, of a check, and of a daemon that begins with five.
const PRUNE_LISTINGS_MAX: u64 = 110;
const CHECK_LISTINGS_MAX: u64 = 20;
const BEGINNING_LISTINGS_MAX: u64 = 8;

/// Sources beside the one that every host has.
const OTHERS: [&str; 3] = ["b", "c", "d"];

#[test]
#[ignore = "needs Garage: cargo xtask test s3"]
fn sources_that_are_due_within_seconds_commit_together() {
    let mut host = Host::new();
    let metrics = daemon::free_address();
    host.node = format!("metrics = \"{metrics}\"");
    host.policy = "rpo = \"40s\"\n".to_owned();
    for name in OTHERS {
        let source = host.path(name);
        fs::create_dir(&source).unwrap();
        host.policy +=
            &format!("[service.{name}]\nfiles = {{ path = \"{}\", watch = false }}\n", source.display());
    }
    host.write("file", "first");
    host.run(&["vault", "init", "offsite", "--no-recovery"]).good();
    let _daemon = host.daemon();
    host.run(&["now"]).good();
    let write = |text: &str| {
        host.write("file", text);
        OTHERS.iter().for_each(|name| fs::write(host.path(name).join("file"), text).unwrap());
    };
    // They are captured together once they are due together.
    let mut cycles = Vec::new();
    for cycle in 0..5 {
        let before = daemon::requests_at_rest(metrics);
        write(&format!("cycle {cycle}"));
        let mut after = daemon::requests_at_rest(metrics);
        while after == before {
            after = daemon::requests_at_rest(metrics);
        }
        let took = ["put", "get", "list"].map(|operation| after[operation] - before[operation]);
        cycles.push(took);
        // The session twice, two packs and one index; four points and heads.
        if took == [13, 1, 2] {
            break;
        }
    }
    assert_eq!(cycles.last(), Some(&[13, 1, 2]), "{cycles:?}");
    let restored = host.path("restored");
    for name in ["data", "b", "c", "d"] {
        let to = restored.join(name);
        host.run(&["restore", name, "--to", to.to_str().unwrap()]).good();
        assert_eq!(fs::read_to_string(to.join("file")).unwrap(), format!("cycle {}", cycles.len() - 1));
    }
    host.run(&["vault", "check", "offsite", "--read-data", "1/1"]).good();
}

#[test]
#[ignore = "needs Garage: cargo xtask test s3"]
fn a_process_of_its_own_reads_nothing_that_one_before_it_has_read_or_put() {
    let host = Host::new();
    host.write("file", "one");
    host.run(&["vault", "init", "offsite", "--no-recovery"]).good();
    let mut before = host.garage.requests();
    let mut taken = || {
        let now = host.garage.requests();
        let taken = ["PutObject", "GetObject", "ListObjectsV2"]
            .map(|of| now.get(of).unwrap_or(&0) - before.get(of).unwrap_or(&0));
        before = now;
        taken
    };
    host.run(&["now", "data"]).good();
    assert_eq!(taken(), [7, 4, 3], "captured for the first time: puts, gets, listings");
    host.write("file", "two");
    host.run(&["now", "data"]).good();
    // Format, keys, trust, and whether there is a fence; all names, and the ledger twice.
    assert_eq!(taken(), [7, 4, 3], "captured: puts, gets, listings");
    let target = host.path("restored");
    host.run(&["restore", "data", "--to", target.to_str().unwrap()]).good();
    // Format, keys, trust, the rows of two captures, and the contents of one; all names, and the layout once it is pinned.
    assert_eq!(taken(), [2, 6, 2], "restored: puts, gets, listings");
    assert_eq!(fs::read_to_string(target.join("file")).unwrap(), "two");
    // It may be removed at any time.
    fs::remove_dir_all(host.path("state/objects")).unwrap();
    host.run(&["points", "data"]).good();
}

#[test]
#[ignore = "needs Garage: cargo xtask test s3"]
fn a_prune_a_check_and_a_daemon_that_begins_list_all_sources_at_once() {
    let mut host = Host::new();
    let metrics = daemon::free_address();
    host.node = format!("metrics = \"{metrics}\"");
    host.policy = "keep = { last = 1 }\n".to_owned();
    for name in OTHERS {
        let source = host.path(name);
        fs::create_dir(&source).unwrap();
        host.policy +=
            &format!("[service.{name}]\nfiles = {{ path = \"{}\", watch = false }}\n", source.display());
    }
    host.run(&["vault", "init", "offsite", "--no-recovery"]).good();
    for n in 0..3 {
        host.write("file", format!("data {n}"));
        OTHERS
            .iter()
            .for_each(|name| fs::write(host.path(name).join("file"), format!("{name} {n}")).unwrap());
        host.run(&["now"]).good();
    }
    let listings = |host: &Host| host.garage.requests().get("ListObjectsV2").copied().unwrap_or(0);
    let before = listings(&host);
    host.run(&["vault", "prune", "offsite"]).good();
    let pruning = listings(&host) - before;
    println!("{pruning} listings for a prune of five sources that drops points of four");
    assert!(pruning <= PRUNE_LISTINGS_MAX, "{pruning}");
    let before = listings(&host);
    host.run(&["vault", "check", "offsite", "--read-data", "1/1"]).good();
    let checking = listings(&host) - before;
    println!("{checking} listings for a check");
    assert!(checking <= CHECK_LISTINGS_MAX, "{checking}");
    // The first process after a collection lists each folder once more.
    host.run(&["now"]).good();
    let before = listings(&host);
    let _daemon = host.daemon();
    daemon::requests_at_rest(metrics);
    let beginning = listings(&host) - before;
    println!("{beginning} listings for a daemon that begins");
    assert!(beginning <= BEGINNING_LISTINGS_MAX, "{beginning}");
}
