//! The generated code of `proto/`, in one place: messages, clients and servers.
//!
//! Not here: conversions to the domain (`grpc/convert`) and anything written by hand, except the
//! descriptor set that validation, reflection, the JSON front and the access rules read.

/// The encoded descriptor set of every proto file, with options and comments.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// The package `quetra.v1`.
#[expect(
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    clippy::as_conversions,
    clippy::doc_markdown,
    clippy::too_many_lines,
    reason = "generated code"
)]
pub mod v1 {
    include!(concat!(env!("OUT_DIR"), "/quetra.v1.rs"));
}
