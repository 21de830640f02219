//! Has the daemon do what changes a vault, or does it where none runs.

use backstay_wire::control::{Ask, Reply};
use backstay_wire::upkeep::{Upkeep, UpkeepReport};

use super::{Context, capture};
use crate::control::{Conversation, unasked};
use crate::failure::Failure;
use crate::terminal::{self, ProgressLine};
use crate::upkeep::{self, UpkeepProgress};

/// What became of a job; a progress line that begins with `what` tells how far it is.
pub(super) fn done(context: &Context, what: &str, job: &Upkeep) -> Result<UpkeepReport, Failure> {
    // Before the daemon is asked: it would have to find out the same.
    upkeep::named(job).into_iter().try_for_each(|vault| context.refuse_unknown(vault))?;
    if let Some(conversation) = Conversation::ask(&context.config.node.state, Ask::Upkeep(job.clone()))? {
        return follow(conversation, what);
    }
    let (engine, _lock) = capture::engine(context)?;
    let progress = UpkeepProgress::default();
    terminal::watched(what, || progress.figures(), || upkeep::run(&engine, job, &progress))
}

fn follow(mut conversation: Conversation, what: &str) -> Result<UpkeepReport, Failure> {
    let line = ProgressLine::start(what);
    let report = loop {
        match conversation.next()? {
            Reply::Progress(progress) if progress.entries > 0 => {
                line.show(progress.entries, progress.read_bytes);
            }
            Reply::Progress(_) => {}
            Reply::Upkept(report) => break *report,
            _ => return Err(unasked()),
        }
    };
    line.end();
    Ok(report)
}
