//! Deliveries over TLS to a receiver whose certificate an authority of its own has signed: it gets
//! them when the operator trusts that authority, and the log of deliveries says why it does not.
//!
//! Not here: what is called without TLS, and addresses (unit tests of `provider::egress`).

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use axum::serve::Listener;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::crash::{admin, start_with};
use super::receiver::Receiver;
use super::sent::{outcome, test_event};
use super::*;
use crate::faults::encryption::certify_for;
use crate::harness::Folder;

/// Shows the certificate that is in a folder; connections that want no TLS with it are dropped.
struct Secure {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl Secure {
    async fn with(folder: &Path) -> Self {
        let chain = CertificateDer::pem_file_iter(folder.join("server.crt")).unwrap();
        let chain = chain.collect::<Result<Vec<_>, _>>().unwrap();
        let key = PrivateKeyDer::from_pem_file(folder.join("server.key")).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self { listener, acceptor: TlsAcceptor::from(Arc::new(config)) }
    }
}

impl Listener for Secure {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (stream, address) = self.listener.accept().await.unwrap();
            if let Ok(stream) = self.acceptor.accept(stream).await {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_believed_if_its_authority_its_host_and_its_time_are_right() {
    let folder = Folder::new();
    // Who signs, for which name, for how many days, and what becomes of a delivery.
    let table = [
        ("ours", "IP:127.0.0.1", 2, ""),
        ("theirs", "IP:127.0.0.1", 2, "certificate_untrusted"),
        ("ours", "DNS:example.com", 2, "certificate_of_other_host"),
        ("ours", "IP:127.0.0.1", 0, "certificate_expired"),
    ];
    let mut receivers = Vec::new();
    for (authority, name, days, _) in table {
        certify_for(folder.path(), authority, name, days);
        let secure = Secure::with(folder.path()).await;
        let url = format!("https://{}/hooks", secure.local_addr().unwrap());
        receivers.push(Receiver::on(secure, url));
    }
    // Until what is valid for no day is not valid.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let authority = folder.path().join("ours.pem");
    let process = start_with(&folder, &["--egress-ca-file", authority.to_str().unwrap()]);
    let mut clients = admin(&process, &folder).await;
    for (receiver, (_, _, _, error)) in receivers.iter().zip(table) {
        let (made, _) = endpoint(&mut clients, &receiver.url, &[]).await;
        let sent = test_event(&mut clients, &made.id).await;
        let told = outcome(&mut clients, &sent.id).await;
        assert_eq!(told.attempts.len(), 1, "{told:?}");
        assert_eq!(told.attempts[0].error, error, "{told:?}");
        let is_delivered = told.state() == v1::WebhookDeliveryState::Delivered;
        assert_eq!(is_delivered, error.is_empty(), "{told:?}");
        assert_eq!(receiver.received().len(), usize::from(is_delivered));
    }
}
