//! A receiver on loopback that behaves as it is told, and remembers what it got.

use super::*;

/// How a receiver behaves.
#[derive(Clone, Copy, Debug)]
pub(super) enum Mode {
    /// Says 204.
    Accepts,
    /// Says this status.
    Answers(u16),
    /// Says 503, and how many seconds to wait.
    AsksForTime(u32),
    /// Says nothing.
    Hangs,
    /// Stops in the middle.
    HangsInBody,
    /// Goes on and on.
    Endless,
}

/// One request.
#[derive(Clone, Debug)]
pub(super) struct Got {
    pub(super) id: String,
    pub(super) timestamp: String,
    signatures: String,
    pub(super) body: Bytes,
}

impl Got {
    pub(super) fn is_signed_by(&self, secret: &WebhookSecret) -> bool {
        use base64::Engine as _;
        use base64::engine::general_purpose::STANDARD;
        let parts: [&[u8]; 5] =
            [self.id.as_bytes(), b".", self.timestamp.as_bytes(), b".", &self.body];
        let wanted = format!("v1,{}", STANDARD.encode(secret.sign(&parts)));
        self.signatures.split(' ').any(|signature| signature == wanted)
    }
}

struct State {
    mode: Mutex<Mode>,
    got: Mutex<Vec<Got>>,
}

/// A running receiver; stopped when dropped.
pub(super) struct Receiver {
    pub(super) url: String,
    state: Arc<State>,
    task: JoinHandle<()>,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Receiver {
    pub(super) async fn start(mode: Mode) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hooks", listener.local_addr().unwrap());
        let state = Arc::new(State { mode: Mutex::new(mode), got: Mutex::default() });
        let shared = Arc::clone(&state);
        let handler = move |headers: HeaderMap, body: Bytes| {
            let state = Arc::clone(&shared);
            async move { answer(&state, &headers, body).await }
        };
        let router = axum::Router::new().fallback(handler);
        #[expect(clippy::disallowed_methods, reason = "a peer of one test")]
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, state, task }
    }

    pub(super) fn set(&self, mode: Mode) {
        *self.state.mode.lock().unwrap() = mode;
    }

    pub(super) fn received(&self) -> Vec<Got> {
        self.state.got.lock().unwrap().clone()
    }

    /// How many different events it got.
    pub(super) fn distinct(&self) -> usize {
        let got = self.state.got.lock().unwrap();
        got.iter().map(|got| got.id.as_str()).collect::<BTreeSet<_>>().len()
    }
}

async fn answer(state: &State, headers: &HeaderMap, body: Bytes) -> Response {
    let text = |name: &str| {
        let value = headers.get(name).map(|value| value.to_str().unwrap().to_owned());
        value.unwrap_or_default()
    };
    state.got.lock().unwrap().push(Got {
        id: text("webhook-id"),
        timestamp: text("webhook-timestamp"),
        signatures: text("webhook-signature"),
        body,
    });
    let mode = *state.mode.lock().unwrap();
    let endless = |parts: usize| {
        let part = Bytes::from_static(&[b'x'; 4_096]);
        let parts = futures::stream::iter(std::iter::repeat_n(part, parts));
        futures::StreamExt::map(parts, Ok::<_, std::io::Error>)
    };
    match mode {
        Mode::Accepts => StatusCode::NO_CONTENT.into_response(),
        Mode::Answers(status) => {
            let status = StatusCode::from_u16(status).unwrap();
            (status, format!("said\u{1b}[31m {}", status.as_str())).into_response()
        }
        Mode::AsksForTime(seconds) => {
            let headers = [("retry-after", seconds.to_string())];
            (StatusCode::SERVICE_UNAVAILABLE, headers).into_response()
        }
        Mode::Hangs => std::future::pending().await,
        Mode::HangsInBody => {
            let stops = futures::StreamExt::chain(endless(1), futures::stream::pending());
            axum::body::Body::from_stream(stops).into_response()
        }
        Mode::Endless => axum::body::Body::from_stream(endless(1_000_000)).into_response(),
    }
}
