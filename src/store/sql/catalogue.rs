//! The catalogue in SQL: organizations, agents, mandates, credentials and receipts.
//!
//! A row is one JSON document and the columns that are searched or compared. Here is how documents
//! are read; `statement` has the SQL, `write` the only writer. Each home includes this module once,
//! under its own `Store` and `Driver`, and says in its `dialect` what its database says otherwise.
//! Not here: who may see or change what (`engine`), and transactions (`spends`).

use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Driver;
use crate::store::{Page, StoreError, StoreErrorKind};

mod acts;
mod keys;
mod mandates;
mod organizations;
pub(super) mod statement;
mod write;

type DriverRow = <Driver as sqlx::Database>::Row;
type DriverConnection = <Driver as sqlx::Database>::Connection;

/// Above every id: ids are 16 bytes, and of two blobs the longer one with the same start is later.
const AFTER_EVERY_ID: [u8; 17] = [0xff; 17];

/// Reads a document.
fn from_document<T: DeserializeOwned>(
    document: &str,
    operation: &'static str,
) -> Result<T, StoreError> {
    serde_json::from_str(document)
        .map_err(|error| StoreError::new(StoreErrorKind::Corrupt, operation, error))
}

/// Reads many.
fn from_documents<T: DeserializeOwned>(
    documents: &[String],
    operation: &'static str,
) -> Result<Vec<T>, StoreError> {
    documents.iter().map(|document| from_document(document, operation)).collect()
}

/// Writes a document.
fn to_document<T: Serialize>(value: &T, operation: &'static str) -> Result<String, StoreError> {
    serde_json::to_string(value)
        .map_err(|error| StoreError::new(StoreErrorKind::Corrupt, operation, error))
}

/// Reads bytes of a known length.
fn from_bytes<const LENGTH: usize>(
    bytes: &[u8],
    operation: &'static str,
) -> Result<[u8; LENGTH], StoreError> {
    bytes.try_into().map_err(|error: std::array::TryFromSliceError| {
        StoreError::new(StoreErrorKind::Corrupt, operation, error)
    })
}

/// Reads a time.
fn from_micros(micros: i64, operation: &'static str) -> Result<Timestamp, StoreError> {
    Timestamp::from_microsecond(micros)
        .map_err(|error| StoreError::new(StoreErrorKind::Corrupt, operation, error))
}

/// Where a list by id goes on, newest first: before these bytes.
///
/// # Errors
/// A conflict when the sort key is not the hexadecimal form of an id: such a list has to be started
/// anew.
fn before_id(page: &Page, operation: &'static str) -> Result<Vec<u8>, StoreError> {
    let Some(after) = &page.after else {
        return Ok(AFTER_EVERY_ID.to_vec());
    };
    let id = hex::decode(after).ok().filter(|id| id.len() == 16);
    id.ok_or_else(|| StoreError::conflict(operation))
}

#[cfg(test)]
mod tests;
