//! The services that every gRPC server is expected to have: health and reflection.
//!
//! Not here: deciding whether the server is healthy; the reporter is handed to whoever knows.

use prost_reflect::DescriptorPool;
use tonic::service::Routes;
use tonic_health::server::HealthReporter;
use tonic_health::{ServingStatus, server};
use tonic_reflection::server::Builder;

use crate::grpc::{MESSAGE_BYTES_MAX, REPLY_BYTES_MAX};
use crate::proto::DESCRIPTORS;

/// The descriptors cannot be served.
#[derive(Debug, thiserror::Error)]
#[error("the service descriptors cannot be served: {0}")]
pub struct StandardError(String);

/// Adds health, for the server and for each of its services, and reflection, v1 and v1alpha.
///
/// Everything is reported as not serving until the returned reporter says otherwise; the service
/// named by the empty string is the whole server.
///
/// # Errors
/// The descriptor set is broken, which a test of this module prevents.
pub async fn standard_services(routes: Routes) -> Result<(Routes, HealthReporter), StandardError> {
    let (reporter, health) = server::health_reporter();
    let pool =
        DescriptorPool::decode(DESCRIPTORS).map_err(|error| StandardError(error.to_string()))?;
    reporter.set_service_status("", ServingStatus::NotServing).await;
    for service in pool.services() {
        reporter.set_service_status(service.full_name(), ServingStatus::NotServing).await;
    }
    let reflection = || {
        Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let broken = |error: tonic_reflection::server::Error| StandardError(error.to_string());
    let v1 = reflection().build_v1().map_err(broken)?;
    let v1alpha = reflection().build_v1alpha().map_err(broken)?;
    let routes = routes
        .add_service(
            health
                .max_decoding_message_size(MESSAGE_BYTES_MAX)
                .max_encoding_message_size(REPLY_BYTES_MAX),
        )
        .add_service(
            v1.max_decoding_message_size(MESSAGE_BYTES_MAX)
                .max_encoding_message_size(REPLY_BYTES_MAX),
        )
        .add_service(
            v1alpha
                .max_decoding_message_size(MESSAGE_BYTES_MAX)
                .max_encoding_message_size(REPLY_BYTES_MAX),
        );
    Ok((routes, reporter))
}
