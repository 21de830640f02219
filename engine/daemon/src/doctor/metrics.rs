//! The address of metrics and of the status page: whether the daemon answers there, or could. Asks the address, with a limit;
//! judging is pure.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use backstay_core::config::ListenAddress;
use backstay_net::tailnet::LocalApi;

use super::finding::Finding;
use super::words::Words;

const SUBJECT: &str = "metrics";

/// How long the daemon may take to answer.
const TIME: Duration = Duration::from_secs(5);

/// How much of an answer is looked at, bytes.
const ANSWER_BYTES: u64 = 4096;

/// What is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// The daemon, or something that answers as it does.
    Answers,
    /// Something else.
    Other(String),
    /// Nothing, and it can be listened on.
    Free,
    /// It cannot be listened on.
    Refused(String),
    /// The daemon ought to answer, and does not.
    Silent(String),
}

impl Found {
    /// Asks, or tries to listen where no daemon runs.
    pub fn look(address: SocketAddr, is_running: bool) -> Self {
        match ask(reachable(address)) {
            Ok(answer) if answer.contains("backstay") => Self::Answers,
            Ok(_) => Self::Other("it does not answer as Backstay does".to_owned()),
            Err(error) if is_running => Self::Silent(error.to_string()),
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => match TcpListener::bind(address) {
                Ok(_) => Self::Free,
                Err(error) => Self::Refused(error.to_string()),
            },
            Err(_) => match TcpListener::bind(address) {
                Ok(_) => Self::Free,
                Err(error) if error.kind() == ErrorKind::AddrInUse => {
                    Self::Other("it takes connections and does not answer".to_owned())
                }
                Err(error) => Self::Refused(error.to_string()),
            },
        }
    }
}

/// What is listened on everywhere is asked here.
fn reachable(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => SocketAddr::from(([127, 0, 0, 1], v4.port())),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => {
            SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], v6.port()))
        }
        other => other,
    }
}

fn ask(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, TIME)?;
    stream.set_read_timeout(Some(TIME))?;
    stream.set_write_timeout(Some(TIME))?;
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// The address that is listened on, where tailscaled has to be asked for it.
pub fn resolve(listen: ListenAddress, tailscaled: Option<PathBuf>) -> Result<SocketAddr, String> {
    if let ListenAddress::Socket(address) = listen {
        return Ok(address);
    }
    let api = tailscaled.map_or_else(LocalApi::default, LocalApi::at);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let addresses = runtime.block_on(api.listen_on(listen)).map_err(|error| error.to_string())?;
    addresses.first().copied().ok_or_else(|| "this node has no address on its tailnet".to_owned())
}

/// Judges an address that is not known.
pub fn unresolved(listen: ListenAddress, why: &str) -> Finding {
    Finding::warning(SUBJECT, "address", format!("the daemon cannot listen on {listen}: {why}"))
        .because("it tries again and captures meanwhile; an address of a mesh comes when the mesh is up")
}

/// Judges what is there.
pub fn judge(address: Option<SocketAddr>, found: Option<&Found>, words: &Words) -> Vec<Finding> {
    let setting =
        |finding: Finding, line: &str| finding.set(format!("{}, in [node]", words.node_file.display()), line);
    let untold = "nobody is told when something is late, unless something runs `backstay status --check`";
    let Some(address) = address else {
        let finding = Finding::note(SUBJECT, "address", "no metrics are served").because(untold);
        return vec![setting(finding, "metrics = \"127.0.0.1:9420\"")];
    };
    let Some(found) = found else {
        let what = format!("whether something answers at {address} was not known in time");
        return vec![
            Finding::warning(SUBJECT, "address", what)
                .because("nobody can scrape metrics or see the status page, if it goes on")
                .advise(format!("see what listens there: `ss -ltnp 'sport = :{}'`", address.port())),
        ];
    };
    let next = format!(
        "metrics = \"{}\"",
        SocketAddr::new(address.ip(), address.port().checked_add(1).unwrap_or(9421))
    );
    let mut findings = vec![match found {
        Found::Answers => Finding::ok(SUBJECT, "address", format!("the daemon answers at http://{address}/")),
        Found::Free => Finding::ok(SUBJECT, "address", format!("{address} is free for the daemon")),
        Found::Other(what) => setting(
            Finding::problem(SUBJECT, "address", format!("another program listens on {address}: {what}"))
                .because(format!("the daemon captures, and serves no metrics. `ss -ltnp 'sport = :{}'` says which it is", address.port())),
            &next,
        ),
        Found::Refused(why) => setting(
            Finding::warning(SUBJECT, "address", format!("the daemon cannot listen on {address}: {why}"))
                .because("it tries again and captures meanwhile; an address of a mesh comes when the mesh is up"),
            &format!("metrics = \"127.0.0.1:{}\"", address.port()),
        ),
        Found::Silent(why) => Finding::warning(SUBJECT, "address", format!("the daemon does not answer at {address}: {why}"))
            .because("nobody can scrape metrics or see the status page. Under systemd it takes the drop-in network.conf")
            .advise("see the daemon's log for why it cannot listen there: `journalctl -u backstay`"),
    }];
    if address.ip().is_unspecified() {
        let finding = Finding::warning(SUBJECT, "open", format!("{address} is every address of this host"))
            .because("there is no password: whoever reaches it sees names, sizes and times of all sources");
        findings.push(setting(finding, &format!("metrics = \"127.0.0.1:{}\"", address.port())));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::finding::{Fix, Level};
    use super::*;

    fn judged(address: &str, found: &Found) -> Vec<Level> {
        let words = Words::of_tests(0);
        let address: SocketAddr = address.parse().expect("an address");
        judge(Some(address), Some(found), &words).iter().map(|finding| finding.level).collect()
    }

    #[test]
    fn an_address_that_is_taken_or_open_to_all_is_told() {
        let local = "127.0.0.1:9420";
        assert_eq!(judged(local, &Found::Answers), [Level::Ok]);
        assert_eq!(judged(local, &Found::Free), [Level::Ok]);
        assert_eq!(judged(local, &Found::Other("x".into())), [Level::Problem]);
        assert_eq!(judged(local, &Found::Refused("x".into())), [Level::Warning]);
        assert_eq!(judged("0.0.0.0:9420", &Found::Answers), [Level::Ok, Level::Warning]);
    }

    #[test]
    fn what_is_not_configured_is_told_from_what_does_not_answer() {
        let judged = |address| judge(address, None, &Words::of_tests(0)).remove(0);
        let none = judged(None);
        assert_eq!(
            (none.level, none.fix.as_ref().map(Fix::text)),
            (Level::Note, Some("metrics = \"127.0.0.1:9420\""))
        );
        let late = judged(Some("127.0.0.1:9420".parse().expect("an address")));
        assert_eq!(late.level, Level::Warning);
        assert!(late.what.contains("127.0.0.1:9420 was not known in time"), "{late:?}");
        let nowhere = tempfile::tempdir().expect("a folder").path().join("tailscaled.sock");
        let listen = ListenAddress::Tailnet { port: 9420 };
        let why = resolve(listen, Some(nowhere)).expect_err("there is no tailscaled");
        let tailnet = unresolved(listen, &why);
        assert_eq!(tailnet.level, Level::Warning);
        assert!(tailnet.what.contains("tailnet:9420"), "{tailnet:?}");
    }

    #[test]
    fn what_listens_is_told_from_what_is_free() {
        let taken = TcpListener::bind("127.0.0.1:0").expect("listens");
        let address = taken.local_addr().expect("an address");
        std::thread::spawn(move || {
            while let Ok((mut stream, _)) = taken.accept() {
                let _ = stream.write_all(b"HTTP/1.1 404 Not Found\r\n\r\n");
            }
        });
        assert!(matches!(Found::look(address, false), Found::Other(_)));
        let free = TcpListener::bind("127.0.0.1:0").expect("listens").local_addr().expect("an address");
        assert_eq!(Found::look(free, false), Found::Free);
        assert!(matches!(Found::look(free, true), Found::Silent(_)));
    }
}
