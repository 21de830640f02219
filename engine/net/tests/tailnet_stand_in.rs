//! The client of tailscaled against a stand-in: what it asks, what it makes of answers, and how it bears whatever is no answer.
//! The group `tailnet` asks real ones.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use backstay_core::config::ListenAddress;
use backstay_net::tailnet::{ANSWER_BYTES_MAX, BackendState, LocalApi, Peer, TailnetError, vouches};
use backstay_testkit::local_api::{Behaviour, LocalApiStandIn, StandInNode};
use hyper::StatusCode;

/// How long a question to something that hangs is waited for here.
const PATIENCE: Duration = Duration::from_millis(200);

struct Tailnet {
    stand_in: LocalApiStandIn,
    folder: tempfile::TempDir,
}

impl Tailnet {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let own = StandInNode::new("nOWN", "null.tail.net", &["100.64.0.2", "fd7a:115c:a1e0::2"]);
        let stand_in = LocalApiStandIn::start(&folder.path().join("tailscaled.sock"), own).expect("a socket");
        stand_in.know(&[StandInNode::new("nPEER", "foo.tail.net", &["100.64.0.9", "fd7a:115c:a1e0::9"])]);
        Self { stand_in, folder }
    }

    fn api(&self) -> LocalApi {
        LocalApi::at(self.stand_in.socket())
    }

    async fn trouble(&self, behaviour: Behaviour) -> TailnetError {
        self.stand_in.behave(behaviour);
        self.api().with_limit(PATIENCE).status().await.expect_err("no answer")
    }

    async fn whois(&self, from: &str) -> Result<Peer, TailnetError> {
        self.api().whois(from.parse().expect("an address")).await
    }
}

#[tokio::test]
async fn a_node_learns_who_it_is_on_the_tailnet() {
    let tailnet = Tailnet::new();
    let own = tailnet.api().status().await.unwrap();
    assert_eq!((own.stable_id.as_str(), own.name.as_str()), ("nOWN", "null.tail.net"));
    assert_eq!(tailnet.stand_in.asked(), ["/localapi/v0/status?peers=false"]);
}

#[tokio::test]
async fn listening_on_the_tailnet_is_listening_on_its_addresses_alone() {
    let tailnet = Tailnet::new();
    let sockets = tailnet.api().listen_on(ListenAddress::Tailnet { port: 7420 }).await.unwrap();
    let wanted: [SocketAddr; 2] =
        ["100.64.0.2:7420".parse().unwrap(), "[fd7a:115c:a1e0::2]:7420".parse().unwrap()];
    assert_eq!(sockets, wanted);
    tailnet.stand_in.lose_interface();
    let error =
        tailnet.api().listen_on(ListenAddress::Tailnet { port: 7420 }).await.expect_err("no interface");
    assert!(matches!(error, TailnetError::Userspace), "{error}");
}

#[tokio::test]
async fn a_peer_is_known_by_any_of_its_addresses() {
    let tailnet = Tailnet::new();
    for from in ["100.64.0.9:7420", "[fd7a:115c:a1e0::9]:7420", "[::ffff:100.64.0.9]:7420"] {
        let peer = tailnet.whois(from).await.unwrap();
        assert_eq!((peer.stable_id.as_str(), peer.host()), ("nPEER", "foo"), "{from}");
    }
}

#[tokio::test]
async fn an_address_elsewhere_is_no_node_of_the_tailnet() {
    let tailnet = Tailnet::new();
    for from in ["10.99.0.3:7420", "[2001:db8::1]:7420", "127.0.0.1:7420"] {
        let error = tailnet.whois(from).await.expect_err(from);
        assert!(matches!(error, TailnetError::NotANode { .. }), "{error}");
        assert!(error.to_string().contains(from), "{error}");
    }
}

#[tokio::test]
async fn nobody_is_vouched_for_while_this_node_is_not_connected() {
    let tailnet = Tailnet::new();
    tailnet.stand_in.enter("Stopped");
    for from in ["100.64.0.9:7420", "10.99.0.3:7420"] {
        let error = tailnet.whois(from).await.expect_err(from);
        assert!(matches!(error, TailnetError::NotRunning(BackendState::Stopped)), "{error}");
    }
}

#[tokio::test]
async fn a_node_that_was_registered_anew_is_not_the_one_that_was_bound() {
    let tailnet = Tailnet::new();
    let node = "cobblestone".parse().unwrap();
    let bound = tailnet.whois("100.64.0.9:7420").await.unwrap().stable_id;
    tailnet.stand_in.know(&[StandInNode::new("nNEW", "foo.tail.net", &["100.64.0.9"])]);
    let peer = tailnet.whois("100.64.0.9:7420").await.unwrap();
    let stranger = vouches(&node, &bound, &peer).expect_err("another node");
    assert_eq!((stranger.bound.as_str(), stranger.found.as_str()), ("nPEER", "nNEW"));
    assert_eq!(vouches(&node, &peer.stable_id, &peer), Ok(()));
}

#[tokio::test]
async fn states_in_which_it_cannot_be_reached_are_told() {
    let tailnet = Tailnet::new();
    for state in ["NeedsLogin", "Stopped", "Starting", "NoState", "NeedsMachineAuth"] {
        tailnet.stand_in.enter(state);
        let error = tailnet.api().status().await.expect_err(state);
        let TailnetError::NotRunning(told) = error else { panic!("{state}: {error}") };
        assert_eq!(told.to_string(), state);
    }
    tailnet.stand_in.enter("Running");
    tailnet.api().status().await.expect("it is asked anew each time");
}

#[tokio::test]
async fn a_socket_that_is_not_there_or_that_nobody_serves_is_no_tailscaled() {
    let tailnet = Tailnet::new();
    let absent = LocalApi::at(tailnet.folder.path().join("other.sock"));
    let left = tailnet.folder.path().join("left.sock");
    drop(std::os::unix::net::UnixListener::bind(&left).unwrap());
    for api in [absent, LocalApi::at(left)] {
        let error = api.status().await.expect_err("nobody listens");
        assert!(matches!(error, TailnetError::Absent { .. }), "{error}");
        assert!(error.is_transient() && error.to_string().contains("systemctl start tailscaled"), "{error}");
    }
}

#[tokio::test]
async fn a_socket_that_this_user_may_not_use_is_told_apart() {
    let tailnet = Tailnet::new();
    forbid(tailnet.stand_in.socket());
    // Root is let through; that tailscaled itself refuses is told the same way.
    let by_system = tailnet.api().status().await;
    let by_tailscaled =
        Err(tailnet.trouble(Behaviour::Says(StatusCode::FORBIDDEN, "status access denied".into())).await);
    let refusals = if rustix::process::geteuid().is_root() {
        by_system.expect("root may ask");
        vec![by_tailscaled]
    } else {
        vec![by_system]
    };
    for refusal in refusals {
        let error: TailnetError = refusal.expect_err("refused");
        assert!(matches!(error, TailnetError::Denied { .. }), "{error}");
        assert!(!error.is_transient() && error.to_string().contains("write permission"), "{error}");
    }
}

fn forbid(socket: &Path) {
    std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o000)).expect("our own socket");
}

#[tokio::test]
async fn a_tailscaled_that_hangs_is_given_up() {
    let tailnet = Tailnet::new();
    let start = Instant::now();
    let error = tailnet.trouble(Behaviour::Hangs).await;
    assert!(matches!(error, TailnetError::TimedOut { .. }) && error.is_transient(), "{error}");
    let half = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{";
    let error = tailnet.trouble(Behaviour::Sends(half.into())).await;
    assert!(matches!(error, TailnetError::Broken { .. }), "{error}");
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[tokio::test]
async fn what_is_no_http_is_told_and_not_shown_at_length() {
    let tailnet = Tailnet::new();
    let noise: Vec<u8> = (0..200_000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let mut endless = b"HTTP/1.1 200 OK\r\n".to_vec();
    endless.extend(b"X-Filler: ".iter().chain([b'a'; 200_000].iter()));
    for bytes in [noise, endless, b"SSH-2.0-OpenSSH_9.2\r\n".to_vec()] {
        let error = tailnet.trouble(Behaviour::Sends(bytes.into())).await;
        assert!(matches!(error, TailnetError::Broken { .. }), "{error}");
        assert!(error.to_string().len() < 600, "{error}");
    }
    let error = tailnet.trouble(Behaviour::HangsUp).await;
    assert!(matches!(error, TailnetError::Broken { .. }), "{error}");
}

#[tokio::test]
async fn an_answer_without_an_end_is_not_read_to_it() {
    let tailnet = Tailnet::new();
    let blank = |count| vec![b' '; count].into();
    let error = tailnet.trouble(Behaviour::Says(StatusCode::OK, blank(ANSWER_BYTES_MAX + 1))).await;
    assert!(matches!(error, TailnetError::TooLarge { .. }), "{error}");
    let error = tailnet.trouble(Behaviour::Says(StatusCode::OK, blank(ANSWER_BYTES_MAX))).await;
    assert!(matches!(error, TailnetError::Malformed { .. }), "{error}");
    let mut chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for _ in 0..=ANSWER_BYTES_MAX / 0x10000 {
        chunked.extend(b"10000\r\n".iter().chain(&[b' '; 0x10000]).chain(b"\r\n"));
    }
    let error = tailnet.trouble(Behaviour::Sends(chunked.into())).await;
    assert!(matches!(error, TailnetError::TooLarge { .. }), "{error}");
}

#[tokio::test]
async fn what_another_server_says_is_no_answer_of_tailscaled() {
    let tailnet = Tailnet::new();
    for (status, body) in [(StatusCode::OK, "<html>"), (StatusCode::OK, "[]"), (StatusCode::OK, "")] {
        let error = tailnet.trouble(Behaviour::Says(status, body.into())).await;
        assert!(matches!(error, TailnetError::Malformed { .. }), "{body:?}: {error}");
    }
    tailnet.stand_in.behave(Behaviour::Says(StatusCode::NOT_FOUND, "404 page not found\n".into()));
    let error = tailnet.whois("100.64.0.9:7420").await.expect_err("it knows no whois");
    assert!(matches!(error, TailnetError::Refused { status: 404, .. }), "{error}");
    let error = tailnet.trouble(Behaviour::Says(StatusCode::BAD_GATEWAY, "later\u{1b}[2J".into())).await;
    assert!(error.is_transient() && error.to_string().contains("later [2J"), "{error}");
}
