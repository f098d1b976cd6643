//! Signs the ends of the journals now and then, and keeps each checkpoint in a second place too.
//!
//! The second place is a file that is only appended to, a line of JSON for each checkpoint: whoever
//! cuts the database's journal has to cut that file as well. Not here: what is signed (`audit`).

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;

use crate::engine::Engine;

/// Where checkpoints are written beside the database.
#[derive(Debug)]
pub(super) struct Checkpoints {
    path: Option<PathBuf>,
}

impl Checkpoints {
    pub(super) const fn new(path: Option<PathBuf>) -> Self {
        Self { path }
    }

    /// Signs what has grown. A failure is told in the log; the next time covers what was missed.
    pub(super) async fn sign(&self, engine: &Engine) {
        let signed = match engine.sign_checkpoints().await {
            Ok(signed) => signed,
            Err(error) => {
                tracing::warn!(%error, "the journal could not be signed; it will be tried again");
                return;
            }
        };
        let Some(path) = &self.path else { return };
        let mut lines = String::new();
        for (org, checkpoint) in signed {
            let line = serde_json::json!({
                "type": "checkpoint",
                "organizationId": org,
                "sequence": checkpoint.seq,
                "chain": hex::encode(checkpoint.chain),
                "signedAtMicros": checkpoint.at,
                "keyId": checkpoint.key_id,
                "signature": checkpoint.signature,
            });
            lines.push_str(&line.to_string());
            lines.push('\n');
        }
        if lines.is_empty() {
            return;
        }
        let path = path.clone();
        let written = tokio::task::spawn_blocking(move || {
            let mut file = File::options().create(true).append(true).open(path)?;
            file.write_all(lines.as_bytes())?;
            file.sync_data()
        });
        match written.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::error!(%error, "checkpoints could not be written to the file")
            }
            Err(error) => tracing::error!(%error, "checkpoints could not be written to the file"),
        }
    }
}
