//! The master key, and the rules for the file it lives in.
//!
//! Not here: what the key seals (`crypto`) and making a key for a development server (`app`).

use std::fmt;
use std::fs::{File, Metadata};
use std::io::Read;
use std::path::Path;

use zeroize::Zeroizing;

/// The longest form: 64 hexadecimal characters, a carriage return and a newline.
const FILE_BYTES_MAX: u64 = 66;

/// The 32 bytes that every stored secret is sealed with.
#[derive(Clone)]
pub struct MasterKey(Zeroizing<[u8; 32]>);

impl MasterKey {
    /// Takes the bytes over.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes; never log them.
    #[must_use]
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("MasterKey(***)")
    }
}

/// Reads a master key: exactly 32 bytes, or 64 hexadecimal characters with at most a line end.
///
/// # Errors
///
/// A sentence naming the file and what to do: it is missing, readable by others, or no key.
pub fn read_master_key(path: &Path) -> Result<MasterKey, String> {
    let shown = path.display();
    let unreadable = |error: std::io::Error| {
        format!(
            "the file {shown} cannot be read: {error}; make one with \
             `openssl rand -hex 32 > FILE && chmod 600 FILE`"
        )
    };
    let file = File::open(path).map_err(unreadable)?;
    // The open file is asked, not the path: what is checked is what is read.
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(format!("{shown} is not a file"));
    }
    if !is_private(&metadata) {
        return Err(format!(
            "the file {shown} can be read by other users; run `chmod 600 {shown}`, and make a new \
             key if someone may have read it"
        ));
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(128));
    file.take(FILE_BYTES_MAX.saturating_add(1)).read_to_end(&mut bytes).map_err(unreadable)?;
    let key = decode(&bytes).ok_or_else(|| {
        format!(
            "the file {shown} is not a key: it must be exactly 32 bytes, or 64 hexadecimal \
             characters and a newline, as `openssl rand -hex 32` prints them"
        )
    })?;
    let bytes = key.expose();
    if bytes.iter().all(|byte| Some(byte) == bytes.first()) {
        return Err(format!("the key in {shown} is one byte repeated; make a random one"));
    }
    Ok(key)
}

/// Whether only the owner can read the file.
#[must_use]
pub fn is_private(metadata: &Metadata) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        metadata.permissions().mode() & 0o077 == 0
    }
    #[cfg(not(unix))]
    {
        let _ = metadata;
        true
    }
}

fn decode(bytes: &[u8]) -> Option<MasterKey> {
    if let Ok(raw) = <[u8; 32]>::try_from(bytes) {
        return Some(MasterKey::new(raw));
    }
    let digits = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let digits = digits.strip_suffix(b"\r").unwrap_or(digits);
    let mut raw = [0; 32];
    hex::decode_to_slice(digits, &mut raw).ok()?;
    Some(MasterKey::new(raw))
}
