//! Flows that go on from a hub: asks the hub how far they have come, while something is on its way, and else now and then.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Daemon;

/// How often it is looked whether there is something to ask.
const LOOK: Duration = Duration::from_millis(500);

/// How often a hub is asked at least, where nothing is known to be on its way: proofs are made there.
const IDLE_PERIOD: Duration = Duration::from_secs(600);

/// What is on its way for so long is asked for more and more rarely: by this part of that time.
const PATIENCE_DIVISOR: u32 = 20;

/// But no more rarely than that.
const ASK_PERIOD_MAX: Duration = Duration::from_secs(30);

/// Asks from now on, a thread for each vault: a hub that is away keeps no other waiting.
pub(super) fn watch(daemon: &Arc<Daemon>) {
    for vault in daemon.config.via.keys().map(ToString::to_string) {
        if daemon.board().flows.on_the_way_to(&vault, false).is_empty() {
            continue;
        }
        let (daemon, name) = (Arc::clone(daemon), format!("ask {vault}"));
        let work = move || ask_on(&daemon, &vault);
        if let Err(error) = std::thread::Builder::new().name(name).spawn(work) {
            tracing::warn!("cannot start a thread: {error}; it is not told how far hubs have copied");
        }
    }
}

fn ask_on(daemon: &Daemon, vault: &str) {
    // Asked once when the daemon began.
    let (mut all_asked, mut asked) = (Instant::now(), Instant::now());
    let mut since: Option<Instant> = None;
    loop {
        std::thread::sleep(LOOK);
        let outstanding = daemon.board().flows.on_the_way_to(vault, true);
        since = if outstanding.is_empty() { None } else { since.or(Some(Instant::now())) };
        let pause =
            since.map_or(IDLE_PERIOD, |since| (since.elapsed() / PATIENCE_DIVISOR).min(ASK_PERIOD_MAX));
        let is_all_due = all_asked.elapsed() >= IDLE_PERIOD;
        if asked.elapsed() < pause && !is_all_due {
            continue;
        }
        let sources = match is_all_due {
            true => daemon.board().flows.on_the_way_to(vault, false),
            false => outstanding,
        };
        for source in sources {
            let standing = daemon.engine.vaults().standing(vault, source.as_str());
            daemon.board().flows.stands(&source, vault, standing.map_err(|failure| failure.message));
        }
        asked = Instant::now();
        if is_all_due {
            all_asked = asked;
        }
    }
}
