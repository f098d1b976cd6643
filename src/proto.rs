//! The generated code of `proto/`, in one place: messages, clients and servers.
//!
//! Not here: conversions to the domain (`grpc/convert`) and anything written by hand, except the
//! descriptor set that validation, reflection, the JSON front and the access rules read.

/// The encoded descriptor set of every proto file, with options and comments.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// Metadata of a call whose credential came in a URL. Such a call is served only if the key is an
/// agent's, and the key's record says so. Whoever sends it only restricts and marks himself.
pub const KEY_IN_URL: &str = "quetra-key-in-url";

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
