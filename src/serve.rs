//! The one port: accepts connections, bounds what each of them can take, and closes in order.
//!
//! HTTP/2 for gRPC and HTTP/1.1 for everything that comes from browsers and `curl`, on the same
//! listener. What a request is and where it goes is decided in `serve/front`. Not here: TLS, which
//! a proxy in front provides, and opening the listener, which the caller does.

mod calls;
mod front;
mod lasting;
mod request_id;
mod standard;
mod url_key;

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::body::Body;
use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tonic::transport::server::TcpConnectInfo;

use lasting::{Lent, lend};

pub use calls::GrpcCalls;
pub use front::{Front, FrontError, FrontSettings, front};
pub use request_id::REQUEST_ID;
pub use standard::{StandardError, standard_services};

/// How long the accept loop waits after an error, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What the connections of one listener may take.
#[derive(Debug, Clone)]
pub struct ServeLimits {
    /// Connections open at a time; further ones are closed at once.
    pub connections_max: usize,
    /// Calls in flight on one HTTP/2 connection; clients wait with further ones.
    pub streams_max: u32,
    /// Bytes of all headers of one request, as HTTP/2 counts them. HTTP/1.1 gets the same buffer.
    pub header_bytes_max: u32,
    /// Headers of one HTTP/1.1 request.
    pub headers_max: usize,
    /// Streams that a client reset and that were not looked at yet, before it is disconnected.
    pub pending_resets_max: usize,
    /// Streams that the server reset because of the client's errors, before it is disconnected.
    pub own_resets_max: usize,
    /// How often a silent HTTP/2 client is asked whether it is still there.
    pub keepalive_interval: Duration,
    /// How long it may take to answer that.
    pub keepalive_timeout: Duration,
    /// How long a new connection may take to make its first request, and an HTTP/1.1 connection
    /// to send the headers of each.
    pub first_request: Duration,
    /// After this time a connection is asked to go away, so that clients spread over replicas.
    pub connection_age_max: Duration,
    /// How long its calls may then still take.
    pub connection_grace: Duration,
    /// How long calls in flight may still take when the server stops.
    pub drain: Duration,
}

impl Default for ServeLimits {
    fn default() -> Self {
        Self {
            connections_max: 4096,
            streams_max: 128,
            header_bytes_max: 16 * 1024,
            headers_max: 100,
            pending_resets_max: 20,
            own_resets_max: 256,
            keepalive_interval: Duration::from_secs(30),
            keepalive_timeout: Duration::from_secs(10),
            first_request: Duration::from_secs(10),
            connection_age_max: Duration::from_secs(15 * 60),
            connection_grace: Duration::from_secs(30),
            drain: Duration::from_secs(20),
        }
    }
}

impl ServeLimits {
    fn builder(&self) -> Builder<TokioExecutor> {
        let mut builder = Builder::new(TokioExecutor::new());
        let buffer = usize::try_from(self.header_bytes_max).unwrap_or(usize::MAX);
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(self.first_request)
            .max_headers(self.headers_max)
            .max_buf_size(buffer);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(self.streams_max)
            .max_header_list_size(self.header_bytes_max)
            .max_pending_accept_reset_streams(self.pending_resets_max)
            .max_local_error_reset_streams(self.own_resets_max)
            .keep_alive_interval(self.keepalive_interval)
            .keep_alive_timeout(self.keepalive_timeout);
        builder
    }
}

/// What every connection of one listener shares.
struct Shared {
    front: Front,
    limits: ServeLimits,
    builder: Builder<TokioExecutor>,
    /// Becomes true when the server stops.
    stopping: watch::Receiver<bool>,
}

/// Serves the listener until `shutdown` is ready, then lets calls in flight finish, at most for
/// [`ServeLimits::drain`].
///
/// # Errors
/// None today: errors of single connections are logged and do not end the server.
pub async fn serve(
    listener: TcpListener,
    front: Front,
    limits: ServeLimits,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let (stop, stopping) = watch::channel(false);
    let slots = Arc::new(Semaphore::new(limits.connections_max));
    let drain = limits.drain;
    let builder = limits.builder();
    let shared = Arc::new(Shared { front, limits, builder, stopping });
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut shutdown => break,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => match Arc::clone(&slots).try_acquire_owned() {
                Ok(slot) => {
                    let shared = Arc::clone(&shared);
                    connections.spawn(async move {
                        connection(stream, peer, &shared).await;
                        drop(slot);
                    });
                }
                Err(_) => tracing::warn!(%peer, "too many connections; one was closed"),
            },
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    let _ = stop.send(true);
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(drain, drained).await.is_err() {
        tracing::warn!(open = connections.len(), "calls did not finish in time; closing them");
        connections.shutdown().await;
    }
    Ok(())
}

/// Serves one connection from its beginning to its end.
async fn connection(stream: TcpStream, peer: SocketAddr, shared: &Arc<Shared>) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection was closed before it began");
        return;
    }
    let info = TcpConnectInfo { local_addr: stream.local_addr().ok(), remote_addr: Some(peer) };
    let (stream, lender) = lend(stream);
    if speak(stream, info, peer, shared).await.is_ok() {
        lender.close().await;
    }
}

/// A connection was ended in the middle of what it did.
struct Cut;

/// Answers requests until the connection ends, is too old, or the server stops.
async fn speak(
    stream: Lent,
    info: TcpConnectInfo,
    peer: SocketAddr,
    shared: &Arc<Shared>,
) -> Result<(), Cut> {
    let limits = &shared.limits;
    let has_begun = Arc::new(AtomicBool::new(false));
    let begun = Arc::clone(&has_begun);
    let front = shared.front.clone();
    let service = service_fn(move |mut request: Request<Incoming>| {
        begun.store(true, Ordering::Relaxed);
        request.extensions_mut().insert(info.clone());
        let front = front.clone();
        async move { Ok::<_, Infallible>(front.handle(request.map(Body::new)).await) }
    });
    let mut serving = pin!(shared.builder.serve_connection(TokioIo::new(stream), service));
    let mut first_request = pin!(sleep(limits.first_request));
    let mut end = pin!(sleep(age_max(limits, peer)));
    let mut stopping = shared.stopping.clone();
    let (mut is_waiting, mut is_closing) = (true, false);
    loop {
        tokio::select! {
            ended = serving.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%error, %peer, "a connection failed");
                }
                return Ok(());
            }
            () = first_request.as_mut(), if is_waiting => {
                is_waiting = false;
                if !has_begun.load(Ordering::Relaxed) {
                    tracing::debug!(%peer, "a connection made no request; it was closed");
                    return Err(Cut);
                }
            }
            () = end.as_mut() => {
                if is_closing {
                    return Err(Cut);
                }
                is_closing = true;
                serving.as_mut().graceful_shutdown();
                end.as_mut().reset(later(limits.connection_grace));
            }
            _ = stopping.wait_for(|stop| *stop), if !is_closing => {
                is_closing = true;
                serving.as_mut().graceful_shutdown();
                end.as_mut().reset(later(limits.drain));
            }
        }
    }
}

/// The age limit of one connection: up to a tenth less than the setting, so that connections which
/// began together do not end together.
fn age_max(limits: &ServeLimits, peer: SocketAddr) -> Duration {
    let tenths_of_tenth = u32::from(peer.port()) % 10;
    let hundredth = limits.connection_age_max.checked_div(100).unwrap_or_default();
    let less = hundredth.saturating_mul(tenths_of_tenth);
    limits.connection_age_max.saturating_sub(less)
}

fn later(delay: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(delay).unwrap_or(now)
}

#[cfg(test)]
mod tests;
