//! A vault in a bucket as its operator meets it, where the provider or the keys are not those of every bucket: a stand-in has
//! versions and keys with few rights. What real services do is tried in `tests/buckets`.

use std::fs;

use backstay_testkit::bucket_stand_in::{BUCKET, BucketStandIn, Rights, Settings};
use backstay_testkit::random::Random;
use backstay_testkit::tls_proxy::TlsProxy;
use tokio::runtime::Runtime;

use crate::daemon::{Daemon, wait_for};
use crate::judge::assert_same;
use crate::outcome::run;
use crate::sandbox::Sandbox;

/// A node whose only vault that it captures to is in a bucket.
pub(crate) struct Host {
    pub(crate) sandbox: Sandbox,
    pub(crate) service: BucketStandIn,
    runtime: Runtime,
}

impl Host {
    /// With a vault that was made; by the key `node`, and by `custodian` where there is to be one.
    pub(crate) fn new(settings: Settings, secret: &str) -> Self {
        let runtime = Runtime::new().unwrap();
        let service = runtime.block_on(BucketStandIn::start(settings));
        let mut sandbox = Sandbox::new();
        sandbox.targets = "[\"offsite\"]\nkeep = { last = 1 }";
        let mut host = Self { sandbox, service, runtime };
        for name in ["node", "custodian", "other"] {
            fs::write(host.sandbox.path(name), name).unwrap();
        }
        host.secret(secret, "");
        host.sandbox.run(["vault", "init", "offsite", "--no-recovery"]).good();
        host
    }

    /// Says by which keys it asks, and more of the vault.
    fn secret(&mut self, of_custodian: &str, of_vault: &str) {
        let file = |name: &str| format!("\"file:{}\"", self.sandbox.path(name).display());
        let custodian = match of_custodian {
            "" => String::new(),
            name => format!(", custodian = {{ access = {0}, secret = {0} }}", file(name)),
        };
        self.sandbox.more = format!(
            "[vault.offsite]\nkind = \"s3\"\nbucket = \"{BUCKET}\"\nendpoint = \"{}\"\nprefix = \"home/\"\n{of_vault}\n\
             [secret]\noffsite = {{ access = {node}, secret = {node}{custodian} }}\n",
            self.service.endpoint(),
            node = file("node"),
        );
    }

    fn capture(&self, content: &str) {
        fs::write(self.sandbox.source.join("file"), content).unwrap();
        self.sandbox.run(["now"]).good();
    }

    fn points(&self) -> usize {
        self.sandbox.run(["points", "--json"]).good().json().as_array().unwrap().len()
    }

    /// What `doctor` says of the vault.
    fn doctor(&self, more: &[&str]) -> String {
        let outcome = self.sandbox.run([&["doctor"], more].concat());
        let text = outcome.text();
        let of_it = text.split("vault offsite\n").nth(1).unwrap_or_else(|| panic!("{text}"));
        of_it.lines().take_while(|line| line.starts_with(' ')).collect::<Vec<_>>().join("\n")
    }
}

fn rights(of: &[(&'static str, Rights)]) -> Settings {
    Settings { rights: of.iter().copied().collect(), ..Settings::default() }
}

const MAY_NOT_DELETE: Rights = Rights { ask: true, ..Rights::WRITER };

#[test]
fn a_key_that_may_not_delete_captures_and_the_custodians_own_key_prunes() {
    let mut host = Host::new(rights(&[("node", Rights::WRITER)]), "");
    for content in ["one", "two", "three"] {
        host.capture(content);
    }
    host.service.take_requests();
    let refused = host.sandbox.run(["vault", "prune", "offsite"]);
    refused.refused(1, &["may not delete", "names no other", "custodian = { access"]);
    let asked = host.service.take_requests();
    let sessions = |asked: &[String]| asked.iter().filter(|of| of.starts_with("PUT")).count();
    assert_eq!(sessions(&asked), 0, "what could not be deleted again is not put: {asked:?}");
    assert_eq!(host.points(), 3);
    host.capture("four");
    host.secret("custodian", "");
    host.sandbox.run(["vault", "prune", "offsite"]);
    host.sandbox.run(["vault", "prune", "offsite"]);
    assert_eq!(host.points(), 1);
    host.sandbox.run(["vault", "check", "offsite", "--read-data", "1/1"]).good();
    assert_same(&host.sandbox.source, &host.sandbox.restore("restored"));
}

#[test]
fn a_daemon_whose_key_may_not_delete_captures_and_says_why_it_does_not_prune() {
    let mut host = Host::new(rights(&[("node", Rights::WRITER)]), "");
    let daemon = Daemon::start(&mut host.sandbox);
    host.capture("one");
    host.capture("two");
    wait_for("a word on prunes", || {
        daemon.running.stderr_so_far().contains("nothing goes from vault offsite")
    });
    host.capture("three");
    assert_eq!(host.points(), 3);
}

#[test]
fn doctor_says_what_protects_the_history_and_asks_the_provider_only_when_it_is_told_to() {
    let host = Host::new(rights(&[("node", MAY_NOT_DELETE)]), "");
    host.service.take_requests();
    let said = host.doctor(&[]);
    assert!(said.contains("nobody has found out yet") && said.contains("doctor --probe"), "{said}");
    assert!(host.service.take_requests().iter().all(|asked| !asked.starts_with("PUT")));
    let said = host.doctor(&["--probe"]);
    assert!(
        said.contains("WARNING  nothing keeps the history") && said.contains("put something else over"),
        "{said}"
    );
    assert!(said.contains("nothing is pruned"), "it is the custodian: {said}");
    // As it is remembered.
    assert_eq!(host.doctor(&[]), said);
    // Versions were turned on, as the advice has it.
    host.service.set(|settings| settings.versions = true);
    assert_eq!(host.doctor(&[]), said);
    let better = host.doctor(&["--probe"]);
    assert!(better.contains("an intruder here cannot destroy the history"), "{better}");
}

#[test]
fn doctor_says_that_two_keys_of_the_same_rights_are_no_better_than_one() {
    let mut host = Host::new(rights(&[("other", MAY_NOT_DELETE)]), "custodian");
    let said = host.doctor(&["--probe"]);
    assert!(said.contains("WARNING  the key by which is written may delete as well"), "{said}");
    host.secret("other", "");
    let said = host.doctor(&["--probe"]);
    assert!(said.contains("PROBLEM  the custodian's key may not delete"), "{said}");
}

#[test]
fn a_daemon_finds_out_once_what_a_provider_does_and_again_for_another_key() {
    let mut host = Host::new(Settings { versions: true, ..rights(&[("node", MAY_NOT_DELETE)]) }, "");
    let series = |of: &str| format!("backstay_vault_provider{{does=\"{of}\",vault=\"offsite\"}}");
    let puts = |host: &Host| {
        let asked = host.service.take_requests();
        asked.iter().filter(|of| of.starts_with("PUT home/probe/")).count()
    };
    let daemon = Daemon::start(&mut host.sandbox);
    wait_for("what the provider does", || daemon.figure(&series("versions")).is_some());
    assert_eq!(daemon.figure(&series("versions")), Some(1.0));
    assert_eq!(daemon.figure(&series("may_delete")), Some(0.0));
    let protected = "backstay_vault_history_protected{vault=\"offsite\"}";
    assert_eq!(daemon.figure(protected), Some(1.0));
    assert_eq!(puts(&host), 3);
    daemon.running.terminate().good();
    let daemon = Daemon::start(&mut host.sandbox);
    wait_for("what the provider does", || daemon.figure(protected).is_some());
    assert_eq!(puts(&host), 0, "it is remembered");
    daemon.running.terminate().good();
    // Ten days later it is asked what has changed, and nothing is put that would stay.
    let file = host.sandbox.state.join("probed/offsite.json");
    let mut known: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    assert_eq!(known["provider"]["left"], 1, "{known}");
    for seconds in ["seconds", "put_seconds"] {
        known[seconds] = (known[seconds].as_i64().unwrap() - 10 * 24 * 3600).into();
    }
    fs::write(&file, known.to_string()).unwrap();
    let daemon = Daemon::start(&mut host.sandbox);
    let when = "backstay_vault_probe_timestamp_seconds{vault=\"offsite\"}";
    wait_for("another look", || daemon.figure(when) > known["seconds"].as_f64());
    let asked = host.service.take_requests();
    assert!(!asked.iter().any(|of| of.contains("home/probe/")), "{asked:?}");
    daemon.running.terminate().good();
    host.secret("custodian", "");
    let daemon = Daemon::start(&mut host.sandbox);
    wait_for("what the provider does", || daemon.figure(protected).is_some());
    assert_eq!(puts(&host), 4, "one more, over what the first probe has left");
    assert_eq!(daemon.figure(protected), Some(0.0), "the custodian's key may delete versions");
    host.capture("something");
    assert_same(&host.sandbox.source, &host.sandbox.restore("restored"));
}

#[test]
fn a_host_that_knows_no_authorities_says_so_and_asks_without_tls_all_the_same() {
    let mut host = Host::new(Settings::default(), "");
    let none = host.sandbox.path("none.pem");
    fs::write(&none, "").unwrap();
    let stat = |host: &Host| {
        let mut command = host.sandbox.command(["vault", "stat", "offsite"]);
        command.env("SSL_CERT_FILE", &none).env_remove("SSL_CERT_DIR");
        run(command)
    };
    stat(&host).good();
    let plain = host.service.endpoint();
    let service = plain.trim_start_matches("http://").parse().unwrap();
    let proxy = host.runtime.block_on(TlsProxy::start(service, host.sandbox.path("").as_path()));
    host.sandbox.more = host.sandbox.more.replace(&plain, &proxy.endpoint());
    stat(&host).refused(1, &["knows no authority", "install the package ca-certificates", "SSL_CERT_FILE"]);
}

#[test]
fn what_an_intruder_has_replaced_and_deleted_is_restored_from_older_versions_and_put_back() {
    let host = Host::new(Settings { versions: true, ..Settings::default() }, "");
    let mut random = Random::new(4);
    fs::write(host.sandbox.source.join("large"), random.bytes(3 << 20)).unwrap();
    host.capture("one");
    host.capture("two");
    let keys = |of: &str| -> Vec<String> {
        host.service.keys().into_iter().filter(|key| key.starts_with(&format!("home/{of}/"))).collect()
    };
    let packs = keys("packs");
    assert!(packs.len() >= 3, "{packs:?}");
    for (n, key) in packs.iter().enumerate() {
        let other = (n % 2 == 0).then(|| bytes::Bytes::from(random.bytes(1000)));
        host.service.spoil(key, other);
    }
    for key in keys("index").into_iter().chain(keys("points")) {
        host.service.spoil(&key, Some(bytes::Bytes::from_static(b"gone")));
    }
    let to = host.sandbox.path("restored");
    let restored = host.sandbox.run(["restore", "data", "--to", to.to_str().unwrap()]).good();
    assert_same(&host.sandbox.source, &to);
    assert!(restored.stderr.contains("an older version"), "{}", restored.stderr);
    let check = host.sandbox.run(["vault", "check", "offsite"]);
    check.refused(1, &[]);
    host.sandbox.run(["vault", "repair", "offsite", "--read-data"]).good();
    host.sandbox.run(["vault", "check", "offsite", "--read-data", "1/1"]).good();
    let again = host.sandbox.path("restored again");
    let restored = host.sandbox.run(["restore", "data", "--to", again.to_str().unwrap()]).good();
    assert_same(&host.sandbox.source, &again);
    assert!(!restored.stderr.contains("an older version"), "{}", restored.stderr);
}

#[test]
fn proofs_fail_where_older_versions_were_read_until_a_repair_has_put_them_back() {
    let mut host = Host::new(Settings { versions: true, ..Settings::default() }, "");
    let mut random = Random::new(5);
    fs::write(host.sandbox.source.join("large"), random.bytes(3 << 20)).unwrap();
    host.capture("one");
    let keys = host.service.keys();
    let packs: Vec<&String> = keys.iter().filter(|key| key.starts_with("home/packs/")).collect();
    for (n, key) in packs.iter().enumerate() {
        let other = (n % 2 == 0).then(|| bytes::Bytes::from(random.bytes(1000)));
        host.service.spoil(key, other);
    }
    // The daemon finds it by itself.
    let daemon = Daemon::start(&mut host.sandbox);
    wait_for("a proof that has failed", || daemon.value("backstay_last_proof_success") == Some(0.0));
    let older = || daemon.figure("backstay_vault_read_from_older{vault=\"offsite\"}");
    assert!(older() >= Some(2.0), "{:?}", older());
    let verify = |level: &str| host.sandbox.run(["verify", "data", "--level", level]);
    for level in ["data", "restore"] {
        verify(level).refused(1, &["an older version that the store keeps is read in its place"]);
    }
    host.sandbox.run(["vault", "repair", "offsite", "--read-data"]).good();
    assert_eq!(older(), Some(0.0));
    for level in ["data", "restore"] {
        verify(level).good();
    }
    daemon.running.terminate().good();
}

#[test]
fn a_month_is_estimated_by_what_the_daemon_has_counted_and_by_the_price_list() {
    let mut host = Host::new(Settings::default(), "");
    host.capture("one");
    let stat = |host: &Host| host.sandbox.run(["vault", "stat", "offsite"]).good().text();
    let said = stat(&host);
    assert!(said.contains("no daemon of this node has counted requests yet"), "{said}");
    let price = "price = { currency = \"EUR\", storage = 6, put = 5, get = 0.4, list = 5, egress = 10 }";
    host.secret("", price);
    assert!(stat(&host).contains("what packs take now costs about 0.0"), "{}", stat(&host));
    let daemon = Daemon::start(&mut host.sandbox);
    host.capture("two");
    // What is counted is told by the second.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    daemon.running.terminate().good();
    let shown = host.sandbox.run(["vault", "stat", "offsite", "--json"]).good().json();
    let month = &shown["month"];
    let number = |of: &str| month["requests"][of].as_u64().unwrap_or_else(|| panic!("{month:#}"));
    assert!(month["observed_seconds"].as_u64().unwrap() >= 1, "{month:#}");
    assert!(number("puts") > number("gets") / 100 && number("lists") > 0, "{month:#}");
    assert_eq!(month["cost"]["currency"], "EUR");
    assert!(month["cost"]["total"].as_f64() > month["cost"]["storage"].as_f64(), "{month:#}");
    let said = stat(&host);
    assert!(said.contains("have asked in") && said.contains("EUR by the price list"), "{said}");
}
