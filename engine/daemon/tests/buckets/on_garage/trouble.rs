//! What is wrong with a bucket or with the way to it: a clear error, nothing lost, and the other vault gets its point.

use std::fs;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use backstay_testkit::faulty_proxy::{Fault, FaultyProxy};
use backstay_testkit::random::{Random, seed};

use crate::daemon;
use crate::fleet::assert_same;
use crate::host::{Host, Said};

/// A host with a vault in a directory and one in the bucket, and a point in both.
fn host_with_two_vaults(policy: &str) -> Host {
    let mut host = Host::new();
    host.more = format!("[vault.local]\nkind = \"dir\"\npath = \"{}\"\n", host.path("vault").display());
    host.policy = format!("to = [\"local\", \"offsite\"]\n{policy}");
    let key = host.path("recovery.key");
    for vault in ["offsite", "local"] {
        host.run(&["vault", "init", vault, "--recovery", key.to_str().unwrap()]).good();
    }
    host.write("file", "of today");
    host.run(&["now"]).good();
    host
}

/// A capture that only the other vault takes, with an error that has these words.
fn assert_local_alone(said: &Said, words: &[&str]) {
    assert_eq!(said.code, Some(3), "the local vault has its point: {}", said.errors);
    words.iter().for_each(|word| assert!(said.errors.contains(word), "{word}: {}", said.errors));
}

fn assert_restored(host: &Host, from: &str) {
    let restored = host.path(&format!("restored from {from}"));
    host.run(&["restore", "data", "--from", from, "--to", restored.to_str().unwrap()]).good();
    assert_same(&host.source(), &restored);
    fs::remove_dir_all(restored).unwrap();
}

#[test]
#[ignore = "needs Garage: cargo xtask test s3"]
fn what_is_wrong_with_a_bucket_is_said_and_the_other_vault_gets_its_point() {
    let mut host = host_with_two_vaults("");
    let doctor = host.run(&["doctor"]);
    assert!(
        doctor.out.contains("vault offsite\n  ok       it opens with this node's keys"),
        "{}",
        doctor.out
    );
    let secret = fs::read_to_string(host.path("s3-key")).unwrap();
    let (bucket, region) = (host.bucket.clone(), host.region.clone());
    let mut n = 0;
    let mut spoilt = |host: &Host, words: &[&str]| {
        n += 1;
        host.write("file", format!("of day {n}"));
        let said = host.run(&["now"]);
        assert_local_alone(&said, words);
        let doctor = host.run(&["doctor"]);
        for word in words {
            assert!(doctor.out.contains(word), "{word}: {}", doctor.out);
        }
    };
    fs::write(host.path("s3-key"), "0".repeat(64)).unwrap();
    spoilt(&host, &["[secret] of node.toml"]);
    fs::remove_file(host.path("s3-key")).unwrap();
    spoilt(&host, &["s3-key"]);
    fs::write(host.path("s3-key"), "two words").unwrap();
    spoilt(&host, &["one word is wanted"]);
    fs::write(host.path("s3-key"), &secret).unwrap();
    host.bucket = "nothing-here".to_owned();
    spoilt(&host, &["the bucket is not there"]);
    host.bucket = bucket;
    host.region = "mars-north-1".to_owned();
    spoilt(&host, &["correct `region`"]);
    host.region = region;
    host.run(&["now"]).good();
    host.run(&["vault", "check", "offsite"]).good();
}

#[test]
#[ignore = "needs Garage: cargo xtask test s3"]
fn a_clock_that_is_days_off_is_named() {
    let host = host_with_two_vaults("");
    host.write("file", "of a day long gone");
    // Garage takes any time that is to come.
    let said = host.run_at("-3d", &["now"]);
    assert_local_alone(&said, &["behind that of the service", "timedatectl"]);
    host.run(&["now"]).good();
    assert_restored(&host, "offsite");
}

#[test]
#[ignore = "needs Garage: cargo xtask test s3"]
fn a_bucket_that_holds_another_vault_is_not_written_to() {
    let mut host = host_with_two_vaults("");
    // Another host has made its vault under a prefix that this one then names.
    let [own, state, more] = [host.prefix.clone(), host.state.clone(), host.more.clone()];
    host.prefix = "other/".to_owned();
    host.state = "state of another".to_owned();
    host.more.clear();
    host.policy = String::new();
    host.run(&["vault", "init", "offsite", "--no-recovery"]).good();
    host.run(&["now"]).good();
    host.state = state;
    host.more = more;
    host.policy = "to = [\"local\", \"offsite\"]".to_owned();
    host.write("file", "of tomorrow");
    let objects = host.objects();
    assert_local_alone(&host.run(&["now"]), &["`prefix` or `endpoint` is that of another vault"]);
    assert_eq!(host.objects(), objects);
    host.prefix = own;
    host.run(&["now"]).good();
    assert_restored(&host, "offsite");
}

#[test]
#[ignore = "needs Garage: cargo xtask test s3"]
fn without_its_keys_nothing_is_read_or_written_and_with_the_recovery_key_all_of_it_is() {
    let mut host = host_with_two_vaults("");
    let before = fs::read_to_string(host.path("source/file")).unwrap();
    let key = host.path("recovery.key");
    let kept = host.path("kept.key");
    fs::rename(&key, &kept).unwrap();
    host.state = "state of a new machine".to_owned();
    let target = host.path("restored");
    let restore = |file: &std::path::Path| {
        let (to, file) = (target.to_str().unwrap(), file.to_str().unwrap());
        host.run(&["restore", "data", "--from", "offsite", "--to", to, "--key-file", file])
    };
    let lost = restore(&key);
    assert_eq!(lost.code, Some(2), "{}", lost.errors);
    assert!(lost.errors.contains("recovery.key"), "{}", lost.errors);
    let refused = host.run(&["now"]);
    assert_ne!(refused.code, Some(0));
    assert!(refused.errors.contains("bring back node.state"), "{}", refused.errors);
    // One of another fleet.
    let other = host.path("other.key");
    fs::write(&other, "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX\n")
        .unwrap();
    let wrong = restore(&other);
    assert_ne!(wrong.code, Some(0));
    assert!(wrong.errors.contains("opens no keys"), "{}", wrong.errors);
    assert!(!target.exists());
    restore(&kept).good();
    assert_eq!(fs::read_to_string(target.join("file")).unwrap(), before);
}

/// The exposure of a target, seconds.
fn exposure(metrics: SocketAddr, target: &str) -> f64 {
    let text = daemon::metrics(metrics);
    let wanted = |line: &&str| {
        line.starts_with("backstay_rpo_exposure_seconds{") && line.contains(&format!("target=\"{target}\""))
    };
    let line = text.lines().find(wanted).unwrap_or_else(|| panic!("no exposure of {target}: {text}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

fn wait_until(what: &str, seconds: u64, is_so: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_secs(seconds), "{what}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[test]
#[ignore = "needs Garage: cargo xtask test s3"]
fn when_the_right_to_write_is_taken_away_the_lag_grows_the_other_vault_goes_on_and_nothing_is_lost() {
    let mut host = host_with_two_vaults("rpo = \"4s\"");
    let metrics = daemon::free_address();
    host.node = format!("metrics = \"{metrics}\"");
    let _daemon = host.daemon();
    host.run(&["now"]).good();
    let (bucket, key) = (host.bucket.clone(), host.garage.key().id.clone());
    let right = |verb: &str| {
        host.garage.run(&["bucket", verb, "--write", &bucket, "--key", &key]).unwrap();
    };
    right("deny");
    // Also when there is nothing new to say: a head has to be put.
    wait_until("the exposure does not grow", 60, || exposure(metrics, "offsite") > 12.0);
    host.write("file", "of tomorrow");
    assert_local_alone(&host.run(&["now"]), &["this access key may not do that"]);
    let before = exposure(metrics, "offsite");
    wait_until("it does not grow on", 30, || exposure(metrics, "offsite") > before + 3.0);
    // That vault is captured to as before: each time that it is looked, or nearly.
    let good = (0..20).filter(|_| {
        std::thread::sleep(Duration::from_millis(500));
        exposure(metrics, "local") < 8.0
    });
    assert!(good.count() > 15, "the local vault falls behind");
    let status = host.run(&["status", "--check"]);
    assert_eq!(status.code, Some(2), "{}", status.out);
    // What was there can still be read.
    let points = host.run(&["points", "data", "--from", "offsite", "--json"]).good().json();
    assert_eq!(points.as_array().map(Vec::len), Some(1), "{points}");
    right("allow");
    wait_until("it does not recover", 120, || exposure(metrics, "offsite") < 6.0);
    assert_restored(&host, "offsite");
    host.run(&["vault", "check", "offsite", "--read-data", "1/1"]).good();
}

#[test]
#[ignore = "needs Garage: cargo xtask test s3"]
fn a_capture_during_which_the_right_to_write_is_taken_away_fails_alone_and_the_next_goes_on() {
    let mut host = host_with_two_vaults("");
    host.more = format!("limit = {{ up = \"4MiB/s\" }}\n{}", host.more);
    let (bucket, key) = (host.bucket.clone(), host.garage.key().id.clone());
    host.write("large", Random::new(5).bytes(64 << 20));
    let before = host.objects();
    std::thread::scope(|scope| {
        let capture = scope.spawn(|| host.run(&["now"]));
        wait_until("nothing is put", 60, || host.objects() >= before + 2);
        host.garage.run(&["bucket", "deny", "--write", &bucket, "--key", &key]).unwrap();
        assert_local_alone(&capture.join().unwrap(), &["this access key may not do that"]);
    });
    host.garage.run(&["bucket", "allow", "--write", &bucket, "--key", &key]).unwrap();
    host.more = host.more.replace("4MiB/s", "1GiB/s");
    host.run(&["now"]).good();
    assert_restored(&host, "offsite");
    host.run(&["vault", "check", "offsite", "--read-data", "1/1"]).good();
}

#[test]
#[ignore = "needs Garage: cargo xtask test s3"]
fn where_three_of_ten_requests_go_wrong_captures_and_restores_come_to_their_end() {
    let mut host = host_with_two_vaults("");
    let seed = seed();
    println!("BACKSTAY_TEST_SEED={seed}");
    let io = tokio::runtime::Runtime::new().unwrap();
    let proxy = io.block_on(FaultyProxy::start(host.garage.address(), seed));
    host.endpoint = format!("http://{}", proxy.address());
    // A stalled answer is waited for: it is tried in the tests of the store.
    let faults: Vec<Fault> = Fault::ALL.into_iter().filter(|fault| *fault != Fault::Stalled).collect();
    let mut random = Random::new(seed);
    for n in 0..3 {
        host.write(&format!("file {n}"), random.bytes(3 << 20));
        proxy.fail(30, &faults);
        let said = host.run(&["now"]);
        // One bit in a signed or sealed object is an error, or is read again.
        assert!(matches!(said.code, Some(0 | 3)), "{}", said.errors);
        proxy.fail(0, &[]);
        host.run(&["now"]).good();
        host.run(&["vault", "check", "offsite", "--read-data", "1/1"]).good();
        let noticed: Vec<Fault> =
            faults.iter().copied().filter(|fault| *fault != Fault::BitFlipped).collect();
        proxy.fail(30, &noticed);
        assert_restored(&host, "offsite");
    }
    println!("{} requests, {:?}", proxy.requests(), proxy.made());
    assert!(proxy.made().values().sum::<u64>() > 20, "{:?}", proxy.made());
}
