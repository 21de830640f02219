//! Watchers of the trees that the daemon protects: what changes is captured sooner than its objective asks for. Nothing
//! depends on them: what they do not see is captured when it is due.

use std::sync::Arc;

use backstay_core::config::{Source, SourceKind};
use backstay_files::watch::{Told, Watcher};
use tokio::sync::mpsc;

use super::{Daemon, Event};
use crate::engine::walk_options;
use crate::failure::Failure;
use crate::snapshot;

/// The watchers, for as long as the daemon serves.
pub(super) struct Watching {
    daemon: Arc<Daemon>,
    _watchers: Vec<Watcher>,
}

impl Watching {
    pub(super) fn new(daemon: Arc<Daemon>, events: &mpsc::Sender<Event>) -> Self {
        snapshot::make_folders(&daemon.config);
        let mut watchers = Vec::new();
        for source in daemon.config.sources_at_home_on(&daemon.config.node.name) {
            match watch(&daemon, source, events) {
                Ok(watcher) => watchers.extend(watcher),
                Err(failure) => {
                    tracing::warn!(source = %source.name, "it is not watched for changes: {failure}");
                }
            }
        }
        Self { daemon, _watchers: watchers }
    }

    /// A watcher has told something of a source.
    pub(super) fn told(&self, source: &str, told: Told) {
        let mut board = self.daemon.board();
        match told {
            Told::Changed(touched) => board.flows.changed(source, &touched, self.daemon.clock.now()),
            Told::Watched { directories } => {
                tracing::info!(source, directories, "it is watched for changes");
                board.flows.watched(source, None);
            }
            Told::Unwatched(problem) => {
                tracing::warn!(
                    source,
                    "it is not watched for changes, and captured when it is due: {problem}"
                );
                board.flows.watched(source, Some(&problem.to_string()));
            }
        }
    }
}

fn watch(daemon: &Daemon, source: &Source, events: &mpsc::Sender<Event>) -> Result<Option<Watcher>, Failure> {
    let SourceKind::Files(files) = &source.kind else { return Ok(None) };
    if !files.watch {
        return Ok(None);
    }
    let walk = walk_options(&daemon.config, files)?;
    let (events, name) = (events.clone(), source.name.to_string());
    // Never waits for the loop: what it has no room for is told again.
    let tell = move |told| {
        events.try_send(Event::Watched { source: name.clone(), told }).map_err(|untold| {
            match untold.into_inner() {
                Event::Watched { told, .. } => told,
                other => unreachable!("{other:?} was not sent"),
            }
        })
    };
    Ok(Some(Watcher::start(&files.path, walk, tell)?))
}
