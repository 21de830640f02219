//! One question to tailscaled and its answer: HTTP/1.1 over a Unix socket. Owns the bounds of what is read; knows no question.
//! The limit on time is the caller's: everything here ends when its future is dropped.

use std::error::Error;
use std::path::Path;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::task::JoinSet;

use super::error::{TailnetError, excerpt};
use super::local_api::ANSWER_BYTES_MAX;

/// The only host that tailscaled takes over its socket: `LocalAPIHost` in `client/tailscale/apitype/apitype.go`.
const LOCAL_API_HOST: &str = "local-tailscaled.sock";

/// The room for the head of an answer. Go's server sends less than 1 KiB.
const HEAD_BYTES_MAX: usize = 64 << 10;

/// An answer, whatever it says.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Bytes,
}

/// Asks, and reads the answer whole.
pub(super) async fn ask(socket: &Path, question: &'static str, path: &str) -> Result<Answer, TailnetError> {
    let stream = UnixStream::connect(socket)
        .await
        .map_err(|error| TailnetError::of_connecting(socket.to_owned(), question, &error))?;
    let broken =
        |why: &dyn Error| TailnetError::Broken { socket: socket.to_owned(), question, why: chain(why) };
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(HEAD_BYTES_MAX)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| broken(&error))?;
    // Dropped with this future, and the connection with it.
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    let request = Request::get(path)
        .header(HOST, LOCAL_API_HOST)
        .body(Empty::<Bytes>::new())
        .map_err(|error| broken(&error))?;
    let (head, body) = sender.send_request(request).await.map_err(|error| broken(&error))?.into_parts();
    let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await.map_err(|error| {
        if error.is::<LengthLimitError>() {
            TailnetError::TooLarge { socket: socket.to_owned(), question, limit_bytes: ANSWER_BYTES_MAX }
        } else {
            broken(error.as_ref())
        }
    })?;
    Ok(Answer { status: head.status, body: body.to_bytes() })
}

/// An error with its causes, which hyper leaves out of its own text.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    excerpt(&text)
}
