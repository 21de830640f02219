//! Everything that changes a vault is killed at random moments: captures, prunes (which thin, move and collect), copies,
//! undeletes, repairs, restores. After each kill, with no other step, both vaults are whole, every acknowledged point that
//! retention keeps restores as it was, and the same command ends well.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use backstay_testkit::random::Random;

use crate::judge::Picture;
use crate::outcome::run;
use crate::sandbox::{Capture, Sandbox, seeded};
use crate::tree;

const FILES: usize = 150;
const FILE_BYTES: usize = 30_000;

/// As `keep` of the source says.
const KEPT: usize = 4;

/// Moments are chosen up to this much of the usual time of a command, so that its end is met as well.
const LATE_PERCENT: usize = 120;

/// What is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Deed {
    Capture,
    Prune,
    Copy,
    Undelete,
    Repair,
    Restore,
}

impl Deed {
    const ALL: [Self; 6] =
        [Self::Capture, Self::Prune, Self::Copy, Self::Undelete, Self::Repair, Self::Restore];

    fn arguments(self, restored: &str) -> Vec<String> {
        let words: &[&str] = match self {
            Self::Capture => &["now", "--json"],
            Self::Prune => &["vault", "prune", "local"],
            Self::Copy => &["vault", "copy", "local", "usb"],
            Self::Undelete => &["vault", "undelete", "local", "--no-hold"],
            Self::Repair => &["vault", "repair", "local", "--read-data"],
            Self::Restore => &["restore", "data", "--to", restored],
        };
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    /// With nothing to bring back it says so, and ends with 1.
    fn may_end_with(self, code: i32) -> bool {
        code == 0 || (self == Self::Undelete && code == 1)
    }
}

#[test]
fn whatever_is_killed_loses_nothing() {
    kill_deeds(12);
}

#[test]
#[ignore = "long: kills 240 commands"]
fn whatever_is_killed_loses_nothing_many_times() {
    kill_deeds(240);
}

struct Scene {
    sandbox: Sandbox,
    usb: PathBuf,
    random: Random,
    /// Acknowledged points, the oldest first.
    acknowledged: Vec<(String, Picture)>,
    usual: BTreeMap<Deed, Duration>,
    restores: usize,
}

fn kill_deeds(kills: usize) {
    let mut scene = Scene::new();
    let mut cut_short = BTreeMap::new();
    for n in 0..kills {
        let deed = Deed::ALL[n % Deed::ALL.len()];
        if scene.kill(deed) {
            *cut_short.entry(deed).or_insert(0) += 1;
        }
        scene.verify(n % 6 == 5);
        if n % 24 == 23 {
            println!("{} of {kills}: cut short {cut_short:?}", n + 1);
        }
    }
    println!("cut short: {cut_short:?}");
    assert!(cut_short.len() > 3, "hardly anything was killed before its end: {cut_short:?}");
    scene.verify(true);
}

impl Scene {
    fn new() -> Self {
        let mut sandbox = Sandbox::new();
        let usb = sandbox.path("usb");
        sandbox.more = format!("[vault.usb]\nkind = \"dir\"\npath = \"{}\"\n", usb.display());
        sandbox.source_lines = ", keep = { last = 4 }";
        let mut random = seeded();
        tree::make_plain(&sandbox.source, FILES, FILE_BYTES, &mut random);
        let mut scene =
            Self { sandbox, usb, random, acknowledged: Vec::new(), usual: BTreeMap::new(), restores: 0 };
        for deed in Deed::ALL {
            // What is there to be pruned, copied, brought back.
            (0..2).for_each(|_| scene.capture());
            let start = Instant::now();
            scene.finish(deed);
            scene.usual.insert(deed, start.elapsed());
        }
        scene
    }

    fn capture(&mut self) {
        tree::change_plain(&self.sandbox.source, FILES, &mut self.random);
        let point = self.sandbox.capture().point;
        self.acknowledged.push((point, Picture::of(&self.sandbox.source)));
    }

    /// Kills a command, and then lets the same one end well; whether it was killed before its end.
    fn kill(&mut self, deed: Deed) -> bool {
        match deed {
            Deed::Capture => tree::change_plain(&self.sandbox.source, FILES, &mut self.random),
            Deed::Prune | Deed::Copy => self.capture(),
            _ => {}
        }
        self.restores += usize::from(deed == Deed::Restore);
        let running = self.sandbox.start(deed.arguments(&self.destination()));
        let percent = self.random.below(LATE_PERCENT) as f64 / 100.0;
        std::thread::sleep(self.usual[&deed].mul_f64(percent));
        let killed = running.kill();
        if killed.code == Some(0) && deed == Deed::Capture {
            let point = Capture::of(&killed).point;
            self.acknowledged.push((point, Picture::of(&self.sandbox.source)));
            return false;
        }
        self.verify(false);
        self.finish(deed);
        killed.code.is_none()
    }

    fn finish(&mut self, deed: Deed) {
        let outcome = run(self.sandbox.command(deed.arguments(&self.destination())));
        let code = outcome.code.unwrap_or(-1);
        // A restore that was done when the kill came has left a directory that is not to be restored into again.
        let is_done = deed == Deed::Restore && outcome.stderr.contains("is not empty");
        assert!(is_done || deed.may_end_with(code), "{deed:?}: {outcome:?}");
        match deed {
            Deed::Capture => {
                let captured = Capture::of(&outcome);
                let known = self.acknowledged.iter().any(|(point, _)| *point == captured.point);
                if !known {
                    self.acknowledged.push((captured.point, Picture::of(&self.sandbox.source)));
                }
            }
            Deed::Restore => {
                let destination = PathBuf::from(self.destination());
                let (_, newest) = self.acknowledged.last().expect("some");
                newest.assert_same(&Picture::of(&destination));
                fs::remove_dir_all(destination).unwrap();
            }
            Deed::Copy => drop(self.sandbox.run(["vault", "check", "usb"]).good()),
            _ => {}
        }
    }

    fn destination(&self) -> String {
        self.sandbox.path(format!("restored {}", self.restores)).to_str().unwrap().to_owned()
    }

    /// Both vaults are whole, and have all that they must; `restores` all of that as well.
    fn verify(&mut self, restores: bool) {
        self.sandbox.check_vault();
        if self.usb.exists() {
            self.sandbox.run(["vault", "check", "usb"]).good();
        }
        let points = self.sandbox.points();
        // A capture that was killed after its point was durable may count, and takes a place among those that are kept.
        let is_known = |point: &&String| self.acknowledged.iter().any(|(known, _)| known == *point);
        let unknown = points.iter().filter(|point| !is_known(point)).count();
        for (point, _) in self.acknowledged.iter().rev().take(KEPT.saturating_sub(unknown)) {
            let known: Vec<&String> = self.acknowledged.iter().map(|(point, _)| point).collect();
            assert!(
                points.contains(point),
                "{point} was acknowledged, kept, and is not there: {points:?} of {known:?}"
            );
        }
        if !restores {
            return;
        }
        for (point, picture) in self.acknowledged.iter().filter(|(point, _)| points.contains(point)) {
            let restored = self.sandbox.restore_with(&format!("verify {point}"), &["--point", point]);
            picture.assert_same(&Picture::of(&restored));
            fs::remove_dir_all(restored).unwrap();
        }
    }
}
