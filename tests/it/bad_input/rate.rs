//! Row 24: a credential that calls faster than its limit is told how long to wait.
//!
//! Not here: the limit's own arithmetic.

use std::sync::Arc;

use quetra::clock::SystemClock;
use tonic::Code;

use super::ways::{Answer, WAYS, Way, connect, grpc, http_of, rest};
use super::wire::{Call, Http1, Http2, Reply};
use crate::harness::Server;

fn good(way: Way, key: &str) -> Call {
    match way {
        Way::Grpc => grpc(key, "BudgetService/GetBudget", &[]),
        Way::Connect => connect(key, "BudgetService/GetBudget", "{}"),
        Way::Rest => rest("GET", "/gateway/mandate-token", serde_json::Value::Null).call(key),
    }
}

async fn send(server: &Server, way: Way, call: &Call) -> Reply {
    match way {
        Way::Grpc => Http2::connect(server.addr).await.send(call).await.unwrap(),
        Way::Connect | Way::Rest => Http1::connect(server.addr).await.send(call).await.unwrap(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_above_its_rate_is_told_how_long_to_wait() {
    for way in WAYS {
        let limited = |config: &mut quetra::config::ServerConfig| {
            config.requests_per_second = std::num::NonZeroU32::new(5);
        };
        let server = Server::with(limited, Arc::new(SystemClock)).await;
        let call = good(way, &server.first.agent_key);
        let (mut served, mut refusal) = (0, None);
        for _ in 0..1_000 {
            let reply = send(&server, way, &call).await;
            let answer = Answer::read(way, &reply);
            if answer.http == 200 && (way != Way::Grpc || answer.code == Code::Ok) {
                served += 1;
            } else {
                refusal = Some((answer, reply));
                break;
            }
        }
        assert!(served >= 5, "{way:?}: only {served} were served");
        let (answer, reply) = refusal.expect("a thousand calls are more than the rate allows");
        assert_eq!(answer.http, http_of(way, Code::ResourceExhausted, ""), "{way:?}");
        assert_eq!(answer.reason, "REQUEST_RATE_EXCEEDED", "{way:?}: {}", reply.everything());
        assert!(way == Way::Rest || answer.code == Code::ResourceExhausted);
        let wait = answer.wait.expect("the time to wait is told");
        assert!((1..=1_000).contains(&wait), "{way:?}: {wait} ms");
        // Another credential has its own rate, and waiting helps.
        let other =
            Answer::read(way, &send(&server, way, &good(way, &server.first.admin_key)).await);
        assert_ne!(other.reason, "REQUEST_RATE_EXCEEDED", "{way:?}");
        tokio::time::sleep(std::time::Duration::from_millis(u64::try_from(wait).unwrap())).await;
        assert_eq!(Answer::read(way, &send(&server, way, &call).await).reason, "", "{way:?}");
        server.stop().await;
    }
}
