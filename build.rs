//! Compiles `proto/` into Rust: messages, services and the descriptor set.
//!
//! No system protoc is needed (protox is a compiler in Rust) and nothing is written
//! outside `OUT_DIR`.

use std::path::PathBuf;

/// Every file with a service or a message of the product; imports are found from these.
const FILES: [&str; 9] = [
    "quetra/v1/agents_service.proto",
    "quetra/v1/approvals_service.proto",
    "quetra/v1/audit_service.proto",
    "quetra/v1/budget_service.proto",
    "quetra/v1/evaluate_service.proto",
    "quetra/v1/mandates_service.proto",
    "quetra/v1/organization_service.proto",
    "quetra/v1/transactions_service.proto",
    "quetra/v1/webhooks_service.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    println!("cargo:rerun-if-changed=src/store/sqlite/migrations");
    #[expect(clippy::disallowed_methods, reason = "cargo hands OUT_DIR over this way")]
    let out = PathBuf::from(std::env::var("OUT_DIR")?);

    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_imports(true).include_source_info(true);
    compiler.open_files(FILES)?;

    // Encoded by protox itself: prost's own descriptor types would drop the options of ours.
    let descriptors = out.join("descriptors.bin");
    std::fs::write(&descriptors, compiler.encode_file_descriptor_set())?;

    let mut messages = prost_build::Config::new();
    messages.enable_type_names(); // the codec finds a message's validation rules by its name
    tonic_prost_build::configure()
        .btree_map(".quetra.v1")
        .codec_path("crate::grpc::codec::StrictCodec")
        .extern_path(".buf.validate", "()")
        .compile_fds_with_config(compiler.file_descriptor_set(), messages)?;

    Ok(())
}
