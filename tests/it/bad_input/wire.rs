//! Raw HTTP, one connection at a time: a test knows which connection it speaks on, and can say
//! what no client library would.
//!
//! Not here: what the bytes mean (`ways`).

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// No answer takes longer than this.
const PATIENCE: Duration = Duration::from_secs(20);

/// A request, the same in both versions of HTTP.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Call {
    pub(crate) fn new(method: &str, path: &str, body: impl Into<Vec<u8>>) -> Self {
        let (method, path) = (method.to_owned(), path.to_owned());
        Self { method, path, headers: Vec::new(), body: body.into() }
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The same with all headers of one name replaced; an empty value removes them.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.retain(|(known, _)| known != name);
        if value.is_empty() { self } else { self.header(name, value) }
    }

    /// As HTTP/1.1 writes it.
    pub(crate) fn text(&self) -> Vec<u8> {
        let mut text = format!("{} {} HTTP/1.1\r\nhost: localhost\r\n", self.method, self.path);
        for (name, value) in &self.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        if !self.body.is_empty() || self.method == "POST" {
            text.push_str(&format!("content-length: {}\r\n", self.body.len()));
        }
        [text.as_bytes(), b"\r\n", &self.body].concat()
    }
}

/// An answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: HeaderMap,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// Everything that came back, for searching.
    pub(crate) fn everything(&self) -> String {
        let body = String::from_utf8_lossy(&self.body);
        format!("{} {:?} {body} {:?}", self.status, self.headers, self.trailers)
    }
}

/// One HTTP/1.1 connection.
pub(crate) struct Http1 {
    stream: TcpStream,
    /// Received and not looked at yet.
    rest: Vec<u8>,
}

fn broken(why: &str) -> io::Error {
    io::Error::other(why.to_owned())
}

impl Http1 {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, rest: Vec::new() }
    }

    /// One request and its answer.
    pub(crate) async fn send(&mut self, call: &Call) -> io::Result<Reply> {
        self.raw(&call.text(), call.method == "HEAD").await
    }

    /// Any bytes, and the first answer. It may come before all bytes are gone.
    pub(crate) async fn raw(&mut self, bytes: &[u8], is_head: bool) -> io::Result<Reply> {
        let (mut reading, mut writing) = self.stream.split();
        let rest = &mut self.rest;
        let reading = reply(&mut reading, rest, is_head);
        let writing = async {
            // The server may have heard enough: what counts is its answer.
            drop(writing.write_all(bytes).await);
            std::future::pending::<()>().await;
        };
        tokio::select! {
            reply = tokio::time::timeout(PATIENCE, reading) => reply?,
            () = writing => Err(broken("unreachable")),
        }
    }

    /// The next answer to what was sent before.
    pub(crate) async fn next(&mut self) -> io::Result<Reply> {
        self.raw(&[], false).await
    }
}

async fn more(stream: &mut (impl AsyncReadExt + Unpin), rest: &mut Vec<u8>) -> io::Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    let read = stream.read(&mut buffer).await?;
    if read == 0 {
        return Err(broken("the server closed the connection"));
    }
    rest.extend_from_slice(&buffer[..read]);
    Ok(())
}

async fn line(stream: &mut (impl AsyncReadExt + Unpin), rest: &mut Vec<u8>) -> io::Result<String> {
    loop {
        if let Some(end) = rest.windows(2).position(|two| two == b"\r\n") {
            let line = String::from_utf8_lossy(&rest[..end]).into_owned();
            rest.drain(..end + 2);
            return Ok(line);
        }
        more(stream, rest).await?;
    }
}

async fn exactly(
    stream: &mut (impl AsyncReadExt + Unpin),
    rest: &mut Vec<u8>,
    length: usize,
) -> io::Result<Vec<u8>> {
    while rest.len() < length {
        more(stream, rest).await?;
    }
    Ok(rest.drain(..length).collect())
}

async fn reply(
    stream: &mut (impl AsyncReadExt + Unpin),
    rest: &mut Vec<u8>,
    is_head: bool,
) -> io::Result<Reply> {
    let first = line(stream, rest).await?;
    let status = first.strip_prefix("HTTP/1.1 ").and_then(|tail| tail.get(..3));
    let status = status.and_then(|code| code.parse().ok()).ok_or_else(|| broken(&first))?;
    let mut reply = Reply { status, ..Reply::default() };
    loop {
        let header = line(stream, rest).await?;
        if header.is_empty() {
            break;
        }
        let (name, value) = header.split_once(':').ok_or_else(|| broken(&header))?;
        let name = HeaderName::try_from(name).map_err(io::Error::other)?;
        let value = HeaderValue::from_str(value.trim()).map_err(io::Error::other)?;
        reply.headers.append(name, value);
    }
    if is_head || status == 204 || status == 304 || status < 200 {
        return Ok(reply);
    }
    if reply.header("transfer-encoding") == "chunked" {
        loop {
            let size = line(stream, rest).await?;
            let size = usize::from_str_radix(&size, 16).map_err(io::Error::other)?;
            reply.body.extend(exactly(stream, rest, size).await?);
            line(stream, rest).await?;
            if size == 0 {
                break;
            }
        }
    } else {
        let length = reply.header("content-length").parse().unwrap_or(0);
        reply.body = exactly(stream, rest, length).await?;
    }
    Ok(reply)
}

/// One HTTP/2 connection.
pub(crate) struct Http2 {
    sender: SendRequest<Bytes>,
    address: SocketAddr,
    _tasks: JoinSet<()>,
}

impl Http2 {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        let (sender, connection) = h2::client::handshake(stream).await.unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(async { drop(connection.await) });
        Self { sender, address, _tasks: tasks }
    }

    /// One request and its answer.
    pub(crate) async fn send(&mut self, call: &Call) -> io::Result<Reply> {
        let exchange = tokio::time::timeout(PATIENCE, self.exchange(call)).await?;
        exchange.map_err(io::Error::other)
    }

    async fn exchange(&mut self, call: &Call) -> Result<Reply, h2::Error> {
        let uri = format!("http://{}{}", self.address, call.path);
        let mut request = http::Request::builder().method(call.method.as_str()).uri(uri);
        for (name, value) in &call.headers {
            request = request.header(name, value);
        }
        let mut sender = self.sender.clone().ready().await?;
        let request = request.version(http::Version::HTTP_2).body(()).unwrap();
        let (answer, mut stream) = sender.send_request(request, call.body.is_empty())?;
        if !call.body.is_empty() {
            stream.send_data(Bytes::copy_from_slice(&call.body), true)?;
        }
        let (parts, mut incoming) = answer.await?.into_parts();
        let mut reply = Reply { headers: parts.headers, ..Reply::default() };
        reply.status = parts.status.as_u16();
        while let Some(data) = incoming.data().await {
            // After its answer the server may say that it wants no more of the request.
            let Ok(data) = data else { return Ok(reply) };
            incoming.flow_control().release_capacity(data.len())?;
            reply.body.extend_from_slice(&data);
        }
        reply.trailers = incoming.trailers().await.ok().flatten().unwrap_or_default();
        Ok(reply)
    }
}
