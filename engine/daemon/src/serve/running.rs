//! A capture under way: how far it has come, and whether it has a slot still. Owns who is let go because of a vault that hangs, or
//! because it only waits for others.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use backstay_core::config::Target;
use backstay_core::schedule::{JobSize, RunningCapture};
use backstay_files::capture::CaptureProgress;
use backstay_vault::vault::{GROUP_MEMBERS_MAX, Vault};
use backstay_wire::control::TargetReport;

use super::asker::Asker;

/// A capture that has come no further for so long waits for a vault that hangs, and has no slot any more: it takes no time
/// from others, and no more memory than it has.
pub(super) const STALL_TIME: Duration = Duration::from_secs(60);

/// So many of these have no slot: each that was let go makes room for one more, which takes its memory as well.
const STALLED_MAX: usize = 2;

/// So many that wait to commit with others have no slot, with so many bytes in memory at most, all together.
const WAITING_MAX: usize = GROUP_MEMBERS_MAX;
const WAITING_BYTES_MAX: usize = 64 << 20;

/// A capture under way.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) load: RunningCapture,
    pub(super) targets: Vec<Target>,
    pub(super) progress: Arc<CaptureProgress>,
    /// How far it had come when that was seen first.
    pub(super) came: (Instant, u64),
    /// Whether it has come no further for long.
    pub(super) stands_still: bool,
    /// Whether it has no slot because of that.
    pub(super) is_let_go: bool,
    /// While it has nothing to do but to wait for others that commit with it.
    pub(super) waiting: Option<Waiting>,
    /// Whether it was begun because somebody wants it.
    pub(super) is_wanted: bool,
    /// They want this capture.
    pub(super) askers: Vec<Asker>,
    /// They want what is due, of which this capture is a part.
    pub(super) listeners: Vec<Asker>,
    /// What the askers are told beside: targets that were wanted and are not captured.
    pub(super) left_out: Vec<TargetReport>,
}

/// Where a capture waits for others.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) vaults: Vec<Arc<Vault>>,
    /// What it keeps in memory.
    pub(super) bytes: usize,
}

impl Running {
    /// Whether others may still go with it.
    pub(super) fn may_be_joined(&self) -> bool {
        let gathers = |waiting: &Waiting| waiting.vaults.iter().any(|vault| vault.gathers());
        self.waiting.as_ref().is_none_or(gathers)
    }

    pub(super) fn has_slot(&self) -> bool {
        !self.is_wanted && !self.is_let_go
    }

    pub(super) fn as_load(&self) -> RunningCapture {
        let size = if self.has_slot() { self.load.size } else { JobSize::Long };
        RunningCapture { size, ..self.load.clone() }
    }

    /// Looks how far it has come.
    fn look(&mut self, now: Instant) {
        let mark = self.progress.mark();
        if mark != self.came.1 {
            self.came = (now, mark);
        }
    }
}

/// Looks how far captures have come, and which of them have no slot any more: those that have stood still for the longest, of
/// what is due and of what is wanted.
pub(super) fn look_at<'r>(running: impl Iterator<Item = &'r mut Running>, now: Instant) {
    let mut all: Vec<&mut Running> = running.collect();
    all.iter_mut().for_each(|running| running.look(now));
    all.sort_by_key(|running| running.came.0);
    let (mut let_go, mut waiting, mut bytes) = ([0; 2], 0, 0);
    for running in all {
        running.stands_still = now.saturating_duration_since(running.came.0) > STALL_TIME;
        // However long: several may hang in one commit, and they do nothing.
        if let Some(wait) = &running.waiting
            && waiting < WAITING_MAX
            && bytes + wait.bytes <= WAITING_BYTES_MAX
        {
            (waiting, bytes) = (waiting + 1, bytes + wait.bytes);
            running.is_let_go = true;
            continue;
        }
        let of_kind = &mut let_go[usize::from(running.is_wanted)];
        running.is_let_go = running.stands_still && *of_kind < STALLED_MAX;
        *of_kind += usize::from(running.is_let_go);
    }
}

/// Targets to which no more is begun that is due: a capture to them stands still, they have answered nothing since it came
/// further last, and one is under way that will show whether they hang. Or a vault that hangs would soon have all slots.
pub(super) fn barred(
    running: &HashMap<String, Running>,
    answered: &HashMap<String, Instant>,
) -> BTreeSet<Target> {
    let is_doubtful = |target: &&Target| {
        let answered = answered.get(target.as_str());
        let mut to_it = running.values().filter(|running| running.targets.contains(target));
        to_it.any(|to_it| to_it.stands_still && answered.is_none_or(|answered| *answered < to_it.came.0))
    };
    // Those that wait for others have no slot, and show it all the same.
    let shown = running.values().filter(|running| !running.is_let_go || running.waiting.is_some());
    shown.flat_map(|running| &running.targets).filter(is_doubtful).cloned().collect()
}

#[cfg(test)]
pub(super) mod tests {
    use backstay_core::units::Timestamp;

    use super::*;

    pub(in crate::serve) fn running(source: &str, came: Instant) -> Running {
        let source = source.parse().expect("a name");
        Running {
            load: RunningCapture { source, size: JobSize::Short, ends_by: Timestamp::MAX },
            targets: Vec::new(),
            progress: Arc::default(),
            came: (came, 0),
            stands_still: false,
            is_let_go: false,
            waiting: None,
            is_wanted: false,
            askers: Vec::new(),
            listeners: Vec::new(),
            left_out: Vec::new(),
        }
    }

    #[test]
    fn captures_that_stand_still_make_room_for_others_but_not_for_any_number() {
        let start = Instant::now();
        let second = Duration::from_secs(1);
        let mut all: Vec<Running> =
            (0..5).map(|n| running(&format!("s{n}.files"), start + second * n)).collect();
        let let_go = |all: &mut Vec<Running>, now| {
            look_at(all.iter_mut(), now);
            all.iter().map(|running| !running.has_slot()).collect::<Vec<_>>()
        };
        assert_eq!(let_go(&mut all, start + STALL_TIME), [false; 5]);
        assert_eq!(let_go(&mut all, start + STALL_TIME + second), [true, false, false, false, false]);
        let late = start + STALL_TIME * 2;
        assert_eq!(let_go(&mut all, late), [true, true, false, false, false]);
        // The first ends.
        all.remove(0);
        assert_eq!(let_go(&mut all, late), [true, true, false, false]);
    }

    #[test]
    fn a_vault_that_hangs_gets_one_capture_more_and_one_that_answers_gets_all() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let target = |name: &str| Target::Vault(name.parse().expect("a name"));
        let mut all = HashMap::new();
        let begin = |all: &mut HashMap<String, Running>, n: u32, to: &[&str], at: Instant| {
            let mut running = running(&format!("s{n}.files"), at);
            running.targets = to.iter().map(|name| target(name)).collect();
            all.insert(format!("s{n}.files"), running);
        };
        begin(&mut all, 1, &["local", "usb"], start);
        begin(&mut all, 2, &["usb"], start);
        let nobody = HashMap::new();
        assert!(barred(&all, &nobody).is_empty(), "they have only begun");
        let still = start + STALL_TIME + second;
        look_at(all.values_mut(), still);
        assert!(barred(&all, &nobody).is_empty(), "that they hang is not known");
        begin(&mut all, 3, &["usb"], still);
        assert_eq!(barred(&all, &nobody), [target("usb")].into());
        let answered = |seconds| HashMap::from([("usb".to_owned(), start + second * seconds)]);
        assert!(barred(&all, &answered(1)).is_empty(), "it is the sources that hang");
        begin(&mut all, 4, &["local"], still);
        assert_eq!(barred(&all, &nobody), [target("local"), target("usb")].into());
        // The one that was to show it hangs as well, and keeps its slot.
        look_at(all.values_mut(), still + STALL_TIME + second);
        assert!(barred(&all, &answered(0)).contains(&target("usb")), "it has answered nothing since");
    }

    #[test]
    fn what_waits_for_others_has_no_slot_however_long_and_not_without_bound() {
        let start = Instant::now();
        let waiting = |n: usize, bytes| Running {
            waiting: Some(Waiting { vaults: Vec::new(), bytes }),
            ..running(&format!("s{n}.files"), start)
        };
        let without_slot = |all: &mut Vec<Running>| {
            look_at(all.iter_mut(), start + STALL_TIME * 2);
            all.iter().filter(|running| !running.has_slot()).count()
        };
        let mut few: Vec<Running> = (0..6).map(|n| waiting(n, 1000)).collect();
        assert_eq!(without_slot(&mut few), 6);
        few.iter_mut().for_each(|running| running.waiting = None);
        assert_eq!(without_slot(&mut few), STALLED_MAX, "they go on, and hang");
        let mut many: Vec<Running> = (0..WAITING_MAX + 9).map(|n| waiting(n, 1000)).collect();
        assert_eq!(without_slot(&mut many), WAITING_MAX + STALLED_MAX);
        let mut large: Vec<Running> = (0..9).map(|n| waiting(n, WAITING_BYTES_MAX / 4)).collect();
        assert_eq!(without_slot(&mut large), 4 + STALLED_MAX);
    }
}
