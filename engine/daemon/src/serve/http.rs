//! `/metrics`, `/healthz`, `/status.json` and the status page. Reading only: nothing here changes anything.

use std::convert::Infallible;
use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use backstay_core::config::ListenAddress;
use backstay_net::tailnet::LocalApi;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::Daemon;

/// Connections at the same time.
const CONNECTIONS_MAX: usize = 64;

/// How long until an address is tried again that could not be listened on.
const BIND_AGAIN: Duration = Duration::from_secs(5);

/// How long a connection may last.
const ANSWER_TIME: Duration = Duration::from_secs(30);

/// How long a client may take to send its request.
const HEADER_TIME: Duration = Duration::from_secs(10);

/// Listens and answers from now on, in the background. An address that cannot be listened on yet (a mesh that is not up,
/// a port that another process has) keeps nothing from being captured: it is said, and tried again.
pub(super) fn serve(daemon: Arc<Daemon>, address: ListenAddress) {
    tokio::spawn(async move {
        let mut said = false;
        let mut say = |why: String| {
            if !said {
                tracing::warn!(
                    "cannot serve metrics on {address}: {why}; tried again every {} s",
                    BIND_AGAIN.as_secs()
                );
                said = true;
            }
        };
        let api = daemon.config.node.tailscaled.as_ref().map_or_else(LocalApi::default, LocalApi::at);
        loop {
            match api.listen_on(address).await {
                Ok(addresses) => match listeners(&addresses).await {
                    Ok(listeners) => return accept_all(daemon, listeners).await,
                    Err(error) => say(format!("{error}. {}", advice(&error))),
                },
                Err(error) => say(error.to_string()),
            }
            tokio::time::sleep(BIND_AGAIN).await;
        }
    });
}

/// Listens on all of these; of several, on those of the families that this host has.
async fn listeners(addresses: &[SocketAddr]) -> std::io::Result<Vec<(TcpListener, SocketAddr)>> {
    let (mut listeners, mut failed) = (Vec::new(), None);
    for address in addresses {
        match TcpListener::bind(address).await {
            Ok(listener) => listeners.push((listener, *address)),
            Err(error) => failed = Some(error),
        }
    }
    match failed.filter(|_| listeners.is_empty()) {
        Some(error) => Err(error),
        None => Ok(listeners),
    }
}

async fn accept_all(daemon: Arc<Daemon>, listeners: Vec<(TcpListener, SocketAddr)>) {
    let accepting =
        listeners.into_iter().map(|(listener, address)| accept(Arc::clone(&daemon), listener, address));
    accepting.collect::<JoinSet<()>>().join_all().await;
}

fn advice(error: &std::io::Error) -> &'static str {
    match error.raw_os_error().map(rustix::io::Errno::from_raw_os_error) {
        Some(rustix::io::Errno::AFNOSUPPORT | rustix::io::Errno::ADDRNOTAVAIL) => {
            "Choose an address of this host for node.metrics; under systemd, the drop-in network.conf of the unit gives it a network"
        }
        _ => "Free the address, or choose another node.metrics",
    }
}

async fn accept(daemon: Arc<Daemon>, listener: TcpListener, address: SocketAddr) {
    let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(permit) = Arc::clone(&connections).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%address, %error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            }
        };
        let daemon = Arc::clone(&daemon);
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let daemon = Arc::clone(&daemon);
                async move { Ok::<_, Infallible>(answer(&daemon, &request)) }
            });
            let mut server = http1::Builder::new();
            server.timer(TokioTimer::new()).header_read_timeout(HEADER_TIME).keep_alive(false);
            let answered = server.serve_connection(TokioIo::new(stream), service);
            // Also one who does not read has its end.
            if let Ok(Err(error)) = tokio::time::timeout(ANSWER_TIME, answered).await {
                tracing::debug!(%error, "a connection ended");
            }
            drop(permit);
        });
    }
}

fn answer(daemon: &Daemon, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    if request.method() != Method::GET {
        return response(StatusCode::METHOD_NOT_ALLOWED, "text/plain", "only GET\n".into());
    }
    match request.uri().path() {
        "/metrics" => match daemon.render_metrics() {
            Ok(text) => response(StatusCode::OK, "text/plain; version=0.0.4", text.into()),
            Err(error) => response(StatusCode::INTERNAL_SERVER_ERROR, "text/plain", error.to_string().into()),
        },
        "/healthz" => response(StatusCode::OK, "text/plain", "ok\n".into()),
        "/status.json" => match serde_json::to_vec_pretty(&daemon.status()) {
            Ok(json) => response(StatusCode::OK, "application/json", json.into()),
            Err(error) => response(StatusCode::INTERNAL_SERVER_ERROR, "text/plain", error.to_string().into()),
        },
        "/" => response(StatusCode::OK, "text/html; charset=utf-8", page(daemon).into()),
        _ => response(StatusCode::NOT_FOUND, "text/plain", "/metrics /healthz /status.json /\n".into()),
    }
}

fn response(status: StatusCode, kind: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

fn page(daemon: &Daemon) -> String {
    let status = daemon.status();
    let mut rows = String::new();
    for flow in &status.flows {
        let exposure =
            flow.exposure_seconds.map_or_else(|| "unknown".to_owned(), |seconds| format!("{seconds:.0} s"));
        let cells = [
            &flow.source,
            &flow.target,
            &flow.state,
            &exposure,
            &format!("{:.0} s", flow.objective_seconds),
            flow.last_point.as_deref().unwrap_or("none"),
            flow.problem.as_deref().unwrap_or(""),
        ];
        let cells: String = cells.iter().map(|cell| format!("<td>{}</td>", escape(cell))).collect();
        // Writing to a string cannot fail.
        let _ = writeln!(rows, "<tr class=\"{}\">{cells}</tr>", escape(&flow.state));
    }
    format!(
        "<!doctype html><meta charset=utf-8><meta http-equiv=refresh content=15><title>Backstay {node}</title>\
         <style>body{{font:15px system-ui;margin:2em}}td,th{{padding:.3em .8em;text-align:left}}\
         .ok td:nth-child(3){{color:#070}}.late td:nth-child(3),.critical td:nth-child(3){{color:#b00}}</style>\
         <h1>{node} <small>{severity}</small></h1><table><tr><th>source<th>target<th>state<th>exposure<th>objective\
         <th>last point<th>problem</tr>{rows}</table><p>{time} · backstay {version}</p>",
        node = escape(&status.node),
        severity = escape(&status.severity),
        time = escape(&status.time),
        version = escape(&status.version),
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
