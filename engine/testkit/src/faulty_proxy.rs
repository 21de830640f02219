//! What can go wrong between a program and an HTTP service, on purpose: a proxy that answers otherwise, cuts off, or lets nothing
//! move any more. A service that is only started and stopped shows none of that.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::ETAG;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::random::Random;

/// What goes wrong with one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// The service says that it is too much (503, `SlowDown`).
    SlowDown,
    /// It says so in another way (429).
    TooMany,
    /// It has failed (500).
    Failed,
    /// The connection is cut off before the service gets the request.
    CutBefore,
    /// The connection is cut off when it was done, and before the answer.
    CutAfter,
    /// The answer breaks off in its middle.
    Truncated,
    /// The answer begins, and nothing comes any more.
    Stalled,
    /// The answer has another ETag.
    OtherEtag,
    /// One bit of what was asked for is another one.
    BitFlipped,
    /// One bit of what is sent to the service is another one.
    SentOtherwise,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::SlowDown,
        Self::TooMany,
        Self::Failed,
        Self::CutBefore,
        Self::CutAfter,
        Self::Truncated,
        Self::Stalled,
        Self::OtherEtag,
        Self::BitFlipped,
        Self::SentOtherwise,
    ];
}

/// Which faults there are, and how many.
#[derive(Debug)]
struct Plan {
    random: Random,
    /// Of so many requests one, in a hundred.
    in_a_hundred: usize,
    faults: Vec<Fault>,
    made: BTreeMap<Fault, u64>,
    requests: u64,
}

/// A proxy that runs until it is dropped.
#[derive(Debug)]
pub struct FaultyProxy {
    address: SocketAddr,
    plan: Arc<Mutex<Plan>>,
    serving: JoinHandle<()>,
}

impl FaultyProxy {
    /// A proxy in front of a service, by which nothing goes wrong yet. Within a runtime.
    pub async fn start(service: SocketAddr, seed: u64) -> Self {
        let plan = Plan {
            random: Random::new(seed),
            in_a_hundred: 0,
            faults: Vec::new(),
            made: BTreeMap::new(),
            requests: 0,
        };
        let plan = Arc::new(Mutex::new(plan));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let serving = tokio::spawn(serve(listener, service, Arc::clone(&plan)));
        Self { address, plan, serving }
    }

    /// Where it is reached.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on so many requests in a hundred go wrong, in one of these ways.
    pub fn fail(&self, in_a_hundred: usize, faults: &[Fault]) {
        let mut plan = lock(&self.plan);
        (plan.in_a_hundred, plan.faults) = (in_a_hundred, faults.to_vec());
    }

    /// How often each fault was made.
    pub fn made(&self) -> BTreeMap<Fault, u64> {
        lock(&self.plan).made.clone()
    }

    /// How many requests have come.
    pub fn requests(&self) -> u64 {
        lock(&self.plan).requests
    }
}

impl Drop for FaultyProxy {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Plan {
    /// What goes wrong with the next request, if anything does.
    fn next(&mut self) -> Option<Fault> {
        self.requests += 1;
        if self.faults.is_empty() || self.random.below(100) >= self.in_a_hundred {
            return None;
        }
        let faults = self.faults.clone();
        let fault = self.random.choose(&faults);
        *self.made.entry(fault).or_default() += 1;
        Some(fault)
    }
}

async fn serve(listener: TcpListener, service: SocketAddr, plan: Arc<Mutex<Plan>>) {
    let mut open = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        while open.try_join_next().is_some() {}
        let plan = Arc::clone(&plan);
        open.spawn(async move {
            let answer = service_fn(move |request| answer(request, service, Arc::clone(&plan)));
            let connection = hyper::server::conn::http1::Builder::new();
            // That it was cut off is what it is for.
            let _ = connection.serve_connection(TokioIo::new(stream), answer).await;
        });
    }
}

/// The connection is cut off.
#[derive(Debug, thiserror::Error)]
#[error("cut off on purpose")]
struct Cut;

async fn answer(
    request: Request<Incoming>,
    service: SocketAddr,
    plan: Arc<Mutex<Plan>>,
) -> Result<Response<Faulty>, Cut> {
    let fault = lock(&plan).next();
    let is_get = request.method() == Method::GET;
    match fault {
        Some(Fault::SlowDown) => return Ok(refusal(StatusCode::SERVICE_UNAVAILABLE, "SlowDown")),
        Some(Fault::TooMany) => return Ok(refusal(StatusCode::TOO_MANY_REQUESTS, "TooManyRequests")),
        Some(Fault::Failed) => return Ok(refusal(StatusCode::INTERNAL_SERVER_ERROR, "InternalError")),
        Some(Fault::CutBefore) => return Err(Cut),
        _ => {}
    }
    let (head, body) = request.into_parts();
    // What the program has given up is not done.
    let mut body = body.collect().await.map_err(|_| Cut)?.to_bytes();
    if fault == Some(Fault::SentOtherwise) {
        body = flipped(&body, &plan);
    }
    let request = Request::from_parts(head, Full::new(body));
    let (mut head, body) = forward(request, service).await.map_err(|_| Cut)?.into_parts();
    let whole = |bytes: Bytes| Faulty { announced: bytes.len() as u64, rest: bytes, end: End::Whole };
    let body = match fault {
        Some(Fault::CutAfter) => return Err(Cut),
        Some(Fault::Truncated | Fault::Stalled) if !body.is_empty() => Faulty {
            announced: body.len() as u64,
            rest: body.slice(..body.len() / 2),
            end: if fault == Some(Fault::Stalled) { End::Stall } else { End::Cut },
        },
        Some(Fault::OtherEtag) => {
            if let Ok(value) = "\"00000000000000000000000000000000\"".parse() {
                head.headers.insert(ETAG, value);
            }
            whole(body)
        }
        Some(Fault::BitFlipped) if is_get && head.status.is_success() => whole(flipped(&body, &plan)),
        _ => whole(body),
    };
    Ok(Response::from_parts(head, body))
}

/// The same with another bit somewhere, where there is any.
fn flipped(body: &Bytes, plan: &Mutex<Plan>) -> Bytes {
    let mut bytes = body.to_vec();
    if !bytes.is_empty() {
        let place = lock(plan).random.below(bytes.len());
        bytes[place] ^= 1;
    }
    bytes.into()
}

async fn forward(
    request: Request<Full<Bytes>>,
    service: SocketAddr,
) -> Result<Response<Bytes>, Box<dyn std::error::Error + Send + Sync>> {
    let stream = TcpStream::connect(service).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let answer = sender.send_request(request).await?;
    let (head, body) = answer.into_parts();
    let body = body.collect().await?.to_bytes();
    connection.abort();
    Ok(Response::from_parts(head, body))
}

fn refusal(status: StatusCode, code: &str) -> Response<Faulty> {
    let text =
        format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>on purpose</Message></Error>");
    let body = Faulty { announced: text.len() as u64, rest: text.into(), end: End::Whole };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
}

/// A body that may end otherwise than it was announced.
struct Faulty {
    announced: u64,
    rest: Bytes,
    end: End,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Whole,
    Cut,
    Stall,
}

impl Body for Faulty {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        if !self.rest.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.rest)))));
        }
        match self.end {
            End::Whole => Poll::Ready(None),
            End::Cut => Poll::Ready(Some(Err(Cut))),
            // Whoever waits goes away some time.
            End::Stall => Poll::Pending,
        }
    }

    /// As the head of the answer announces it.
    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.announced)
    }
}

fn lock(plan: &Mutex<Plan>) -> MutexGuard<'_, Plan> {
    plan.lock().unwrap_or_else(PoisonError::into_inner)
}
