//! Who changes what is protected, without a pause. Owns the ledger of what was in each file at which time, by which any point
//! can be judged.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use backstay_testkit::random::Random;
use jiff::Timestamp;

/// Files that there are from the beginning on.
const FILES: usize = 40;

/// The longest files of a writer who writes little. Contents are incompressible.
pub(crate) const SHORT_BYTES_MAX: usize = 120_000;

/// The longest files of one whose changes are under way for long.
pub(crate) const LONG_BYTES_MAX: usize = 1_500_000;

/// Between two changes.
const PAUSE: Duration = Duration::from_millis(100);

/// A version of a file. It is there as a whole or not at all.
#[derive(Debug, Clone, Copy)]
struct Version {
    file: usize,
    /// By which its contents follow from the seed.
    number: usize,
    /// It was not there before.
    began: Timestamp,
    /// It was there from then on, until the next one.
    done: Timestamp,
}

/// All versions that there were, in order.
#[derive(Debug)]
pub(crate) struct Ledger {
    seed: u64,
    /// Of a file.
    bytes_max: usize,
    versions: Vec<Version>,
}

/// Someone who changes the files of a folder until it is stopped.
pub(crate) struct Writer {
    /// Dropping it stops it.
    stop: Sender<()>,
    thread: JoinHandle<Ledger>,
}

impl Writer {
    /// Fills the folder, and begins to change what is in it. What is written is made in `beside`, on the same file system.
    pub(crate) fn start(folder: &Path, beside: PathBuf, bytes_max: usize, seed: u64) -> Self {
        let (folder, mut random) = (folder.to_owned(), Random::new(seed));
        let mut ledger = Ledger { seed, bytes_max, versions: Vec::new() };
        (0..FILES).for_each(|file| ledger.write(file, &folder, &beside));
        let (stop, stopped) = channel();
        let thread = std::thread::spawn(move || {
            while stopped.recv_timeout(PAUSE) == Err(RecvTimeoutError::Timeout) {
                ledger.write(random.below(FILES), &folder, &beside);
            }
            ledger
        });
        Self { stop, thread }
    }

    /// Stops it.
    pub(crate) fn stop(self) -> Ledger {
        drop(self.stop);
        self.thread.join().expect("it has written")
    }
}

impl Ledger {
    fn write(&mut self, file: usize, folder: &Path, beside: &Path) {
        let number = self.versions.len();
        fs::write(beside, self.contents(number)).unwrap();
        let began = Timestamp::now();
        fs::rename(beside, folder.join(name(file))).unwrap();
        self.versions.push(Version { file, number, began, done: Timestamp::now() });
    }

    /// What is wrong with a folder that has to show every change that was done at `since`, and none that had not begun at
    /// `until`; each file as it was at one time.
    pub(crate) fn contradicts(&self, folder: &Path, since: Timestamp, until: Timestamp) -> Option<String> {
        let strange = fs::read_dir(folder).unwrap().count() != FILES;
        let wrong = (0..FILES).find_map(|file| {
            let of_it = self.versions.iter().filter(|version| version.file == file);
            let is_done = |version: &&Version| version.done < since;
            let oldest = of_it.clone().rfind(is_done).expect("it was there from the beginning");
            let mut possible =
                of_it.filter(|version| version.number >= oldest.number && version.began <= until);
            let shown = fs::read(folder.join(name(file))).unwrap_or_default();
            let found = possible.any(|version| shown == self.contents(version.number));
            (!found).then(|| format!("{} is no version between {oldest:?} and {until}", name(file)))
        });
        wrong.or_else(|| strange.then(|| format!("there are not just {FILES} files")))
    }

    fn contents(&self, number: usize) -> Vec<u8> {
        let mut random = Random::new(self.seed ^ Random::new(number as u64).number());
        let length = 1 + random.below(self.bytes_max);
        random.bytes(length)
    }
}

fn name(file: usize) -> String {
    format!("file {file}")
}

/// A judge who sees nothing would pass everything.
#[test]
fn every_kind_of_contradiction_is_seen() {
    let there = tempfile::tempdir().unwrap();
    let (folder, beside) = (there.path().join("folder"), there.path().join("beside"));
    fs::create_dir(&folder).unwrap();
    let writer = Writer::start(&folder, beside.clone(), 2_000, 1);
    let begun = Timestamp::now();
    let mut ledger = writer.stop();
    ledger.write(3, &folder, &beside);
    let (old, written) = (fs::read(folder.join(name(3))).unwrap(), Timestamp::now());
    ledger.write(3, &folder, &beside);
    let end = Timestamp::now();
    let judge = |since, until| ledger.contradicts(&folder, since, until);
    assert_eq!(judge(begun, end), None);
    assert_eq!(judge(end, end), None);
    assert!(judge(begun, written).is_some(), "it came later");
    let new = fs::read(folder.join(name(3))).unwrap();
    fs::write(folder.join(name(3)), old).unwrap();
    assert_eq!(judge(written, end), None);
    assert!(judge(end, end).is_some(), "a change is missing");
    fs::write(folder.join(name(3)), &new[1..]).unwrap();
    assert!(judge(begun, end).is_some(), "a byte is missing");
    fs::remove_file(folder.join(name(3))).unwrap();
    assert!(judge(begun, end).is_some(), "a file is missing");
    fs::write(folder.join(name(3)), new).unwrap();
    fs::write(folder.join("more"), "").unwrap();
    assert!(judge(begun, end).is_some(), "a file is too many");
}
