//! One conversation on the control socket: a request, and what is answered until it is done or the peer has hung up.

use std::time::Duration;

use backstay_core::config::VaultKind;
use backstay_files::capture::CaptureProgress;
use backstay_wire::control::{Ask, CaptureReport, Progress, Reply, Request, VERSION, Version};
use backstay_wire::frame;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{ReadHalf, WriteHalf};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::asker::{Asker, Scope, Told};
use super::{Daemon, Event};

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
        let body = timeout(ASK_TIME, receive(&mut incoming)).await??;
        let reply = match understood(&body) {
            Err(message) => Reply::Failed { message },
            Ok(ask) => match ask {
                Ask::Status => Reply::Status(Box::new(self.daemon.status())),
                Ask::Now { sources, hold } => {
                    self.want(&mut incoming, &mut outgoing, &sources, Scope::All, hold).await?
                }
                Ask::Due { sources } => {
                    self.want(&mut incoming, &mut outgoing, &sources, Scope::Due, None).await?
                }
                Ask::Prune { vault } => self.prune(&mut incoming, &mut outgoing, vault).await?,
            },
        };
        send(&mut outgoing, &reply).await
    }

    async fn prune(
        &self,
        incoming: &mut ReadHalf<'_>,
        outgoing: &mut WriteHalf<'_>,
        vault: String,
    ) -> anyhow::Result<Reply> {
        let known = self.daemon.config.vaults.iter().find(|(name, _)| name.as_str() == vault);
        if !known.is_some_and(|(_, vault)| matches!(vault.kind, VaultKind::Dir(_))) {
            let message = format!(
                "the daemon knows no `dir` vault {vault:?}; it runs with the configuration of its start"
            );
            return Ok(Reply::Failed { message });
        }
        let Ok(_place) = self.waiting.try_acquire() else {
            return Ok(Reply::Failed { message: TOO_MANY.to_owned() });
        };
        let (asker, mut told) = oneshot::channel();
        self.events.send(Event::PruneWanted { vault, asker }).await?;
        let mut tick = interval(PROGRESS_PERIOD);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                told = &mut told => return Ok(match told {
                    Ok(Ok(report)) => Reply::Pruned(report),
                    Ok(Err(message)) => Reply::Failed { message },
                    Err(_) => Reply::Failed {
                        message: "the daemon is ending; the next prune goes on from here".to_owned(),
                    },
                }),
                gone = hung_up(incoming) => return Err(gone),
                _ = tick.tick() => send(outgoing, &Reply::Progress(Progress::default())).await?,
            }
        }
    }

    async fn want(
        &self,
        incoming: &mut ReadHalf<'_>,
        outgoing: &mut WriteHalf<'_>,
        typed: &[String],
        scope: Scope,
        hold: Option<String>,
    ) -> anyhow::Result<Reply> {
        let Ok(_place) = self.waiting.try_acquire() else {
            return Ok(Reply::Failed { message: TOO_MANY.to_owned() });
        };
        let sources = match named_sources(self.daemon, typed) {
            Ok(sources) => sources,
            Err(message) => return Ok(Reply::Failed { message }),
        };
        let (asker, told) = Asker::new(sources.len());
        self.events.send(Event::Wanted { sources: sources.clone(), scope, hold, asker }).await?;
        let followed = follow(incoming, outgoing, told, sources.len()).await;
        if followed.is_err() {
            // That it listens no more is seen by itself; this is so that it is seen at once.
            let _ = self.events.try_send(Event::AskerGone);
        }
        let Some(mut reports) = followed? else {
            let message = "the daemon is ending; `backstay status` shows what is durable".to_owned();
            return Ok(Reply::Failed { message });
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
        Err(error) => Reply::Failed {
            message: format!("what became of the captures cannot be told: {error}; see `backstay status`"),
        },
    }
}

/// As the control socket tells it.
fn progress_of(source: &str, progress: &CaptureProgress) -> Progress {
    Progress {
        source: source.to_owned(),
        entries: progress.entries(),
        read_bytes: progress.read_bytes(),
        stored_bytes: progress.stored_bytes(),
    }
}

/// The sources that are meant, each once.
fn named_sources(daemon: &Daemon, typed: &[String]) -> Result<Vec<String>, String> {
    let config = &daemon.config;
    let at_home = || config.sources_at_home_on(&config.node.name);
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

async fn receive(incoming: &mut ReadHalf<'_>) -> anyhow::Result<Vec<u8>> {
    let mut prefix = [0; frame::PREFIX_BYTES];
    incoming.read_exact(&mut prefix).await?;
    let mut body = vec![0; frame::body_length(prefix)?];
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
