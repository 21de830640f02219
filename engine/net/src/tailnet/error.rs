//! Why tailscaled gave no answer that can be used. Owns the difference between the reasons, what to do about each, and which
//! of them pass by themselves.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Why a question was not answered.
#[derive(Debug, thiserror::Error)]
pub enum TailnetError {
    /// Nothing listens on the socket.
    #[error(
        "tailscaled cannot be asked: nothing listens on {}. It is not installed, or does not run; install it, or start it with \
         `systemctl start tailscaled`", socket.display()
    )]
    Absent {
        /// The socket.
        socket: PathBuf,
    },
    /// This user may not ask.
    #[error(
        "tailscaled at {} must not be asked by user {uid}: {said}. By itself it lets every local user read; give this user \
         write permission to the socket and execute permission to its folder, or run Backstay as root", socket.display()
    )]
    Denied {
        /// The socket.
        socket: PathBuf,
        /// The effective user of this process.
        uid: u32,
        /// What the system or tailscaled said.
        said: String,
    },
    /// No answer came in time.
    #[error(
        "tailscaled at {} has not answered {question} within {} s; if it stays so, look at `journalctl -u tailscaled` and restart \
         it", socket.display(), limit.as_secs()
    )]
    TimedOut {
        /// The socket.
        socket: PathBuf,
        /// What was asked.
        question: &'static str,
        /// How long it was waited for.
        limit: Duration,
    },
    /// The connection was lost, or what came is no HTTP.
    #[error("the answer of {} to {question} could not be read: {why}; is it the socket of tailscaled?", socket.display())]
    Broken {
        /// The socket.
        socket: PathBuf,
        /// What was asked.
        question: &'static str,
        /// What failed.
        why: String,
    },
    /// The answer is larger than any that tailscaled gives.
    #[error(
        "the answer of {} to {question} has more than {limit_bytes} bytes and was not read; is it the socket of tailscaled?",
        socket.display()
    )]
    TooLarge {
        /// The socket.
        socket: PathBuf,
        /// What was asked.
        question: &'static str,
        /// The limit.
        limit_bytes: usize,
    },
    /// tailscaled refuses the question itself.
    #[error(
        "tailscaled refuses {question} with status {status}: {said}. Its version may be too old or too new; 1.86 and 1.98 are \
         known to work"
    )]
    Refused {
        /// What was asked.
        question: &'static str,
        /// The HTTP status.
        status: u16,
        /// What it said, cut.
        said: String,
    },
    /// The answer does not say what it must.
    #[error(
        "the answer of tailscaled to {question} is not understood: {why}. Its version may be too old or too new; 1.86 and 1.98 \
         are known to work"
    )]
    Malformed {
        /// What was asked.
        question: &'static str,
        /// What is wrong, cut.
        why: String,
    },
    /// tailscaled answers, but this node is not connected to its tailnet.
    #[error("this node is not on its tailnet: {}", .0.trouble())]
    NotRunning(BackendState),
    /// No node of the tailnet has this address.
    #[error(
        "{address} is not the address of a node of this tailnet; connect over the tailnet, with the address that `tailscale ip` \
         prints there"
    )]
    NotANode {
        /// The address that was asked for.
        address: SocketAddr,
    },
    /// tailscaled keeps its addresses to itself.
    #[error(
        "nothing can listen on this node's tailnet addresses: tailscaled runs with --tun=userspace-networking; run it with a TUN \
         device, or give an IP:PORT to listen on"
    )]
    Userspace,
}

impl TailnetError {
    /// Whether it may pass without anybody doing something: it is worth to ask again later.
    pub fn is_transient(&self) -> bool {
        match self {
            // A daemon that begins with the system is often there before tailscaled, and both may be restarted.
            Self::Absent { .. } | Self::TimedOut { .. } | Self::Broken { .. } => true,
            Self::NotRunning(state) => matches!(state, BackendState::NoState | BackendState::Starting),
            Self::Refused { status, .. } => *status >= 500,
            Self::Denied { .. }
            | Self::TooLarge { .. }
            | Self::Malformed { .. }
            | Self::NotANode { .. }
            | Self::Userspace => false,
        }
    }

    /// The error of a connection that could not be made.
    pub(super) fn of_connecting(socket: PathBuf, question: &'static str, error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused | io::ErrorKind::NotADirectory => {
                Self::Absent { socket }
            }
            io::ErrorKind::PermissionDenied => Self::denied(socket, error.to_string()),
            _ => Self::Broken { socket, question, why: error.to_string() },
        }
    }

    pub(super) fn denied(socket: PathBuf, said: String) -> Self {
        Self::Denied { socket, uid: rustix::process::geteuid().as_raw(), said }
    }
}

/// A state of tailscaled: `State` of its package `ipn`, in `ipn/backend.go`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BackendState {
    /// It has just begun.
    NoState,
    /// Another user of this machine has it; only on Windows.
    InUseOtherUser,
    /// It belongs to no tailnet, or its key has expired.
    NeedsLogin,
    /// It waits for an administrator of the tailnet.
    NeedsMachineAuth,
    /// An operator has stopped it.
    Stopped,
    /// It connects.
    Starting,
    /// It is connected.
    Running,
    /// One that this version does not know, cut.
    Other(String),
}

impl BackendState {
    /// The state of this name.
    pub(super) fn named(name: &str) -> Self {
        match name {
            "NoState" => Self::NoState,
            "InUseOtherUser" => Self::InUseOtherUser,
            "NeedsLogin" => Self::NeedsLogin,
            "NeedsMachineAuth" => Self::NeedsMachineAuth,
            "Stopped" => Self::Stopped,
            "Starting" => Self::Starting,
            "Running" => Self::Running,
            other => Self::Other(excerpt(other)),
        }
    }

    /// Why, and what to do.
    fn trouble(&self) -> String {
        match self {
            Self::NoState => "tailscaled has just begun; it is asked again".to_owned(),
            Self::Starting => {
                "tailscaled is still connecting; it is asked again. If it stays so, see `tailscale status`".to_owned()
            }
            Self::Stopped => "tailscaled was stopped; run `tailscale up`".to_owned(),
            Self::NeedsLogin => {
                "tailscaled is not logged in, or its key has expired; run `tailscale up` (with --login-server for Headscale)"
                    .to_owned()
            }
            Self::NeedsMachineAuth => {
                "it waits to be approved; an administrator of the tailnet approves it in the admin console".to_owned()
            }
            Self::InUseOtherUser => "another user of this machine has tailscaled; log that user out".to_owned(),
            Self::Running => "tailscaled was restarted meanwhile; it is asked again".to_owned(),
            Self::Other(_) => format!("tailscaled says {self}; see `tailscale status`"),
        }
    }
}

impl fmt::Display for BackendState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Other(name) => write!(f, "{name:?}"),
            known => write!(f, "{known:?}"),
        }
    }
}

/// The longest foreign text in a message, in characters.
const EXCERPT_CHARS_MAX: usize = 200;

/// The beginning of a foreign text, on one line and without what a terminal would act on.
pub(super) fn excerpt(text: &str) -> String {
    let shown = text.trim().chars().map(|c| if c.is_control() { ' ' } else { c });
    shown.take(EXCERPT_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(kind: io::ErrorKind) -> TailnetError {
        TailnetError::of_connecting("/run/t.sock".into(), "`status`", &io::Error::from(kind))
    }

    #[test]
    fn a_socket_that_is_not_served_is_not_taken_for_one_that_is_forbidden() {
        for kind in [io::ErrorKind::NotFound, io::ErrorKind::ConnectionRefused, io::ErrorKind::NotADirectory]
        {
            assert!(matches!(told(kind), TailnetError::Absent { .. }), "{kind}");
        }
        let denied = told(io::ErrorKind::PermissionDenied);
        assert!(matches!(denied, TailnetError::Denied { .. }) && !denied.is_transient(), "{denied}");
        // More connections wait than the socket takes: it is tried again.
        let busy = told(io::ErrorKind::WouldBlock);
        assert!(matches!(busy, TailnetError::Broken { .. }) && busy.is_transient(), "{busy}");
    }

    #[test]
    fn every_error_says_what_to_do() {
        let (socket, question) = (PathBuf::from("/run/t.sock"), "`whois`");
        for (error, advice) in [
            (told(io::ErrorKind::NotFound), "start it with"),
            (told(io::ErrorKind::PermissionDenied), "run Backstay as root"),
            (
                TailnetError::TimedOut { socket, question, limit: Duration::from_secs(5) },
                "within 5 s; if it stays so, look at `journalctl -u tailscaled`",
            ),
            (TailnetError::NotRunning(BackendState::NeedsLogin), "run `tailscale up`"),
            (TailnetError::Userspace, "give an IP:PORT"),
        ] {
            let text = error.to_string();
            assert!(text.contains(advice) && !text.contains("  "), "{text}");
        }
    }
}
