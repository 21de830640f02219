//! The connections to the service, with an eye on what moves over them: a request of which nothing moves any more is given up. The
//! protection that the SDK has against that takes a limit of the rate for a stall.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use aws_smithy_http_client::{Connector, tls};
use aws_smithy_runtime_api::client::connector_metadata::ConnectorMetadata;
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use backstay_vault::store::{OBJECT_BYTES_MAX, Pace, Way};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep, sleep_until};

/// How much goes between two looks, bytes.
const PIECE_BYTES: usize = 64 << 10;

/// How long it may take until there is a connection.
const CONNECT_MAX: Duration = Duration::from_secs(10);

/// A request with contents may stand still for so many times as long.
const BODY_FACTOR: u32 = 3;

/// Connections that stay open while nothing is asked over them.
const IDLE_MAX: usize = 16;

/// Gives the SDK its connections.
#[derive(Debug, Clone)]
pub(crate) struct Client(SharedHttpConnector);

impl Client {
    /// Of requests that keep to this pace, and are given up when nothing of them has moved for so long.
    pub(crate) fn new(pace: Arc<Pace>, stall: Duration) -> Self {
        Self(SharedHttpConnector::new(Watched { connections: Connections::new(), pace, stall }))
    }
}

impl HttpClient for Client {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        self.0.clone()
    }

    fn connector_metadata(&self) -> Option<ConnectorMetadata> {
        None
    }
}

/// The connections that there are. When one of them has stalled all of them are left behind: several requests may share one that is
/// dead, and each would be sent into it again.
#[derive(Debug, Clone)]
struct Connections(Arc<Mutex<Arc<Connector>>>);

impl Connections {
    fn new() -> Self {
        Self(Arc::new(Mutex::new(Self::fresh())))
    }

    fn fresh() -> Arc<Connector> {
        let settings = HttpConnectorSettings::builder().connect_timeout(CONNECT_MAX).build();
        let connector = Connector::builder()
            .connector_settings(settings)
            .pool_max_idle_per_host(IDLE_MAX)
            .tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::AwsLc))
            .build();
        Arc::new(connector)
    }

    fn current(&self) -> Arc<Connector> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Leaves these behind, unless somebody else has.
    fn leave(&self, stalled: &Arc<Connector>) {
        let mut current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if Arc::ptr_eq(&current, stalled) {
            *current = Self::fresh();
        }
    }
}

/// When something has moved last.
#[derive(Debug, Clone)]
struct Moved(Arc<Mutex<Instant>>);

impl Moved {
    fn now() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())))
    }

    fn note(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn last(&self) -> Instant {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
struct Watched {
    connections: Connections,
    pace: Arc<Pace>,
    stall: Duration,
}

impl HttpConnector for Watched {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let has_body = request.body().content_length() != Some(0);
        // What is buffered on this host goes before anything is seen to move.
        let stall = if has_body { self.stall * BODY_FACTOR } else { self.stall };
        let (moved, coming) = (Moved::now(), self.stall);
        let (noted, pace) = (moved.clone(), Arc::clone(&self.pace));
        // It is signed by now.
        let request = request.map(move |body| match body.content_length() {
            Some(0) => body,
            _ => SdkBody::from_body_1_x(Pieces {
                body,
                rest: Bytes::new(),
                waits: None,
                moved: noted.clone(),
                pace: Arc::clone(&pace),
            }),
        });
        let (connections, connector) = (self.connections.clone(), self.connections.current());
        let answer = connector.call(request);
        HttpConnectorFuture::new(async move {
            tokio::pin!(answer);
            loop {
                let until = moved.last() + stall;
                tokio::select! {
                    answer = &mut answer => {
                        // Also what the SDK reads by itself.
                        return answer.map(|answer| answer.map(move |body| {
                            let (connections, connector) = (connections.clone(), Arc::clone(&connector));
                            let leave = Box::new(move || connections.leave(&connector));
                            SdkBody::from_body_1_x(Coming {
                                body,
                                left: OBJECT_BYTES_MAX,
                                stall: coming,
                                timer: None,
                                leave,
                            })
                        }));
                    }
                    () = sleep_until(until) => {
                        if moved.last() + stall <= Instant::now() {
                            connections.leave(&connector);
                            let why = format!("nothing has moved for {} s", stall.as_secs());
                            return Err(ConnectorError::timeout(why.into()));
                        }
                    }
                }
            }
        })
    }
}

/// The body of an answer, which is given up when nothing of it comes any more.
struct Coming {
    body: SdkBody,
    /// Bytes that may come still: the SDK takes what it reads by itself into memory, however much a service sends.
    left: u64,
    stall: Duration,
    /// Since something is waited for.
    timer: Option<Pin<Box<Sleep>>>,
    /// Leaves the connection behind.
    leave: Box<dyn Fn() + Send + Sync>,
}

impl Body for Coming {
    type Data = Bytes;
    type Error = aws_smithy_types::body::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            self.timer = None;
            let length = match &frame {
                Some(Ok(frame)) => frame.data_ref().map_or(0, Bytes::len),
                _ => 0,
            };
            return Poll::Ready(match self.left.checked_sub(length as u64) {
                Some(left) => {
                    self.left = left;
                    frame
                }
                None => Some(Err("the answer is longer than any can be".into())),
            });
        }
        // From now on, and not while whoever reads has not asked.
        let stall = self.stall;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(stall)));
        ready!(timer.as_mut().poll(context));
        (self.leave)();
        let why = format!("nothing has come for {} s", stall.as_secs());
        Poll::Ready(Some(Err(why.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A body that goes a piece at a time.
struct Pieces {
    body: SdkBody,
    /// Of the last part that the body has given.
    rest: Bytes,
    /// Until the next piece may go.
    waits: Option<Pin<Box<Sleep>>>,
    moved: Moved,
    pace: Arc<Pace>,
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = aws_smithy_types::body::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.moved.note();
        if self.rest.is_empty() {
            match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.rest = data,
                    Err(other) => return Poll::Ready(Some(Ok(other))),
                },
                other => return Poll::Ready(other),
            }
        }
        let length = self.rest.len().min(PIECE_BYTES);
        if self.waits.is_none() {
            let wait = self.pace.take(Way::Up, length);
            self.waits = Some(Box::pin(sleep(wait)));
        }
        if let Some(waits) = &mut self.waits {
            ready!(waits.as_mut().poll(context));
        }
        self.waits = None;
        self.moved.note();
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(length)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.rest.len() as u64;
        match self.body.size_hint().exact() {
            Some(exact) => SizeHint::with_exact(exact + rest),
            None => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test]
    async fn an_answer_that_is_longer_than_any_can_be_is_cut_off() {
        let coming = |left| Coming {
            body: SdkBody::from("12345"),
            left,
            stall: Duration::from_secs(1),
            timer: None,
            leave: Box::new(|| {}),
        };
        for (left, is_read) in [(5, true), (4, false)] {
            let mut coming = coming(left);
            let frame = poll_fn(|context| Pin::new(&mut coming).poll_frame(context)).await.expect("a frame");
            assert_eq!(frame.is_ok(), is_read, "{left} bytes may come");
        }
    }
}
