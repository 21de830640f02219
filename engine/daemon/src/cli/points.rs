//! `points`: the points from which sources can be restored.

use std::collections::BTreeMap;
use std::path::PathBuf;

use backstay_core::config::Source;
use backstay_core::units::ByteSize;
use clap::Args;
use serde::Serialize;

use super::choose::held;
use super::status::show_table;
use super::{Context, capture, print_json};
use crate::failure::Failure;
use crate::terminal::remark;

#[derive(Debug, Args)]
pub(super) struct PointsArgs {
    /// The source; all of this node where none is given.
    #[arg(value_name = "SOURCE")]
    source: Option<String>,
    /// The vault to look into; all where none is given.
    #[arg(long, value_name = "VAULT")]
    from: Option<String>,
    /// Read with this recovery key instead of the node's own identity.
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
}

#[derive(Serialize)]
struct ShownPoint {
    source: String,
    point: String,
    time: String,
    node: String,
    entries: u64,
    bytes: u64,
    defects: u64,
    /// Names under which it is held for ever.
    holds: Vec<String>,
    vaults: Vec<String>,
}

pub(super) fn run(context: &Context, arguments: &PointsArgs) -> Result<u8, Failure> {
    let vaults = context.vaults_to_read(arguments.key_file.as_deref())?;
    let typed: Vec<String> = arguments.source.iter().cloned().collect();
    let (mut shown, mut failures) = (Vec::new(), Vec::new());
    for source in capture::named_anywhere(context, &typed)? {
        match points_of(&vaults, source, arguments.from.as_deref()) {
            Ok(points) => shown.extend(points),
            Err(failure) => failures.push((&source.name, failure)),
        }
    }
    // Where another node is gone, what is here is what is looked for.
    let ended = match (failures.len(), shown.is_empty()) {
        (0, _) => Ok(0),
        (1, true) => Err(failures.remove(0).1),
        (count, is_nothing) => {
            failures.iter().for_each(|(name, failure)| remark(&format!("warning: {name}: {failure}")));
            let what = format!("points of {count} sources could not be listed; see above");
            Err(if is_nothing { Failure::failed(what) } else { Failure::partly(what) })
        }
    };
    if context.json {
        print_json(&shown)?;
        return ended;
    }
    let head = ["SOURCE", "POINT", "TIME", "ENTRIES", "SIZE", "IN", ""].map(str::to_owned);
    let rows = shown.iter().map(|point| {
        [
            point.source.clone(),
            point.point.clone(),
            point.time.clone(),
            point.entries.to_string(),
            ByteSize(point.bytes).to_string(),
            point.vaults.join(","),
            remarks_on(point),
        ]
    });
    let table: Vec<_> = std::iter::once(head).chain(rows).collect();
    if !shown.is_empty() || ended.is_ok() {
        show_table(&table);
    }
    ended
}

fn remarks_on(point: &ShownPoint) -> String {
    let defects = (point.defects > 0).then(|| format!("{} defects", point.defects));
    let held = (!point.holds.is_empty()).then(|| format!("held: {}", point.holds.join(", ")));
    defects.into_iter().chain(held).collect::<Vec<_>>().join("; ")
}

fn points_of(
    vaults: &crate::vaults::Vaults,
    source: &Source,
    from: Option<&str>,
) -> Result<Vec<ShownPoint>, Failure> {
    let mut shown: BTreeMap<(i64, String), ShownPoint> = BTreeMap::new();
    for held in held(vaults, source, from)? {
        for point in held.catalogue.points() {
            let common = &point.common;
            let key = (common.capture_start.as_nanos(), common.id.to_string());
            let entry = shown.entry(key).or_insert_with(|| ShownPoint {
                source: common.source_name.clone(),
                point: common.id.to_string(),
                time: common.capture_start.to_string(),
                node: common.node.clone(),
                entries: common.entries,
                bytes: common.bytes,
                defects: common.defects.iter().map(|defect| defect.count).sum(),
                holds: held.catalogue.holds(point).to_vec(),
                vaults: Vec::new(),
            });
            entry.vaults.push(held.name.clone());
        }
    }
    Ok(shown.into_values().collect())
}
