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
    terminal::watched(what, || progress.told(), || upkeep::run(&engine, job, &progress))
}

fn follow(mut conversation: Conversation, what: &str) -> Result<UpkeepReport, Failure> {
    let mut line = ProgressLine::start(what);
    loop {
        match conversation.next()? {
            Reply::Progress(progress) => line.show(&progress),
            Reply::Upkept(report) => return Ok(*report),
            _ => return Err(unasked()),
        }
    }
}
