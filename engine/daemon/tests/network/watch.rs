//! What both daemons say of the flow, second by second. Owns the looking, and what must be right of every look.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use backstay_testkit::process::wait_within;
use jiff::Timestamp;
use serde_json::Value;

use crate::node::{Node, figure};
use crate::rig::RPO;

/// How often it is looked.
const PERIOD: Duration = Duration::from_secs(1);

/// Seconds by which clocks and their readers may differ.
const ACCURACY: f64 = 0.05;

/// What has to come by itself has come by then, on the slowest machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// One look.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    /// When it was looked.
    pub(crate) at: Instant,
    /// Around the question for the metrics of alpha, by the clock.
    around: [Timestamp; 2],
    /// Seconds, by these; none while unknown.
    pub(crate) exposure: Option<f64>,
    /// Everything before it is at the holder, by these.
    pub(crate) restorable: Option<Timestamp>,
    /// Time of the newest point that is at the holder, by these.
    pub(crate) last_point: Option<Timestamp>,
    /// The exposure of what beta holds, by its metrics.
    pub(crate) held_exposure: Option<f64>,
    /// The status of alpha.
    status: Value,
    /// After everybody has answered.
    pub(crate) end: Timestamp,
}

/// Looks until it is stopped.
pub(crate) struct Watch {
    samples: Arc<Mutex<Vec<Sample>>>,
    /// Dropping it stops it.
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

impl Watch {
    /// Looks at the daemons of these nodes from now on.
    pub(crate) fn start(alpha: &Arc<Node>, beta: &Arc<Node>) -> Self {
        let samples = Arc::new(Mutex::new(Vec::new()));
        let (stop, stopped) = channel();
        let (alpha, beta, seen) = (Arc::clone(alpha), Arc::clone(beta), Arc::clone(&samples));
        let thread = std::thread::spawn(move || {
            while stopped.recv_timeout(PERIOD) == Err(RecvTimeoutError::Timeout) {
                let sample = look(&alpha, &beta);
                seen.lock().unwrap().push(sample);
            }
        });
        Self { samples, stop, thread }
    }

    /// What was seen so far.
    pub(crate) fn samples(&self) -> Vec<Sample> {
        self.samples.lock().unwrap().clone()
    }

    /// Waits until what was seen is as wanted.
    pub(crate) fn wait_for(&self, what: &str, is_so: impl Fn(&[Sample]) -> bool) {
        wait_within(PATIENCE, what, || {
            assert!(!self.thread.is_finished(), "a daemon answers no more");
            let samples = self.samples();
            if is_so(&samples) { Ok(()) } else { Err(format!("seen last: {:?}", samples.last())) }
        });
    }

    /// Stops it. All that was seen, which was right.
    pub(crate) fn stop(self) -> Vec<Sample> {
        drop(self.stop);
        self.thread.join().expect("the daemons have answered");
        let samples = std::mem::take(&mut *self.samples.lock().unwrap());
        samples.iter().for_each(Sample::judge);
        for pair in samples.windows(2) {
            let told = |sample: &Sample| [sample.restorable, sample.last_point];
            let [before, after] = [told(&pair[0]), told(&pair[1])];
            assert!(
                before.iter().zip(&after).all(|(before, after)| before <= after),
                "it went back: {pair:?}"
            );
        }
        samples
    }
}

impl Sample {
    /// How alpha says that the flow is.
    pub(crate) fn state(&self) -> &str {
        self.flow()["state"].as_str().expect("a state")
    }

    /// How bad alpha says that all is.
    pub(crate) fn severity(&self) -> &str {
        self.status["severity"].as_str().expect("a severity")
    }

    /// Whether a capture is under way.
    pub(crate) fn is_capturing(&self) -> bool {
        self.flow()["capturing"] == true
    }

    /// What alpha says is wrong.
    pub(crate) fn problem(&self) -> Option<&str> {
        self.flow()["problem"].as_str()
    }

    /// Whether alpha says that no less would be lost than beta does, which has looked at what it holds since that changed last.
    pub(crate) fn claims_no_more_than_is_held(&self) -> bool {
        let between = self.end.duration_since(self.around[0]).as_secs_f64() + ACCURACY;
        let lags = self.exposure.zip(self.held_exposure);
        lags.is_none_or(|(exposure, held)| exposure + between > held)
    }

    fn flow(&self) -> &Value {
        &self.status["flows"][0]
    }

    /// What is said must follow from what is acknowledged, to the time that the question took.
    fn judge(&self) {
        if let Some(exposure) = self.exposure {
            let restorable = self.restorable.unwrap_or_else(|| panic!("a number out of nothing: {self:?}"));
            let [least, most] = self.around.map(|time| time.duration_since(restorable).as_secs_f64());
            assert!(exposure > 0.0, "nothing would be lost while files change: {self:?}");
            assert!((least - ACCURACY..most + ACCURACY).contains(&exposure), "{least} to {most}: {self:?}");
        }
        assert!(self.held_exposure.is_none_or(|held| held > 0.0), "{self:?}");
        let objective = RPO.as_secs_f64();
        let states: &[&str] = match self.flow()["exposure_seconds"].as_f64() {
            None => &["unknown", "seeding", "critical"],
            Some(exposure) if exposure > 2.0 * objective => &["critical"],
            Some(exposure) if exposure > objective => &["late"],
            Some(_) => &["ok", "failing"],
        };
        assert!(states.contains(&self.state()), "{self:?}");
    }
}

fn look(alpha: &Node, beta: &Node) -> Sample {
    let (at, before) = (Instant::now(), Timestamp::now());
    let page = alpha.page("/metrics");
    let around = [before, Timestamp::now()];
    let moment = |name| {
        let nanos = figure(&page, name)? * 1e9;
        Some(Timestamp::from_nanosecond(nanos as i128).expect("a time"))
    };
    let status = serde_json::from_str(&alpha.page("/status.json")).unwrap();
    Sample {
        at,
        around,
        exposure: figure(&page, "backstay_rpo_exposure_seconds"),
        restorable: moment("backstay_restorable_timestamp_seconds"),
        last_point: moment("backstay_last_point_timestamp_seconds"),
        held_exposure: figure(&beta.page("/metrics"), "backstay_held_exposure_seconds"),
        status,
        end: Timestamp::now(),
    }
}
