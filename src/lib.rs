//! x
pub mod proto;
pub mod grpc;
