//! The floor: a tonic server that decides nothing, on a thread of its own in this process.
//!
//! It answers health checks and approves every Evaluate with a fixed reply. What a decision costs
//! beyond it is ours. Not here: authentication, limits, JSON, or anything else of the product.

use std::net::SocketAddr;

use anyhow::Context;
use quetra::proto::v1;
use quetra::proto::v1::evaluate_service_server::{EvaluateService, EvaluateServiceServer};
use tokio::net::TcpListener;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

use crate::loader::Target;

/// Starts it; it serves until this process ends.
///
/// # Errors
/// No port or thread is free.
pub(crate) fn start() -> anyhow::Result<Target> {
    let (ready, started) = std::sync::mpsc::channel();
    std::thread::Builder::new().name("echo".to_owned()).spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            ready.send(listener.local_addr()?)?;
            serve(listener).await
        })
    })?;
    let address: SocketAddr = started.recv().context("the echo server does not start")?;
    Ok(Target { address, key: String::new(), process: None })
}

async fn serve(listener: TcpListener) -> anyhow::Result<()> {
    let (_reporter, health) = tonic_health::server::health_reporter();
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let server = Server::builder().add_service(health);
    server.add_service(EvaluateServiceServer::new(Approves)).serve_with_incoming(incoming).await?;
    Ok(())
}

/// Approves everything.
struct Approves;

#[tonic::async_trait]
impl EvaluateService for Approves {
    async fn evaluate(
        &self,
        request: Request<v1::EvaluateRequest>,
    ) -> Result<Response<v1::EvaluateResponse>, Status> {
        Ok(Response::new(v1::EvaluateResponse {
            decision: v1::Decision::Approved.into(),
            transaction_id: request.into_inner().idempotency_key,
            ..v1::EvaluateResponse::default()
        }))
    }

    async fn can_spend(
        &self,
        _request: Request<v1::CanSpendRequest>,
    ) -> Result<Response<v1::CanSpendResponse>, Status> {
        Err(Status::unimplemented("the echo server only evaluates"))
    }

    async fn lookup_decision(
        &self,
        _request: Request<v1::LookupDecisionRequest>,
    ) -> Result<Response<v1::LookupDecisionResponse>, Status> {
        Err(Status::unimplemented("the echo server only evaluates"))
    }
}
