//! The points that alpha has called durable at the holder. Owns what must be true of them at the holder, whatever the network was.

use std::fs;
use std::time::Duration;

use backstay_testkit::process::{run_within, word};
use jiff::Timestamp;
use serde_json::Value;

use crate::rig::Rig;
use crate::watch::{PATIENCE, Sample};
use crate::writer::Ledger;

/// Times since 1970 in metrics have 53 bits.
const METRICS_ACCURACY: Duration = Duration::from_micros(1);

/// A point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Acknowledged {
    /// Its own time, as metrics have it.
    time: Timestamp,
    /// It was acknowledged by then: what came later is not in it.
    seen: Timestamp,
}

/// Those that were told of.
pub(crate) fn acknowledged(samples: &[Sample]) -> Vec<Acknowledged> {
    let mut all: Vec<Acknowledged> = Vec::new();
    for sample in samples {
        let Some(time) = sample.last_point else { continue };
        if all.last().is_none_or(|last| last.time != time) {
            all.push(Acknowledged { time, seen: sample.end });
        }
    }
    all
}

impl Acknowledged {
    /// What was there by then is in it.
    pub(crate) fn since(&self) -> Timestamp {
        self.time - METRICS_ACCURACY
    }

    /// Restores it at the holder, and compares it with what was written when.
    pub(crate) fn judge(&self, rig: &Rig, ledger: &Ledger) {
        let listed: Value = serde_json::from_str(&rig.beta.run(&["points", "data", "--json"])).unwrap();
        // Shown are whole seconds, and there may be several points in one.
        let second = |time: &Value| time.as_str().unwrap().parse().map(Timestamp::as_second).ok();
        let all = listed.as_array().unwrap().iter();
        let possible = all.filter(|point| second(&point["time"]) == Some(self.time.as_second()));
        let wrong: Vec<Option<String>> = possible
            .map(|point| {
                let id = point["point"].as_str().unwrap();
                let folder = rig.path(id);
                rig.beta.restore(&folder, &["--point", id]);
                let wrong = ledger.contradicts(&folder, self.since(), self.seen);
                fs::remove_dir_all(folder).unwrap();
                wrong
            })
            .collect();
        assert!(wrong.contains(&None), "{self:?}: {wrong:?} of {listed:#}");
    }
}

/// The holder alone must have all of them, whole, and at last the source as it is now.
pub(crate) fn judge_all(rig: &Rig, ledger: &Ledger, samples: &[Sample]) {
    let all = acknowledged(samples);
    rig.beta.run(&["vault", "check", "held.alpha", "--read-data", "1/1"]);
    all.iter().for_each(|point| point.judge(rig, ledger));
    let [source, last] = ["source", "last"].map(|name| rig.path(name));
    rig.beta.restore(&last, &[]);
    let [from, to] = [&source, &last].map(|folder| format!("{}/", word(folder)));
    let differences = run_within(PATIENCE, &["rsync", "-niaHAX", "--checksum", "--delete", &from, &to]);
    assert_eq!(differences.as_deref(), Ok(""), "what rsync would have to do");
    println!("{} points were acknowledged, and are at the holder", all.len());
}
