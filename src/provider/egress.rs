//! The one road for calls that leave this server to addresses that others have chosen.
//!
//! Https unless an operator allows more, each connection to an address that was judged, with a
//! verified certificate, no redirect, no proxy, and bounds on time and on what is read. Not here:
//! what is sent (`webhook`), and who chose the URL.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};
use tokio::time::timeout;

mod address;
mod connect;
mod destination;

use connect::Connector;
pub use connect::{Resolver, SystemResolver};
pub use destination::{Destination, EgressRules, UrlRefusal};

/// The bounds of one call.
#[derive(Clone, Copy, Debug)]
pub struct EgressLimits {
    /// Until there is a connection.
    pub connect_time: Duration,
    /// Until the head of the answer is there.
    pub answer_time: Duration,
    /// For the body after that; the answer stands without it.
    pub body_time: Duration,
    /// Bytes of the body that are read; what comes after them is never received.
    pub body_bytes: usize,
}

impl Default for EgressLimits {
    fn default() -> Self {
        Self {
            connect_time: Duration::from_secs(5),
            answer_time: Duration::from_secs(15),
            body_time: Duration::from_secs(2),
            body_bytes: 16 * 1024,
        }
    }
}

/// Why a call has no answer. Nothing of what the other side said is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EgressError {
    /// The URL may not be called.
    #[error("the URL {0}")]
    Url(#[from] UrlRefusal),
    /// The host has no address, or more than anybody has.
    #[error("the host name cannot be resolved")]
    Unresolved,
    /// The host has an address that may not be called.
    #[error("the host resolves to an address that is {0}")]
    Address(&'static str),
    /// Nobody accepts the connection.
    #[error("the connection is refused or fails")]
    Connect(io::ErrorKind),
    /// Nobody accepts it in time.
    #[error("the connection is not accepted in time")]
    ConnectTime,
    /// The certificate is not good, or there is no TLS.
    #[error("TLS fails: {}", .0.sentence())]
    Tls(TlsFault),
    /// No answer in time.
    #[error("there is no answer in time")]
    AnswerTime,
    /// What came back is no HTTP answer, or the connection ended.
    #[error("the connection ended without an HTTP answer")]
    Protocol,
}

/// Why TLS fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsFault {
    /// No authority that is trusted has signed the certificate.
    Untrusted,
    /// The certificate is of another host.
    OtherHost,
    /// The certificate is not valid any more.
    Expired,
    /// Anything else; most often nothing speaks TLS there.
    Other,
}

impl TlsFault {
    fn of(error: &rustls::Error) -> Self {
        use rustls::CertificateError as Why;
        let rustls::Error::InvalidCertificate(why) = error else { return Self::Other };
        if matches!(why, Why::UnknownIssuer) {
            Self::Untrusted
        } else if matches!(why, Why::NotValidForName | Why::NotValidForNameContext { .. }) {
            Self::OtherHost
        } else if matches!(why, Why::Expired | Why::ExpiredContext { .. }) {
            Self::Expired
        } else {
            Self::Other
        }
    }

    const fn sentence(self) -> &'static str {
        match self {
            Self::Untrusted => "the certificate is by an authority that is not trusted",
            Self::OtherHost => "the certificate is of another host",
            Self::Expired => "the certificate has expired",
            Self::Other => "the certificate is not valid, or nothing speaks TLS there",
        }
    }
}

impl EgressError {
    /// One word for lists and programs.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Url(_) => "url_refused",
            Self::Unresolved => "host_unknown",
            Self::Address(_) => "address_refused",
            Self::Connect(_) => "connection_failed",
            Self::ConnectTime => "connection_timeout",
            Self::Tls(TlsFault::Untrusted) => "certificate_untrusted",
            Self::Tls(TlsFault::OtherHost) => "certificate_of_other_host",
            Self::Tls(TlsFault::Expired) => "certificate_expired",
            Self::Tls(TlsFault::Other) => "tls_failed",
            Self::AnswerTime => "timeout",
            Self::Protocol => "connection_closed",
        }
    }
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The status; any.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The beginning of the body, as it came.
    pub body: Bytes,
}

/// The certificates or the bounds cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum EgressSetupError {
    /// The TLS library refuses its own defaults.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
}

type HttpClient = Client<HttpsConnector<Connector>, Full<Bytes>>;

/// Makes calls.
#[derive(Clone)]
pub struct Egress {
    rules: Arc<EgressRules>,
    limits: EgressLimits,
    client: HttpClient,
}

impl std::fmt::Debug for Egress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Egress").field("rules", &self.rules).finish_non_exhaustive()
    }
}

/// Idle connections that are kept for each host, and for how long.
const IDLE_MAX: usize = 16;
const IDLE_TIME: Duration = Duration::from_secs(30);

/// Bytes of the largest head of an answer.
const HEAD_BYTES_MAX: usize = 64 * 1024;

impl Egress {
    /// By these rules and bounds. The public authorities are trusted, and these besides.
    ///
    /// # Errors
    /// When an authority's certificate is none.
    pub fn new(
        rules: Arc<EgressRules>,
        limits: EgressLimits,
        authorities: Vec<CertificateDer<'static>>,
        resolver: Arc<dyn Resolver>,
    ) -> Result<Self, EgressSetupError> {
        let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        for authority in authorities {
            roots.add(authority)?;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let time = limits.connect_time;
        let connector = Connector { rules: Arc::clone(&rules), resolver, time };
        // Which scheme is allowed was decided with the URL.
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(connector);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIME)
            .pool_max_idle_per_host(IDLE_MAX)
            .http1_max_buf_size(HEAD_BYTES_MAX)
            .build(connector);
        Ok(Self { rules, limits, client })
    }

    /// By which rules it judges.
    #[must_use]
    pub const fn rules(&self) -> &Arc<EgressRules> {
        &self.rules
    }

    /// Posts to a URL and reads the answer, whatever its status. A redirect is an answer.
    ///
    /// # Errors
    /// When there is none.
    pub async fn post(
        &self,
        url: &str,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Reply, EgressError> {
        self.send(Method::POST, url, headers, body).await
    }

    /// The same by another method.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn send(
        &self,
        method: Method,
        url: &str,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Reply, EgressError> {
        let destination = self.rules.destination(url)?;
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = destination.uri().clone();
        *request.headers_mut() = headers;
        let answer = timeout(self.limits.answer_time, self.client.request(request)).await;
        let answer = answer.map_err(|_| EgressError::AnswerTime)?;
        let (head, mut body) = answer.map_err(|error| meaning(&error))?.into_parts();
        let mut read = Vec::new();
        // The head is the answer. A body that is cut, endless or slow takes nothing from it.
        let reading = async {
            while let Some(Ok(frame)) = body.frame().await {
                let Ok(data) = frame.into_data() else { break };
                let room = self.limits.body_bytes.saturating_sub(read.len());
                read.extend(data.iter().take(room));
                if read.len() >= self.limits.body_bytes {
                    break;
                }
            }
        };
        drop(timeout(self.limits.body_time, reading).await);
        Ok(Reply { status: head.status, headers: head.headers, body: read.into() })
    }
}

/// What the client's error is to us: ours, or one of TLS, if such is somewhere inside it.
fn meaning(error: &(dyn Error + 'static)) -> EgressError {
    known(error).unwrap_or(EgressError::Protocol)
}

fn known(error: &(dyn Error + 'static)) -> Option<EgressError> {
    if let Some(own) = error.downcast_ref::<EgressError>() {
        return Some(*own);
    }
    if let Some(tls) = error.downcast_ref::<rustls::Error>() {
        return Some(EgressError::Tls(TlsFault::of(tls)));
    }
    // `io::Error` shows what is wrapped in it only so, not as its source.
    if let Some(wrapped) = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        return known(wrapped);
    }
    error.source().and_then(known)
}

#[cfg(test)]
mod tests;
