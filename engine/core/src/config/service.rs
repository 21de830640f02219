//! `[service.NAME]`: what must move together, and on which nodes. Owns the references between services and
//! to nodes; its sources are read in `source`.

use std::collections::BTreeSet;

use super::declared::Declared;
use super::flow::ServiceContext;
use super::name::{CommandName, NodeName, PolicyName, ServiceName, SourceName};
use super::policy::PolicyKeys;
use super::problem::{ProblemKind, Refusal};
use super::source::{Source, read_command, read_files, read_postgres, read_zfs};
use super::table::{Table, read_named};
use super::value::Value;

/// The names that sources of other kinds have: a command with one of them could not be told apart.
const KIND_NAMES: [&str; 3] = ["files", "zfs", "postgres"];

/// A service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Its name.
    pub name: ServiceName,
    /// Its home: where it is active before any promotion.
    pub primary: NodeName,
    /// Where it can be promoted; without `primary` and without repetition.
    pub secondary: Vec<NodeName>,
    /// What must be active before it is started; without cycles.
    pub after: Vec<ServiceName>,
    /// Its sources, in the order of their names; at least one.
    pub sources: Vec<SourceName>,
}

pub(super) fn read_service(
    name: &ServiceName,
    value: &Value<'_>,
    declared: &Declared,
) -> Option<(Service, Vec<Source>)> {
    Table::read(value, |table| {
        let primary = read_primary(table, &declared.nodes);
        let secondary_places = table.get("secondary").map(|value| value.array()).unwrap_or_default();
        let secondary = read_secondary(&secondary_places, &declared.nodes, primary.as_ref());
        let after = table.get("after").map(|value| value.references(&declared.services)).unwrap_or_default();
        let mut own = PolicyKeys::read(table, &declared.vault_names);
        own.read_postgres(table);
        let named = table.get("policy").and_then(|value| value.reference(&declared.policy_names));
        let outer = [named.as_ref().map(PolicyName::as_str), Some("default")];
        let outer = outer.into_iter().flatten().filter_map(|policy| declared.policies.get(policy));
        let context = ServiceContext {
            service: name,
            has_secondary: !secondary_places.is_empty(), // faulty ones are reported by now
            layers: std::iter::once(&own).chain(outer).collect(),
            declared,
        };
        let mut sources = read_sources(table, &context);
        sources.sort_by(|a, b| a.name.cmp(&b.name));
        let source_names = sources.iter().map(|source| source.name.clone()).collect();
        let service =
            Service { name: name.clone(), primary: primary?, secondary, after, sources: source_names };
        Some((service, sources))
    })?
}

fn read_primary(table: &mut Table<'_>, nodes: &BTreeSet<NodeName>) -> Option<NodeName> {
    match nodes.first() {
        Some(only) if nodes.len() == 1 && !table.has("primary") => {
            table.get("primary");
            Some(only.clone())
        }
        _ => table
            .require("primary", "primary = \"NODE\", the node that it is on")
            .and_then(|v| v.reference(nodes)),
    }
}

fn read_secondary(
    places: &[Value<'_>],
    nodes: &BTreeSet<NodeName>,
    primary: Option<&NodeName>,
) -> Vec<NodeName> {
    let mut secondary = Vec::new();
    for element in places {
        let Some(node) = element.reference(nodes) else { continue };
        if primary == Some(&node) || secondary.contains(&node) {
            element.problem(ProblemKind::Conflict, || {
                let role = if primary == Some(&node) { "the primary already" } else { "named twice" };
                Refusal::new(format!("{node} is {role}"), "name another node, or remove it")
            });
        } else {
            secondary.push(node);
        }
    }
    secondary
}

fn read_sources(table: &mut Table<'_>, context: &ServiceContext<'_>) -> Vec<Source> {
    let mut sources = Vec::new();
    let mut written = 0;
    let [files, zfs, postgres] = KIND_NAMES.map(|kind| table.get(kind));
    let command = table.get("command");
    for (value, read) in [
        (files, read_files as fn(&Value<'_>, &ServiceContext<'_>) -> Option<Source>),
        (zfs, read_zfs),
        (postgres, read_postgres),
    ] {
        written += usize::from(value.is_some());
        sources.extend(value.and_then(|value| read(&value, context)));
    }
    for (name, value) in command.map(|value| read_named::<CommandName>(&value)).unwrap_or_default() {
        written += 1;
        if KIND_NAMES.contains(&name.as_str()) {
            value.problem(ProblemKind::Conflict, || {
                let what = format!("{}.{name} is the name of the {name} source", context.service);
                Refusal::new(what, "give the command another name")
            });
        }
        sources.extend(read_command(&name, &value, context));
    }
    if written == 0 {
        table.problem(ProblemKind::MissingKey, || {
            Refusal::new("it protects nothing", "add a source: files, zfs, postgres or command.NAME")
        });
    }
    sources
}
