//! `vault check`: is everything there, and with `--read-data`, is it whole?

use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};

use backstay_core::units::ByteSize;
use backstay_vault::vault::{CheckReport, PackShare, Vault};
use backstay_wire::progress as told;
use clap::Args;
use serde::Serialize;

use super::vault::LookArgs;
use super::{Context, print_json};
use crate::failure::Failure;
use crate::node::{Checked, Progress};
use crate::terminal::{self, print, remark};
use crate::vaults::{Absent, Vaults};

#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    #[command(flatten)]
    look: LookArgs,
    /// Read a share of the packs whole as well: 1/7 is the first seventh, next/7 the one after that which was read last,
    /// 1/1 all. One that is stopped goes on where it was.
    #[arg(long, value_name = "N/M")]
    read_data: Option<Share>,
    /// Compare it with what this other vault knows of it: a store that serves an older state is named.
    #[arg(long, value_name = "VAULT")]
    against: Option<String>,
}

/// A share as it was typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Share {
    This(PackShare),
    Next { of: u8 },
}

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no share; write 1/7, next/7 or 1/1, at most 255 shares");
        let (part, of) = text.split_once('/').ok_or_else(wrong)?;
        let of: u8 = of.parse().ok().filter(|of| *of > 0).ok_or_else(wrong)?;
        match part {
            "next" => Ok(Self::Next { of }),
            part => {
                let part: u8 = part.parse().ok().filter(|part| (1..=of).contains(part)).ok_or_else(wrong)?;
                Ok(Self::This(PackShare { part: part - 1, of }))
            }
        }
    }
}

impl Share {
    /// Where to begin, or to go on, given what was read last.
    fn begin(self, last: Option<Progress>) -> Progress {
        let last = last.filter(|last| last.of == self.of() && last.part < last.of);
        match (self, last) {
            (Self::This(share), Some(last)) if last.part == share.part && !last.is_over() => last,
            (Self::This(share), _) => Progress::begin(share),
            (Self::Next { .. }, Some(last)) if !last.is_over() => last,
            (Self::Next { of }, Some(last)) => Progress::begin(PackShare { part: (last.part + 1) % of, of }),
            (Self::Next { of }, None) => Progress::begin(PackShare { part: 0, of }),
        }
    }

    fn of(self) -> u8 {
        match self {
            Self::This(share) => share.of,
            Self::Next { of } => of,
        }
    }
}

#[derive(Serialize)]
struct ShownCheck {
    vault: String,
    good: bool,
    good_points: u64,
    bad_points: u64,
    packs: u64,
    pack_bytes: u64,
    unindexed_packs: u64,
    /// The share of the packs that was read whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    read_share: Option<String>,
    read_packs: u64,
    read_bytes: u64,
    findings: Vec<(String, String)>,
    more_findings: u64,
}

pub(super) fn run(context: &Context, arguments: &CheckArgs) -> Result<u8, Failure> {
    let name = arguments.look.vault.as_str();
    let vaults = context.vaults_to_read(arguments.look.key_file.as_deref())?;
    let vault = vaults.open(name, Absent::Refuse)?;
    let meter = vaults.meter(name)?;
    let report = terminal::watched("checking", || meter.progress(), || vault.check())?;
    let mut data = CheckReport::default();
    if let Some(other) = &arguments.against {
        if other == name {
            return Err(Failure::usage(format!(
                "--against {other}: give another vault than the one to check"
            )));
        }
        let other = vaults.open(other, Absent::Refuse)?;
        data = terminal::watched("comparing", || meter.progress(), || vault.check_against(&other))?;
    }
    let read = match arguments
        .read_data
        .map(|share| read_data(context, &vaults, name, share, &mut data))
        .transpose()
    {
        Ok(read) => read,
        Err(failure) => {
            // What was found until then is found again, but perhaps not before long.
            let findings = report.findings.iter().chain(&data.findings);
            findings.for_each(|finding| remark(&format!("{}: {}", finding.what, finding.wrong)));
            return Err(failure);
        }
    };
    let shown = ShownCheck {
        vault: name.to_owned(),
        good: report.is_good() && data.is_good(),
        good_points: report.good_points,
        bad_points: report.bad_points,
        packs: report.packs,
        pack_bytes: report.pack_bytes,
        unindexed_packs: report.unindexed_packs,
        read_share: read.map(|share| format!("{}/{}", share.part + 1, share.of)),
        read_packs: data.packs,
        read_bytes: data.pack_bytes,
        more_findings: report.more_findings + data.more_findings,
        findings: report
            .findings
            .into_iter()
            .chain(data.findings)
            .map(|finding| (finding.what, finding.wrong))
            .collect(),
    };
    if context.json {
        print_json(&shown)?;
    } else {
        tell(&shown);
    }
    if shown.good {
        return Ok(0);
    }
    let findings = shown.findings.len() as u64 + shown.more_findings;
    Err(Failure::failed(format!(
        "{findings} things are wrong with vault {name}; mend it with `backstay vault repair {name}`, and capture again (`backstay now`) to store anew what the sources still have"
    )))
}

fn tell(shown: &ShownCheck) {
    for (what, wrong) in &shown.findings {
        print(&format!("{what}: {wrong}"));
    }
    print(&format!(
        "vault {}: points good: {}, bad: {}; packs: {} with {}, {} of them not indexed",
        shown.vault,
        shown.good_points,
        shown.bad_points,
        shown.packs,
        ByteSize(shown.pack_bytes),
        shown.unindexed_packs
    ));
    if let Some(share) = &shown.read_share {
        print(&format!(
            "share {share}: {} packs with {} were read whole",
            shown.read_packs,
            ByteSize(shown.read_bytes)
        ));
    }
}

/// Reads a share, from where it was left; which share that was.
fn read_data(
    context: &Context,
    vaults: &Vaults,
    name: &str,
    share: Share,
    report: &mut CheckReport,
) -> Result<PackShare, Failure> {
    let vault = vaults.open(name, Absent::Refuse)?;
    let checked = Checked::of(&context.config.node.state, vault.id());
    let mut progress = share.begin(checked.load());
    let share = PackShare { part: progress.part, of: progress.of };
    let packs = AtomicU64::new(0);
    let meter = vaults.meter(name)?;
    let expected = Some(expected(&vault, progress));
    let figures = || told::Progress {
        entries: packs.load(Ordering::Relaxed),
        read_bytes: meter.bytes(),
        counted: told::Counted::Packs,
        expected,
        ..told::Progress::default()
    };
    let mut unsaved = None;
    if progress.next > 0 {
        remark(&format!("going on with share {}/{} where it was stopped", share.part + 1, share.of));
    }
    let findings = |report: &CheckReport| report.findings.len() as u64 + report.more_findings;
    let before = findings(report);
    let listed = vault.packs_to_check()?;
    let read = terminal::watched("reading packs", figures, || {
        while !progress.is_over() {
            vault.check_data_of(&listed, share, progress.next as u8, report)?;
            progress.next += 1;
            packs.store(report.packs, Ordering::Relaxed);
            // What was found is told at the end: who is stopped before that reads it again.
            if findings(report) == before || progress.is_over() {
                unsaved = checked.save(progress).err().or(unsaved.take());
            }
        }
        Ok::<(), Failure>(())
    });
    read?;
    if let Some(failure) = unsaved {
        remark(&format!("warning: it could not be noted how far the reading came: {failure}"));
    }
    Ok(share)
}

/// What is left to read of a share: names of packs are hashes, so that all shares, and all beginnings, have about as much.
fn expected(vault: &Vault, progress: Progress) -> told::Expected {
    let totals = vault.totals();
    let all = u128::from(totals.data_pack_bytes) + u128::from(totals.meta_pack_bytes);
    let left = 256u128.saturating_sub(u128::from(progress.next));
    let bytes = all * left / 256 / u128::from(progress.of.max(1));
    let bytes = Some(u64::try_from(bytes).unwrap_or(u64::MAX));
    told::Expected { entries: None, bytes, certainty: told::Certainty::Guessed }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_come_one_after_the_other_and_one_that_was_stopped_goes_on() {
        let next: Share = "next/3".parse().expect("a share");
        let begin = |last: Option<(u8, u8, u16)>| {
            let last = last.map(|(part, of, next)| Progress { part, of, next });
            let Progress { part, of, next } = next.begin(last);
            (part, of, next)
        };
        assert_eq!(begin(None), (0, 3, 0));
        assert_eq!(begin(Some((0, 3, 77))), (0, 3, 77));
        assert_eq!(begin(Some((0, 3, 256))), (1, 3, 0));
        assert_eq!(begin(Some((2, 3, 256))), (0, 3, 0));
        assert_eq!(begin(Some((2, 4, 99))), (0, 3, 0), "of other shares");
        let second: Share = "2/3".parse().expect("a share");
        assert_eq!(second.begin(Some(Progress { part: 1, of: 3, next: 9 })).next, 9);
        assert_eq!(second.begin(Some(Progress { part: 1, of: 3, next: 256 })).next, 0);
        assert_eq!(second.begin(Some(Progress { part: 2, of: 3, next: 9 })).next, 0);
    }

    #[test]
    fn what_is_no_share_is_refused() {
        for text in ["", "1", "0/7", "8/7", "1/0", "next", "next/", "1/256", "-1/7", "1/7/2"] {
            assert!(text.parse::<Share>().is_err(), "{text}");
        }
    }
}
