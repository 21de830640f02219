//! Which seeds are run, and what is printed of one that fails.

#![expect(clippy::print_stdout, reason = "a seed is printed so that a failure can be replayed")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use backstay_testkit::crash::Landing;

use crate::scene::{Outcome, SHORT_STEPS, Scene, Totals};

/// Seeds of the normal test.
const SEEDS: u64 = 100;

/// Seeds of the long one, unless BACKSTAY_SEEDS says otherwise.
const LONG_SEEDS: u64 = 3000;

/// Seeds that run at the same time.
const THREADS: usize = 2;

/// Events that are printed of a seed that failed.
const TAIL: usize = 60;

#[test]
fn what_was_acknowledged_survives_whatever_befalls_those_who_share_a_vault() {
    let totals = run(0..SEEDS);
    assert!(totals.split > 0, "groups are split in it");
}

#[test]
#[ignore = "long: half an hour; BACKSTAY_SEEDS sets how many (3000)"]
fn many_seeds() {
    run(1000..1000 + number("BACKSTAY_SEEDS").unwrap_or(LONG_SEEDS));
}

#[test]
fn one_seed() {
    let seed = number("BACKSTAY_SIM_SEED").unwrap_or(7);
    let outcome = Scene::new(seed).play();
    match std::env::var_os("BACKSTAY_SIM_HISTORY") {
        Some(_) => println!("{}", outcome.history.tail(usize::MAX)),
        None => println!("{}", outcome.history.tail(TAIL)),
    }
    println!("{}", outcome.totals);
    assert_eq!(outcome.failure, None, "BACKSTAY_SIM_SEED={seed}");
}

#[test]
#[ignore = "long: ten minutes"]
fn a_crash_at_any_request_of_anybody_while_the_others_go_on_loses_nothing() {
    let cases: Vec<Case> = (1..SHORT_STEPS)
        .flat_map(|at| Landing::ALL.map(|landing| Case { seed: 7, crash: Some((at, landing)) }))
        .collect();
    play(&cases);
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// What is played.
#[derive(Debug, Clone, Copy)]
struct Case {
    seed: u64,
    /// Instead of whatever the seed would bring.
    crash: Option<(u64, Landing)>,
}

impl Case {
    fn play(self) -> Outcome {
        match self.crash {
            Some((at, landing)) => Scene::with_crash(self.seed, at, landing).play(),
            None => Scene::new(self.seed).play(),
        }
    }

    fn name(self) -> String {
        match self.crash {
            Some((at, landing)) => format!("seed {}, crash at request {at}, {landing:?}", self.seed),
            None => format!("BACKSTAY_SIM_SEED={}", self.seed),
        }
    }
}

fn run(seeds: std::ops::Range<u64>) -> Totals {
    play(&seeds.map(|seed| Case { seed, crash: None }).collect::<Vec<_>>())
}

fn play(cases: &[Case]) -> Totals {
    let next = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    let totals = Mutex::new(Totals::default());
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::SeqCst)) {
                    let played = catch_unwind(AssertUnwindSafe(|| case.play()));
                    let failure = match played {
                        Ok(Outcome { failure: None, totals: of_seed, .. }) => {
                            totals.lock().expect("no panic while it is held").add(&of_seed);
                            continue;
                        }
                        Ok(Outcome { failure: Some(failure), history, .. }) => {
                            format!("{}{}: {failure}", history.tail(TAIL), case.name())
                        }
                        Err(_) => format!("{}: the simulation itself has panicked", case.name()),
                    };
                    println!("{failure}");
                    failures.lock().expect("no panic while it is held").push(case.name());
                }
            });
        }
    });
    let totals = totals.into_inner().expect("all threads have ended");
    println!("{totals}");
    let mut failures = failures.into_inner().expect("all threads have ended");
    failures.sort_unstable();
    assert!(failures.is_empty(), "failed: {failures:#?}");
    totals
}
