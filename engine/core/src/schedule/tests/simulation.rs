//! A simulated day: the schedule drives captures with random durations on a node with few slots.

use super::*;

const DAY: Duration = Duration::from_secs(24 * 3600);
/// A bound on the steps of one simulation: every step starts or ends a capture, or waits for a known instant.
const STEPS_MAX: usize = 200_000;

/// No capture takes longer than this many times what is typical of its flow; less than [`SAFETY_FACTOR`].
const LONGEST_FACTOR: f64 = 1.3;

/// splitmix64: small, and the same everywhere; the seed is proptest's, which prints it.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// In `[low, high)`.
    fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// How a flow behaves.
#[derive(Debug, Clone, Copy)]
struct Nature {
    /// A capture takes this long, times a random factor.
    typical: Duration,
    fails: bool,
}

/// What the day brought a flow.
#[derive(Debug, Clone)]
struct Record {
    exposure_max: Duration,
    attempts: u32,
    last_attempt: Timestamp,
    wait_max: Duration,
}

struct Running {
    job: CaptureJob,
    started: Timestamp,
    ends: Timestamp,
}

struct Day {
    random: Random,
    now: Timestamp,
    captures_max: usize,
    flows: Vec<ScheduledFlow>,
    natures: Vec<Nature>,
    failures: Vec<u32>,
    records: Vec<Record>,
    running: Vec<Running>,
}

impl Day {
    fn new(seed: u64, captures_max: usize, flows: Vec<(ScheduledFlow, Nature)>) -> Self {
        let (flows, natures): (Vec<_>, Vec<_>) = flows.into_iter().unzip();
        let record = Record {
            exposure_max: Duration::ZERO,
            attempts: 0,
            last_attempt: at(0),
            wait_max: Duration::ZERO,
        };
        let (failures, records) = (vec![0; flows.len()], vec![record; flows.len()]);
        let (random, running) = (Random(seed), Vec::new());
        Self { random, now: at(0), captures_max, flows, natures, failures, records, running }
    }

    /// Lives through the day and returns what it brought.
    fn live(mut self) -> Vec<Record> {
        let evening = at(0).saturating_add(DAY);
        for _ in 0..STEPS_MAX {
            let captures: Vec<_> = self.running.iter().map(|r| r.job.started_at(r.started)).collect();
            let decision = decide(&self.flows, busy(self.captures_max, &captures), self.now);
            decision.start.into_iter().for_each(|job| self.start(job));
            let ends = self.running.iter().map(|running| running.ends);
            let Some(next) = ends.chain(decision.wake_at).min() else {
                panic!("nothing will ever happen again")
            };
            if next > evening {
                return self.records;
            }
            assert!(next >= self.now, "the next event lies in the past");
            self.now = next;
            self.end_due();
        }
        panic!("the day has no end: the schedule spins");
    }

    /// As the daemon does it: one capture of a source at a time.
    fn start(&mut self, job: CaptureJob) {
        let is_busy = self.running.iter().any(|running| running.job.source == job.source);
        assert!(!is_busy, "{} is being captured already", job.source);
        let mut takes = Duration::ZERO;
        for index in self.members(&job) {
            self.flows[index].activity = Activity::Capturing;
            takes = takes.max(self.natures[index].typical.mul_f64(self.random.between(0.5, LONGEST_FACTOR)));
            let record = &mut self.records[index];
            record.attempts += 1;
            record.wait_max = record.wait_max.max(self.now.duration_since(record.last_attempt));
            record.last_attempt = self.now;
        }
        let takes = takes.max(Duration::from_millis(1));
        self.running.push(Running { job, started: self.now, ends: self.now.saturating_add(takes) });
    }

    fn end_due(&mut self) {
        let (ended, running): (Vec<_>, _) =
            self.running.drain(..).partition(|running| running.ends <= self.now);
        self.running = running;
        for Running { job, started, .. } in ended {
            let point = PointId::new([(self.random.next() % 3) as u8; 16]); // often unchanged
            for index in self.members(&job) {
                if self.natures[index].fails {
                    self.failures[index] += 1;
                    let wait = backoff(self.failures[index], Jitter(self.random.next() as u32));
                    let until = self.now.saturating_add(wait);
                    self.flows[index].activity = Activity::BackingOff { until };
                    continue;
                }
                let flow = &mut self.flows[index];
                let last = flow.durable_scan_start.unwrap_or(started);
                let record = &mut self.records[index];
                record.exposure_max = record.exposure_max.max(self.now.duration_since(last));
                flow.durable_scan_start = Some(started);
                flow.cursor = Some(point);
                flow.activity = Activity::Idle;
            }
        }
    }

    fn members(&self, job: &CaptureJob) -> Vec<usize> {
        let is_in = |flow: &ScheduledFlow| flow.source == job.source && job.targets.contains(&flow.target);
        (0..self.flows.len()).filter(|index| is_in(&self.flows[*index])).collect()
    }
}

/// `count` flows of several sources and targets; the durations, with the safety factor, add up to `demand` of
/// the shortest RPO.
fn crowd(seed: u64, count: usize, demand: f64) -> Vec<(ScheduledFlow, Nature)> {
    let mut random = Random(!seed);
    let weights: Vec<f64> = (0..count).map(|_| random.between(0.05, 1.0)).collect();
    let total: f64 = weights.iter().sum();
    let budget = (15 * MINUTE).mul_f64(demand / SAFETY_FACTOR);
    let flows = weights.iter().enumerate().map(|(index, weight)| {
        let typical = budget.mul_f64(weight / total);
        let rpo = 15 * MINUTE * [1, 1, 2, 4][(random.next() % 4) as usize];
        let (source, target) = (format!("s{}.files", index / 3), format!("v{}", index % 3));
        let flow = ScheduledFlow { rpo, expected: typical, ..flow(&source, &target) };
        (flow, Nature { typical, fails: false })
    });
    flows.collect()
}

#[test]
fn a_lone_flow_is_captured_about_once_per_rpo() {
    let typical = MINUTE;
    let flow = ScheduledFlow { expected: typical, ..flow("a.files", "local") };
    let record = Day::new(1, 1, vec![(flow, Nature { typical, fails: false })]).live().remove(0);
    // 24 hours in steps of 15 minutes less the 90 seconds set aside.
    assert_eq!(record.attempts, 24 * 60 * 60 / (15 * 60 - 90));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn where_captures_fit_no_exposure_exceeds_its_rpo(seed in any::<u64>(), slots in 1usize..4, count in 1usize..16) {
        let flows = crowd(seed, count, 0.4);
        let objectives: Vec<_> = flows.iter().map(|(flow, _)| flow.rpo).collect();
        for (record, rpo) in Day::new(seed, slots, flows).live().iter().zip(objectives) {
            prop_assert!(record.attempts > 0, "a flow was never captured");
            prop_assert!(record.exposure_max <= rpo, "an exposure of {:?} with an RPO of {rpo:?}", record.exposure_max);
        }
    }

    #[test]
    fn unreachable_targets_do_not_cost_the_others_their_rpo(seed in any::<u64>(), count in 2usize..12) {
        let mut flows = crowd(seed, count, 0.3);
        for (flow, nature) in flows.iter_mut().step_by(3) {
            // They failed before: that a target has gone is news only once, and takes a slot from the
            // others then.
            *nature = Nature { fails: true, ..*nature };
            flow.activity = Activity::BackingOff { until: at(0) };
        }
        // Every source has one of them, and the others of the source have to wait for its attempts: each at
        // most until everything else was done once.
        let patience: Duration = flows.iter().map(|(_, nature)| nature.typical.mul_f64(LONGEST_FACTOR)).sum();
        let limits: Vec<_> = flows.iter().map(|(flow, _)| flow.rpo + patience).collect();
        let fails: Vec<_> = flows.iter().map(|(_, nature)| nature.fails).collect();
        for (index, record) in Day::new(seed, 2, flows).live().iter().enumerate() {
            prop_assert!(record.attempts > 0, "a flow was never captured");
            prop_assert!(fails[index] || record.exposure_max <= limits[index], "{:?}", record.exposure_max);
        }
    }

    #[test]
    fn a_slow_source_does_not_cost_the_others_their_rpo(
        seed in any::<u64>(), count in 2usize..12, hours in 1u32..30, never_captured in any::<bool>()
    ) {
        let mut flows = crowd(seed, count, 0.3);
        // The other flows of its source are due again and again while it is captured.
        for (target, typical) in [("v0", MINUTE * 60 * hours), ("v1", MINUTE), ("v2", MINUTE)] {
            let mut slow = ScheduledFlow { expected: typical, ..flow("slow.files", target) };
            if target == "v0" && never_captured {
                (slow.cursor, slow.durable_scan_start) = (None, None);
            }
            flows.push((slow, Nature { typical, fails: false }));
        }
        let objectives: Vec<_> = flows[..count].iter().map(|(flow, _)| flow.rpo).collect();
        for (record, rpo) in Day::new(seed, 2, flows).live().iter().zip(objectives) {
            prop_assert!(record.attempts > 0, "a flow was never captured");
            prop_assert!(record.exposure_max <= rpo, "{:?} with {rpo:?}", record.exposure_max);
        }
    }

    #[test]
    fn nobody_starves_however_overloaded_the_node_is(
        seed in any::<u64>(), slots in 1usize..4, count in 2usize..10, demand in 1.0f64..8.0
    ) {
        let mut flows = crowd(seed, count, demand);
        flows.iter_mut().step_by(4).for_each(|(_, nature)| nature.fails = true);
        // A flow waits until it is due, then while every other goes at most twice before it.
        let total: Duration = flows.iter().map(|(_, nature)| nature.typical.mul_f64(LONGEST_FACTOR)).sum();
        let patience = 60 * MINUTE + BACKOFF_MAX + total * 3;
        for record in Day::new(seed, slots, flows).live() {
            prop_assert!(record.attempts > 0, "a flow was never tried");
            prop_assert!(record.wait_max <= patience, "a flow waited {:?}, more than {patience:?}", record.wait_max);
        }
    }
}
