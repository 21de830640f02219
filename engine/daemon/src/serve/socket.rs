//! The daemon's side of the control socket: one request for each connection, from the same user or root.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use backstay_files::capture::CaptureProgress;
use backstay_wire::control::{Ask, CaptureReport, Reply, Request, VERSION};
use backstay_wire::frame;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::{Daemon, Event, progress_of};
use crate::control::socket_path;
use crate::failure::Failure;

/// Conversations at the same time.
const CONVERSATIONS_MAX: usize = 32;

/// How long a client may take to ask.
const ASK_TIME: Duration = Duration::from_secs(10);

/// How often progress is told.
const PROGRESS_PERIOD: Duration = Duration::from_millis(500);

/// The socket.
#[derive(Debug)]
pub(super) struct Listener(UnixListener);

impl Listener {
    /// Makes the socket; one that a daemon before has left is replaced, which the state lock makes safe.
    pub(super) fn bind(state: &Path) -> Result<Self, Failure> {
        let path = socket_path(state);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Failure::failed(format!("cannot replace {}: {error}", path.display())));
            }
            _ => {}
        }
        let bound = UnixListener::bind(&path)
            .and_then(|listener| {
                std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).map(|()| listener)
            })
            .map_err(|error| {
                Failure::failed(format!(
                    "cannot listen on {}: {error}; is the path too long?",
                    path.display()
                ))
            })?;
        Ok(Self(bound))
    }

    /// Answers for ever.
    pub(super) async fn serve(self, daemon: Arc<Daemon>, events: mpsc::Sender<Event>) {
        let conversations = Arc::new(Semaphore::new(CONVERSATIONS_MAX));
        loop {
            let Ok(permit) = Arc::clone(&conversations).acquire_owned().await else { return };
            let stream = match self.0.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "the control socket fails");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    continue;
                }
            };
            let (daemon, events) = (Arc::clone(&daemon), events.clone());
            tokio::spawn(async move {
                if let Err(error) = converse(stream, &daemon, &events).await {
                    tracing::debug!(%error, "a conversation on the control socket ended");
                }
                drop(permit);
            });
        }
    }
}

async fn converse(
    mut stream: UnixStream,
    daemon: &Daemon,
    events: &mpsc::Sender<Event>,
) -> anyhow::Result<()> {
    let peer = stream.peer_cred()?.uid();
    let own = rustix::process::geteuid().as_raw();
    anyhow::ensure!(peer == 0 || peer == own, "user {peer} may not ask the daemon of user {own}");
    let request = tokio::time::timeout(ASK_TIME, receive(&mut stream)).await??;
    if request.version > VERSION {
        let message = format!(
            "this daemon speaks version {VERSION} of the control protocol, the command version {}; restart the daemon after an upgrade",
            request.version
        );
        return send(&mut stream, &Reply::Failed { message }).await;
    }
    match request.ask {
        Ask::Status => send(&mut stream, &Reply::Status(Box::new(daemon.status()))).await,
        Ask::Now { sources } => now(&mut stream, daemon, events, sources).await,
    }
}

async fn now(
    stream: &mut UnixStream,
    daemon: &Daemon,
    events: &mpsc::Sender<Event>,
    typed: Vec<String>,
) -> anyhow::Result<()> {
    let sources = match named_sources(daemon, &typed) {
        Ok(sources) => sources,
        Err(message) => return send(stream, &Reply::Failed { message }).await,
    };
    let mut waiting = Vec::with_capacity(sources.len());
    for source in sources {
        let (reply, report) = oneshot::channel();
        let (started, progress) = oneshot::channel();
        events.send(Event::Now { source: source.clone(), reply, progress: started }).await?;
        waiting.push((source, report, progress));
    }
    let mut reports = Vec::with_capacity(waiting.len());
    for (source, report, progress) in waiting {
        reports.push(follow(stream, &source, report, progress).await?);
    }
    send(stream, &Reply::Captured(reports)).await
}

/// Tells progress until the report is there.
async fn follow(
    stream: &mut UnixStream,
    source: &str,
    mut report: oneshot::Receiver<CaptureReport>,
    progress: oneshot::Receiver<Arc<CaptureProgress>>,
) -> anyhow::Result<CaptureReport> {
    let progress = progress.await?;
    loop {
        tokio::select! {
            report = &mut report => return Ok(report?),
            () = tokio::time::sleep(PROGRESS_PERIOD) => {
                send(stream, &Reply::Progress(progress_of(source, &progress))).await?;
            }
        }
    }
}

fn named_sources(daemon: &Daemon, typed: &[String]) -> Result<Vec<String>, String> {
    let at_home = |name: &str| {
        daemon.config.sources_at_home_on(&daemon.config.node.name).any(|source| source.name.as_str() == name)
    };
    if typed.is_empty() {
        let all = daemon.config.sources_at_home_on(&daemon.config.node.name);
        return Ok(all.map(|source| source.name.to_string()).collect());
    }
    typed
        .iter()
        .map(|typed| {
            let source = daemon.config.find_source(typed).map_err(|error| error.to_string())?;
            let name = source.name.to_string();
            if at_home(&name) {
                Ok(name)
            } else {
                Err(format!("{name} is at home on another node; ask its daemon"))
            }
        })
        .collect()
}

async fn receive(stream: &mut UnixStream) -> anyhow::Result<Request> {
    let mut prefix = [0; frame::PREFIX_BYTES];
    stream.read_exact(&mut prefix).await?;
    let mut body = vec![0; frame::body_length(prefix)?];
    stream.read_exact(&mut body).await?;
    Ok(frame::decode(&body)?)
}

async fn send(stream: &mut UnixStream, reply: &Reply) -> anyhow::Result<()> {
    stream.write_all(&frame::encode(reply)?).await?;
    Ok(())
}
