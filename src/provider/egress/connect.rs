//! Connections that leave this server: a name is resolved here, every address is judged, and what
//! is connected to is exactly an address that was.
//!
//! Nothing between the judgement and the connection asks a resolver again, so a name that changes
//! its mind gains nothing. Not here: TLS and HTTP (`egress`).

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tower::Service;

use super::EgressError;
use super::destination::EgressRules;

/// The most addresses of a name that are looked at.
const ADDRESSES_MAX: usize = 16;

/// Turns names into addresses.
#[async_trait]
pub trait Resolver: Send + Sync {
    /// The addresses of a host.
    async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>>;
}

/// The system's resolver.
#[derive(Debug)]
pub struct SystemResolver;

#[async_trait]
impl Resolver for SystemResolver {
    async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        let found = tokio::net::lookup_host((host, 0)).await?;
        Ok(found.map(|address| address.ip()).collect())
    }
}

/// Connects to what may be connected to.
#[derive(Clone)]
pub(super) struct Connector {
    pub(super) rules: Arc<EgressRules>,
    pub(super) resolver: Arc<dyn Resolver>,
    pub(super) time: Duration,
}

impl Connector {
    async fn connect(self, uri: Uri) -> Result<TokioIo<TcpStream>, EgressError> {
        let host = uri.host().ok_or(EgressError::Unresolved)?;
        let is_https = uri.scheme() == Some(&http::uri::Scheme::HTTPS);
        let port = uri.port_u16().unwrap_or(if is_https { 443 } else { 80 });
        let addresses = self.addresses(host).await?;
        for address in &addresses {
            self.rules.address(*address).map_err(EgressError::Address)?;
        }
        let mut last = EgressError::Unresolved;
        for address in addresses {
            match TcpStream::connect(SocketAddr::new(address, port)).await {
                Ok(stream) => {
                    // Small messages that wait for nothing.
                    drop(stream.set_nodelay(true));
                    return Ok(TokioIo::new(stream));
                }
                Err(error) => last = EgressError::Connect(error.kind()),
            }
        }
        Err(last)
    }

    async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, EgressError> {
        let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        if let Ok(address) = bare.parse() {
            return Ok(vec![address]);
        }
        let found = self.resolver.resolve(bare).await.map_err(|_| EgressError::Unresolved)?;
        if found.is_empty() || found.len() > ADDRESSES_MAX {
            return Err(EgressError::Unresolved);
        }
        Ok(found)
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<TcpStream>;
    type Error = EgressError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let (own, time) = (self.clone(), self.time);
        Box::pin(async move {
            timeout(time, own.connect(uri)).await.unwrap_or(Err(EgressError::ConnectTime))
        })
    }
}
