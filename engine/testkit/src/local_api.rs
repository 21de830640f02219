//! A stand-in for tailscaled's LocalAPI: a Unix socket that says who this node is and who is behind an address, as a test has
//! arranged it. Owns the shape of the answers and the ways in which they go wrong; knows nothing of whoever asks.
//!
//! It runs on a thread of its own until it is dropped, so that tests with and without a runtime can use it, and tests of another
//! process as well. What it answers can be changed at any time.

use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::HOST;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

/// The largest question that is read. It comes in one piece.
const QUESTION_BYTES_MAX: usize = 4096;

/// What is done with a question.
#[derive(Debug, Clone, Default)]
pub enum Behaviour {
    /// It is answered.
    #[default]
    Answers,
    /// It is never answered.
    Hangs,
    /// The connection is closed without an answer.
    HangsUp,
    /// These bytes are sent, whatever they are, and the connection is closed.
    Sends(Bytes),
    /// It is answered with this status and body.
    Says(StatusCode, Bytes),
}

/// A node of the tailnet.
#[derive(Debug, Clone)]
pub struct StandInNode {
    /// Its stable identifier.
    pub stable_id: String,
    /// Its DNS name, without the last dot.
    pub name: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
}

impl StandInNode {
    /// A node with these addresses, which must be such.
    pub fn new(stable_id: &str, name: &str, addresses: &[&str]) -> Self {
        let addresses = addresses.iter().map(|text| text.parse().expect("an address")).collect();
        Self { stable_id: stable_id.to_owned(), name: name.to_owned(), addresses }
    }
}

#[derive(Debug)]
struct Script {
    own: StandInNode,
    state: String,
    has_interface: bool,
    peers: Vec<StandInNode>,
    behaviour: Behaviour,
    asked: Vec<String>,
}

/// The stand-in, for as long as it is kept.
#[derive(Debug)]
pub struct LocalApiStandIn {
    socket: PathBuf,
    script: Arc<Mutex<Script>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl LocalApiStandIn {
    /// Listens on this path for a node that is connected to a tailnet without other nodes.
    pub fn start(socket: &Path, own: StandInNode) -> io::Result<Self> {
        let listener = std::os::unix::net::UnixListener::bind(socket)?;
        listener.set_nonblocking(true)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        let script = Script {
            own,
            state: "Running".to_owned(),
            has_interface: true,
            peers: Vec::new(),
            behaviour: Behaviour::Answers,
            asked: Vec::new(),
        };
        let script = Arc::new(Mutex::new(script));
        let (stop, stopped) = oneshot::channel();
        let served = Arc::clone(&script);
        let thread = std::thread::Builder::new().name("local-api".to_owned()).spawn(move || {
            runtime.block_on(async {
                let listener = UnixListener::from_std(listener).expect("a socket within a runtime");
                tokio::select! {
                    () = serve(listener, served) => {}
                    _ = stopped => {}
                }
            });
        })?;
        Ok(Self { socket: socket.to_owned(), script, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it listens.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// This node is another one from now on, as after it was registered anew.
    pub fn become_node(&self, own: StandInNode) {
        self.script().own = own;
    }

    /// tailscaled is in this state from now on: `Running`, `Stopped`, `NeedsLogin`, …
    pub fn enter(&self, state: &str) {
        self.script().state = state.to_owned();
    }

    /// tailscaled runs without a TUN device from now on.
    pub fn lose_interface(&self) {
        self.script().has_interface = false;
    }

    /// These are the other nodes from now on.
    pub fn know(&self, peers: &[StandInNode]) {
        self.script().peers = peers.to_vec();
    }

    /// This is done with questions from now on, also with those of connections that are open.
    pub fn behave(&self, behaviour: Behaviour) {
        self.script().behaviour = behaviour;
    }

    /// What was asked so far: path and query.
    pub fn asked(&self) -> Vec<String> {
        self.script().asked.clone()
    }

    fn script(&self) -> MutexGuard<'_, Script> {
        locked(&self.script)
    }
}

impl Drop for LocalApiStandIn {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            // An error means that the thread has ended already.
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed; a second one here would hide the test's own.
            let _ = thread.join();
        }
        let _ = std::fs::remove_file(&self.socket);
    }
}

fn locked(script: &Mutex<Script>) -> MutexGuard<'_, Script> {
    script.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(listener: UnixListener, script: Arc<Mutex<Script>>) {
    // Dropped with this future, and all connections with it.
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(converse(stream, Arc::clone(&script)));
        while connections.try_join_next().is_some() {}
    }
}

async fn converse(mut stream: UnixStream, script: Arc<Mutex<Script>>) {
    let behaviour = locked(&script).behaviour.clone();
    match behaviour {
        Behaviour::Hangs => std::future::pending().await,
        Behaviour::HangsUp => read_question(&mut stream).await,
        Behaviour::Sends(bytes) => {
            read_question(&mut stream).await;
            // Whoever has seen enough closes the connection first.
            let _ = stream.write_all(&bytes).await;
        }
        Behaviour::Answers | Behaviour::Says(..) => {
            let answer = service_fn(|request: Request<Incoming>| {
                let answer = answer(&mut locked(&script), &request);
                async { Ok::<_, Infallible>(answer) }
            });
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
        }
    }
}

/// Reads what is there of a question: an answer to nothing would be another mistake than the one that is arranged.
async fn read_question(stream: &mut UnixStream) {
    let mut question = [0; QUESTION_BYTES_MAX];
    let _ = stream.read(&mut question).await;
}

fn answer(script: &mut Script, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let asked = request.uri().path_and_query().map_or_else(String::new, ToString::to_string);
    script.asked.push(asked);
    if let Behaviour::Says(status, body) = &script.behaviour {
        return said(*status, body.clone());
    }
    // tailscaled takes no other host: a page in a browser must not be able to ask.
    if request.headers().get(HOST).is_none_or(|host| host != "local-tailscaled.sock") {
        return said(StatusCode::FORBIDDEN, "invalid localapi request\n".into());
    }
    match request.uri().path() {
        "/localapi/v0/status" => shown(&status(script)),
        "/localapi/v0/whois" => whois(script, request.uri().query().unwrap_or_default()),
        _ => said(StatusCode::NOT_FOUND, "404 page not found\n".into()),
    }
}

fn status(script: &Script) -> Value {
    let Script { own, state, has_interface, .. } = script;
    let known = state != "NeedsLogin" && state != "NoState";
    json!({
        "Version": "1.98.10", "TUN": has_interface, "BackendState": state, "AuthURL": "", "HaveNodeKey": known,
        "TailscaleIPs": if known { json!(own.addresses) } else { Value::Null },
        "Self": {
            "ID": if known { own.stable_id.as_str() } else { "" }, "OS": "linux",
            "HostName": own.name.split('.').next(), "DNSName": format!("{}.", own.name),
            "TailscaleIPs": if known { json!(own.addresses) } else { Value::Null },
        },
        "Health": [], "Peer": null, "User": null,
    })
}

fn whois(script: &Script, query: &str) -> Response<Full<Bytes>> {
    let Some(address) = query.strip_prefix("addr=").and_then(address_of) else {
        return said(StatusCode::BAD_REQUEST, "invalid 'addr' parameter\n".into());
    };
    // It remembers other nodes while it is stopped, too.
    let nodes = script.peers.iter().chain([&script.own]);
    match nodes.filter(|_| script.state != "NeedsLogin").find(|node| node.addresses.contains(&address)) {
        None => said(StatusCode::NOT_FOUND, "no match for IP:port\n".into()),
        Some(node) => {
            let bits = |address: &IpAddr| if address.is_ipv4() { 32 } else { 128 };
            let prefixes: Vec<_> =
                node.addresses.iter().map(|address| format!("{address}/{}", bits(address))).collect();
            shown(&json!({
                "Node": {
                    "ID": 1, "StableID": node.stable_id, "Name": format!("{}.", node.name), "Online": true,
                    "Addresses": prefixes, "AllowedIPs": prefixes, "Hostinfo": { "OS": "linux" },
                },
                "UserProfile": { "ID": 1, "LoginName": "test", "DisplayName": "test" },
                "CapMap": null,
            }))
        }
    }
}

fn address_of(query: &str) -> Option<IpAddr> {
    let plain = query.replace("%5B", "[").replace("%5D", "]");
    plain.parse::<std::net::SocketAddr>().ok().map(|address| address.ip())
}

fn shown(value: &Value) -> Response<Full<Bytes>> {
    said(StatusCode::OK, value.to_string().into())
}

fn said(status: StatusCode, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response
}
