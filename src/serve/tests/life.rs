//! The life of connections and of the server: limits, silence, and an orderly end.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::*;
use crate::proto::v1::evaluate_service_client::EvaluateServiceClient;

const LONG: Duration = Duration::from_secs(10);

async fn client(server: &Server) -> EvaluateServiceClient<tonic::transport::Channel> {
    EvaluateServiceClient::connect(server.url("")).await.unwrap()
}

/// Waits until the server has closed the connection.
async fn closed(stream: &mut TcpStream) {
    let mut buffer = [0; 1024];
    while timeout(LONG, stream.read(&mut buffer)).await.unwrap().is_ok_and(|read| read > 0) {}
}

#[tokio::test]
async fn a_call_in_flight_finishes_when_the_server_stops() {
    let mut server = Server::start().await;
    let mut client = client(&server).await;
    client.evaluate(spend()).await.unwrap();
    let call = client.evaluate(spend_at("slow.example"));
    let stop = server.stop.take().unwrap();
    let (answer, ()) = tokio::join!(call, async {
        sleep(Duration::from_millis(100)).await;
        stop.send(()).unwrap();
        timeout(LONG, server.tasks.join_next()).await.unwrap().unwrap().unwrap().unwrap();
    });
    assert_eq!(answer.unwrap().into_inner().transaction_id, "tx_1");
    assert!(TcpStream::connect(server.address).await.is_err());
}

#[tokio::test]
async fn a_call_that_never_finishes_does_not_stop_the_end() {
    let limits = ServeLimits { drain: Duration::from_millis(100), ..ServeLimits::default() };
    let mut server = Server::start_with(FrontSettings::default(), limits).await;
    let mut client = client(&server).await;
    let stop = server.stop.take().unwrap();
    let (answer, ()) = tokio::join!(client.evaluate(spend_at("stuck.example")), async {
        sleep(Duration::from_millis(100)).await;
        stop.send(()).unwrap();
        timeout(LONG, server.tasks.join_next()).await.unwrap().unwrap().unwrap().unwrap();
    });
    assert!(answer.is_err());
}

#[tokio::test]
async fn an_idle_connection_does_not_stop_the_end() {
    let mut server = Server::start().await;
    let mut idle = TcpStream::connect(server.address).await.unwrap();
    let used = reqwest::Client::new();
    used.get(server.url("/healthz")).send().await.unwrap();
    server.stop.take().unwrap().send(()).unwrap();
    timeout(Duration::from_secs(5), server.tasks.join_next()).await.unwrap();
    closed(&mut idle).await;
}

#[tokio::test]
async fn a_connection_that_makes_no_request_is_closed() {
    let limits =
        ServeLimits { first_request: Duration::from_millis(100), ..ServeLimits::default() };
    let server = Server::start_with(FrontSettings::default(), limits).await;
    for beginning in ["", "P", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "GET /healthz HTTP/1.1\r\nhos"] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(beginning.as_bytes()).await.unwrap();
        closed(&mut stream).await;
    }
    // A connection that did make one stays.
    let mut client = client(&server).await;
    client.evaluate(spend()).await.unwrap();
    sleep(Duration::from_millis(200)).await;
    client.evaluate(spend()).await.unwrap();
}

#[tokio::test]
async fn a_peer_that_still_sends_when_its_connection_ends_is_not_reset() {
    let server = Server::start().await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let request = b"GET /healthz HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\nand more";
    stream.write_all(request).await.unwrap();
    for _ in 0..5 {
        sleep(Duration::from_millis(20)).await;
        stream.write_all(b"and more").await.unwrap();
    }
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("ok"), "{answer}");
    // It does not wait for ever.
    let refused = async {
        while stream.write_all(b"and more").await.is_ok() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(LONG, refused).await.unwrap();
}

#[tokio::test]
async fn connections_beyond_the_limit_are_closed_and_their_place_is_given_back() {
    let limits = ServeLimits { connections_max: 1, ..ServeLimits::default() };
    let server = Server::start_with(FrontSettings::default(), limits).await;
    let first = TcpStream::connect(server.address).await.unwrap();
    sleep(Duration::from_millis(50)).await;
    let mut second = TcpStream::connect(server.address).await.unwrap();
    closed(&mut second).await;
    drop(first);
    let answered = async {
        while reqwest::get(server.url("/healthz")).await.is_err() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(LONG, answered).await.unwrap();
}

#[tokio::test]
async fn an_old_connection_goes_away_after_its_calls() {
    let limits = ServeLimits {
        connection_age_max: Duration::from_millis(100),
        connection_grace: Duration::from_secs(5),
        ..ServeLimits::default()
    };
    let server = Server::start_with(FrontSettings::default(), limits).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    closed(&mut stream).await;
    // A call that takes longer than the age is still answered.
    let answer = client(&server).await.evaluate(spend_at("slow.example")).await.unwrap();
    assert_eq!(answer.into_inner().transaction_id, "tx_1");
}

#[tokio::test]
async fn an_old_connection_is_cut_after_its_grace() {
    let limits = ServeLimits {
        connection_age_max: Duration::from_millis(50),
        connection_grace: Duration::from_millis(50),
        ..ServeLimits::default()
    };
    let server = Server::start_with(FrontSettings::default(), limits).await;
    let mut client = client(&server).await;
    let call = client.evaluate(spend_at("stuck.example"));
    assert!(timeout(LONG, call).await.unwrap().is_err());
}

#[test]
fn ages_differ_by_at_most_a_tenth() {
    let limits = ServeLimits::default();
    for port in 0..100 {
        let age = age_max(&limits, SocketAddr::from(([127, 0, 0, 1], port)));
        assert!(age <= limits.connection_age_max && age >= limits.connection_age_max * 9 / 10);
    }
}
