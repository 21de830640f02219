//! A stand-in for a service with buckets, in memory, that has what the real ones of the tests have not: versions, object lock, keys
//! that may not do everything. Knows one bucket, and as much of the protocol as a store asks for; believes every key what it says.

mod versions;

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONTENT_RANGE, ETAG, HeaderMap, IF_MATCH, IF_NONE_MATCH, RANGE};
use hyper::http::request::Parts;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// The bucket that there is.
pub const BUCKET: &str = "backups";

/// The checksum of nothing that is ever put: by it a wrong one is told from a right one.
const NO_SHA256: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

/// When everything was put that came by a request: never long ago. And what a test has put long ago.
const NOW: &str = "2999-01-01T00:00:00.000Z";
const LONG_AGO: &str = "2020-01-01T00:00:00.000Z";

/// What a service does with what not all know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It acts by it.
    Acted,
    /// It takes it, and it has no effect.
    Ignored,
    /// It refuses a request that has it.
    Refused,
}

/// How the service is.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Whether it keeps what is replaced or deleted.
    pub versions: bool,
    /// For how many days each version is locked, and whether some keys can end that before.
    pub lock: Option<(u32, &'static str)>,
    /// `If-None-Match: *`.
    pub conditional_put: Taken,
    /// `x-amz-checksum-sha256`.
    pub checksums: Taken,
    /// Whether the checksum is told again when a put is done.
    pub tells_checksums: bool,
    /// What keys may do; others may do everything.
    pub rights: HashMap<&'static str, Rights>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            versions: false,
            lock: None,
            conditional_put: Taken::Acted,
            checksums: Taken::Acted,
            tells_checksums: true,
            rights: HashMap::new(),
        }
    }
}

/// What a key may do, beside reading and listing.
#[derive(Debug, Clone, Copy)]
pub struct Rights {
    /// Put objects.
    pub put: bool,
    /// Delete objects.
    pub delete: bool,
    /// Delete versions of objects for good.
    pub delete_versions: bool,
    /// Ask how the bucket is, and list versions.
    pub ask: bool,
}

impl Rights {
    /// What a writer needs, and no more.
    pub const WRITER: Self = Self { put: true, delete: false, delete_versions: false, ask: false };
}

/// What an object is or was; a mark of its deletion has no content.
#[derive(Debug, Clone)]
struct Held {
    id: String,
    content: Option<Bytes>,
    time: &'static str,
}

#[derive(Debug)]
struct State {
    settings: Settings,
    /// Of each key what there is, oldest first.
    held: BTreeMap<String, Vec<Held>>,
    made: u64,
    /// What listings show, where that is not what there is.
    listed: Option<BTreeMap<String, Vec<Held>>>,
    /// Method and key of each request; of a listing, its prefix.
    requests: Vec<String>,
}

/// The service; runs until it is dropped.
#[derive(Debug)]
pub struct BucketStandIn {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    serving: JoinHandle<()>,
}

impl BucketStandIn {
    /// Starts one with an empty bucket. Within a runtime.
    ///
    /// # Panics
    /// Where there is no port.
    pub async fn start(settings: Settings) -> Self {
        let state = State { settings, held: BTreeMap::new(), made: 0, listed: None, requests: Vec::new() };
        let state = Arc::new(Mutex::new(state));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let serving = tokio::spawn(serve(listener, Arc::clone(&state)));
        Self { address, state, serving }
    }

    /// Where it is reached.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Changes how it is.
    pub fn set(&self, change: impl FnOnce(&mut Settings)) {
        change(&mut lock(&self.state).settings);
    }

    /// From now on listings show what there is now, whatever is done; or again what there is.
    pub fn list_the_past(&self, does: bool) {
        let mut state = lock(&self.state);
        state.listed = does.then(|| state.held.clone());
    }

    /// The keys of all objects that are there.
    pub fn keys(&self) -> Vec<String> {
        let state = lock(&self.state);
        let there = state.held.iter().filter(|(_, all)| newest(all).is_some());
        there.map(|(key, _)| key.clone()).collect()
    }

    /// How many versions and marks of deletion there are below a prefix, the newest included.
    pub fn versions_below(&self, prefix: &str) -> usize {
        let state = lock(&self.state);
        state.held.iter().filter(|(key, _)| key.starts_with(prefix)).map(|(_, all)| all.len()).sum()
    }

    /// Puts an object past all rights, long ago.
    pub fn put_long_ago(&self, key: &str, content: &[u8]) {
        lock(&self.state).put(key, Some(Bytes::copy_from_slice(content)), LONG_AGO);
    }

    /// Puts another content over an object, or deletes it where there is none, past all rights. As an intruder would, versions stay.
    pub fn spoil(&self, key: &str, content: Option<Bytes>) {
        lock(&self.state).put(key, content, NOW);
    }

    /// The requests since it was asked last: `PUT key`, `GET key?versions`, `LIST prefix`, …
    pub fn take_requests(&self) -> Vec<String> {
        std::mem::take(&mut lock(&self.state).requests)
    }
}

impl Drop for BucketStandIn {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn newest(all: &[Held]) -> Option<&Held> {
    all.last().filter(|held| held.content.is_some())
}

impl State {
    /// The id of the version that it is.
    fn put(&mut self, key: &str, content: Option<Bytes>, time: &'static str) -> String {
        self.made += 1;
        let id = if self.settings.versions { format!("v{}", self.made) } else { "null".to_owned() };
        let all = self.held.entry(key.to_owned()).or_default();
        if !self.settings.versions {
            all.clear();
        }
        let is_marked = content.is_none() && !self.settings.versions;
        if !is_marked {
            all.push(Held { id: id.clone(), content, time });
        }
        if all.is_empty() {
            self.held.remove(key);
        }
        id
    }
}

async fn serve(listener: TcpListener, state: Arc<Mutex<State>>) {
    let mut open = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        while open.try_join_next().is_some() {}
        let state = Arc::clone(&state);
        open.spawn(async move {
            let answer = service_fn(move |request| answer(request, Arc::clone(&state)));
            let connection = hyper::server::conn::http1::Builder::new();
            // The other side has gone.
            let _ = connection.serve_connection(TokioIo::new(stream), answer).await;
        });
    }
}

type Answer = Response<Full<Bytes>>;

async fn answer(request: Request<Incoming>, state: Arc<Mutex<State>>) -> Result<Answer, Infallible> {
    let (head, body) = request.into_parts();
    let Ok(body) = body.collect().await else {
        return Ok(refused(StatusCode::BAD_REQUEST, "IncompleteBody"));
    };
    let mut state = lock(&state);
    Ok(state.answer(&head, body.to_bytes()).unwrap_or_else(|refusal| *refusal))
}

impl State {
    fn answer(&mut self, head: &Parts, body: Bytes) -> Result<Answer, Box<Answer>> {
        let path = head.uri.path().trim_start_matches('/');
        let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
        let (key, query) = (decoded(key), queries(head.uri.query().unwrap_or("")));
        let asks = |name: &str| query.contains_key(name);
        let prefix = query.get("prefix").cloned().unwrap_or_default();
        let what = if asks("versions") { "?versions" } else { "" };
        self.requests.push(match asks("list-type") {
            true => format!("LIST {prefix}"),
            false => format!("{} {key}{what}", head.method),
        });
        if bucket != BUCKET {
            return Err(Box::new(refused(StatusCode::NOT_FOUND, "NoSuchBucket")));
        }
        let all = Rights { put: true, delete: true, delete_versions: true, ask: true };
        let rights = asker(&head.headers).and_then(|id| self.settings.rights.get(id).copied());
        let rights = rights.unwrap_or(all);
        let prefix = prefix.as_str();
        match (&head.method, key.as_str()) {
            (&Method::GET, "") if asks("versioning") => permitted(rights.ask, || self.versioning()),
            (&Method::GET, "") if asks("object-lock") => permitted(rights.ask, || self.object_lock()),
            (&Method::GET, "") if asks("versions") => permitted(rights.ask, || {
                let after = query.get("key-marker").zip(query.get("version-id-marker"));
                self.list_versions(prefix, after)
            }),
            (&Method::GET, "") if asks("uploads") => Ok(document("ListMultipartUploadsResult", "")),
            (&Method::GET, "") => Ok(self.list(prefix)),
            (&Method::GET, _) => self.get(&key, query.get("versionId"), &head.headers),
            (&Method::PUT, _) if rights.put => self.put_by(&key, body, &head.headers),
            (&Method::DELETE, _) => self.delete_by(rights, &key, query.get("versionId")),
            (&Method::PUT, _) => Err(Box::new(refused(StatusCode::FORBIDDEN, "AccessDenied"))),
            _ => Err(Box::new(refused(StatusCode::NOT_IMPLEMENTED, "NotImplemented"))),
        }
    }

    fn versioning(&self) -> Answer {
        let status = if self.settings.versions { "<Status>Enabled</Status>" } else { "" };
        document("VersioningConfiguration", status)
    }

    fn object_lock(&self) -> Answer {
        match self.settings.lock {
            None => refused(StatusCode::NOT_FOUND, "ObjectLockConfigurationNotFoundError"),
            Some((days, mode)) => document(
                "ObjectLockConfiguration",
                &format!(
                    "<ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention><Mode>{mode}</Mode>\
                     <Days>{days}</Days></DefaultRetention></Rule>"
                ),
            ),
        }
    }

    fn list(&self, prefix: &str) -> Answer {
        let mut text = String::new();
        let listed = self.listed.as_ref().unwrap_or(&self.held);
        let shown = listed.iter().filter(|(key, _)| key.starts_with(prefix));
        for (key, held) in shown.filter_map(|(key, all)| Some((key, newest(all)?))) {
            let bytes = held.content.as_ref().map_or(0, Bytes::len);
            let _ = write!(
                text,
                "<Contents><Key>{key}</Key><Size>{bytes}</Size><LastModified>{}</LastModified></Contents>",
                held.time
            );
        }
        document("ListBucketResult", &format!("<IsTruncated>false</IsTruncated>{text}"))
    }

    fn get(&self, key: &str, version: Option<&String>, headers: &HeaderMap) -> Result<Answer, Box<Answer>> {
        let missing = || Box::new(refused(StatusCode::NOT_FOUND, "NoSuchKey"));
        let all = self.held.get(key).ok_or_else(missing)?;
        let held = match version {
            Some(id) => all.iter().find(|held| held.id == *id),
            None => newest(all),
        };
        let content = held.and_then(|held| held.content.clone()).ok_or_else(missing)?;
        let etag = format!("\"{}\"", blake3::hash(&content).to_hex());
        if headers.get(IF_MATCH).is_some_and(|wanted| wanted.as_bytes() != etag.as_bytes()) {
            return Err(Box::new(refused(StatusCode::PRECONDITION_FAILED, "PreconditionFailed")));
        }
        let total = content.len();
        let (status, first, last) = match headers.get(RANGE).and_then(|range| range.to_str().ok()) {
            None => (StatusCode::OK, 0, total),
            Some(range) => {
                let ends = range.strip_prefix("bytes=").and_then(|range| range.split_once('-'));
                let ends = ends.and_then(|(first, last)| {
                    Some((first.parse::<usize>().ok()?, last.parse::<usize>().ok()?))
                });
                let (first, last) = ends
                    .filter(|(first, _)| *first < total)
                    .ok_or_else(|| Box::new(refused(StatusCode::RANGE_NOT_SATISFIABLE, "InvalidRange")))?;
                (StatusCode::PARTIAL_CONTENT, first, (last + 1).min(total))
            }
        };
        let answer = Response::builder().status(status).header(ETAG, etag);
        let answer = match status {
            StatusCode::PARTIAL_CONTENT => {
                answer.header(CONTENT_RANGE, format!("bytes {first}-{}/{total}", last - 1))
            }
            _ => answer,
        };
        Ok(answer.body(Full::new(content.slice(first..last))).expect("an answer"))
    }

    fn put_by(&mut self, key: &str, body: Bytes, headers: &HeaderMap) -> Result<Answer, Box<Answer>> {
        let refusal = |status, code| Err(Box::new(refused(status, code)));
        if headers.contains_key(IF_NONE_MATCH) {
            let is_there = self.held.get(key).is_some_and(|all| newest(all).is_some());
            match self.settings.conditional_put {
                Taken::Refused => return refusal(StatusCode::NOT_IMPLEMENTED, "NotImplemented"),
                Taken::Acted if is_there => {
                    return refusal(StatusCode::PRECONDITION_FAILED, "PreconditionFailed");
                }
                Taken::Acted | Taken::Ignored => {}
            }
        }
        let checksum = headers.get("x-amz-checksum-sha256").and_then(|sum| sum.to_str().ok());
        if checksum.is_none() && self.settings.lock.is_some() {
            return Err(Box::new(refused_with(
                StatusCode::BAD_REQUEST,
                "InvalidRequest",
                "Content-MD5 OR x-amz-checksum- HTTP header is required for Put Object requests with Object Lock parameters",
            )));
        }
        match (checksum, self.settings.checksums) {
            (Some(_), Taken::Refused) => return refusal(StatusCode::BAD_REQUEST, "InvalidArgument"),
            (Some(NO_SHA256), Taken::Acted) => return refusal(StatusCode::BAD_REQUEST, "BadDigest"),
            _ => {}
        }
        let etag = format!("\"{}\"", blake3::hash(&body).to_hex());
        let id = self.put(key, Some(body), NOW);
        let mut answer = Response::builder().header(ETAG, etag);
        if self.settings.versions {
            answer = answer.header("x-amz-version-id", id);
        }
        if let Some(checksum) = checksum.filter(|_| self.settings.tells_checksums) {
            answer = answer.header("x-amz-checksum-sha256", checksum);
        }
        Ok(answer.body(Full::default()).expect("an answer"))
    }

    fn delete_by(
        &mut self,
        rights: Rights,
        key: &str,
        version: Option<&String>,
    ) -> Result<Answer, Box<Answer>> {
        let denied = || Err(Box::new(refused(StatusCode::FORBIDDEN, "AccessDenied")));
        let done = Response::builder().status(StatusCode::NO_CONTENT);
        let Some(version) = version else {
            if !rights.delete {
                return denied();
            }
            let id = self.put(key, None, NOW);
            let done = match self.settings.versions {
                true => done.header("x-amz-delete-marker", "true").header("x-amz-version-id", id),
                false => done,
            };
            return Ok(done.body(Full::default()).expect("an answer"));
        };
        let all = self.held.get_mut(key);
        // A mark of deletion has no content to be locked.
        let is_locked = self.settings.lock.is_some()
            && all
                .as_ref()
                .is_some_and(|all| all.iter().any(|held| held.id == *version && held.content.is_some()));
        if !rights.delete_versions || is_locked {
            return denied();
        }
        if let Some(all) = all {
            all.retain(|held| held.id != *version);
        }
        self.held.retain(|_, all| !all.is_empty());
        Ok(done.body(Full::default()).expect("an answer"))
    }
}

/// The key by which a request is signed; whether it is, is believed.
fn asker(headers: &HeaderMap) -> Option<&str> {
    let signed = headers.get(AUTHORIZATION)?.to_str().ok()?;
    signed.split_once("Credential=")?.1.split('/').next()
}

fn queries(query: &str) -> HashMap<String, String> {
    let pair = |pair: &str| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decoded(name), decoded(value))
    };
    query.split('&').map(pair).collect()
}

/// Without percent encoding (RFC 3986, section 2.1).
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, more @ ..] = rest {
        let code = (*first == b'%')
            .then(|| more.get(..2).and_then(|hex| std::str::from_utf8(hex).ok()))
            .flatten()
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match code {
            Some(code) => {
                bytes.push(code);
                rest = &more[2..];
            }
            None => {
                bytes.push(*first);
                rest = more;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn permitted(may: bool, answer: impl FnOnce() -> Answer) -> Result<Answer, Box<Answer>> {
    if may { Ok(answer()) } else { Err(Box::new(refused(StatusCode::FORBIDDEN, "AccessDenied"))) }
}

fn document(tag: &str, content: &str) -> Answer {
    let text = format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?><{tag}>{content}</{tag}>");
    Response::new(Full::new(text.into()))
}

fn refused(status: StatusCode, code: &str) -> Answer {
    refused_with(status, code, "as it is set")
}

fn refused_with(status: StatusCode, code: &str, why: &str) -> Answer {
    let text = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>{why}</Message></Error>");
    let mut answer = Response::new(Full::new(text.into()));
    *answer.status_mut() = status;
    answer
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
