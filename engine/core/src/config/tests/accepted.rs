//! What must be understood, and how.

use std::time::Duration;

use super::*;
use crate::units::{ByteRate, ByteSize};

#[test]
fn the_example_of_two_nodes_is_understood() {
    let config = two_nodes();
    assert_eq!(config.fleet.name.as_str(), "home");
    let addresses: Vec<_> = config.fleet.nodes.values().flatten().map(ToString::to_string).collect();
    assert_eq!(addresses, ["100.64.0.5:7420", "100.64.0.2:7420"]);
    assert_eq!(config.fleet.issuers.len(), 2);
    let kinds: Vec<_> = config.vaults.iter().map(|(name, v)| (name.as_str(), v.kind.label())).collect();
    assert_eq!(kinds, [("held.cobblestone", "held"), ("local", "dir"), ("offsite", "s3"), ("twin", "peer")]);
    let names: Vec<_> = config.sources.iter().map(|source| source.name.as_str()).collect();
    assert_eq!(names, ["authentik.postgres", "matrix.dump", "matrix.postgres", "matrix.zfs", "static.files"]);
    assert_eq!(config.services["matrix"].after[0].as_str(), "authentik");
    assert_eq!(config.node.tailnet, Tailnet::Required);
    assert_eq!(config.secrets["offsite"].writer.access.to_string(), "file:/etc/backstay/s3-id");
    assert_eq!(config.hooks.fence.as_deref().expect("a fence")[1], "{node}");
    assert!(config.allow.commands);
}

#[test]
fn the_vault_in_the_bucket_has_its_limits() {
    let config = two_nodes();
    let VaultKind::S3(vault) = &config.vaults["offsite"].kind else {
        panic!("{:?}", config.vaults["offsite"])
    };
    assert_eq!((vault.bucket.as_str(), vault.prefix.as_str()), ("backups", "home/"));
    assert_eq!(vault.custodian, Some("cobblestone".parse().unwrap()));
    assert_eq!(vault.object_lock.map(|span| span.to_string()).as_deref(), Some("30d"));
    let limit = vault.limit.expect("a limit");
    assert_eq!((limit.up, limit.down), (Some(ByteRate(20 << 20)), None));
    assert!(limit.holds_at(12 * 60) && !limit.holds_at(23 * 60));
}

#[test]
fn what_is_held_for_the_other_node_is_understood() {
    let config = two_nodes();
    let hold = &config.holds["cobblestone"];
    let vault = hold.vault.as_ref().expect("a vault");
    assert_eq!(vault.quota, Some(ByteSize(2 << 40)));
    assert_eq!(hold.zfs.as_ref().map(DatasetName::as_str), Some("tank/replica/cobblestone"));
    assert_eq!(hold.postgres[0].as_str(), "authentik");
    assert_eq!(hold.files[0].as_os_str(), "/srv/mirror");
}

#[test]
fn every_source_has_the_flows_that_its_policies_and_kind_give_it() {
    let config = two_nodes();
    assert_eq!(flows(&config, "matrix.zfs"), ["twin 15m", "offsite 1h", "replica 15m"]);
    assert_eq!(flows(&config, "matrix.postgres"), ["twin 1s", "offsite 1m", "standby 1s"]);
    assert_eq!(flows(&config, "matrix.dump"), ["twin 1d", "offsite 1d"]);
    assert_eq!(flows(&config, "static"), ["twin 15m", "offsite 1h", "replica 15m"]);
    assert_eq!(flows(&config, "authentik"), ["offsite 1h"]);
}

#[test]
fn a_policy_takes_the_keys_that_it_lacks_from_the_default() {
    let config = two_nodes();
    let source = config.find_source("matrix.postgres").unwrap();
    let Keep::Rules(rules) = &source.keep else { panic!("{:?}", source.keep) };
    assert_eq!((rules.hourly, rules.daily, rules.monthly), (Some(24), Some(30), None));
    assert_eq!(source.verify.budget_per_day, Some(ByteSize(20 << 30)));
    let SourceKind::Postgres(postgres) = &source.kind else { panic!("{:?}", source.kind) };
    assert_eq!((postgres.sync, postgres.wal_limit), (SyncMode::Off, ByteSize(8 << 30)));
}

#[test]
fn the_nearest_setting_wins_key_by_key() {
    let text = r#"
[fleet]
name = "home"
[node]
name = "box"
[vault.a]
kind = "dir"
path = "/a"
[vault.b]
kind = "dir"
path = "/b"
[policy.default]
to = ["a"]
rpo = "4h"
keep = { daily = 7 }
[policy.slow]
rpo = { b = "3h" }
verify = { every = "1d" }
[service.x]
policy = "slow"
rpo = { a = "2h" }
files = { path = "/x", to = ["a", "b"] }
command.one = { run = ["one"], rpo = "1h", keep = {} }
command.two = { run = ["two"] }
"#;
    let config = parse(text).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(flows(&config, "x.files"), ["a 2h", "b 3h"]);
    assert_eq!(flows(&config, "x.one"), ["a 1h"]);
    assert_eq!(flows(&config, "x.two"), ["a 2h"]);
    assert_eq!(config.find_source("x.one").unwrap().keep, Keep::Everything);
    let verify = config.find_source("x.two").unwrap().verify;
    assert_eq!((verify.every.to_string().as_str(), verify.level), ("1d", VerifyLevel::Restore));
}

#[test]
fn one_node_one_vault_and_one_service_need_nothing_else() {
    let config = minimal();
    assert_eq!(config.fleet.nodes.keys().map(NodeName::as_str).collect::<Vec<_>>(), ["box"]);
    assert_eq!(config.services["static"].primary.as_str(), "box");
    let source = config.find_source("static").unwrap();
    assert_eq!(source.name.as_str(), "static.files");
    assert_eq!(flows(&config, "static"), ["local 15m"]);
    assert_eq!(source.keep, Keep::Everything);
    assert_eq!(Duration::from_secs(7 * 86_400), source.verify.every.as_duration());
    let SourceKind::Files(files) = &source.kind else { panic!("{:?}", source.kind) };
    assert!(files.one_file_system && files.watch && !files.mirror);
    assert_eq!(config.sources_at_home_on(&config.node.name).count(), 1);
}

#[test]
fn one_file_may_hold_all_tables_of_the_two() {
    assert_eq!(parse(&format!("{FLEET}{NODE}")), Ok(two_nodes()));
}

#[test]
fn a_source_is_found_by_its_service_only_when_that_is_unambiguous() {
    let config = two_nodes();
    let error = |typed: &str| config.find_source(typed).expect_err(typed).to_string();
    assert_eq!(
        error("matrix"),
        "service matrix has several sources; name one of: matrix.dump, matrix.postgres, matrix.zfs"
    );
    assert_eq!(error("statik"), "there is no source \"statik\"; did you mean \"static\"?");
    assert_eq!(error("matrix.zsf"), "there is no source \"matrix.zsf\"; did you mean \"matrix.zfs\"?");
    assert_eq!(
        error("nothing-like-it"),
        "there is no source \"nothing-like-it\"; `backstay check-config` lists them"
    );
}

#[test]
fn a_command_has_its_program_its_time_and_its_environment() {
    let config = two_nodes();
    let source = config.find_source("matrix.dump").unwrap();
    let SourceKind::Command(command) = &source.kind else { panic!("{:?}", source.kind) };
    assert_eq!(command.run, ["pg_dump", "-Fc", "-Z0", "synapse"]);
    assert_eq!(command.timeout.as_duration(), COMMAND_TIMEOUT_DEFAULT);
    assert!(command.env.is_empty() && command.secrets.is_empty());
    assert_eq!(config.allow.command_user, None);

    let more = r#"command.dump = { run = ["x"], timeout = "20h", env = { PGHOST = "/run/pg" }, secrets = { PGPASSWORD = "credential:pg" } }
[allow]
commands = true
command_user = "postgres"
"#;
    let config = parse(&format!("{MINIMAL}{more}")).unwrap_or_else(|errors| panic!("{errors}"));
    let source = config.find_source("static.dump").unwrap();
    let SourceKind::Command(command) = &source.kind else { panic!("{:?}", source.kind) };
    assert_eq!(command.timeout.as_duration(), COMMAND_TIMEOUT_MAX);
    assert_eq!(command.env["PGHOST"], "/run/pg");
    assert_eq!(command.secrets["PGPASSWORD"], SecretRef::Credential("pg".to_owned()));
    assert_eq!(config.allow.command_user.as_ref().map(UserName::as_str), Some("postgres"));
}
