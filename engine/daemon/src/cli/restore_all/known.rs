//! What is known of the configuration of the node that a machine is to be, out of what its vault has: it is taken only where it is that
//! node's, and of the time since when the node has its name.

use super::configuration::{ConfigPlace, FoundConfiguration};
use super::expected::Expected;
use super::found::{Found, FoundSource};

/// What is known.
#[derive(Debug)]
pub(super) struct Known {
    /// The configuration that goes to its place.
    pub(super) one: Option<FoundConfiguration>,
    /// The sources of the nodes that are wanted, as far as their configurations can be read.
    pub(super) expected: Vec<Expected>,
    /// Why not all of it is known, each a sentence.
    pub(super) problems: Vec<String>,
}

/// Of one source of the configuration: what can be restored of it, and what it says.
struct Read {
    files: Option<FoundConfiguration>,
    expected: Result<Expected, String>,
}

impl Known {
    /// Of the chosen node; of all, where none is.
    pub(super) fn of(found: &Found, chosen: Option<&str>, place: Option<&ConfigPlace>) -> Self {
        let is_chosen = |node: &str| chosen.is_none_or(|chosen| chosen == node);
        let mut known = Self { one: None, expected: Vec::new(), problems: Vec::new() };
        let mut files = Vec::new();
        let wanted = found.sources.iter().filter(|source| source.name.as_fleet_of().is_some_and(is_chosen));
        for source in wanted {
            let read = read(found, source);
            files.push(read.files);
            match read.expected {
                Ok(expected) => known.expected.push(expected),
                Err(why) => known.problems.push(why),
            }
        }
        let damaged = found.fleet_problems.iter().filter(|(node, _)| is_chosen(node));
        known.problems.extend(damaged.map(|(node, why)| {
            format!("the configuration was not restored: what {node} has kept of it cannot be read: {why}")
        }));
        match (&mut files[..], place) {
            ([one], _) => known.one = one.take(),
            ([], Some(place)) if known.problems.is_empty() => {
                known.problems.push(none_of(found, chosen, place))
            }
            ([_, _, ..], Some(_)) => known.problems.push(
                "the configuration was not restored: say whose it is to be, with --node NODE".to_owned(),
            ),
            _ => {}
        }
        known
    }
}

fn read(found: &Found, source: &FoundSource) -> Read {
    let not_restored = |why: String| Read {
        files: None,
        expected: Err(format!("the configuration was not restored: {why}")),
    };
    let (name, time) = (&source.name, source.point.common.capture_start);
    if let Some((now, since)) = found.renamed_since(source) {
        return not_restored(format!(
            "{name} is of {time}, and its node calls itself {now} by {since}: it was renamed, and this is what it had before. The vault knows it as {} still, and takes no configuration from it under another name. Look at it with --to DIR, and write one for {now} by it",
            source.node
        ));
    }
    let files = match FoundConfiguration::of(source) {
        Ok(files) => files,
        Err(failure) => return not_restored(format!("{name} of {time} cannot be read: {failure}")),
    };
    match files.parsed() {
        Ok(config) if config.node.name.as_str() == source.node => {
            let expected = Expected::of(&config, &config.node.name);
            Read { files: Some(files), expected: Ok(expected) }
        }
        Ok(config) => not_restored(format!(
            "{name} of {time} is one of node {}: look at it with --to DIR",
            config.node.name
        )),
        // Its files may be all that is wanted: whoever can read them mends them.
        Err(why) => Read {
            files: Some(files),
            expected: Err(format!("the configuration in {name} of {time} cannot be used: {why}")),
        },
    }
}

/// That there is none of the chosen node, and what there is.
fn none_of(found: &Found, chosen: Option<&str>, place: &ConfigPlace) -> String {
    let others: Vec<String> = found
        .sources
        .iter()
        .filter(|source| source.name.as_fleet_of().is_some())
        .map(|source| format!("{} of {}", source.name, source.point.common.capture_start))
        .collect();
    match (chosen, others.is_empty()) {
        (Some(chosen), false) => format!(
            "the configuration was not restored: there is none of node {chosen} in this vault, only {}. If {chosen} had that name then, look at it with --to DIR, and write one for {chosen} by it, to {}",
            others.join(", "),
            place.path.display()
        ),
        _ => format!(
            "the configuration was not restored: there is none in this vault: nothing was captured to it yet since its nodes keep it there. Write it by hand, to {}",
            place.path.display()
        ),
    }
}
