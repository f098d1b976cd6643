//! A receiver on loopback that accepts everything and remembers it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

/// How long anything may take that has to happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// One request.
#[derive(Clone, Debug)]
pub(crate) struct Got {
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
}

impl Got {
    pub(crate) fn id(&self) -> &str {
        &self.headers["webhook-id"]
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    /// As a library of Standard Webhooks is asked about it.
    pub(crate) fn to_verify(&self, secret: &str) -> Value {
        json!({"secret": secret, "headers": self.headers, "body": self.body})
    }
}

/// A running receiver; stopped when dropped.
pub(crate) struct Receiver {
    pub(crate) url: String,
    got: Arc<Mutex<Vec<Got>>>,
    task: JoinHandle<()>,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Receiver {
    pub(crate) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hooks", listener.local_addr().unwrap());
        Self::on(listener, url)
    }

    /// Behind a listener of its own, such as one that speaks TLS.
    pub(crate) fn on<L>(listener: L, url: String) -> Self
    where
        L: axum::serve::Listener,
        L::Addr: std::fmt::Debug,
    {
        let got = Arc::<Mutex<Vec<Got>>>::default();
        let shared = Arc::clone(&got);
        let handler = move |headers: HeaderMap, body: Bytes| {
            let text = |value: &axum::http::HeaderValue| value.to_str().unwrap().to_owned();
            let headers = headers.iter().map(|(name, value)| (name.to_string(), text(value)));
            let (headers, body) = (headers.collect(), String::from_utf8(body.to_vec()).unwrap());
            shared.lock().unwrap().push(Got { headers, body });
            std::future::ready(StatusCode::NO_CONTENT)
        };
        let router = axum::Router::new().fallback(handler);
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, got, task }
    }

    pub(crate) fn received(&self) -> Vec<Got> {
        self.got.lock().unwrap().clone()
    }

    /// Waits until what was received is so.
    pub(crate) async fn until(&self, is_so: impl Fn(&[Got]) -> bool) -> Vec<Got> {
        self.within(PATIENCE, is_so).await
    }

    /// The same, for so long.
    pub(crate) async fn within(
        &self,
        time: Duration,
        mut is_so: impl FnMut(&[Got]) -> bool,
    ) -> Vec<Got> {
        let waiting = async {
            while !is_so(&self.got.lock().unwrap()) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let waited = tokio::time::timeout(time, waiting).await;
        let got = self.received();
        assert!(waited.is_ok(), "{} received: {:?}", got.len(), got.last());
        got
    }
}
