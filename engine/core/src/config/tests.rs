//! The configuration as operators write it: what must be accepted, and what they are told otherwise.

mod accepted;
mod buckets;
mod hostile;
mod refused;
mod told;

use super::*;
use crate::units::Span;

const FLEET: &str = r#"
[fleet]
name = "home"
nodes = { nullstone = "100.64.0.2:7420", cobblestone = "100.64.0.5:7420" }
issuers = ["nullstone", "cobblestone"]

[vault.local]
kind = "dir"
path = "/srv/backstay/vault"
[vault.twin]
kind = "peer"
[vault.offsite]
kind = "s3"
bucket = "backups"
endpoint = "https://s3.example"
region = "hel1"
prefix = "home/"
custodian = "cobblestone"
object_lock = "30d"
limit = { up = "20MiB/s", window = "08:00-22:00" }

[policy.default]
to = ["twin", "offsite"]
rpo = { replica = "15m", twin = "15m", offsite = "1h" }
keep = { all = "1h", hourly = 24, daily = 30, weekly = 12 }
verify = { every = "7d", level = "restore", budget = "20GiB/day" }
[policy.pg]
rpo = { standby = "1s", twin = "1s", offsite = "60s" }
base_backup = "24h"
pitr = "7d"
sync = "off"
pg_wal_limit = "8GiB"

[service.matrix]
primary = "nullstone"
secondary = ["cobblestone"]
after = ["authentik"]
zfs = { dataset = "tank/docker/matrix", except = ["pgdata"] }
postgres = { policy = "pg", hosts = ["/opt/docker/matrix/run"], dbname = "synapse", data = "/opt/docker/matrix/pgdata", check = ["select count(*) > 0 from events"] }
command.dump = { run = ["pg_dump", "-Fc", "-Z0", "synapse"], rpo = "24h" }
[service.static]
primary = "nullstone"
secondary = ["cobblestone"]
files = { path = "/srv/static", exclude = ["**/.cache/**"], mirror = true }
[service.authentik]
primary = "cobblestone"
postgres = { data = "/opt/docker/authentik/pgdata", to = ["offsite"] }
"#;

const NODE: &str = r#"
[node]
name = "nullstone"
state = "/var/lib/backstay"
listen = "tailnet:7420"
metrics = "tailnet:9420"
tailnet = "required"
[secret]
offsite = { access = "file:/etc/backstay/s3-id", secret = "file:/etc/backstay/s3-key" }
[hold.cobblestone]
vault = { path = "/srv/backstay/cobblestone", quota = "2TiB", floor = "50GiB", wal_reserve = "10GiB" }
zfs = "tank/replica/cobblestone"
postgres = ["authentik"]
files = ["/srv/mirror"]
[hook]
start = ["docker", "compose", "--project-directory", "/opt/docker/{service}", "up", "-d"]
stop = ["docker", "compose", "--project-directory", "/opt/docker/{service}", "stop"]
dns = ["/etc/backstay/hooks/gandi", "{service}"]
fence = ["/etc/backstay/hooks/power-off", "{node}"]
freeze = ["/etc/backstay/hooks/rcon", "save-off"]
thaw = ["/etc/backstay/hooks/rcon", "save-on"]
[allow]
commands = true
"#;

const MINIMAL: &str = r#"
[fleet]
name = "home"
[node]
name = "box"
state = "/tmp/backstay"
[vault.local]
kind = "dir"
path = "/srv/vault"
[service.static]
files = { path = "/srv/static" }
"#;

fn parse_pair(fleet: &str, node: &str) -> Result<Config, ConfigErrors> {
    Config::parse(ConfigTexts::Split {
        fleet: SourceText { name: "fleet.toml", text: fleet },
        node: SourceText { name: "node.toml", text: node },
    })
}

fn parse(text: &str) -> Result<Config, ConfigErrors> {
    Config::parse(ConfigTexts::Single(SourceText { name: "backstay.toml", text }))
}

fn two_nodes() -> Config {
    parse_pair(FLEET, NODE).unwrap_or_else(|errors| panic!("{errors}"))
}

fn minimal() -> Config {
    parse(MINIMAL).unwrap_or_else(|errors| panic!("{errors}"))
}

/// The one problem of the minimal configuration after a change to it.
fn problem_after(from: &str, to: &str) -> Problem {
    assert!(MINIMAL.contains(from), "{from:?} is not in the minimal configuration");
    let errors = parse(&MINIMAL.replacen(from, to, 1)).expect_err(to);
    assert_eq!(errors.problems.len(), 1, "{errors}");
    errors.problems.into_iter().next().expect("there is one")
}

/// `target rpo` of each flow of a source.
fn flows(config: &Config, source: &str) -> Vec<String> {
    let source = config.find_source(source).unwrap_or_else(|error| panic!("{error}"));
    source.flows.iter().map(|flow| format!("{} {}", flow.target, Span::new(flow.rpo))).collect()
}
