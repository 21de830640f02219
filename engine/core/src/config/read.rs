//! From texts to [`Config`]: which table stands in which text, in which order they are read, and what is
//! checked across them. Each table has its reader elsewhere.

use std::collections::{BTreeMap, BTreeSet};

use toml::de::{DeTable, DeValue};

use super::declared::Declared;
use super::fleet::read_fleet;
use super::hub::VIA;
use super::name::{NodeName, PolicyName, ServiceName, VaultName};
use super::node::{Hold, read_allow, read_hold, read_hooks, read_node};
use super::order::find_circle;
use super::peers::{HELD, SecondName};
use super::policy::{PolicyKeys, Target};
use super::problem::{ProblemKind, Problems, Refusal};
use super::secret::read_vault_secret;
use super::service::{Service, read_service};
use super::source::Source;
use super::table::{Table, read_named, read_named_of};
use super::value::Value;
use super::vault::{Vault, read_vault};
use super::{Config, ConfigErrors, ConfigTexts, SOURCES_MAX, SourceText, TEXT_BYTES_MAX, VAULTS_MAX};

const FLEET_TABLES: [&str; 4] = ["fleet", "vault", "policy", "service"];
const NODE_TABLES: [&str; 5] = ["node", "secret", "hold", "hook", "allow"];

/// The top-level tables that are there, from whichever text.
type Tables<'t> = BTreeMap<&'static str, Value<'t>>;

pub(super) fn read(texts: ConfigTexts<'_>) -> Result<Config, ConfigErrors> {
    let problems = Problems::default();
    let (config, sources) = match texts {
        ConfigTexts::Single(text) => (read_single(text, &problems), vec![text]),
        ConfigTexts::Split { fleet, node } => (read_split(fleet, node, &problems), vec![fleet, node]),
    };
    match config {
        Some(config) if problems.is_empty() => Ok(config),
        _ => Err(problems.into_errors(&sources)),
    }
}

fn read_single(text: SourceText<'_>, problems: &Problems) -> Option<Config> {
    let tree = read_tree(text, problems)?;
    let tables = Table::read(&Value::root(text, problems, &tree), |root| {
        let mut tables = Tables::new();
        take_tables(root, &FLEET_TABLES, &mut tables);
        take_tables(root, &NODE_TABLES, &mut tables);
        tables
    })?;
    read_tables(&tables)
}

fn read_split(fleet: SourceText<'_>, node: SourceText<'_>, problems: &Problems) -> Option<Config> {
    // Both are read before giving up on either: both may have faults.
    let (fleet_tree, node_tree) = (read_tree(fleet, problems), read_tree(node, problems));
    let (fleet_tree, node_tree) = (fleet_tree?, node_tree?);
    let mut tables = Tables::new();
    for (text, tree, own, foreign, other) in [
        (fleet, &fleet_tree, &FLEET_TABLES[..], &NODE_TABLES[..], node),
        (node, &node_tree, &NODE_TABLES[..], &FLEET_TABLES[..], fleet),
    ] {
        Table::read(&Value::root(text, problems, tree), |root| {
            take_tables(root, own, &mut tables);
            root.misplaced(foreign, |key| {
                Refusal::new(
                    format!("[{key}] does not belong into {}", text.name),
                    format!("move it to {}", other.name),
                )
            });
        });
    }
    read_tables(&tables)
}

fn read_tree<'t>(source: SourceText<'t>, problems: &Problems) -> Option<DeValue<'t>> {
    let SourceText { text, .. } = source;
    let refuse = |offset, what: String, fix: &str| {
        problems.add(source, offset, "", ProblemKind::Syntax, || Refusal::new(what, fix));
        None
    };
    if text.len() > TEXT_BYTES_MAX {
        let what = format!("it has {} bytes, and at most {TEXT_BYTES_MAX} are read", text.len());
        return refuse(0, what, "is this the right file?");
    }
    match DeTable::parse(text) {
        Ok(table) => Some(DeValue::Table(table.into_inner())),
        Err(error) => {
            let offset = error.span().map_or(0, |span| span.start);
            refuse(
                offset,
                format!("it is no valid TOML: {}", error.message()),
                "correct it; what follows was not read",
            )
        }
    }
}

/// Takes a root's tables; the first of `names` must be there.
fn take_tables<'t>(root: &mut Table<'t>, names: &[&'static str], tables: &mut Tables<'t>) {
    for name in names {
        match root.get(name) {
            Some(value) => _ = tables.insert(name, value),
            None if *name == names[0] => root.problem(ProblemKind::MissingKey, || {
                Refusal::new(
                    format!("the table [{name}] is missing"),
                    format!("add [{name}] with name = \"NAME\""),
                )
            }),
            None => (),
        }
    }
}

fn read_tables(tables: &Tables<'_>) -> Option<Config> {
    let node = read_node(tables.get("node")?)?;
    let fleet = read_fleet(tables.get("fleet")?, node.name.clone())?;
    if fleet.names.is_empty() {
        return None; // reported by now; without a node, every reference would be reported as well
    }
    let service_places = named::<ServiceName>(tables, "service");
    let services = service_places.keys().cloned().collect();
    let declared = read_declared(tables, fleet.names.clone(), services);
    let (services, sources) = read_services(&service_places, &declared);
    let node = node.finish(&declared.nodes);
    let secrets =
        tables.get("secret").map(|value| read_named_of(value, &declared.vault_names)).unwrap_or_default();
    let secrets =
        secrets.iter().filter_map(|(vault, value)| Some((vault.clone(), read_vault_secret(value)?)));
    let secrets = secrets.collect();
    let holds = read_holds(tables, &declared, node.as_ref().map(|node| &node.name));
    let hooks = tables.get("hook").and_then(read_hooks).unwrap_or_default();
    let allow = tables.get("allow").and_then(read_allow).unwrap_or_default();
    let (fleet, node, vaults) = (fleet.finish()?, node?, declared.vaults);
    let mut config = Config {
        fleet,
        vaults,
        services,
        sources,
        fleet_sources: BTreeMap::new(),
        node,
        secrets,
        holds,
        peer_pairs: BTreeSet::new(),
        via: BTreeMap::new(),
        relays: Vec::new(),
        hooks,
        allow,
        fleet_file: None,
        read_from: None,
    };
    for second in config.resolve_peers() {
        let places = named::<VaultName>(tables, "vault");
        let Some(place) = places.get(&second.name) else { continue };
        place.problem(ProblemKind::Conflict, || {
            let SecondName { name, writer, holder } = &second;
            Refusal::new(
                format!("another vault of the kind peer leads from {writer} to {holder} as well, and there is one vault there for each node"),
                format!("have one of them in \"to\" of both, and remove {name} or the other"),
            )
        });
    }
    config.add_fleet_sources();
    config.resolve_hubs();
    Some(config)
}

fn read_declared(
    tables: &Tables<'_>,
    nodes: BTreeSet<NodeName>,
    services: BTreeSet<ServiceName>,
) -> Declared {
    let vault_values = named::<VaultName>(tables, "vault");
    if let Some(value) = tables.get("vault").filter(|_| vault_values.len() > VAULTS_MAX) {
        value.problem(ProblemKind::BadValue, || {
            Refusal::new(
                format!("there are {} vaults", vault_values.len()),
                format!("use at most {VAULTS_MAX}"),
            )
        });
    }
    let vault_names = vault_values.keys().take(VAULTS_MAX).cloned().collect();
    let vaults = vault_values.iter().take(VAULTS_MAX).filter_map(|(name, value)| {
        let other_meaning = match Target::live(name.as_str()) {
            Some(_) => Some("the name of a target that is no vault"),
            None if name.as_str() == HELD => Some("what vaults are called that are held for other nodes"),
            None if name.as_str() == VIA => Some("what vaults at hubs are called"),
            None => None,
        };
        if let Some(meaning) = other_meaning {
            value.problem(ProblemKind::BadValue, || {
                Refusal::new(format!("{name} is {meaning}"), "give the vault another name")
            });
        }
        Some((name.clone(), read_vault(name, value, &nodes)?))
    });
    let vaults: BTreeMap<VaultName, Vault> = vaults.collect();
    let policy_values = named::<PolicyName>(tables, "policy");
    let policies = policy_values.iter().filter_map(|(name, value)| {
        let keys = Table::read(value, |table| {
            let mut keys = PolicyKeys::read(table, &vault_names);
            keys.read_postgres(table);
            keys
        });
        Some((name.clone(), keys?))
    });
    let policies = policies.collect();
    let policy_names = policy_values.into_keys().collect();
    Declared { nodes, vault_names, vaults, policy_names, policies, services }
}

fn read_services(
    places: &BTreeMap<ServiceName, Value<'_>>,
    declared: &Declared,
) -> (BTreeMap<ServiceName, Service>, Vec<Source>) {
    let (mut services, mut sources) = (BTreeMap::new(), Vec::new());
    for (name, value) in places {
        let Some((service, of_service)) = read_service(name, value, declared) else { continue };
        services.insert(name.clone(), service);
        sources.extend(of_service);
        if sources.len() > SOURCES_MAX {
            value.problem(ProblemKind::BadValue, || {
                Refusal::new(
                    format!("up to here there are {} sources", sources.len()),
                    format!("use at most {SOURCES_MAX}"),
                )
            });
            break;
        }
    }
    sources.sort_by(|a: &Source, b| a.name.cmp(&b.name));
    if let Some(circle) = find_circle(&services)
        && let Some(place) = places.get(circle[0])
    {
        place.problem(ProblemKind::Conflict, || {
            let names: Vec<_> = circle.iter().chain([&circle[0]]).map(|name| name.as_str()).collect();
            let what =
                format!("no order to start them: each of these waits for the next: {}", names.join(", "));
            Refusal::new(what, "break the circle of \"after\"")
        });
    }
    (services, sources)
}

fn read_holds(
    tables: &Tables<'_>,
    declared: &Declared,
    this_node: Option<&NodeName>,
) -> BTreeMap<NodeName, Hold> {
    let held = tables.get("hold").map(|value| read_named_of(value, &declared.nodes)).unwrap_or_default();
    let holds = held.iter().filter_map(|(node, value)| {
        if Some(node) == this_node {
            value.problem(ProblemKind::Conflict, || {
                Refusal::new(
                    format!("{node} is this node itself"),
                    "name the node from which data is accepted",
                )
            });
        }
        Some((node.clone(), read_hold(value, &declared.services)?))
    });
    holds.collect()
}

/// The entries of a top-level table of names. Faulty names are reported at every call.
fn named<'t, N: super::name::Name>(tables: &Tables<'t>, name: &str) -> BTreeMap<N, Value<'t>> {
    tables.get(name).map(read_named).unwrap_or_default()
}
