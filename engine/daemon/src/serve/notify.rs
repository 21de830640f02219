//! What systemd is told (sd_notify(3)): that the daemon is ready, alive, and ending. Never waits: a manager that does not
//! listen for a while must keep nothing from being captured. What it could not be told is told again a little later.

use std::env;
use std::io::ErrorKind;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

/// How often something is told again that could not be.
const AGAIN: Duration = Duration::from_millis(100);

/// The manager of this process.
#[derive(Debug)]
pub(super) struct Manager {
    /// Where it listens; nowhere when this is no service.
    at: Option<(UnixDatagram, SocketAddr)>,
    /// How often it wants a sign of life.
    period: Option<Duration>,
    /// When it had the last one.
    last_sign: Instant,
    /// What it has not been told yet.
    owed: Option<&'static str>,
}

impl Manager {
    /// As the environment says.
    pub(super) fn of_environment() -> Self {
        let at = env::var("NOTIFY_SOCKET").ok().and_then(|place| connect(&place));
        Self { at, period: watchdog_period(), last_sign: Instant::now(), owed: None }
    }

    /// The daemon answers from now on.
    pub(super) fn ready(&mut self) {
        self.tell("READY=1");
    }

    /// It ends.
    pub(super) fn stopping(&mut self) {
        self.tell("STOPPING=1");
    }

    /// How long the daemon may sleep at most.
    pub(super) fn sleep_max(&self) -> Duration {
        let owed = if self.owed.is_some() { AGAIN } else { Duration::MAX };
        let sign =
            self.period.map_or(Duration::MAX, |period| period.saturating_sub(self.last_sign.elapsed()));
        owed.min(sign)
    }

    /// The loop comes round: gives a sign of life if it is time for one, and tells what is owed.
    pub(super) fn alive(&mut self) {
        if let Some(owed) = self.owed.take() {
            self.tell(owed);
        }
        if self.period.is_some_and(|period| self.last_sign.elapsed() >= period) {
            self.last_sign = Instant::now();
            // One that is lost is followed by others.
            self.send("WATCHDOG=1");
        }
    }

    fn tell(&mut self, what: &'static str) {
        self.owed = (!self.send(what)).then_some(what);
    }

    /// False when it is to be told again: there was no room.
    fn send(&self, what: &str) -> bool {
        let Some((socket, address)) = &self.at else { return true };
        match socket.send_to_addr(what.as_bytes(), address) {
            Err(error) => error.kind() != ErrorKind::WouldBlock,
            Ok(_) => true,
        }
    }
}

/// A socket that waits for nothing, and where it sends to: a path, or with an `@` a name that no file system has.
fn connect(place: &str) -> Option<(UnixDatagram, SocketAddr)> {
    let address = match place.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(place),
    };
    let socket = UnixDatagram::unbound().ok()?;
    socket.set_nonblocking(true).ok()?;
    Some((socket, address.ok()?))
}

/// Half of what systemd allows this process between two signs of life.
fn watchdog_period() -> Option<Duration> {
    let micros: u64 = env::var("WATCHDOG_USEC").ok()?.parse().ok()?;
    // Another process is watched when this one was started by it.
    let is_watched = env::var("WATCHDOG_PID").map_or(true, |pid| pid == std::process::id().to_string());
    (is_watched && micros > 0).then(|| Duration::from_micros(micros / 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_full_queue_does_not_take_is_told_later() {
        let folder = tempfile::tempdir().expect("a folder");
        let place = folder.path().join("notify");
        let listening = UnixDatagram::bind(&place).expect("binds");
        listening.set_nonblocking(true).expect("is set");
        let at = connect(place.to_str().expect("text"));
        let mut manager = Manager { at, period: None, last_sign: Instant::now(), owed: None };
        while manager.send("WATCHDOG=1") {}
        manager.stopping();
        assert_eq!((manager.owed, manager.sleep_max()), (Some("STOPPING=1"), AGAIN));
        let mut message = [0; 64];
        while listening.recv(&mut message).is_ok() {}
        manager.alive();
        assert_eq!((manager.owed, manager.sleep_max()), (None, Duration::MAX));
        let length = listening.recv(&mut message).expect("told");
        assert_eq!(&message[..length], b"STOPPING=1");
    }

    #[test]
    fn names_outside_of_file_systems_are_understood_and_nobody_is_no_error() {
        let name = format!("backstay-notify-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).expect("a name");
        let listening = UnixDatagram::bind_addr(&address).expect("binds");
        let at = connect(&format!("@{name}"));
        let period = Some(Duration::ZERO);
        let mut manager = Manager { at, period, last_sign: Instant::now(), owed: None };
        manager.alive();
        let mut message = [0; 64];
        let length = listening.recv(&mut message).expect("told");
        assert_eq!(&message[..length], b"WATCHDOG=1");
        let mut nobody = Manager {
            at: connect("/nonexistent/notify"),
            period: None,
            last_sign: Instant::now(),
            owed: None,
        };
        nobody.ready();
        assert_eq!(nobody.owed, None);
    }
}
