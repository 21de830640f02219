//! One conversation on the control socket: a request, and what is answered until it is done or the peer has hung up.

use std::sync::Arc;
use std::time::Duration;

use backstay_wire::control::{Ask, CaptureReport, Reply, Request, VERSION, Version};
use backstay_wire::frame;
use backstay_wire::progress::Progress;
use backstay_wire::upkeep::{Upkeep, UpkeepReport};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{ReadHalf, WriteHalf};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::asker::{Asker, Scope, Told};
use super::pruning::WantedPrune;
use super::upkeep::WantedJob;
use super::{Daemon, Event};
use crate::control::told as told_of;
use crate::engine::progress_of;
use crate::upkeep::{UpkeepProgress, named};
use crate::vaults::TrafficMeter;

/// How long a client may take to ask. Shorter than it waits for a status, which may have to wait for silent ones.
const ASK_TIME: Duration = Duration::from_secs(5);

/// How long a client may take to read an answer: one that is stopped does not keep its place.
const TELL_TIME: Duration = Duration::from_secs(10);

/// How often progress is told.
const PROGRESS_PERIOD: Duration = Duration::from_millis(500);

/// Warnings and remarks of each source, where a message cannot hold them all; the daemon's log has them.
const LINES_KEPT: usize = 5;

const TOO_MANY: &str =
    "too many commands wait for this daemon already; wait for one of them, or end it with Ctrl-C";

/// What conversations share.
#[derive(Debug)]
pub(super) struct Answering<'a> {
    pub(super) daemon: &'a Daemon,
    pub(super) events: &'a mpsc::Sender<Event>,
    /// Places for those who wait for captures.
    pub(super) waiting: &'a Semaphore,
}

impl Answering<'_> {
    /// Answers one request.
    pub(super) async fn converse(&self, mut stream: UnixStream) -> anyhow::Result<()> {
        let peer = stream.peer_cred()?.uid();
        let own = rustix::process::geteuid().as_raw();
        anyhow::ensure!(peer == 0 || peer == own, "user {peer} may not ask the daemon of user {own}");
        let (mut incoming, mut outgoing) = stream.split();
        // What was received goes here, and is wiped: a job may take hours, and a recovery key be in it.
        let asked = understood(&timeout(ASK_TIME, receive(&mut incoming)).await??);
        let reply = match asked {
            Err(message) => Reply::failed(message),
            Ok(ask) => match ask {
                Ask::Status => Reply::Status(Box::new(self.daemon.status())),
                Ask::Now { sources, hold } => {
                    self.want(&mut incoming, &mut outgoing, &sources, Scope::All, hold).await?
                }
                Ask::Due { sources } => {
                    self.want(&mut incoming, &mut outgoing, &sources, Scope::Due, None).await?
                }
                Ask::Prune { vault, trusts_clock } => {
                    self.prune(&mut incoming, &mut outgoing, vault, trusts_clock).await?
                }
                Ask::Upkeep(job) => self.upkeep(&mut incoming, &mut outgoing, job).await?,
            },
        };
        send(&mut outgoing, &reply).await
    }

    async fn prune(
        &self,
        incoming: &mut ReadHalf<'_>,
        outgoing: &mut WriteHalf<'_>,
        vault: String,
        trusts_clock: bool,
    ) -> anyhow::Result<Reply> {
        let Ok(_place) = self.waiting.try_acquire() else { return Ok(Reply::failed(TOO_MANY)) };
        if let Some(unknown) = self.unknown_of([vault.as_str()]) {
            return Ok(unknown);
        }
        let meter = self.daemon.engine.vaults().meter(&vault);
        let progress = || meter.as_ref().map(TrafficMeter::progress).unwrap_or_default();
        let (asker, told) = oneshot::channel();
        self.events.send(Event::PruneWanted { vault, wanted: WantedPrune { asker, trusts_clock } }).await?;
        Ok(match outcome(incoming, outgoing, told, progress).await? {
            Some(Ok(report)) => Reply::Pruned(report),
            Some(Err(message)) => Reply::failed(message),
            None => Reply::failed("the daemon is ending; the next prune goes on from here"),
        })
    }

    async fn upkeep(
        &self,
        incoming: &mut ReadHalf<'_>,
        outgoing: &mut WriteHalf<'_>,
        job: Upkeep,
    ) -> anyhow::Result<Reply> {
        let Ok(_place) = self.waiting.try_acquire() else { return Ok(Reply::failed(TOO_MANY)) };
        if let Some(unknown) = self.unknown_of(named(&job)) {
            return Ok(unknown);
        }
        let progress = Arc::new(UpkeepProgress::default());
        let (asker, told) = oneshot::channel();
        let wanted = WantedJob { job, progress: Arc::clone(&progress), asker };
        self.events.send(Event::UpkeepWanted(Box::new(wanted))).await?;
        let told = outcome(incoming, outgoing, told, || progress.told()).await;
        if told.is_err() {
            // One that waits still is not begun; this is so that what waits for it goes on at once.
            let _ = self.events.try_send(Event::AskerGone);
        }
        Ok(match told? {
            Some(Ok(report)) => upkept(report),
            Some(Err(failure)) => told_of(failure),
            None => Reply::failed("the daemon is ending before this is done; run the command again"),
        })
    }

    /// The answer to who asks for vaults of which the daemon does not know one.
    fn unknown_of<'v>(&self, vaults: impl IntoIterator<Item = &'v str>) -> Option<Reply> {
        let known = |vault: &str| {
            let mut known = self.daemon.config.vaults.keys();
            known.any(|name| name.as_str() == vault)
        };
        let unknown = vaults.into_iter().find(|vault| !known(vault))?;
        Some(Reply::failed(format!(
            "the daemon knows no vault {unknown:?}; it runs with the configuration of its start"
        )))
    }

    async fn want(
        &self,
        incoming: &mut ReadHalf<'_>,
        outgoing: &mut WriteHalf<'_>,
        typed: &[String],
        scope: Scope,
        hold: Option<String>,
    ) -> anyhow::Result<Reply> {
        let Ok(_place) = self.waiting.try_acquire() else { return Ok(Reply::failed(TOO_MANY)) };
        let sources = match named_sources(self.daemon, typed) {
            Ok(sources) => sources,
            Err(message) => return Ok(Reply::failed(message)),
        };
        let (asker, told) = Asker::new(sources.len());
        self.events.send(Event::Wanted { sources: sources.clone(), scope, hold, asker }).await?;
        let followed = follow(incoming, outgoing, told, sources.len()).await;
        if followed.is_err() {
            // That it listens no more is seen by itself; this is so that it is seen at once.
            let _ = self.events.try_send(Event::AskerGone);
        }
        let Some(mut reports) = followed? else {
            return Ok(Reply::failed("the daemon is ending; `backstay status` shows what is durable"));
        };
        let place = |report: &CaptureReport| sources.iter().position(|source| *source == report.source);
        reports.sort_by_key(place);
        Ok(captured(reports))
    }
}

/// Tells progress until all is told of so many sources; `None` when the daemon ends before.
async fn follow(
    incoming: &mut ReadHalf<'_>,
    outgoing: &mut WriteHalf<'_>,
    mut told: mpsc::Receiver<Told>,
    sources: usize,
) -> anyhow::Result<Option<Vec<CaptureReport>>> {
    let mut reports = Vec::new();
    let mut over = 0;
    let mut shown = None;
    let mut tick = interval(PROGRESS_PERIOD);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while over < sources {
        tokio::select! {
            told = told.recv() => match told {
                Some(Told::Started { source, progress }) => shown = Some((source, progress)),
                Some(Told::Captured(report)) => reports.push(report),
                Some(Told::Over) => over += 1,
                None => return Ok(None),
            },
            gone = hung_up(incoming) => return Err(gone),
            _ = tick.tick() => {
                let progress = shown.as_ref().map(|(source, progress)| progress_of(source, progress));
                send(outgoing, &Reply::Progress(progress.unwrap_or_default())).await?;
            }
        }
    }
    Ok(Some(reports))
}

/// Tells progress until there is an outcome; `None` when the daemon ends before.
async fn outcome<T>(
    incoming: &mut ReadHalf<'_>,
    outgoing: &mut WriteHalf<'_>,
    mut told: oneshot::Receiver<T>,
    progress: impl Fn() -> Progress,
) -> anyhow::Result<Option<T>> {
    let mut tick = interval(PROGRESS_PERIOD);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            told = &mut told => return Ok(told.ok()),
            gone = hung_up(incoming) => return Err(gone),
            _ = tick.tick() => send(outgoing, &Reply::Progress(progress())).await?,
        }
    }
}

/// The report on a job, with fewer lines where a message cannot hold them.
fn upkept(mut report: UpkeepReport) -> Reply {
    loop {
        let reply = Reply::Upkept(Box::new(report.clone()));
        match frame::encode(&reply) {
            Ok(_) => return reply,
            Err(_) if report.shorten() => {}
            Err(error) => {
                return Reply::failed(format!("it is done, and what became of it cannot be told: {error}"));
            }
        }
    }
}

/// Waits until the peer is gone, and says so; it has nothing more to say.
async fn hung_up(incoming: &mut ReadHalf<'_>) -> anyhow::Error {
    match incoming.read_u8().await {
        Ok(_) => anyhow::anyhow!("the client talks out of turn"),
        Err(error) => error.into(),
    }
}

/// The reports, with fewer lines where a message cannot hold them.
fn captured(mut reports: Vec<CaptureReport>) -> Reply {
    let reply = Reply::Captured(reports.clone());
    if frame::encode(&reply).is_ok() {
        return reply;
    }
    for report in &mut reports {
        let more = report.warnings.len().saturating_sub(LINES_KEPT);
        report.warnings.truncate(LINES_KEPT);
        report.remarks.truncate(LINES_KEPT);
        if more > 0 {
            report.warnings.push(format!("{more} more; the daemon's log has them"));
        }
    }
    let reply = Reply::Captured(reports);
    match frame::encode(&reply) {
        Ok(_) => reply,
        Err(error) => Reply::failed(format!(
            "what became of the captures cannot be told: {error}; see `backstay status`"
        )),
    }
}

/// The sources that are meant, each once.
fn named_sources(daemon: &Daemon, typed: &[String]) -> Result<Vec<String>, String> {
    let config = &daemon.config;
    let at_home = || config.captured_here();
    if typed.is_empty() {
        return Ok(at_home().map(|source| source.name.to_string()).collect());
    }
    let mut meant = Vec::new();
    for typed in typed {
        let source = config.find_source(typed).map_err(|error| {
            format!("{error}. The daemon runs with the configuration of its start: restart it after a change")
        })?;
        if !at_home().any(|own| own.name == source.name) {
            return Err(format!("{} is at home on another node; ask its daemon", source.name));
        }
        if !meant.iter().any(|name| name == source.name.as_str()) {
            meant.push(source.name.to_string());
        }
    }
    Ok(meant)
}

/// What is asked, if this version knows it; the version is looked at before anything else.
fn understood(body: &[u8]) -> Result<Ask, String> {
    let Version { version } = frame::decode(body).map_err(|error| error.to_string())?;
    if version > VERSION {
        return Err(format!(
            "this daemon speaks version {VERSION} of the control protocol, the command version {version}; restart the daemon after an upgrade"
        ));
    }
    let request: Request = frame::decode(body).map_err(|error| error.to_string())?;
    Ok(request.ask)
}

async fn receive(incoming: &mut ReadHalf<'_>) -> anyhow::Result<frame::Wiped> {
    let mut prefix = [0; frame::PREFIX_BYTES];
    incoming.read_exact(&mut prefix).await?;
    let mut body = frame::body_of(prefix)?;
    incoming.read_exact(&mut body).await?;
    Ok(body)
}

async fn send(outgoing: &mut WriteHalf<'_>, reply: &Reply) -> anyhow::Result<()> {
    timeout(TELL_TIME, outgoing.write_all(&frame::encode(reply)?)).await??;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_became_of_many_captures_fits_into_a_message_with_fewer_lines() {
        let line = "a file that changed while it was read, with a path of some length".to_owned();
        let report = |lines| CaptureReport {
            warnings: vec![line.clone(); lines],
            remarks: vec![line.clone(); lines],
            ..CaptureReport::of_nothing("data.files")
        };
        let Reply::Captured(few) = captured(vec![report(20)]) else { panic!("not told") };
        assert_eq!(few, [report(20)]);
        let Reply::Captured(many) = captured(vec![report(1000); 100]) else { panic!("not told") };
        assert_eq!(many.len(), 100);
        assert_eq!(many[99].warnings.last().map(String::as_str), Some("995 more; the daemon's log has them"));
        assert!(frame::encode(&Reply::Captured(many)).is_ok());
    }
}
