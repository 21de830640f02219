//! Breadth-first search through every state of a world. A state is remembered by a 64-bit fingerprint (8 to
//! 16 bytes) and five bytes of where it came from; whole states live only while they wait to be looked at.
//! That two states of one scene share a fingerprint has a probability below one in 100 000 at twenty
//! million states.

use std::collections::VecDeque;
use std::fmt;

use crate::fingerprint::fingerprint;
use crate::properties::{self, Violation};
use crate::rules::World;
use crate::step::{Step, Steps};

/// What a search met, so that a scene in which nothing happens is noticed.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Searched {
    pub(crate) states: usize,
    /// States in which nothing more can happen.
    pub(crate) ends: usize,
    pub(crate) acknowledged: bool,
    pub(crate) deleted_a_pack: bool,
}

/// The shortest way to something that must not be.
#[derive(Debug)]
pub(crate) struct Counterexample {
    pub(crate) violation: Violation,
    pub(crate) steps: Vec<Step>,
}

impl fmt::Display for Counterexample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}, after {} steps:", self.violation, self.steps.len())?;
        for (number, step) in self.steps.iter().enumerate() {
            writeln!(f, "{:4}  {step}", number + 1)?;
        }
        Ok(())
    }
}

/// More than any scene has: one that grows past it is a mistake.
const STATES_MAX: usize = 100_000_000;

pub(crate) fn search(world: &World) -> Result<Searched, Counterexample> {
    let start = world.scene.start();
    let mut seen = Fingerprints::new();
    seen.insert(fingerprint(&start));
    let mut origins = Origins::default();
    origins.push(0, 0);
    let mut waiting = VecDeque::from([(0_usize, start)]);
    let mut searched = Searched::default();
    let mut steps = Steps::default();
    while let Some((number, state)) = waiting.pop_front() {
        steps.0.clear();
        world.steps(&state, &mut steps);
        if steps.0.is_empty() {
            searched.ends += 1;
            if let Some(violation) = properties::left_over(world, &state) {
                return Err(replay(world, &origins, number, None, violation));
            }
        }
        searched.acknowledged |= !state.acknowledged.is_empty();
        for (place, (_, next)) in steps.0.iter().enumerate() {
            searched.deleted_a_pack |= !state.store.packs.within(next.store.packs);
            if let Some(violation) = properties::revoked(world, &state, next) {
                return Err(replay(world, &origins, number, Some(place), violation));
            }
            if !seen.insert(fingerprint(next)) {
                continue;
            }
            if let Some(violation) = properties::violated(world, next) {
                return Err(replay(world, &origins, number, Some(place), violation));
            }
            assert!(origins.parents.len() < STATES_MAX, "the scene is too large to be walked");
            waiting.push_back((origins.parents.len(), *next));
            origins.push(number, place);
        }
    }
    searched.states = origins.parents.len();
    Ok(searched)
}

/// By which step of which other state each state was found first.
#[derive(Default)]
struct Origins {
    parents: Vec<u32>,
    steps: Vec<u8>,
}

impl Origins {
    fn push(&mut self, parent: usize, step: usize) {
        self.parents.push(parent as u32);
        self.steps.push(step as u8);
    }
}

/// Walks the way to a state once more, and one step on.
fn replay(
    world: &World,
    origins: &Origins,
    mut number: usize,
    last: Option<usize>,
    violation: Violation,
) -> Counterexample {
    let mut way = Vec::from_iter(last);
    while number != 0 {
        way.push(usize::from(origins.steps[number]));
        number = origins.parents[number] as usize;
    }
    let mut state = world.scene.start();
    let mut taken = Vec::new();
    for place in way.into_iter().rev() {
        let mut steps = Steps::default();
        world.steps(&state, &mut steps);
        let (step, next) = steps.0[place];
        taken.push(step);
        state = next;
    }
    Counterexample { violation, steps: taken }
}

/// An open-addressed set of fingerprints that are not zero, at most two thirds full.
struct Fingerprints {
    table: Vec<u64>,
    held: usize,
}

impl Fingerprints {
    fn new() -> Self {
        Self { table: vec![0; 1 << 12], held: 0 }
    }

    /// Whether it is new.
    fn insert(&mut self, print: u64) -> bool {
        if self.held * 3 >= self.table.len() * 2 {
            let larger = vec![0; self.table.len() * 2];
            let old = std::mem::replace(&mut self.table, larger);
            for print in old.into_iter().filter(|print| *print != 0) {
                let place = self.place(print);
                self.table[place] = print;
            }
        }
        let place = self.place(print);
        let new = self.table[place] == 0;
        self.table[place] = print;
        self.held += usize::from(new);
        new
    }

    /// Where the fingerprint is, or would be.
    fn place(&self, print: u64) -> usize {
        let mask = self.table.len() - 1;
        let mut place = print as usize & mask;
        while self.table[place] != 0 && self.table[place] != print {
            place = (place + 1) & mask;
        }
        place
    }
}
