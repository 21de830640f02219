//! Flows: exposure against objective, and proofs against their policy, as `status` knows them. Pure: facts in, findings out.

use std::time::Duration;

use backstay_core::config::{Config, Source};
use backstay_core::units::{Timestamp, format_duration};
use backstay_wire::status::FlowReport;

use super::finding::{Finding, Level};
use super::words::Words;

/// The daemon makes a proof when it is due; one that is overdue by as long again was not made.
const OVERDUE: u32 = 2;

/// Who gave the reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Teller {
    /// The daemon, which captures.
    Daemon,
    /// The vaults: no daemon runs.
    Vaults,
}

/// What is known of a flow beside its report.
#[derive(Debug, Clone, Copy)]
pub struct Flow<'a> {
    /// Its report.
    pub report: &'a FlowReport,
    /// Its source.
    pub source: &'a Source,
    /// Whether the last proofs were good; `None` when there was none.
    pub proofs_good: Option<bool>,
    /// Who gave the report.
    pub teller: Teller,
    /// Now.
    pub now: Timestamp,
}

impl Flow<'_> {
    /// Judges one flow.
    pub fn judge(&self, words: &Words) -> Vec<Finding> {
        let subject = format!("flow {} to {}", self.report.source, self.report.target);
        let mut findings = vec![self.exposure(&subject, words)];
        findings.extend(self.proofs(&subject, words));
        let remarks = self.report.remarks.iter();
        findings.extend(remarks.map(|remark| Finding::told(Level::Note, &subject, "remark", remark)));
        findings
    }

    fn exposure(&self, subject: &str, words: &Words) -> Finding {
        let report = self.report;
        let objective = whole_seconds(report.objective_seconds);
        let exposure = report.exposure_seconds.map(whole_seconds);
        let now = words.backstay(&format!("now {}", report.source));
        let why = report.problem.clone();
        let finding = match (report.state.as_str(), exposure) {
            ("ok", Some(exposure)) => {
                return Finding::ok(
                    subject,
                    "exposure",
                    format!("exposed by {exposure}, of {objective} that are allowed"),
                );
            }
            ("seeding", _) if report.last_point.is_none() => match self.teller {
                Teller::Daemon => Finding::note(
                    subject,
                    "exposure",
                    "there is no point yet; the first capture goes on or comes soon",
                ),
                Teller::Vaults => no_point(subject, &now),
            },
            ("critical" | "late", Some(exposure)) => {
                let what = format!("exposed by {exposure}, and {objective} are allowed");
                let finding = match report.state.as_str() {
                    "critical" => Finding::problem(subject, "exposure", what),
                    _ => Finding::warning(subject, "exposure", what),
                };
                let lost = format!("what has changed in the last {exposure} is lost when this host is");
                let finding = finding.because(why.clone().unwrap_or(lost));
                return finding.run(now);
            }
            ("critical", None) => {
                Finding::problem(subject, "exposure", "nothing was ever captured, and attempts fail").run(now)
            }
            ("failing", _) => {
                Finding::warning(subject, "exposure", "the objective is kept still, and captures fail")
                    .run(now)
            }
            ("unknown", _) => Finding::warning(subject, "exposure", "what would be lost now is not known"),
            (state, _) => Finding::note(subject, "exposure", format!("it is {state}")),
        };
        match why {
            Some(why) => finding.because(why),
            None => finding,
        }
    }

    fn proofs(&self, subject: &str, words: &Words) -> Option<Finding> {
        let report = self.report;
        report.last_point.as_ref()?;
        let every = self.source.verify.every.as_duration();
        let verify = words.backstay(&format!("verify {} --from {}", report.source, report.target));
        if self.proofs_good == Some(false) {
            let line = words.backstay(&format!("vault repair {}", report.target));
            return Some(
                Finding::problem(
                    subject,
                    "proofs",
                    "the last proof has failed: not all of it can be had back",
                )
                .because(format!(
                    "`{}` says what. The line mends what can be mended",
                    words.backstay(&format!("proofs {}", report.source))
                ))
                .run(line),
            );
        }
        let Some(proven) = report.last_proof.as_ref().and_then(|time| Timestamp::parse(time).ok()) else {
            return Some(
                Finding::note(subject, "proofs", "it was never proven that it can be had back")
                    .because(match self.teller {
                        Teller::Daemon => {
                            "the daemon proves it within the hours to come; the line does it now"
                        }
                        Teller::Vaults => {
                            "the daemon and `run --once` prove it when it is due; the line does it now"
                        }
                    })
                    .run(verify),
            );
        };
        let age = self.now.duration_since(proven);
        let shown = format!("proven {} ago, and {} are allowed", rounded(age), format_duration(every));
        Some(match age > every.saturating_mul(OVERDUE) {
            false => Finding::ok(subject, "proofs", shown),
            true => Finding::warning(subject, "proofs", shown)
                .because("nobody knows whether it can be had back as it is now")
                .run(verify),
        })
    }
}

/// What there is to say of a flow to a vault that was not made yet.
pub fn judge_unmade(report: &FlowReport, words: &Words) -> Finding {
    let subject = format!("flow {} to {}", report.source, report.target);
    no_point(&subject, &words.backstay(&format!("now {}", report.source)))
}

fn no_point(subject: &str, now: &str) -> Finding {
    Finding::warning(subject, "exposure", "there is no point yet: nothing of it can be restored").run(now)
}

/// The source of a report.
pub fn source_of<'c>(config: &'c Config, report: &FlowReport) -> Option<&'c Source> {
    config.sources.iter().find(|source| source.name.as_str() == report.source)
}

fn whole_seconds(seconds: f64) -> String {
    rounded(Duration::from_secs(seconds.max(0.0) as u64))
}

fn rounded(age: Duration) -> String {
    format_duration(Duration::from_secs(age.as_secs()))
}

#[cfg(test)]
mod tests {
    use backstay_core::config::{ConfigTexts, SourceText};

    use super::super::finding::Fix;
    use super::*;

    const NOW: i64 = 1_800_000_000_000_000_000;

    fn report(state: &str, exposure: Option<f64>, proven_days: Option<u64>) -> FlowReport {
        let now = Timestamp::from_nanos(NOW);
        FlowReport {
            service: "s".into(),
            source: "s.files".into(),
            kind: "files".into(),
            target: "v".into(),
            state: state.into(),
            capturing: false,
            exposure_seconds: exposure,
            objective_seconds: 900.0,
            restorable: None,
            last_point: exposure.map(|_| now.to_string()),
            last_proof: proven_days
                .map(|days| now.saturating_sub(Duration::from_secs(days * 86_400)).to_string()),
            problem: None,
            remarks: Vec::new(),
        }
    }

    fn judge(report: &FlowReport, proofs_good: Option<bool>) -> Vec<(&'static str, Level, Option<Fix>)> {
        let text = "[fleet]\nname = \"f\"\n[node]\nname = \"n\"\n[vault.v]\nkind = \"dir\"\npath = \"/v\"\n[service.s]\nfiles = { path = \"/s\" }\n";
        let config =
            Config::parse(ConfigTexts::Single(SourceText { name: "t", text })).expect("a configuration");
        let flow = Flow {
            report,
            source: source_of(&config, report).expect("a source"),
            proofs_good,
            teller: Teller::Vaults,
            now: Timestamp::from_nanos(NOW),
        };
        flow.judge(&Words::of_tests(0))
            .into_iter()
            .map(|finding| (finding.check, finding.level, finding.fix))
            .collect()
    }

    #[test]
    fn exposure_is_judged_as_status_does() {
        for (state, exposure, level) in [
            ("ok", Some(10.0), Level::Ok),
            ("late", Some(1000.0), Level::Warning),
            ("critical", Some(9000.0), Level::Problem),
            ("critical", None, Level::Problem),
            ("failing", Some(10.0), Level::Warning),
            ("unknown", None, Level::Warning),
            ("seeding", None, Level::Warning),
        ] {
            assert_eq!(judge(&report(state, exposure, Some(1)), Some(true))[0].1, level, "{state}");
        }
        let found = judge(&report("late", Some(1000.0), Some(1)), Some(true));
        assert_eq!(found[0].2, Some(Fix::Command("backstay now s.files".into())));
    }

    #[test]
    fn proofs_that_failed_are_missing_or_old_are_told() {
        let of = |days, good| judge(&report("ok", Some(1.0), days), good)[1].clone();
        assert_eq!(of(Some(3), Some(true)).1, Level::Ok);
        assert_eq!(of(Some(10), Some(true)).1, Level::Ok, "it is due, and may be under way");
        assert_eq!(of(Some(20), Some(true)).1, Level::Warning);
        assert_eq!(of(None, None).1, Level::Note);
        let failed = of(Some(3), Some(false));
        assert_eq!(
            (failed.1, failed.2),
            (Level::Problem, Some(Fix::Command("backstay vault repair v".into())))
        );
        assert_eq!(judge(&report("seeding", None, None), None).len(), 1, "nothing to prove");
    }
}
