//! A database of countries, as small as it can be: every loopback address is in one country.
//!
//! Written byte by byte after the MaxMind DB format, version 2.0, so that no real database has to
//! be shipped. Not here: reading it (`provider::maxmind`).

use std::fs;
use std::path::Path;

/// Bits of 127.0.0.0/8, the only network in it.
const NETWORK: u8 = 127;

fn text(text: &str, out: &mut Vec<u8>) {
    out.push(0x40 | u8::try_from(text.len()).unwrap());
    out.extend_from_slice(text.as_bytes());
}

/// The control byte of a map of so many pairs.
fn map(pairs: u8) -> u8 {
    0xE0 | pairs
}

/// An unsigned number in so many bytes; `kind` is the format's: 5 is 16 bits, 6 is 32.
fn number(kind: u8, value: u32, out: &mut Vec<u8>) {
    let bytes = value.to_be_bytes();
    let start = if kind == 5 { 2 } else { 0 };
    out.push(kind << 5 | u8::try_from(bytes.len() - start).unwrap());
    out.extend_from_slice(&bytes[start..]);
}

/// Eight nodes, one for each bit of the network; every other branch leads nowhere.
fn tree() -> Vec<u8> {
    let nodes = 8_u32;
    let (nowhere, found) = (nodes, nodes + 16);
    let mut out = Vec::new();
    for depth in 0..nodes {
        let next = if depth + 1 == nodes { found } else { depth + 1 };
        let one = NETWORK >> (7 - depth) & 1 == 1;
        let records = if one { [nowhere, next] } else { [next, nowhere] };
        for record in records {
            out.extend_from_slice(&record.to_be_bytes()[1..]);
        }
    }
    out
}

/// Writes the database.
pub(super) fn write(path: &Path, country: &str) {
    let mut out = tree();
    out.extend_from_slice(&[0; 16]);
    out.push(map(1));
    text("country", &mut out);
    out.push(map(1));
    text("iso_code", &mut out);
    text(country, &mut out);

    out.extend_from_slice(b"\xAB\xCD\xEFMaxMind.com");
    out.push(map(9));
    for (key, kind, value) in [
        ("binary_format_major_version", 5, 2),
        ("binary_format_minor_version", 5, 0),
        ("ip_version", 5, 4),
        ("node_count", 6, 8),
        ("record_size", 5, 24),
    ] {
        text(key, &mut out);
        number(kind, value, &mut out);
    }
    text("build_epoch", &mut out);
    // Eight bytes are an extended type: the second byte says which.
    out.extend_from_slice(&[0x08, 0x02, 0, 0, 0, 0, 0x60, 0, 0, 0]);
    text("database_type", &mut out);
    text("Test-Country", &mut out);
    text("description", &mut out);
    out.push(map(0));
    text("languages", &mut out);
    out.extend_from_slice(&[0x00, 0x04]);
    fs::write(path, out).unwrap();
}
