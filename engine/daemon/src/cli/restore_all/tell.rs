//! What people are told of a restore of everything, and what it ends with.

use backstay_core::units::ByteSize;

use super::{Outcome, ShownAll, ShownConfiguration, ShownSource};
use crate::cli::print_json;
use crate::cli::status::show_table;
use crate::failure::Failure;
use crate::terminal::{print, remark};

/// As it is shown: names and paths from a vault cannot move the cursor.
pub(super) fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}

/// A remark on something of a vault.
pub(super) fn remark_on(text: &str) {
    remark(&plain(text));
}

pub(super) fn progress_line(shown: &ShownSource) -> String {
    let ShownSource { source, time, entries, bytes, seconds, .. } = shown;
    let to = shown.to.as_deref().unwrap_or("nowhere");
    match (shown.outcome, &shown.problem) {
        (Outcome::Restored, _) => format!(
            "{source} restored to {to} as of {time}: {entries} entries, {} in {seconds:.1} s",
            ByteSize(*bytes)
        ),
        (Outcome::WasRestored, _) => format!("{source} was restored to {to} before, as of {time}"),
        (outcome, problem) => {
            format!("{source}: {}: {}", outcome.word(), problem.as_deref().unwrap_or_default())
        }
    }
}

pub(super) fn tell(shown: &ShownAll, json: bool) -> Result<(), Failure> {
    shown.problems.iter().for_each(|problem| remark_on(&format!("warning: {problem}")));
    shown.missing.iter().for_each(|missing| remark_on(&format!("warning: {missing}")));
    if json {
        return print_json(shown);
    }
    if let Some(configuration) = &shown.configuration {
        configuration.lines().iter().for_each(|line| print(&plain(line)));
    }
    let head = ["SOURCE", "NODE", "KIND", "POINT OF", "ENTRIES", "SIZE", "TO", ""].map(str::to_owned);
    let rows = shown.sources.iter().map(|one| {
        [
            one.source.clone(),
            plain(&one.node),
            plain(&one.kind),
            one.time.clone(),
            one.entries.to_string(),
            ByteSize(one.bytes).to_string(),
            one.to.as_deref().map_or_else(|| "-".to_owned(), plain),
            one.outcome.word().to_owned(),
        ]
    });
    let table: Vec<_> = std::iter::once(head).chain(rows).collect();
    show_table(&table);
    for one in &shown.sources {
        if let Some(problem) = &one.problem {
            print(&plain(&format!("{}: {problem}", one.source)));
        }
    }
    let bytes = shown.sources.iter().filter(|one| one.outcome.is_done()).map(|one| one.bytes).sum();
    shown.next.iter().for_each(|line| print(&plain(line)));
    if shown.dry_run {
        print(&format!(
            "{} would be restored; nothing was written. Without --dry-run it is done",
            ByteSize(bytes)
        ));
    }
    Ok(())
}

/// What the command ends with; `failed` where the configuration was wanted and is not there.
pub(super) fn end(shown: &ShownAll, failed: bool) -> Result<u8, Failure> {
    let names = |is_meant: fn(Outcome) -> bool| -> Vec<&str> {
        let meant = shown.sources.iter().filter(|one| is_meant(one.outcome));
        meant.map(|one| one.source.as_str()).collect()
    };
    // Without a trace, what would be refused is a result as well.
    let bad = if shown.dry_run { Vec::new() } else { names(|outcome| !outcome.is_good()) };
    if bad.is_empty() && !failed && shown.problems.is_empty() && shown.missing.is_empty() {
        return Ok(0);
    }
    let mut what: Vec<String> = Vec::new();
    if !bad.is_empty() {
        what.push(format!("not restored, or not whole: {}", bad.join(", ")));
    }
    if !shown.missing.is_empty() {
        what.push(format!(
            "{} sources of the configuration were not found in this vault",
            shown.missing.len()
        ));
    }
    if !shown.problems.is_empty() {
        what.push(format!("{} sources of the vault could not be read", shown.problems.len()));
    }
    if failed {
        what.push("the configuration is not there as the vault has it, or cannot be used".to_owned());
    }
    let what = what.join("; ");
    if shown.dry_run {
        return Err(Failure::partly(format!("{what}; see above")));
    }
    let what = format!("{what}; see above. The same command goes on with what is missing");
    let is_written = shown.configuration.as_ref().is_some_and(ShownConfiguration::is_written);
    let is_partly = is_written
        || shown.sources.iter().any(|one| one.outcome.is_done() || one.outcome == Outcome::Incomplete);
    Err(if is_partly { Failure::partly(what) } else { Failure::failed(what) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_from_a_vault_cannot_write_over_the_lines_before() {
        assert_eq!(plain("a\u{1b}[2Kb\nc\u{fc}"), "a\\u{1b}[2Kb\\nc\u{fc}");
    }
}
