//! The daemon's side of the control socket: it listens, and bounds the conversations.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixListener;
use tokio::sync::{Semaphore, mpsc};

use super::conversation::Answering;
use super::{Daemon, Event};
use crate::control::socket_path;
use crate::failure::Failure;

/// Conversations at the same time.
const CONVERSATIONS_MAX: usize = 32;

/// Conversations that wait for captures; a status can always be asked for.
const WAITING_MAX: usize = CONVERSATIONS_MAX - 1;

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
        let waiting = Arc::new(Semaphore::new(WAITING_MAX));
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
            let (daemon, events, waiting) = (Arc::clone(&daemon), events.clone(), Arc::clone(&waiting));
            tokio::spawn(async move {
                let answering = Answering { daemon: &daemon, events: &events, waiting: &waiting };
                if let Err(error) = answering.converse(stream).await {
                    tracing::debug!(%error, "a conversation on the control socket ended");
                }
                drop(permit);
            });
        }
    }
}
