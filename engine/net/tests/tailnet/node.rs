//! A host of a rig with tailscaled. Owns how it is started and what an operator does there; what it answers is the test's.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;

use backstay_net::tailnet::{LocalApi, OwnNode, Peer, TailnetError};
use backstay_testkit::network::{Network, within};
use backstay_testkit::process::{Running, run, wait_for, word};
use tokio::runtime::Runtime;

use crate::headscale::Headscale;

/// A node. Its LocalAPI is reached from outside of its namespace, since its socket is a file.
pub(crate) struct Node {
    name: String,
    namespace: String,
    /// Its address outside of the tailnet.
    pub(crate) outside: Ipv4Addr,
    command_line: PathBuf,
    socket: PathBuf,
    api: LocalApi,
    runtime: Runtime,
    running: Running,
}

impl Node {
    /// Starts tailscaled on a new host. It has not logged in yet.
    pub(crate) fn start(programs: &Path, folder: &Path, network: &mut Network, name: &str) -> Self {
        let (namespace, outside) = network.host(name);
        let folder = folder.join(name);
        std::fs::create_dir(&folder).expect("a folder");
        let socket = folder.join("tailscaled.sock");
        let mut command = Command::new(programs.join("tailscaled"));
        command.arg("--statedir").arg(&folder).arg("--socket").arg(&socket);
        command.args(["--tun", "tailscale0", "--no-logs-no-support"]);
        // headscale relays over plain HTTP here, for want of a certificate.
        command.env("TS_DEBUG_USE_DERP_HTTP", "true");
        let running = Running::start(&namespace, &mut command, folder.join("log"));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        Self {
            name: name.to_owned(),
            namespace,
            outside,
            command_line: programs.join("tailscale"),
            api: LocalApi::at(&socket),
            socket,
            runtime,
            running,
        }
    }

    /// Logs in, and waits until it is connected.
    pub(crate) fn log_in(&self, headscale: &Headscale) -> OwnNode {
        let key = headscale.new_key();
        // tailscaled may not listen yet.
        wait_for("the login", || self.up(&["--authkey", &key]));
        wait_for("the connection", || self.status())
    }

    /// Connects again after it was stopped, and waits until it is.
    pub(crate) fn go_on(&self) -> OwnNode {
        self.up(&[]).expect("it goes on");
        wait_for("the connection", || self.status())
    }

    /// `tailscale up`, which wants all that is not by itself so each time.
    fn up(&self, arguments: &[&str]) -> Result<String, String> {
        let url = Headscale::url();
        let fixed = ["--netfilter-mode=off", "--accept-dns=false", "--timeout=15s", "--hostname", &self.name];
        self.tailscale(&[&["up", "--login-server", &url], &fixed[..], arguments].concat())
    }

    /// What `tailscale …` prints.
    pub(crate) fn tailscale(&self, arguments: &[&str]) -> Result<String, String> {
        run(&[&[word(&self.command_line), "--socket", word(&self.socket)], arguments].concat())
    }

    /// Its status by our client.
    pub(crate) fn status(&self) -> Result<OwnNode, TailnetError> {
        self.runtime.block_on(self.api.status())
    }

    /// Who is behind an address by our client.
    pub(crate) fn whois(&self, from: SocketAddr) -> Result<Peer, TailnetError> {
        self.runtime.block_on(self.api.whois(from))
    }

    /// What a future of our client gives.
    pub(crate) fn asked<T>(&self, question: impl AsyncFnOnce(&LocalApi) -> T) -> T {
        self.runtime.block_on(question(&self.api))
    }

    /// Opens a socket of this host.
    pub(crate) fn bind(&self, address: SocketAddr) -> std::io::Result<UdpSocket> {
        within(&self.namespace, || UdpSocket::bind(address))
    }

    /// Where a datagram seems to come from that this node sends to `receiver` from its address `own`.
    pub(crate) fn reaches(&self, own: IpAddr, receiver: &UdpSocket) -> SocketAddr {
        let sender = self.bind(SocketAddr::new(own, 0)).expect("its own address");
        let to = receiver.local_addr().expect("it is bound");
        receiver.set_nonblocking(true).expect("a socket");
        // The first ones are lost while the tunnel comes up.
        wait_for("a datagram", || {
            let _ = sender.send_to(self.name.as_bytes(), to);
            let mut content = [0; 64];
            let (length, from) = receiver.recv_from(&mut content)?;
            assert_eq!(&content[..length], self.name.as_bytes());
            Ok::<_, std::io::Error>(from)
        })
    }

    /// Ends tailscaled.
    pub(crate) fn end(&mut self) {
        self.running.end();
    }
}
