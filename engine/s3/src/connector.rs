//! The connections to the service, with an eye on what moves over them: a request of which nothing moves any more is given up. The
//! protection that the SDK has against that takes a limit of the rate for a stall.

use std::sync::{Arc, LazyLock, Mutex, PoisonError};
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
use backstay_vault::store::Pace;
use tokio::time::{Instant, sleep_until};

use crate::bodies::{Coming, Going};

/// How long it may take until there is a connection.
const CONNECT_MAX: Duration = Duration::from_secs(10);

/// A request with contents may stand still for so many times as long.
const BODY_FACTOR: u32 = 3;

/// Connections that stay open while nothing is asked over them.
const IDLE_MAX: usize = 16;

/// Whether this host knows an authority by which the certificate of a service could be believed. Looked up once, as the SDK does.
static KNOWS_AUTHORITIES: LazyLock<bool> = LazyLock::new(|| {
    let known = rustls_native_certs::load_native_certs().certs;
    rustls::RootCertStore::empty().add_parsable_certificates(known).0 > 0
});

/// Whether no certificate of a service can be believed, whatever it is.
pub(crate) fn knows_no_authorities() -> bool {
    !*KNOWS_AUTHORITIES
}

/// Gives the SDK its connections.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    connector: SharedHttpConnector,
    /// Of whoever waits less, the last that was asked for: until there is a connection, and while nothing moves.
    hasty: Arc<Mutex<Option<Hasty>>>,
    pace: Arc<Pace>,
    stall: Duration,
}

type Hasty = ((Duration, Duration), SharedHttpConnector);

impl Client {
    /// Of requests that keep to this pace, and are given up when nothing of them has moved for so long.
    pub(crate) fn new(pace: Arc<Pace>, stall: Duration) -> Self {
        let watched = Watched { connections: Connections::new(CONNECT_MAX), pace: Arc::clone(&pace), stall };
        Self { connector: SharedHttpConnector::new(watched), hasty: Arc::default(), pace, stall }
    }
}

impl HttpClient for Client {
    fn http_connector(&self, settings: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        // Whoever asks the metadata of a virtual machine for keys, where there are none, shall not wait as for a bucket.
        match (settings.connect_timeout(), settings.read_timeout()) {
            (None, None) => self.connector.clone(),
            (connect, read) => {
                let connect = connect.unwrap_or(CONNECT_MAX).min(CONNECT_MAX);
                let stall = read.unwrap_or(self.stall).min(self.stall);
                let mut hasty = self.hasty.lock().unwrap_or_else(PoisonError::into_inner);
                match &*hasty {
                    Some((of, connector)) if *of == (connect, stall) => connector.clone(),
                    _ => {
                        let (connections, pace) = (Connections::new(connect), Arc::clone(&self.pace));
                        let connector = SharedHttpConnector::new(Watched { connections, pace, stall });
                        *hasty = Some(((connect, stall), connector.clone()));
                        connector
                    }
                }
            }
        }
    }

    fn connector_metadata(&self) -> Option<ConnectorMetadata> {
        None
    }
}

/// The connections that there are. When one of them has stalled all of them are left behind: several requests may share one that is
/// dead, and each would be sent into it again.
#[derive(Debug, Clone)]
struct Connections {
    current: Arc<Mutex<Arc<Connector>>>,
    connect: Duration,
}

impl Connections {
    fn new(connect: Duration) -> Self {
        Self { current: Arc::new(Mutex::new(Self::fresh(connect))), connect }
    }

    fn fresh(connect: Duration) -> Arc<Connector> {
        let settings = HttpConnectorSettings::builder().connect_timeout(connect).build();
        let tls = tls::Provider::Rustls(tls::rustls_provider::CryptoMode::AwsLc);
        let builder = Connector::builder().connector_settings(settings).pool_max_idle_per_host(IDLE_MAX);
        let builder = builder.tls_provider(tls);
        // The SDK takes it for an error of whoever has written this when a host knows none, also where nothing is asked by TLS.
        let none = || tls::TlsContext::builder().with_trust_store(tls::TrustStore::empty()).build();
        let builder = match knows_no_authorities().then(none) {
            Some(Ok(without)) => builder.tls_context(without),
            // Not to be built is for names that are none, and there are none at all.
            Some(Err(_)) | None => builder,
        };
        Arc::new(builder.build())
    }

    fn current(&self) -> Arc<Connector> {
        Arc::clone(&self.current.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Leaves these behind, unless somebody else has.
    fn leave(&self, stalled: &Arc<Connector>) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if Arc::ptr_eq(&current, stalled) {
            *current = Self::fresh(self.connect);
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
        let going = Arc::clone(&pace);
        // It is signed by now.
        let request = request.map(move |body| match body.content_length() {
            Some(0) => body,
            _ => {
                let noted = noted.clone();
                SdkBody::from_body_1_x(Going::new(body, Arc::clone(&going), move || noted.note()))
            }
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
                            let leave = move || connections.leave(&connector);
                            SdkBody::from_body_1_x(Coming::new(body, Arc::clone(&pace), coming, leave))
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
