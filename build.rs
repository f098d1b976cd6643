//! Compiles `proto/` into Rust: messages, services and the descriptor set; and lists migrations.
//!
//! No system protoc is needed (protox is a compiler in Rust) and nothing is written
//! outside `OUT_DIR`.

use std::error::Error;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

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

/// The databases that have migrations.
const STORES: [&str; 2] = ["sqlite", "postgres"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    #[expect(clippy::disallowed_methods, reason = "cargo hands OUT_DIR over this way")]
    let out = PathBuf::from(std::env::var("OUT_DIR")?);

    for store in STORES {
        let folder = format!("src/store/{store}/migrations");
        println!("cargo:rerun-if-changed={folder}");
        std::fs::write(out.join(format!("{store}_migrations.rs")), listed(Path::new(&folder))?)?;
    }

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

/// A slice of version, description and text of each migration in a folder, as Rust's source.
fn listed(folder: &Path) -> Result<String, Box<dyn Error>> {
    let files = folder.canonicalize()?.read_dir()?;
    let mut files = files.map(|file| Ok(file?.path())).collect::<std::io::Result<Vec<_>>>()?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "sql"));
    files.sort();
    let mut source = String::from("&[");
    for file in files {
        let name = file.file_stem().unwrap_or_default().to_string_lossy();
        let named = name.split_once('_').ok_or_else(|| format!("{name}: NUMBER_what.sql?"))?;
        let (version, what) = (named.0.parse::<i64>()?, named.1.replace('_', " "));
        write!(source, "({version}, {what:?}, include_str!({file:?})), ")?;
    }
    source.push(']');
    Ok(source)
}
