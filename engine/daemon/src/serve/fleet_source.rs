//! Looks whether what this node keeps of the fleet's configuration has changed: it is captured soon then, and seldom otherwise.

use std::sync::Arc;

use backstay_files::touched::Touched;
use backstay_files::watch::Told;
use tokio::sync::mpsc;

use super::{Daemon, Event};
use crate::fleet_source::{LOOK, mark};

/// Looks from now on. What has changed before the daemon began is looked for at once: a vault that has it is not written to.
pub(super) fn watch(daemon: &Arc<Daemon>, events: &mpsc::Sender<Event>) {
    let Some(source) = daemon.config.own_fleet_source() else { return };
    let (name, config, events) = (source.name.to_string(), Arc::clone(&daemon.config), events.clone());
    let work = move || {
        let mut known = None;
        loop {
            let now = mark(&config);
            if known.as_ref() != Some(&now) {
                let told = Told::Changed(Touched::Everywhere);
                // None where the loop has ended.
                let told = events.blocking_send(Event::Watched { source: name.clone(), told });
                if told.is_err() {
                    return;
                }
                known = Some(now);
            }
            std::thread::sleep(LOOK);
        }
    };
    if let Err(error) = std::thread::Builder::new().name("fleet source".to_owned()).spawn(work) {
        tracing::warn!("cannot start a thread: {error}; the configuration is captured when it is due only");
    }
}
