//! Messages on two pipes, one on each line; what is none is answered here.
//!
//! The SDK's own transport says nothing to a line that it cannot read, and calls a method unknown
//! whose parameters are wrong. Here as over HTTP, a line is checked before the SDK sees it. Not
//! here: what a message has to look like (`message`).

use std::io;
use std::sync::Arc;

use rmcp::RoleServer;
use rmcp::service::{RxJsonRpcMessage, TxJsonRpcMessage};
use rmcp::transport::Transport;
use tokio::io::{
    AsyncBufRead, AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader,
};
use tokio::sync::{Mutex, mpsc};

use crate::mcp::message::{self, Wrong};

/// Bytes of a line. A message that is longer than it is useful is still answered under its id; a
/// client that never ends its line must not fill the memory.
const LINE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Some clients begin with it, which RFC 8259 (section 8.1) lets a reader pass over.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Messages that wait for the SDK.
const QUEUE: usize = 16;

/// The server's end of a conversation.
pub(super) struct Lines<W> {
    messages: mpsc::Receiver<RxJsonRpcMessage<RoleServer>>,
    output: Output<W>,
}

/// Where whole lines go, from whoever has one.
struct Output<W>(Arc<Mutex<W>>);

impl<W> Clone for Output<W> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<W: AsyncWrite + Send + Unpin> Output<W> {
    async fn say(&self, mut line: Vec<u8>) -> io::Result<()> {
        line.push(b'\n');
        let mut output = self.0.lock().await;
        output.write_all(&line).await?;
        output.flush().await
    }
}

/// Begins a conversation. The second part reads what the client says, until it closes its end or
/// nobody listens any more.
pub(super) fn open<R, W>(
    input: R,
    output: W,
) -> (Lines<W>, impl Future<Output = io::Result<()>> + Send)
where
    R: AsyncRead + Send + Unpin,
    W: AsyncWrite + Send + Unpin,
{
    let output = Output(Arc::new(Mutex::new(output)));
    let (sender, messages) = mpsc::channel(QUEUE);
    let reading = read(BufReader::new(input), output.clone(), sender);
    (Lines { messages, output }, reading)
}

async fn read<R, W>(
    mut input: BufReader<R>,
    output: Output<W>,
    messages: mpsc::Sender<RxJsonRpcMessage<RoleServer>>,
) -> io::Result<()>
where
    R: AsyncRead + Send + Unpin,
    W: AsyncWrite + Send + Unpin,
{
    loop {
        let line = tokio::select! {
            () = messages.closed() => return Ok(()),
            line = line(&mut input) => line?,
        };
        let Some(line) = line else { return Ok(()) };
        match line.and_then(|line| parse(&line)) {
            Ok(None) => {}
            Ok(Some(message)) => {
                if messages.send(message).await.is_err() {
                    return Ok(());
                }
            }
            Err(wrong) => output.say(wrong.answer().to_string().into_bytes()).await?,
        }
    }
}

/// The next line without its end; `None` when there is no more. What comes after the last end of a
/// line is no message.
async fn line<R>(input: &mut R) -> io::Result<Option<Result<Vec<u8>, Wrong>>>
where
    R: AsyncBufRead + Send + Unpin,
{
    let mut line = Vec::new();
    AsyncReadExt::take(&mut *input, LINE_BYTES_MAX).read_until(b'\n', &mut line).await?;
    if line.pop_if(|last| *last == b'\n').is_some() {
        line.pop_if(|last| *last == b'\r');
        return Ok(Some(Ok(line)));
    }
    let mut is_long = false;
    while !line.is_empty() {
        line.clear();
        AsyncReadExt::take(&mut *input, LINE_BYTES_MAX).read_until(b'\n', &mut line).await?;
        is_long |= !line.is_empty();
        if line.last() == Some(&b'\n') {
            break;
        }
    }
    Ok(is_long.then(|| Err(Wrong::too_long())))
}

/// The message of a line; none of an empty one, nor of a notification that the SDK does not know.
fn parse(line: &[u8]) -> Result<Option<RxJsonRpcMessage<RoleServer>>, Wrong> {
    let line = line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line);
    if line.is_empty() {
        return Ok(None);
    }
    message::check(line)?;
    match serde_json::from_slice(line) {
        Ok(message) => Ok(Some(message)),
        Err(_) => message::unreadable(line).map_or(Ok(None), Err),
    }
}

impl<W: AsyncWrite + Send + Unpin + 'static> Transport<RoleServer> for Lines<W> {
    type Error = io::Error;

    fn send(
        &mut self,
        message: TxJsonRpcMessage<RoleServer>,
    ) -> impl Future<Output = io::Result<()>> + Send + 'static {
        let output = self.output.clone();
        async move { output.say(serde_json::to_vec(&message)?).await }
    }

    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleServer>> {
        self.messages.recv().await
    }

    async fn close(&mut self) -> io::Result<()> {
        self.messages.close();
        Ok(())
    }
}
