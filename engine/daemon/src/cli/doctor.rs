//! `doctor`: tests all that the protection of this host hangs on, and prints what is wrong, why, and what mends it.

use std::path::Path;
use std::sync::Arc;

use backstay_core::clock::Clock;
use clap::Args;
use serde::Serialize;

use super::{Context, check_config, print_json};
use crate::clock::SystemClock;
use crate::doctor::{Doctor, Finding, Fix, Level, Probing, Words, counted};
use crate::failure::{Exit, Failure};
use crate::terminal::print;

#[derive(Debug, Args)]
pub(super) struct DoctorArgs {
    /// Leave out what is as it should be.
    #[arg(short, long)]
    quiet: bool,
    /// Ask the providers of buckets now what they do, by some ten small requests to each; else what was found out last is told.
    #[arg(long)]
    probe: bool,
}

#[derive(Serialize)]
struct Shown {
    version: &'static str,
    fleet: String,
    node: String,
    /// When, RFC 3339.
    time: String,
    configuration: String,
    /// The user that looked.
    uid: u32,
    checks: Vec<ShownCheck>,
    ok: usize,
    notes: usize,
    warnings: usize,
    problems: usize,
}

#[derive(Serialize)]
struct ShownCheck {
    subject: String,
    check: &'static str,
    level: Level,
    what: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fix: Option<String>,
    /// `command`, `setting` or `advice`.
    #[serde(skip_serializing_if = "Option::is_none")]
    fix_kind: Option<&'static str>,
    /// Where a setting goes.
    #[serde(skip_serializing_if = "Option::is_none")]
    fix_place: Option<String>,
}

pub(super) fn run(context: &Context, config: &Path, arguments: &DoctorArgs) -> Result<u8, Failure> {
    let words = Words::of(config);
    let (config, warnings) = (Arc::clone(&context.config), check_config::warnings(context));
    let reader = context.clone();
    let probing = if arguments.probe { Probing::Now } else { Probing::Remembered };
    let open = move || reader.vaults_to_read(None);
    let doctor = Doctor::new(config, warnings, words.clone(), probing, open);
    let is_shown = |finding: &&Finding| finding.level != Level::Ok || !arguments.quiet;
    let mut all: Vec<Finding> = Vec::new();
    let mut last_subject = String::new();
    doctor.examine(&mut |findings| {
        // At once: somebody waits, and what comes next may take its time.
        for finding in findings.iter().filter(is_shown).filter(|_| !context.json) {
            if finding.subject != last_subject {
                print(&finding.subject);
                last_subject.clone_from(&finding.subject);
            }
            lines(finding).iter().for_each(|line| print(line));
        }
        all.extend(findings);
    });
    let count = |level: Level| all.iter().filter(|finding| finding.level == level).count();
    let counts = [Level::Ok, Level::Note, Level::Warning, Level::Problem].map(count);
    match context.json {
        false => print(&summary(counts)),
        true => {
            let [ok, notes, warnings, problems] = counts;
            print_json(&Shown {
                version: env!("CARGO_PKG_VERSION"),
                fleet: context.config.fleet.name.to_string(),
                node: context.config.node.name.to_string(),
                time: SystemClock.now().to_string(),
                configuration: words.config.display().to_string(),
                uid: words.uid,
                ok,
                notes,
                warnings,
                problems,
                checks: all.iter().filter(is_shown).map(shown).collect(),
            })?;
        }
    }
    Ok(match counts {
        [_, _, 0, 0] => 0,
        [_, _, _, 0] => Exit::Partly as u8,
        _ => Exit::Failed as u8,
    })
}

fn shown(finding: &Finding) -> ShownCheck {
    let fix = finding.fix.as_ref();
    ShownCheck {
        subject: finding.subject.clone(),
        check: finding.check,
        level: finding.level,
        what: finding.what.clone(),
        why: finding.why.clone(),
        fix: fix.map(|fix| fix.text().to_owned()),
        fix_kind: fix.map(Fix::kind),
        fix_place: fix.and_then(Fix::place).map(str::to_owned),
    }
}

/// For people: what stands out is to be done.
fn lines(finding: &Finding) -> Vec<String> {
    const INDENT: &str = "           ";
    // Names of files are anybody's: nothing in them may move a cursor.
    let plain = |text: &str| text.replace(|c: char| c.is_control() && c != '\n', "?");
    let word = match finding.level {
        Level::Ok | Level::Note => finding.level.word().to_owned(),
        Level::Warning | Level::Problem => finding.level.word().to_uppercase(),
    };
    let mut lines = vec![format!("  {word:<7}  {}", plain(&finding.what))];
    if let Some(why) = &finding.why {
        lines.push(format!("{INDENT}why: {}", plain(why)));
    }
    match &finding.fix {
        None => {}
        Some(Fix::Command(line)) => lines.push(format!("{INDENT}run: {}", plain(line))),
        Some(Fix::Advice(advice)) => lines.push(format!("{INDENT}do:  {}", plain(advice))),
        Some(Fix::Setting { place, lines: setting }) => {
            lines.push(format!("{INDENT}set: in {}:", plain(place)));
            lines.extend(setting.lines().map(|line| format!("{INDENT}       {}", plain(line))));
        }
    }
    lines
}

fn summary([ok, notes, warnings, problems]: [usize; 4]) -> String {
    let all = counted(ok + notes + warnings + problems, "check");
    format!(
        "{all}: {ok} ok, {}, {}, {}",
        counted(notes, "note"),
        counted(warnings, "warning"),
        counted(problems, "problem")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_three_lines_that_can_be_read_and_pasted() {
        let finding = Finding::problem("vault usb", "rights", "every user can write to /v")
            .because("so")
            .run("chmod go-w /v");
        assert_eq!(
            lines(&finding),
            ["  PROBLEM  every user can write to /v", "           why: so", "           run: chmod go-w /v"]
        );
        let setting = Finding::note("x", "y", "a\u{1b}b").set("/etc/f", "a = 1\nb = 2");
        assert_eq!(
            lines(&setting),
            [
                "  note     a?b",
                "           set: in /etc/f:",
                "                  a = 1",
                "                  b = 2"
            ]
        );
        assert_eq!(summary([3, 0, 1, 2]), "6 checks: 3 ok, 0 notes, 1 warning, 2 problems");
    }
}
