//! The client's side of the control socket: asks the daemon of this node, if one answers.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use backstay_wire::control::{Ask, Fault, Reply, Request, VERSION};
use backstay_wire::frame;

use crate::failure::{Exit, Failure};
use crate::node::advice;

/// How long the daemon may take to tell how it is.
const STATUS_TIME: Duration = Duration::from_secs(10);

/// Where the socket of a node is.
pub fn socket_path(state: &Path) -> PathBuf {
    state.join("control.sock")
}

/// A question that was put to the daemon.
#[derive(Debug)]
pub struct Conversation(UnixStream);

impl Conversation {
    /// Asks the daemon; `None` when there is none.
    pub fn ask(state: &Path, ask: Ask) -> Result<Option<Self>, Failure> {
        let path = socket_path(state);
        let mut stream = match UnixStream::connect(&path) {
            Ok(stream) => stream,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
                return Ok(None);
            }
            Err(error) => {
                return Err(Failure::failed(format!(
                    "cannot reach the daemon at {}: {error}; {}",
                    path.display(),
                    advice(&path, &error)
                )));
            }
        };
        // Of what takes longer, progress is told.
        stream.set_read_timeout(Some(STATUS_TIME)).map_err(lost)?;
        stream.set_write_timeout(Some(STATUS_TIME)).map_err(lost)?;
        let request = frame::encode(&Request { version: VERSION, ask })?;
        stream.write_all(&request).map_err(lost)?;
        Ok(Some(Self(stream)))
    }

    /// The next answer; what the daemon has refused, or could not do, is a failure.
    pub fn next(&mut self) -> Result<Reply, Failure> {
        let mut prefix = [0; frame::PREFIX_BYTES];
        self.0.read_exact(&mut prefix).map_err(lost)?;
        let mut body = frame::body_of(prefix)?;
        self.0.read_exact(&mut body).map_err(lost)?;
        match frame::decode(&body)? {
            Reply::Failed { message, fault } => Err(failure(message, fault)),
            reply => Ok(reply),
        }
    }
}

/// An answer that does not belong to the question.
pub fn unasked() -> Failure {
    Failure::failed("the daemon gave an answer that was not asked for")
}

/// What the daemon tells of a failure.
pub fn told(failure: Failure) -> Reply {
    let fault = match failure.exit {
        Exit::Failed => Fault::Failed,
        Exit::Usage => Fault::Usage,
        Exit::Partly => Fault::Partly,
    };
    Reply::Failed { message: failure.message, fault }
}

fn failure(message: String, fault: Fault) -> Failure {
    match fault {
        Fault::Failed => Failure::failed(message),
        Fault::Usage => Failure::usage(message),
        Fault::Partly => Failure::partly(message),
    }
}

fn lost(error: std::io::Error) -> Failure {
    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) {
        return Failure::failed(format!(
            "the daemon has not answered within {} seconds: it hangs, or too many commands ask it; its log may tell why, and a restart loses nothing that is durable",
            STATUS_TIME.as_secs()
        ));
    }
    Failure::failed(format!(
        "the daemon ended the conversation: {error}; it may have been stopped, `backstay status` shows what is durable"
    ))
}
